"""The playground job: degrades a clean image in a known way, restores it and maps its representation."""

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
from dasr_arch.data.image_io import encode_png, round_to_8_bits
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
from dasr_arch.web.uploads import UploadedImage

LEAST_SIDE = 48
"""Minimum height and width in HR pixels: the blur kernel must fit, and PSNR needs pixels inside the borders."""

_NAME = 'experiment'  # the noise depends on it and on the seed
_ENCODING = 0.35  # time per LR pixel of degrading and encoding, relative to upscaling
_THUMBNAIL = 160


class PlaygroundRequest(NamedTuple):
    """A request for an experiment.

    Attributes:
        image: the clean image; None for a sample.
        parameters: of the request.
        entry: the model.
    """

    image: UploadedImage | None
    parameters: PlaygroundParameters
    entry: ModelEntry


def list_samples() -> list[Sample]:
    """The sample images."""
    about = {image.file.rpartition('.')[0]: image for image in SAMPLE_IMAGES}
    samples = []
    for name, pixels in load_samples(PLAYGROUND_SIDE).items():
        height, width = pixels.shape[:2]
        content, licence = about[name].content, about[name].licence
        samples.append(Sample(name=name, content=content, licence=licence, width=width, height=height))
    return samples


def find_sample(name: str) -> NDArray[np.uint8]:
    """A sample image.

    Raises:
        InputError: if there is none of this name.
    """
    samples = load_samples(PLAYGROUND_SIDE)
    if name not in samples:
        raise InputError(f"there is no sample '{name}'{suggest(name, samples)}")
    return samples[name]


@cache
def make_thumbnail(name: str) -> bytes:
    """A sample image as a small JPEG, square; InputError as ``find_sample``."""
    pixels = find_sample(name)
    square = Image.fromarray(cut_middle(pixels, min(pixels.shape[:2]), 1))
    stream = BytesIO()
    square.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS).save(stream, 'JPEG', quality=88)
    return stream.getvalue()


def make_degradation(parameters: PlaygroundParameters, scale: int) -> KnownDegradation:
    """The degradation of an experiment."""
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


def run_experiment(job: Job, request: PlaygroundRequest, load: Callable[[], Loaded], maps: MapStore) -> Outcome:
    """Runs an experiment in the thread of a job.

    Args:
        job: its progress is updated.
        request: image and parameters.
        load: returns the network.
        maps: cache of maps.

    Raises:
        JobCancelledError: if the job was cancelled.
        ProblemError: 422 if the image is too small.
        InputError: if the image cannot be read.
    """
    begun = time.monotonic()
    loaded = load()
    upscaler, scale, parameters = loaded.upscaler, request.entry.scale, request.parameters
    whole = _read_clean(request)
    hr = cut_middle(whole, PLAYGROUND_SIDE, scale)
    if min(hr.shape[:2]) < LEAST_SIDE:
        raise ProblemError(422, f'the image needs at least {LEAST_SIDE} pixels to each side, got {_size(whole)}')
    known = make_degradation(parameters, scale)
    lq = degrade_image(known.degradation, hr, parameters.seed, _NAME)
    adaptation = AdaptationOptions(strength=parameters.strength, ensemble=parameters.ensemble)
    key = (request.entry.name, scale)
    waiting = () if maps.has(key) else load_samples(representation_map.MAP_SIDE).values()
    encoded = count_encoded(scale, list_known(request.entry.setting, scale), (hr, *waiting))
    job.expect(count_computed(upscaler, [Size(*lq.shape[:2])], adaptation, 1) + _ENCODING * encoded)
    job.enter('upscaling')
    with loaded.hooks.following(job.advance):
        sr = upscaler(lq, adaptation)
    bicubic = _upsample_bicubic(lq, scale)
    job.enter('mapping')

    def report(pixels: float) -> None:
        job.advance(_ENCODING * pixels)

    reference = maps.get(key, upscaler, request.entry.setting, report)
    placed = place_experiment(reference, upscaler, hr, lq, known, report)
    from dasr_arch.benchmark.image_metrics import measure_image  # noqa: PLC0415 (brings BasicSR, slow to import)

    metric = MetricPlan('PSNR', 'calculate_psnr', {'crop_border': scale, 'test_y_channel': True})
    files = {
        name: job.store(name, encode_png(image, 3), 'image/png', f'{name}.png')
        for name, image in {'hr': hr, 'lq': lq, 'bicubic': bicubic, 'sr': sr}.items()
    }
    kernel = known.degradation.draw_kernel(image_generator(parameters.seed, _NAME)).double().numpy()
    facts = PlaygroundResult(
        images=list(files),
        label=known.degradation.label,
        width=hr.shape[1],
        height=hr.shape[0],
        cropped=hr.shape != whole.shape,
        kernel=[[round(float(value), 8) for value in row] for row in kernel],
        psnr_bicubic=_finite(measure_image(metric, bicubic, hr)),
        psnr_sr=_finite(measure_image(metric, sr, hr)),
        map=placed,
        model=request.entry.name,
        scale=scale,
        seconds=round(time.monotonic() - begun, 2),
    )
    return Outcome(facts, files)


def _read_clean(request: PlaygroundRequest) -> NDArray[np.uint8]:
    """The clean image as RGB of 8 bits."""
    if request.image is None:
        return find_sample(request.parameters.sample or '')
    frame = read_image_file(request.image.data, request.image.name).frames[0]
    if isinstance(frame, Image.Image):
        return np.array(frame.convert('RGB'))
    return np.array(Image.fromarray(round_to_8_bits(frame)).convert('RGB'))


def _upsample_bicubic(lq: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    planes = torch.from_numpy(np.ascontiguousarray(lq.transpose(2, 0, 1))).unsqueeze(0).float() / 255
    upsampled = Bicubic(scale)(planes)
    return np.asarray((upsampled[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _size(image: NDArray[np.uint8]) -> str:
    return f'{image.shape[1]} x {image.shape[0]}'


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
