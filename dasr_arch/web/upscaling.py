"""The job that upscales a picture, with the code of `dasr upscale`, and pictures in a form that browsers show."""

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
from dasr_arch.web.uploads import MEDIA_TYPES, UploadedPicture, name_result, open_image_file

SHOWN_SIDE = 6000
"""Pixels to each side above which a picture is shown smaller than it is."""

_SHOWING = threading.Lock()  # one large picture in memory at a time
_SHOWN_AS_THEY_ARE = ('PNG', 'JPEG', 'WEBP', 'GIF', 'AVIF', 'BMP')


class UpscaleRequest(NamedTuple):
    """What was asked for.

    Attributes:
        picture: to be upscaled.
        like: whose degradation is taken, if not its own.
        parameters: the rest.
        entry: the model.
    """

    picture: UploadedPicture
    like: UploadedPicture | None
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
        InputError: if the picture cannot be upscaled.
    """
    begun = time.monotonic()
    loaded = load()
    upscaler, scale, parameters = loaded.upscaler, asked.entry.scale, asked.parameters
    output = parameters.output()
    file = open_image_file(asked.picture, scale, output)
    like = None if asked.like is None else open_image_file(asked.like, 1, OutputSettings()).frames[0]
    adaptation = AdaptationOptions(like, parameters.strength, parameters.ensemble)
    sizes = [_measure(frame) for frame in file.frames]
    represented = min(len(sizes), MAX_ENCODED_FRAMES) if file.animated else len(sizes)
    job.expect(count_computed(upscaler, sizes, adaptation, represented))
    job.enter('looking')
    with loaded.watch.following(_listen(job)):
        data = upscale_image(upscaler, file, asked.picture.name, FileSettings(adaptation, output))
    kind = output.format or file.format
    name = name_result(asked.picture.name, scale, kind)
    files = {
        'input': job.store('input', asked.picture.data, MEDIA_TYPES[file.format], asked.picture.name),
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
            job.stage = 'enlarging' if job.progress < 0.985 else 'writing'

    return listen


def show_picture(job: Job, stored: StoredFile) -> StoredFile:
    """A file of a job in a form that every browser shows: itself, or a PNG of its first frame.

    Args:
        job: whose it is.
        stored: a picture file.
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
    with Image.open(BytesIO(data)) as picture:
        return picture.format in _SHOWN_AS_THEY_ARE and picture.mode != 'CMYK'


def _first_frame(file: ImageFile) -> ImageFile:
    return replace(file, frames=file.frames[:1], animated=False, durations=[], has_default=False)


def _shrink(frame: Frame) -> Frame:
    picture = frame if isinstance(frame, Image.Image) else Image.fromarray(round_to_8_bits(frame))
    if max(picture.size) <= SHOWN_SIDE:
        return frame
    picture = picture.copy()
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BOX)
    return picture


def _measure(frame: Frame) -> Size:
    decomposed = decompose(frame)
    return Size(*decomposed.size, decomposed.count_passes())
