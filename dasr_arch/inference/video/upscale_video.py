"""Upscaling video, one frame in memory at a time: the result is there as a whole or not at all."""

import glob
import heapq
import os
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch._extras import import_extra
from dasr_arch._files import atomic_write
from dasr_arch.inference.images.image_modes import decompose
from dasr_arch.inference.output_paths import Naming
from dasr_arch.inference.tiling import is_out_of_memory
from dasr_arch.inference.upscaler import Look, Upscaler
from dasr_arch.inference.video.colour import read_pixels
from dasr_arch.inference.video.reader import (
    CONTAINERS,
    VIDEO_SUFFIXES,
    VideoFacts,
    VideoSettings,
    demux,
    is_behind,
    open_video,
    scan_video,
)
from dasr_arch.inference.video.shots import ShotRepresentation
from dasr_arch.inference.video.writer import VideoSource, VideoWriter

if TYPE_CHECKING:
    import av
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream


_REORDERED = 4  # frames that a stamp may be away from its place


class VideoReport(NamedTuple):
    """What was made.

    Attributes:
        path: the new file.
        frames: how many were upscaled.
        shots: how often the representation began anew.
        notes: what was not kept, and why.
    """

    path: Path
    frames: int
    shots: int
    notes: list[str]


class VideoJob(NamedTuple):
    """One video: where it is, and what it becomes."""

    source: Path
    target: Path


class VideoPlan(NamedTuple):
    """What is to be done.

    Attributes:
        jobs: one for each video.
        done: results of an earlier run that are left alone.
    """

    jobs: list[VideoJob]
    done: list[Path]


def is_video(source: str) -> bool:
    """Whether a file name, or a pattern, ends as names of videos do."""
    return Path(source).suffix.lower() in VIDEO_SUFFIXES


def plan_videos(sources: Sequence[str], target: str | None, naming: Naming) -> VideoPlan:
    """Names the results, before anything is read.

    Args:
        sources: files, and patterns such as 'clips/*.mp4'.
        target: a file, or a folder; None puts clip_x4.mp4 beside clip.mp4. Formats that are not written become .mkv.
        naming: how results are named; its ``format`` and ``recursive`` do not matter.

    Raises:
        InputError: if there is nothing to do, or something is in the way.
    """
    paths = [path for source in sources for path in _find(source)]
    folder = target is not None and (Path(target).is_dir() or target.endswith(('/', os.sep)))
    if target is not None and len(paths) > 1 and not folder:
        raise InputError(f'{target}: expected a folder for several videos; make it, or end its name with /')
    originals = {path.resolve() for path in paths}
    jobs: list[VideoJob] = []
    done: list[Path] = []
    for path in paths:
        made = _name(path, target, folder, naming.scale)
        if made.resolve() in originals or any(made.exists() and made.samefile(path) for path in paths if path.exists()):
            raise InputError(f'{made}: is one of the originals, which are never replaced; choose another name')
        if made in [job.target for job in jobs]:
            raise InputError(f'{made}: two videos would get this name; give them one by one')
        if made.is_dir():
            raise InputError(f'{made}: is a folder, expected room for a file; choose another name')
        if not os.path.lexists(made) or naming.force:
            jobs.append(VideoJob(path, made))
        elif not naming.resume:
            raise InputError(f'{made}: exists already; --resume leaves it out, --force replaces it')
        else:
            done.append(made)
    return VideoPlan(jobs, done)


def _find(source: str) -> list[Path]:
    if os.path.lexists(source) or not glob.has_magic(source):
        return [Path(source)]
    found = [Path(match) for match in sorted(glob.glob(source, recursive=True)) if is_video(match)]
    if not found:
        raise InputError(f"'{source}' matches no video; check the pattern")
    return found


def _name(path: Path, target: str | None, folder: bool, scale: int) -> Path:
    ending = path.suffix if path.suffix.lower() in CONTAINERS else '.mkv'
    if target is None:
        return path.with_name(f'{path.stem}_x{scale}{ending}')
    if folder:
        made = Path(target, path.stem + ending)
        same = made.parent.resolve() == path.parent.resolve()
        return made.with_stem(f'{path.stem}_x{scale}') if same else made
    if Path(target).suffix.lower() not in CONTAINERS:
        known = ', '.join(CONTAINERS)
        raise InputError(f"{target}: videos are not written as '{Path(target).suffix}'; use one of {known}")
    return Path(target)


def upscale_video(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    settings: VideoSettings | None = None,
    look: Look | None = None,
    progress: bool = True,
) -> VideoReport:
    """Upscales a video.

    Time stamps, sound, subtitles, attachments, chapters, tags, rotation, pixel aspect, colour matrix, range, primaries
    and transfer are kept; what the format of the target cannot hold is named in the report. Frames share a moving
    average of the representation within each shot.

    Args:
        upscaler: does the work.
        source: the file.
        target: the file to make, with one of the endings CONTAINERS; replaced if it exists.
        settings: codec, quality and part; ``VideoSettings()`` if None.
        look: what to adapt to.
        progress: show a progress bar on stderr.

    Raises:
        InputError: if the source is no video, is damaged or truncated, or cannot be written as asked; nothing is left.
        OSError: if the target cannot be written.
    """
    errors = import_extra('av', 'video').FFmpegError
    settings = settings or VideoSettings()
    facts = scan_video(source, settings)
    try:
        with (
            atomic_write(target) as temporary,
            progress_bar(total=facts.frames, unit='frame', disable=not progress) as bar,
        ):
            bar.set_description(source.name, refresh=True)
            return _upscale(upscaler, _Job(source, target, temporary, facts, settings), look, bar)
    except errors as error:  # those of reading became InputErrors on the way
        raise InputError(f'{target}: cannot be written ({error.strerror}); is the disk full?') from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f'{source}: not enough memory; close other programs or cut the video') from error


class _Job(NamedTuple):
    """One video, and where it goes."""

    source: Path
    target: Path
    temporary: Path
    facts: VideoFacts
    settings: VideoSettings


def _upscale(upscaler: Upscaler, job: _Job, look: Look | None, bar: 'tqdm[Any]') -> VideoReport:
    represent = ShotRepresentation(upscaler, look)
    facts, size = job.facts, (job.facts.width * upscaler.scale, job.facts.height * upscaler.scale)
    frames = 0
    with open_video(job.source) as (container, stream):
        original = VideoSource(container, stream, facts)
        with VideoWriter(job.temporary, job.target, original, size, job.settings) as writer:
            for frame in _read_frames(job, original, writer):
                pixels = read_pixels(frame, facts.colour)
                codes = represent(pixels, float(frame.time))
                large = upscaler.upscale_layered(decompose(pixels), codes).layers[0]
                writer.write(large, frame)
                frames += 1
                bar.update()
        notes = [*facts.notes, *writer.notes]
    return VideoReport(job.target, frames, represent.shots, notes)


def _read_frames(job: _Job, original: VideoSource, writer: VideoWriter) -> 'Iterator[av.VideoFrame]':
    """Decoded frames of the part that is asked for, in the order of display; on the way, packets are copied."""
    container, stream, facts = original
    stream.thread_type = 'AUTO'
    if job.settings.start:
        container.seek(int(facts.origin * 1_000_000))
    copied = writer.copies()
    waiting = {one.index for one in (stream, *copied) if one.type in ('video', 'audio')}
    order = _DisplayOrder(stream)
    for packet in demux(job.source, container, [stream, *copied]):
        if packet.stream.index != stream.index:
            if _copy(packet, job, writer):
                waiting.discard(packet.stream.index)
        elif stream.index in waiting:
            order.push(_decode(packet, stream, job, order.started), last=not packet.size)
            for frame in order.pop():
                time = Fraction(frame.pts or 0) * (frame.time_base or 1) - facts.origin
                if is_behind(time, job.settings):
                    waiting.discard(stream.index)
                elif time >= 0:
                    yield frame
        if not waiting:
            return


class _DisplayOrder:
    """Frames whose stamps increase: files such as AVI know the order of decoding only, and stamps come mixed up.

    Args:
        stream: where the frames come from.
    """

    def __init__(self, stream: 'VideoStream') -> None:
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self._step = max(1, round(1 / (rate * (stream.time_base or 1))))
        self._frames: deque[av.VideoFrame] = deque()
        self._stamps: list[int] = []
        self._latest: int | None = None
        self._ended = False

    @property
    def started(self) -> bool:
        """Whether there was a frame."""
        return self._latest is not None

    def push(self, frames: 'list[av.VideoFrame]', last: bool) -> None:
        """Takes what a packet completed."""
        self._ended = last
        for frame in frames:
            stamp = frame.pts
            if stamp is None:
                stamp = 0 if self._latest is None else self._latest + self._step
            self._latest = stamp
            heapq.heappush(self._stamps, stamp)
            self._frames.append(frame)

    def pop(self) -> 'Iterator[av.VideoFrame]':
        """Those that no later frame can come before."""
        while len(self._frames) > (0 if self._ended else _REORDERED):
            frame = self._frames.popleft()
            frame.pts = heapq.heappop(self._stamps)
            yield frame


def _copy(packet: 'Packet[Stream]', job: _Job, writer: VideoWriter) -> bool:
    """Copies a packet of sound or text if it belongs to the part; True if it comes after the part."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None or not packet.size:  # what ends a stream
        return False
    time = stamp * packet.time_base - job.facts.origin
    if is_behind(time, job.settings):
        return True
    if time >= 0 or not job.settings.start:  # what an encoder of sound puts before the beginning belongs there
        writer.copy(packet)
    return False


def _decode(packet: 'Packet[Stream]', stream: 'VideoStream', job: _Job, started: bool) -> 'list[av.VideoFrame]':
    """The frames that a packet completes; what cannot be decoded before the first one is passed over."""
    errors = import_extra('av', 'video').FFmpegError
    try:
        frames = stream.decode(packet)
    except errors as error:
        if not started:
            return []
        stamp = packet.pts if packet.pts is not None else packet.dts
        where = f' near {float(stamp * packet.time_base):.1f} seconds' if stamp is not None else ''
        raise InputError(
            f'{job.source}: is damaged{where} ({error.strerror}); copy it again, or upscale parts of it with --start '
            'and --duration'
        ) from error
    for frame in frames:
        if (frame.width, frame.height) != (job.facts.width, job.facts.height):
            raise InputError(
                f'{job.source}: changes its size from {job.facts.width} x {job.facts.height} to {frame.width} x '
                f'{frame.height} at {frame.time:.1f} seconds; upscale the parts with --start, --duration'
            )
    return frames
