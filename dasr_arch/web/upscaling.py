"""The upscaling job, with the code of `dasr upscale`, and conversion of images for browsers."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO

from PIL import Image

from dasr_arch.data.image_io import round_to_8_bits
from dasr_arch.inference.images.encode import encode_image_file
from dasr_arch.inference.images.image_modes import decompose
from dasr_arch.inference.images.io import Frame, OutputSettings, read_header, read_image_file
from dasr_arch.inference.target_size import resize
from dasr_arch.inference.upscale_files import MAX_ENCODED_FRAMES, FileSettings, upscale_image
from dasr_arch.inference.upscaler import AdaptationOptions
from dasr_arch.web.jobs import Job, Outcome, StoredFile
from dasr_arch.web.model_store import Loaded
from dasr_arch.web.progress_hooks import Size, count_computed
from dasr_arch.web.schemas import Model, UpscaleParameters, UpscaleResult
from dasr_arch.web.uploads import MEDIA_TYPES, UploadedImage, name_result, open_image_file

SHOWN_SIDE = 6000
"""Longest side in pixels of an image that is shown at full size."""

_CONVERTING = threading.Lock()  # one large image in memory at a time
_BROWSER_FORMATS = ('PNG', 'JPEG', 'WEBP', 'GIF', 'AVIF', 'BMP')


def run_upscaling(
    job: Job,
    images: Mapping[str, UploadedImage],
    parameters: UpscaleParameters,
    choice: tuple[Model, str],
    loaded: Loaded,
) -> Outcome:
    """Upscales an image in the thread of a job, whose progress is updated.

    Of the images, the representation is that of 'reference' if there is one, and 'mask' is that of FileSettings. The
    choice is the model and the reason for it. Raises JobCancelledError if the job was cancelled, and InputError if the
    image cannot be upscaled.
    """
    upscaler = loaded.upscaler
    image = images['image']
    size = parameters.size()
    scale = size or upscaler.scale
    output = parameters.output()
    file = open_image_file(image, scale, output)
    represented_by, mask = (
        open_image_file(images[name], 1, OutputSettings()).frames[0] if name in images else None
        for name in ('reference', 'mask')
    )
    adaptation = AdaptationOptions(represented_by, parameters.strength, parameters.ensemble)
    sizes = [_measure(frame) for frame in file.frames]
    represented = min(len(sizes), MAX_ENCODED_FRAMES) if file.animated else len(sizes)
    job.expect(count_computed(upscaler, sizes, adaptation, represented))
    job.enter('encoding')

    def listen(pixels: float) -> None:
        job.advance(pixels)
        if pixels:
            job.phase = 'upscaling' if job.progress < 0.985 else 'writing'

    notes: list[str] = []
    with loaded.hooks.following(listen):
        settings = FileSettings(adaptation, output, size=size, mask=mask)
        data = upscale_image(upscaler, file, image.name, settings, notify=notes.append)
    kind = output.format or file.format
    name = name_result(image.name, scale, kind)
    files = {
        'input': job.store('input', image.data, MEDIA_TYPES[file.format], image.name),
        'result': job.store('result', data, MEDIA_TYPES[kind], name),
    }
    width, height = resize(scale, sizes[0].width, sizes[0].height)
    facts = UpscaleResult(
        name=name,
        media_type=MEDIA_TYPES[kind],
        bytes=len(data),
        width=width,
        height=height,
        frames=len(sizes),
        notes=notes,
        model=choice[0].name,
        scale=upscaler.scale,
        reason=choice[1],
        seconds=round(job.seconds, 2),
    )
    return Outcome(facts, files)


def convert_for_browsers(job: Job, stored: StoredFile) -> StoredFile:
    """A file of a job that browsers can show: itself, or its first frame as PNG."""
    path = stored.path.with_name(f'{stored.path.name}.shown')
    shown = StoredFile(path, 'image/png', f'{stored.name}.png')
    if path.exists():
        return shown
    with _CONVERTING:
        if path.exists():
            return shown
        data = stored.path.read_bytes()
        header = read_header(data, stored.name, limited=False)  # files of the server itself; results may be large
        if max(header.width, header.height) <= SHOWN_SIDE and _is_browser_format(data):
            return stored
        file = read_image_file(data, stored.name, limited=False)
        first = replace(file, frames=file.frames[:1], animated=False, durations=[], has_default=False)
        small = encode_image_file([_shrink(file.frames[0])], first, OutputSettings('PNG'))
        return job.store(path.name, small, 'image/png', shown.name)


def _is_browser_format(data: bytes) -> bool:
    with Image.open(BytesIO(data)) as image:
        return image.format in _BROWSER_FORMATS and image.mode != 'CMYK'


def _shrink(frame: Frame) -> Frame:
    image = frame if isinstance(frame, Image.Image) else Image.fromarray(round_to_8_bits(frame))
    if max(image.size) <= SHOWN_SIDE:
        return frame
    image = image.copy()
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BOX)
    return image


def _measure(frame: Frame) -> Size:
    decomposed = decompose(frame)
    return Size(*decomposed.size, decomposed.count_passes())
