"""Writing of a video file: upscaled frames are encoded; sound, subtitles, chapters and tags are copied."""

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dasr_arch._errors import InputError
from dasr_arch._extras import import_extra
from dasr_arch.inference.images.image_modes import Pixels
from dasr_arch.inference.video.colour import make_frame, pixel_format, tag
from dasr_arch.inference.video.reader import CONTAINERS, VideoFacts, VideoSettings

if TYPE_CHECKING:
    import av

_FEW = 4  # frames; x265 gives the packets of shorter videos invalid time stamps when it reorders them
_COPIED = ('audio', 'subtitle', 'attachment')
_PLAIN_KEYS = 'title artist album date comment genre copyright location location-eng creation_time'
_PLAIN_MP4_KEYS = (
    'album_artist composer grouping lyrics description synopsis show episode_id network keywords episode_sort '
    'season_number media_type hd_video gapless_playback compilation track disc'
)
"""Tags that FFmpeg writes into MP4 and MOV, and into MP4 alone, without a flag, under names that every player knows."""
_OWN_KEYS = ('major_brand', 'minor_version', 'compatible_brands', 'encoder', 'duration', 'bps', 'number_of', '_stat')


class VideoSource(NamedTuple):
    """An opened source video, its video stream, the result of ``scan_video``, and the options of the run."""

    path: Path
    container: 'av.container.InputContainer'
    stream: 'av.VideoStream'
    facts: VideoFacts
    settings: VideoSettings


@contextmanager
def open_writer(path: Path, target: Path, source: VideoSource, size: tuple[int, int]) -> 'Iterator[VideoWriter]':
    """A writer whose file is completed at the end of the ``with`` block, or abandoned after an exception."""
    writer = VideoWriter(path, target, source, size)
    try:
        yield writer
        writer.finish()
    except BaseException:
        writer.abandon()
        raise


class VideoWriter:
    """Writes a video; use ``open_writer``.

    The file at ``path`` is usually a temporary one; the ending of ``target``, its final name, determines the format.
    ``size`` is the width and height of the upscaled frames. Raises InputError if the format cannot hold the sound, or
    the encoder refuses the size.
    """

    def __init__(self, path: Path, target: Path, source: VideoSource, size: tuple[int, int]) -> None:
        self._av = import_extra('av', 'video')
        self._path, self._target, self._source = path, target, source
        encoder, crf = source.settings.choose(target, source.facts.colour)
        self._colour = replace(
            source.facts.colour,
            bits=min(source.facts.colour.bits, encoder.bits),
            subsampled=source.facts.colour.subsampled or not encoder.full_chroma,
        )
        self.notes: list[str] = []
        """Streams that were not copied, with the reason."""
        kind = CONTAINERS[target.suffix.lower()]
        self._container = self._av.open(str(path), 'w', format=kind, container_options=self._choose_flags(kind))
        try:
            self._stream = self._add_video(encoder.name, size, dict(encoder.options), crf)
            self._copies = self._add_copies()
            self._copy_tags(source.settings)
            with _unchanged_priority():
                self._container.start_encoding()
        except BaseException as error:
            self.abandon()
            if isinstance(error, self._av.FFmpegError | ValueError) and not isinstance(error, InputError):
                copied = ', '.join(f'{stream.type} {name_codec(stream)}' for stream in self.copies())
                raise InputError(
                    f'{target}: {kind} refuses {encoder.name} of {size[0]} x {size[1]} pixels'
                    f'{f" with {copied}" if copied else ""} ({error}); choose another --codec, or .mkv'
                ) from error
            raise
        self._last: int | None = None
        self._latest: dict[int, Fraction] = {}  # by stream of sound, the time of its last packet, seconds
        self._durations: dict[int, int] = {}  # of frames inside the encoder, which does not pass them on

    def finish(self) -> None:
        """Flushes the encoder and closes the file."""
        self._mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        """Closes and deletes the file; deleted first, because FFmpeg would rewrite it for its table of contents."""
        with suppress(OSError):
            self._path.unlink()
        with suppress(self._av.FFmpegError, OSError, ValueError):
            self._container.close()

    def write(self, pixels: Pixels, original: 'av.VideoFrame') -> None:
        """Encodes the next frame, RGB of shape (H, W, 3), float32 in [0, 1].

        The original frame gives time stamp and duration.
        """
        assert original.pts is not None
        assert original.time_base is not None
        frame = make_frame(pixels, self._colour)
        frame.time_base = original.time_base
        stamp = original.pts - round(self._source.facts.origin / original.time_base)
        frame.pts = stamp if self._last is None else max(stamp, self._last + 1)
        self._durations[frame.pts] = original.duration
        self._last = frame.pts
        self._mux(self._stream.encode(frame))

    def copies(self) -> 'list[av.stream.Stream]':
        """The source's streams whose packets are copied."""
        return [stream for stream in self._source.container.streams if stream.index in self._copies]

    def copy(self, packet: 'av.Packet[av.stream.Stream]') -> None:
        """Writes a packet of one of ``copies`` unchanged, with its time relative to the origin."""
        assert packet.time_base is not None
        shift = round(self._source.facts.origin / packet.time_base)
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
        packet.stream = self._copies[packet.stream.index]
        if packet.stream.type == 'audio':
            self._keep_order(packet)
        self._container.mux(packet)

    def _keep_order(self, packet: 'av.Packet[av.stream.Stream]') -> None:
        """Delays sound that overlaps the packet before, at the seam of joined recordings; muxers refuse it."""
        assert packet.time_base is not None
        if packet.dts is None:
            return
        earliest = self._latest.get(packet.stream.index)
        if earliest is not None and packet.dts * packet.time_base < earliest:
            tick = max(packet.stream.time_base or packet.time_base, packet.time_base)
            packet.dts = math.ceil((earliest + tick) / packet.time_base)
            packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        self._latest[packet.stream.index] = packet.dts * packet.time_base

    def _mux(self, packets: 'list[av.Packet[av.stream.Stream]]') -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts or 0, 0)
            self._container.mux(packet)

    def _add_video(self, encoder: str, size: tuple[int, int], options: dict[str, str], crf: int | None) -> Any:
        source = self._source.stream
        if crf is not None:
            options['crf'] = str(crf)
        if self._source.facts.frames < _FEW:
            options['bf'] = '0'
        width, height = (side + side % 2 if self._colour.subsampled else side for side in size)
        if encoder == 'libx265' and width < 64:  # below 56, cuTree of x265 4.2 writes past its rows; may crash
            options['x265-params'] += ':cutree=0'
        os.environ.setdefault('SVT_LOG', '1')  # errors only; the AV1 encoder would fill the terminal
        rate = source.average_rate or source.guessed_rate or Fraction(25)
        stream = self._container.add_stream(encoder, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format(self._colour)
        context = stream.codec_context
        context.time_base = source.time_base
        stream.time_base = source.time_base
        context.sample_aspect_ratio = source.sample_aspect_ratio or Fraction(1)
        tag(context, self._colour)
        if encoder == 'libx265' and self._target.suffix.lower() in ('.mp4', '.m4v', '.mov'):
            context.codec_tag = 'hvc1'  # without it some players show nothing
        if self._source.facts.matrix is not None:
            stream.set_display_matrix(self._source.facts.matrix)
        _copy_facts(source, stream)
        return stream

    def _choose_flags(self, kind: str) -> dict[str, str]:
        """Options of the container; names that MP4 and MOV do not have, such as those of phones, need a flag."""
        if kind not in ('mp4', 'mov'):
            return {}
        plain = f'{_PLAIN_KEYS} {_PLAIN_MP4_KEYS if kind == "mp4" else "make model"}'.split()
        named = {key.lower() for key in _without_own(self._source.container.metadata)}.difference(plain)
        return {'movflags': '+faststart+use_metadata_tags' if named else '+faststart'}

    def _add_copies(self) -> 'dict[int, av.stream.Stream]':
        copies: dict[int, av.stream.Stream] = {}
        ending = self._target.suffix
        hint = '' if ending == '.mkv' else '; .mkv may'
        for stream in self._source.container.streams:
            if stream.index == self._source.stream.index:
                continue
            name = name_codec(stream)
            if stream.type not in _COPIED:
                # MP4 and MOV have a stream for chapters, and one that FFmpeg makes of the tag timecode.
                clock = 'timecode' in stream.metadata and CONTAINERS[ending.lower()] in ('mp4', 'mov')
                if stream.type != 'data' or not (clock or self._source.container.chapters()):
                    self.notes.append(f'{stream.type} {name} left out')
                continue
            held = ending == '.mkv' if stream.type == 'attachment' else self._holds(stream)
            if not held:
                if stream.type == 'audio':
                    raise InputError(
                        f'{self._target}: sound of kind {name} cannot be copied into {ending}; name an .mkv file'
                    )
                self.notes.append(f'{stream.type} {name} left out, {ending} cannot hold it{hint}')
                continue
            copies[stream.index] = self._container.add_stream_from_template(stream)
            _copy_facts(stream, copies[stream.index])
        return copies

    def _holds(self, stream: 'av.stream.Stream') -> bool:
        """True if a file of this format can hold a stream; some muxers refuse it only with their header."""
        trial = self._av.open(BytesIO(), 'w', format=CONTAINERS[self._target.suffix.lower()])
        try:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
        except (ValueError, self._av.FFmpegError):
            return False
        finally:
            with suppress(ValueError, self._av.FFmpegError):
                trial.close()
        return True

    def _copy_tags(self, settings: VideoSettings) -> None:
        self._container.metadata.update(_without_own(self._source.container.metadata))
        chapters = self._source.container.chapters()
        if chapters and not settings.start and settings.duration is None:
            self._container.set_chapters(chapters)


def name_codec(stream: 'av.stream.Stream') -> str:
    """Name of a stream's codec, or its tag or type if no decoder is known."""
    if stream.codec_context is not None:
        return stream.codec_context.name
    tag_of = getattr(stream, 'codec_tag', None)
    return str(tag_of) if tag_of and str(tag_of).isprintable() else 'of unknown kind'


@contextmanager
def _unchanged_priority() -> Iterator[None]:
    """Takes back the real-time priority that SVT-AV1, run by root, gives its threads and this one; others starve."""
    if not sys.platform.startswith('linux'):
        yield
        return
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in os.listdir('/proc/self/task') if os.sched_getscheduler(0) != policy else ():
            with suppress(OSError):
                if os.sched_getscheduler(int(thread)) == os.SCHED_FIFO:
                    os.sched_setscheduler(int(thread), policy, parameter)


def _copy_facts(source: 'av.stream.Stream', copy: Any) -> None:
    """Copies language, title and disposition of a stream."""
    copy.metadata.update(_without_own(source.metadata))
    copy.disposition = source.disposition


def _without_own(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags without those that describe the container itself."""
    return {key: value for key, value in tags.items() if not key.lower().startswith(_OWN_KEYS)}
