"""The job that upscales an image, with the code of `dasr upscale`, and images in a form that browsers show."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from dasr_arch.inference.images.image_modes import decompose
from dasr_arch.inference.images.io import (
    Frame,
    ImageFile,
    OutputSettings,
    encode_image_file,
    read_header,
    read_image_file,
)
from dasr_arch.inference.upscale_files import FileSettings, upscale_image
from dasr_arch.inference.upscaler import Look
from dasr_arch.web.jobs import Job, Outcome, StoredFile
from dasr_arch.web.model_store import Loaded, ModelEntry
from dasr_arch.web.progress_hooks import Listener, Size, count_computed
from dasr_arch.web.schemas import UpscaleParameters, UpscaleResult
from dasr_arch.web.uploads import MEDIA_TYPES, UploadedImage, name_result, open_image_file

SHOWN_SIDE = 6000
"""Pixels to each side above which an image is shown smaller than it is."""

_SHOWING = threading.Lock()  # one large image in memory at a time
_SHOWN_AS_THEY_ARE = ('PNG', 'JPEG', 'WEBP', 'GIF', 'AVIF', 'BMP')
_REPRESENTED = 16  # frames of an animation that are looked at, as upscale_files has it


class UpscaleRequest(NamedTuple):
    """What was asked for.

    Attributes:
        image: to be upscaled.
        like: whose degradation is taken, if not its own.
        parameters: the rest.
        entry: the model.
    """

    image: UploadedImage
    like: UploadedImage | None
    parameters: UpscaleParameters
    entry: ModelEntry


def run_upscaling(job: Job, asked: UpscaleRequest, load: Callable[[], Loaded]) -> Outcome:
    """Upscales inside a job's thread.

    Args:
        job: is told how far it is.
        asked: what was asked for.
        load: gives the network.

    Raises:
        JobCancelledError: if the job was cancelled.
        InputError: if the image cannot be upscaled.
    """
    begun = time.monotonic()
    loaded = load()
    upscaler, scale, parameters = loaded.upscaler, asked.entry.scale, asked.parameters
    output = parameters.output()
    file = open_image_file(asked.image, scale, output)
    like = None if asked.like is None else open_image_file(asked.like, 1, OutputSettings()).frames[0]
    look = Look(like, parameters.strength, parameters.ensemble)
    sizes = [_measure(frame) for frame in file.frames]
    represented = min(len(sizes), _REPRESENTED) if file.animated else len(sizes)
    job.expect(count_computed(upscaler, sizes, look, represented))
    job.enter('encoding')
    with loaded.watch.following(_listen(job)):
        data = upscale_image(upscaler, file, asked.image.name, FileSettings(look, output))
    kind = output.format or file.format
    name = name_result(asked.image.name, scale, kind)
    files = {
        'input': job.store('input', asked.image.data, MEDIA_TYPES[file.format], asked.image.name),
        'result': job.store('result', data, MEDIA_TYPES[kind], name),
    }
    facts = UpscaleResult(
        name=name,
        media_type=MEDIA_TYPES[kind],
        bytes=len(data),
        width=sizes[0].width * scale,
        height=sizes[0].height * scale,
        frames=len(sizes),
        model=asked.entry.name,
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
    """A file of a job in a form that every browser shows: itself, or a PNG of its first frame.

    Args:
        job: whose it is.
        stored: an image file.
    """
    path = stored.path.with_name(f'{stored.path.name}.shown')
    shown = StoredFile(path, 'image/png', f'{stored.name}.png')
    if path.exists():
        return shown
    with _SHOWING:
        if path.exists():
            return shown
        data = stored.path.read_bytes()
        header = read_header(data, stored.name, limited=False)  # of the job's own, and results are large
        if max(header.width, header.height) <= SHOWN_SIDE and _shows_as_it_is(data):
            return stored
        file = read_image_file(data, stored.name, limited=False)
        small = encode_image_file([_shrink(file.frames[0])], _first_frame(file), OutputSettings('PNG'))
        return job.store(path.name, small, 'image/png', shown.name)


def _shows_as_it_is(data: bytes) -> bool:
    with Image.open(BytesIO(data)) as image:
        return image.format in _SHOWN_AS_THEY_ARE and image.mode != 'CMYK'


def _first_frame(file: ImageFile) -> ImageFile:
    return replace(file, frames=file.frames[:1], animated=False, durations=[], has_default=False)


def _shrink(frame: Frame) -> Frame:
    image = frame if isinstance(frame, Image.Image) else Image.fromarray(_to_eight_bits(frame))
    if max(image.size) <= SHOWN_SIDE:
        return frame
    image = image.copy()
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BOX)
    return image


def _to_eight_bits(pixels: np.ndarray) -> np.ndarray:
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _measure(frame: Frame) -> Size:
    layered = decompose(frame)
    height, width = layered.layers[0].shape[:2]
    varies = layered.alpha is not None and layered.alpha.min() < layered.alpha.max()
    return Size(height, width, len(layered.layers) + varies)
