"""Upscaling of videos, one frame in memory at a time. The result is written atomically."""

import errno
import heapq
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError, naming
from dasr_arch._extras import import_extra
from dasr_arch._files import atomic_write
from dasr_arch.inference.images.image_modes import decompose
from dasr_arch.inference.model_pool import ModelPool
from dasr_arch.inference.target_size import TargetSize
from dasr_arch.inference.tile_limits import is_out_of_memory
from dasr_arch.inference.upscaler import AdaptationOptions, Upscaler
from dasr_arch.inference.video.colour import read_pixels
from dasr_arch.inference.video.reader import VideoSettings, demux, is_after, open_video, scan_video
from dasr_arch.inference.video.shots import ShotRepresentation
from dasr_arch.inference.video.writer import VideoSource, VideoWriter, open_writer

if TYPE_CHECKING:
    import av

_NO_ROOM = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC)
_REORDERED = 4  # frames by which a time stamp may be displaced


class VideoReport(NamedTuple):
    """Result of one video."""

    path: Path  # the new file
    frames: int  # number of upscaled frames
    shots: int  # number of shots; each has its own representation
    notes: list[str]  # parts of the source that were not kept, with the reason


def upscale_video(
    upscaler: Upscaler | ModelPool,
    source: Path,
    target: Path,
    settings: VideoSettings | None = None,
    adaptation: AdaptationOptions | None = None,
    progress: bool = True,
) -> VideoReport:
    """Upscales a video to a file with an ending of CONTAINERS, which is replaced if it exists.

    Time stamps, sound, subtitles, attachments, chapters, tags, rotation, pixel aspect, colour matrix, range, primaries
    and transfer are kept. The report names what the target's format cannot hold; with ``progress`` stderr does, before
    the work. Within a shot, frames use a moving average of the representation. Raises InputError if the source is no
    video, damaged or truncated, or the settings do not fit, and OSError if the target cannot be written; nothing is
    written then.
    """
    errors = import_extra('av', 'video').FFmpegError
    settings = settings or VideoSettings()
    facts = scan_video(source, settings)
    size, notes = settings.size, list[str]()
    if size is not None and size.box is not None and facts.matrix is not None and facts.matrix[0] == 0:
        size = TargetSize((size.box[1], size.box[0]))  # players show the video turned by a quarter
    with naming(source):
        if isinstance(upscaler, ModelPool):
            upscaler, line = upscaler.choose([(facts.width, facts.height)], size)
            notes += [line] if line else []
        output = upscaler.plan_output(decompose(np.zeros((facts.height, facts.width, 3), np.uint8)), size)
    represent = ShotRepresentation(upscaler, adaptation)
    frames = 0
    try:
        with (
            atomic_write(target) as temporary,
            progress_bar(total=facts.frames, unit='frame', disable=not progress) as bar,
            open_video(source) as (container, stream),
        ):
            bar.set_description(source.name, refresh=True)
            original = VideoSource(source, container, stream, facts, settings)
            with open_writer(temporary, target, original, (output.size[1], output.size[0])) as writer:
                notes = [*notes, *facts.notes, *writer.notes]
                for note in notes if progress else ():
                    bar.write(f'dasr: {source}: {note}', file=sys.stderr)
                for frame in _read_frames(original, writer):
                    pixels = read_pixels(frame, facts.colour)
                    representations = represent(pixels, float(frame.time))
                    upscaled = upscaler.upscale_decomposed(decompose(pixels), representations, None, output)
                    writer.write(upscaled.components[0], frame)
                    frames += 1
                    bar.update()
    except errors as error:  # those of reading became InputErrors on the way
        full = '; is the disk full?' if error.errno in _NO_ROOM else ''
        raise InputError(f'{target}: cannot be written ({error.strerror}){full}') from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f'{source}: not enough memory; close other programs or cut the video') from error
    return VideoReport(target, frames, represent.shots, notes)


def _read_frames(source: VideoSource, writer: VideoWriter) -> 'Iterator[av.VideoFrame]':
    """Decoded frames of the selected part in display order; packets of sound and text are copied in between."""
    source.stream.thread_type = 'AUTO'
    if source.settings.start and not source.facts.joined:
        source.container.seek(int(source.facts.origin * 1_000_000))
    waiting = {one.index for one in (source.stream, *writer.copies()) if one.type in ('video', 'audio')}
    for frame in _in_display_order(_decode_and_copy(source, writer, waiting), source.stream):
        time = Fraction(frame.pts or 0) * (frame.time_base or 1) - source.facts.origin
        if is_after(time, source.settings):
            waiting.discard(source.stream.index)
        elif time >= 0:
            yield frame


def _decode_and_copy(source: VideoSource, writer: VideoWriter, waiting: set[int]) -> 'Iterator[av.VideoFrame]':
    """Reads until no stream is left in ``waiting``, indices of those that have not reached the end of the part."""
    started = False
    for packet in demux(source.path, source.container, [source.stream, *writer.copies()]):
        if packet.stream.index != source.stream.index:
            if _copy(packet, source, writer):
                waiting.discard(packet.stream.index)
        elif source.stream.index in waiting:
            for frame in _decode(packet, source, started):
                started = True
                yield frame
        if not waiting:
            return


def _in_display_order(frames: 'Iterable[av.VideoFrame]', stream: 'av.VideoStream') -> 'Iterator[av.VideoFrame]':
    """Puts time stamps into increasing order; files such as AVI store them in decoding order."""
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    step = max(1, round(1 / (rate * (stream.time_base or 1))))
    latest = -step
    waiting: deque[av.VideoFrame] = deque()
    stamps: list[int] = []
    for frame in frames:
        latest = latest + step if frame.pts is None else frame.pts
        heapq.heappush(stamps, latest)
        waiting.append(frame)
        if len(waiting) > _REORDERED:
            yield _restamp(waiting.popleft(), stamps)
    for frame in waiting:
        yield _restamp(frame, stamps)


def _restamp(frame: 'av.VideoFrame', stamps: list[int]) -> 'av.VideoFrame':
    frame.pts = heapq.heappop(stamps)
    return frame


def _copy(packet: 'av.Packet[av.stream.Stream]', source: VideoSource, writer: VideoWriter) -> bool:
    """Copies a packet of sound or text if it is in the selected part; returns True if it comes after the part."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None or not packet.size:  # marks the end of a stream
        return False
    time = stamp * packet.time_base - source.facts.origin
    if is_after(time, source.settings):
        return True
    if time >= 0 or not source.settings.start:  # audio encoders put priming samples before time 0
        writer.copy(packet)
    return False


def _decode(packet: 'av.Packet[av.stream.Stream]', source: VideoSource, started: bool) -> 'list[av.VideoFrame]':
    """Decodes a packet; undecodable packets before the first frame are skipped."""
    errors = import_extra('av', 'video').FFmpegError
    try:
        frames = source.stream.decode(packet)
    except errors as error:
        if not started:
            return []
        stamp = packet.pts if packet.pts is not None else packet.dts
        where = f' near {float(stamp * packet.time_base):.1f} seconds' if stamp is not None else ''
        raise InputError(
            f'{source.path}: is damaged{where} ({error.strerror}); copy it again, or upscale parts of it with --start '
            'and --duration'
        ) from error
    for frame in frames:
        if (frame.width, frame.height) != (source.facts.width, source.facts.height):
            raise InputError(
                f'{source.path}: changes its size from {source.facts.width} x {source.facts.height} to {frame.width} x '
                f'{frame.height} at {frame.time:.1f} seconds; upscale the parts with --start, --duration'
            )
    return frames
