"""The job that degrades a clean picture in a known way, restores it, and shows where its representation lies."""

import math
import time
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dasr_arch._errors import InputError, suggest
from dasr_arch.archs.bicubic_arch import Bicubic
from dasr_arch.benchmark.config import MetricPlan
from dasr_arch.data.image_io import encode_png
from dasr_arch.data.sample_images import SAMPLE_IMAGES
from dasr_arch.degradations import build_degradation, degrade_image, image_generator
from dasr_arch.inference.images.io import read_image_file
from dasr_arch.inference.upscaler import AdaptationOptions
from dasr_arch.web import representation_map
from dasr_arch.web.jobs import Job, Outcome
from dasr_arch.web.model_store import Loaded, ModelEntry
from dasr_arch.web.problems import ProblemError
from dasr_arch.web.progress_hooks import Size, count_computed
from dasr_arch.web.representation_map import (
    PLAYGROUND_SIDE,
    KnownDegradation,
    MapStore,
    count_encoded,
    cut_middle,
    list_known,
    load_samples,
    place_experiment,
)
from dasr_arch.web.schemas import PlaygroundParameters, PlaygroundResult, Sample
from dasr_arch.web.uploads import UploadedPicture

LEAST_SIDE = 48
"""HR pixels that a picture needs to each side: the blur kernel must fit, and something be left to measure."""

_NAME = 'experiment'  # noise depends on it and the seed
_ENCODING = 0.35  # time of degrading and encoding, as a share of that of enlarging as many LR pixels
_THUMBNAIL = 160


class PlaygroundRequest(NamedTuple):
    """What was asked for.

    Attributes:
        picture: the clean picture, if it is no sample.
        parameters: the rest.
        entry: the model.
    """

    picture: UploadedPicture | None
    parameters: PlaygroundParameters
    entry: ModelEntry


def list_samples() -> list[Sample]:
    """What the sample pictures show."""
    about = {picture.file.rpartition('.')[0]: picture for picture in SAMPLE_IMAGES}
    return [
        Sample(name, about[name].content, about[name].licence, pixels.shape[1], pixels.shape[0])
        for name, pixels in load_samples(PLAYGROUND_SIDE).items()
    ]


def find_sample(name: str) -> NDArray[np.uint8]:
    """A sample picture.

    Raises:
        InputError: if there is none of this name.
    """
    samples = load_samples(PLAYGROUND_SIDE)
    if name not in samples:
        raise InputError(f"there is no sample '{name}'{suggest(name, samples)}")
    return samples[name]


@cache
def make_thumbnail(name: str) -> bytes:
    """A sample picture as a small JPEG, square; InputError as ``find_sample``."""
    pixels = find_sample(name)
    square = Image.fromarray(cut_middle(pixels, min(pixels.shape[:2]), 1))
    stream = BytesIO()
    square.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS).save(stream, 'JPEG', quality=88)
    return stream.getvalue()


def make_degradation(parameters: PlaygroundParameters, scale: int) -> KnownDegradation:
    """What the parameters describe."""
    if parameters.blur == 'iso':
        block: dict[str, object] = {'type': 'IsotropicGaussian', 'sigma': parameters.width}
        width = parameters.width
    else:
        axes = (parameters.axis_1, parameters.axis_2)
        block = {'type': 'AnisotropicGaussian', 'lambda_1': axes[0], 'lambda_2': axes[1]}
        block['theta_deg'] = parameters.theta
        width = math.sqrt(axes[0] * axes[1])
    degradation = build_degradation({**block, 'noise': parameters.noise}, scale)
    return KnownDegradation(degradation, round(width, 2), parameters.noise, parameters.blur == 'aniso')


def run_experiment(job: Job, asked: PlaygroundRequest, load: Callable[[], Loaded], maps: MapStore) -> Outcome:
    """Does the experiment inside a job's thread.

    Args:
        job: is told how far it is.
        asked: what was asked for.
        load: gives the network.
        maps: holds the maps that were made.

    Raises:
        JobCancelledError: if the job was cancelled.
        ProblemError: 422 if the picture is too small.
        InputError: if the picture cannot be read.
    """
    begun = time.monotonic()
    loaded = load()
    upscaler, scale, parameters = loaded.upscaler, asked.entry.scale, asked.parameters
    whole = _read_clean(asked)
    hr = cut_middle(whole, PLAYGROUND_SIDE, scale)
    if min(hr.shape[:2]) < LEAST_SIDE:
        raise ProblemError(422, f'the picture needs at least {LEAST_SIDE} pixels to each side, got {_size(whole)}')
    known = make_degradation(parameters, scale)
    lq = degrade_image(known.degradation, hr, parameters.seed, _NAME)
    adaptation = AdaptationOptions(strength=parameters.strength, ensemble=parameters.ensemble)
    key = (asked.entry.name, scale)
    waiting = () if maps.has(key) else load_samples(representation_map.MAP_SIDE).values()
    encoded = count_encoded(scale, list_known(asked.entry.setting, scale), (hr, *waiting))
    job.expect(count_computed(upscaler, [Size(*lq.shape[:2])], adaptation, 1) + _ENCODING * encoded)
    job.enter('enlarging')
    with loaded.watch.following(job.advance):
        sr = upscaler(lq, adaptation)
    bicubic = _enlarge(lq, scale)
    job.enter('mapping')

    def pulse(pixels: float) -> None:
        job.advance(_ENCODING * pixels)

    reference = maps.get(key, upscaler, asked.entry.setting, pulse)
    placed = place_experiment(reference, upscaler, hr, lq, known, pulse)
    from dasr_arch.benchmark.image_metrics import measure_image  # noqa: PLC0415 (brings BasicSR, slow to import)

    metric = MetricPlan('PSNR', 'calculate_psnr', {'crop_border': scale, 'test_y_channel': True})
    files = {
        name: job.store(name, encode_png(picture, 3), 'image/png', f'{name}.png')
        for name, picture in {'hr': hr, 'lq': lq, 'bicubic': bicubic, 'sr': sr}.items()
    }
    kernel = known.degradation.draw_kernel(image_generator(parameters.seed, _NAME)).double().numpy()
    facts = PlaygroundResult(
        pictures=list(files),
        label=known.degradation.label,
        width=hr.shape[1],
        height=hr.shape[0],
        cropped=hr.shape != whole.shape,
        kernel=[[round(float(value), 8) for value in row] for row in kernel],
        psnr_bicubic=_finite(measure_image(metric, bicubic, hr)),
        psnr_sr=_finite(measure_image(metric, sr, hr)),
        map=placed,
        model=asked.entry.name,
        scale=scale,
        seconds=round(time.monotonic() - begun, 2),
    )
    return Outcome(facts, files)


def _read_clean(asked: PlaygroundRequest) -> NDArray[np.uint8]:
    """The clean picture as RGB of 8 bits."""
    if asked.picture is None:
        return find_sample(asked.parameters.sample or '')
    frame = read_image_file(asked.picture.data, asked.picture.name).frames[0]
    if isinstance(frame, Image.Image):
        return np.array(frame.convert('RGB'))
    eight = ((frame.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.array(Image.fromarray(eight).convert('RGB'))


def _enlarge(lq: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    planes = torch.from_numpy(np.ascontiguousarray(lq.transpose(2, 0, 1))).unsqueeze(0).float() / 255
    enlarged = Bicubic(scale)(planes)
    return np.asarray((enlarged[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _size(picture: NDArray[np.uint8]) -> str:
    return f'{picture.shape[1]} x {picture.shape[0]}'


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
