"""The upscaling job, with the code of `dasr upscale`, and conversion of images for browsers."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import NamedTuple

from PIL import Image

from dasr_arch.data.image_io import round_to_8_bits
from dasr_arch.inference.images.encode import encode_image_file
from dasr_arch.inference.images.image_modes import decompose
from dasr_arch.inference.images.io import (
    Frame,
    ImageFile,
    OutputSettings,
    read_header,
    read_image_file,
)
from dasr_arch.inference.upscale_files import MAX_ENCODED_FRAMES, FileSettings, upscale_image
from dasr_arch.inference.upscaler import AdaptationOptions
from dasr_arch.web.jobs import Job, Outcome, StoredFile
from dasr_arch.web.model_store import Loaded, ModelEntry
from dasr_arch.web.progress_hooks import Listener, Size, count_computed
from dasr_arch.web.schemas import UpscaleParameters, UpscaleResult
from dasr_arch.web.uploads import MEDIA_TYPES, UploadedImage, name_result, open_image_file

SHOWN_SIDE = 6000
"""Longest side in pixels of an image that is shown at full size."""

_CONVERTING = threading.Lock()  # one large image in memory at a time
_BROWSER_FORMATS = ('PNG', 'JPEG', 'WEBP', 'GIF', 'AVIF', 'BMP')


class UpscaleRequest(NamedTuple):
    """A request for an upscaling.

    Attributes:
        image: the LR image.
        like: image whose representation is used instead of its own.
        parameters: of the request.
        entry: the model.
    """

    image: UploadedImage
    like: UploadedImage | None
    parameters: UpscaleParameters
    entry: ModelEntry


def run_upscaling(job: Job, request: UpscaleRequest, load: Callable[[], Loaded]) -> Outcome:
    """Upscales an image in the thread of a job.

    Args:
        job: its progress is updated.
        request: image and parameters.
        load: returns the network.

    Raises:
        JobCancelledError: if the job was cancelled.
        InputError: if the image cannot be upscaled.
    """
    begun = time.monotonic()
    loaded = load()
    upscaler, scale, parameters = loaded.upscaler, request.entry.scale, request.parameters
    output = parameters.output()
    file = open_image_file(request.image, scale, output)
    like = None if request.like is None else open_image_file(request.like, 1, OutputSettings()).frames[0]
    adaptation = AdaptationOptions(like, parameters.strength, parameters.ensemble)
    sizes = [_measure(frame) for frame in file.frames]
    represented = min(len(sizes), MAX_ENCODED_FRAMES) if file.animated else len(sizes)
    job.expect(count_computed(upscaler, sizes, adaptation, represented))
    job.enter('encoding')
    with loaded.hooks.following(_listen(job)):
        data = upscale_image(upscaler, file, request.image.name, FileSettings(adaptation, output))
    kind = output.format or file.format
    name = name_result(request.image.name, scale, kind)
    files = {
        'input': job.store('input', request.image.data, MEDIA_TYPES[file.format], request.image.name),
        'result': job.store('result', data, MEDIA_TYPES[kind], name),
    }
    facts = UpscaleResult(
        name=name,
        media_type=MEDIA_TYPES[kind],
        bytes=len(data),
        width=sizes[0].width * scale,
        height=sizes[0].height * scale,
        frames=len(sizes),
        model=request.entry.name,
        scale=scale,
        seconds=round(time.monotonic() - begun, 2),
    )
    return Outcome(facts, files)


def _listen(job: Job) -> Listener:
    def listen(pixels: float) -> None:
        job.advance(pixels)
        if pixels:
            job.phase = 'upscaling' if job.progress < 0.985 else 'writing'

    return listen


def convert_for_browsers(job: Job, stored: StoredFile) -> StoredFile:
    """A file of a job that browsers can show: itself, or its first frame as PNG.

    Args:
        job: owner of the file.
        stored: an image file.
    """
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
        small = encode_image_file([_shrink(file.frames[0])], _first_frame(file), OutputSettings('PNG'))
        return job.store(path.name, small, 'image/png', shown.name)


def _is_browser_format(data: bytes) -> bool:
    with Image.open(BytesIO(data)) as image:
        return image.format in _BROWSER_FORMATS and image.mode != 'CMYK'


def _first_frame(file: ImageFile) -> ImageFile:
    return replace(file, frames=file.frames[:1], animated=False, durations=[], has_default=False)


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
