"""The playground job: degrades a clean image in a known way, restores it and maps its representation."""

import math
from functools import cache
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dasr_arch._errors import InputError, suggest
from dasr_arch.archs.bicubic_arch import Bicubic
from dasr_arch.benchmark.config import MetricPlan
from dasr_arch.data.image_io import cut_middle, encode_png, round_to_8_bits
from dasr_arch.data.sample_images import SAMPLE_IMAGES
from dasr_arch.degradations import degrade_image, image_generator
from dasr_arch.inference.images.image_modes import to_pixels, to_tensor
from dasr_arch.inference.images.io import read_image_file
from dasr_arch.inference.upscaler import AdaptationOptions
from dasr_arch.web import representation_map
from dasr_arch.web.jobs import Job, Outcome
from dasr_arch.web.model_store import Loaded
from dasr_arch.web.problems import ProblemError
from dasr_arch.web.progress_hooks import Size, count_computed
from dasr_arch.web.schemas import Model, PlaygroundParameters, PlaygroundResult, Sample
from dasr_arch.web.uploads import UploadedImage

LEAST_SIDE = 48
"""Minimum height and width in HR pixels: the blur kernel must fit, and PSNR needs pixels inside the borders."""

_NAME = 'experiment'  # the noise depends on it and on the seed
_ENCODING = 0.35  # time per LR pixel of degrading and encoding, relative to upscaling
_THUMBNAIL = 160


def list_samples() -> list[Sample]:
    """The sample images."""
    about = {image.file.rpartition('.')[0]: image for image in SAMPLE_IMAGES}
    samples = []
    for name, pixels in representation_map.load_samples(representation_map.PLAYGROUND_SIDE).items():
        height, width = pixels.shape[:2]
        content, licence = about[name].content, about[name].licence
        samples.append(Sample(name=name, content=content, licence=licence, width=width, height=height))
    return samples


def find_sample(name: str) -> NDArray[np.uint8]:
    """A sample image. Raises InputError if there is none of this name."""
    samples = representation_map.load_samples(representation_map.PLAYGROUND_SIDE)
    if name not in samples:
        raise InputError(f"there is no sample '{name}'{suggest(name, samples)}")
    return samples[name]


@cache
def make_thumbnail(name: str) -> bytes:
    """A sample image as a small JPEG, square; InputError as ``find_sample``."""
    pixels = find_sample(name)
    square = Image.fromarray(cut_middle(pixels, min(pixels.shape[:2])))
    stream = BytesIO()
    square.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS).save(stream, 'JPEG', quality=88)
    return stream.getvalue()


def make_degradation(parameters: PlaygroundParameters, scale: int) -> representation_map.KnownDegradation:
    """The degradation of an experiment."""
    if parameters.blur == 'iso':
        return representation_map.make_isotropic(parameters.width, parameters.noise, scale)
    return representation_map.make_anisotropic(
        (parameters.axis_1, parameters.axis_2), parameters.theta, parameters.noise, scale
    )


def run_experiment(
    job: Job,
    image: UploadedImage | None,
    parameters: PlaygroundParameters,
    entry: Model,
    loaded: Loaded,
    maps: representation_map.MapStore,
) -> Outcome:
    """Runs an experiment in the thread of a job, whose progress is updated.

    Without an image it uses the sample that the parameters name. Raises JobCancelledError if the job was cancelled,
    ProblemError 422 if the image is too small, and InputError if it cannot be read.
    """
    upscaler, scale = loaded.upscaler, entry.scale
    whole = find_sample(parameters.sample or '') if image is None else _read_clean(image)
    hr = cut_middle(whole, representation_map.PLAYGROUND_SIDE, scale)
    if min(hr.shape[:2]) < LEAST_SIDE:
        height, width = whole.shape[:2]
        raise ProblemError(422, f'the image needs at least {LEAST_SIDE} pixels to each side, got {width} x {height}')
    known = make_degradation(parameters, scale)
    lq = degrade_image(known.degradation, hr, parameters.seed, _NAME)
    adaptation = AdaptationOptions(strength=parameters.strength, ensemble=parameters.ensemble)
    key = (entry.name, scale)
    waiting = () if maps.has(key) else representation_map.load_samples(representation_map.MAP_SIDE).values()
    encoded = representation_map.count_encoded(
        scale, representation_map.list_known(entry.setting, scale), (hr, *waiting)
    )
    job.expect(count_computed(upscaler, [Size(*lq.shape[:2])], adaptation, 1) + _ENCODING * encoded)
    job.enter('upscaling')
    with loaded.hooks.following(job.advance):
        sr = upscaler(lq, adaptation)
    bicubic = to_pixels(Bicubic(scale)(to_tensor(lq, torch.device('cpu')))[0], lq.dtype, 3)
    job.enter('mapping')

    def report(pixels: float) -> None:
        job.advance(_ENCODING * pixels)

    reference = maps.get(key, upscaler, entry.setting, report)
    placed = representation_map.place_experiment(reference, upscaler, hr, lq, known, report)
    from dasr_arch.benchmark.image_metrics import measure_image  # noqa: PLC0415 (brings BasicSR, slow to import)

    metric = MetricPlan('PSNR', 'calculate_psnr', {'crop_border': scale, 'test_y_channel': True})
    files = {
        name: job.store(name, encode_png(pixels, 3), 'image/png', f'{name}.png')
        for name, pixels in {'hr': hr, 'lq': lq, 'bicubic': bicubic, 'sr': sr}.items()
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
        model=entry.name,
        scale=scale,
        seconds=round(job.seconds, 2),
    )
    return Outcome(facts, files)


def _read_clean(image: UploadedImage) -> NDArray[np.uint8]:
    """The clean image as RGB of 8 bits."""
    frame = read_image_file(image.data, image.name).frames[0]
    shown = frame if isinstance(frame, Image.Image) else Image.fromarray(round_to_8_bits(frame))
    return np.array(shown.convert('RGB'))


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
