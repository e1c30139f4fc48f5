"""Reading of video files through PyAV, and the settings of written ones.

Only local files in video formats are opened. Playlists and scripts, which could refer to other files or addresses, are
refused whatever their ending.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dasr_arch._errors import InputError, naming, suggest
from dasr_arch._extras import import_extra
from dasr_arch.data.image_io import MAX_PIXELS
from dasr_arch.inference.target_size import TargetSize
from dasr_arch.inference.video.clock import FORMATS, Clock
from dasr_arch.inference.video.colour import Colour, is_meaningless, read_colour

if TYPE_CHECKING:
    import av

CONTAINERS: Mapping[str, str] = {'.mp4': 'mp4', '.m4v': 'mp4', '.mov': 'mov', '.mkv': 'matroska', '.webm': 'webm'}
"""Formats of written videos by ending; other endings become Matroska."""

VIDEO_SUFFIXES = (
    *CONTAINERS,
    *('.3gp', '.avi', '.flv', '.m2ts', '.mpeg', '.mpg', '.mts', '.mxf', '.ogv', '.ts', '.vob', '.wmv'),
)
"""Endings of video files."""

_READ = 'mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,mxf,h264,hevc,dv,m4v'
_HDR = ('MASTERING_DISPLAY_METADATA', 'CONTENT_LIGHT_LEVEL', 'DYNAMIC_HDR_PLUS', 'DOVI_METADATA')  # of a frame
_TRUNCATED = 0.02  # missing share of the declared duration


class Encoder(NamedTuple):
    """Encoder of one codec."""

    name: str  # FFmpeg's name of the encoder
    crf: int | None  # default constant rate factor, smaller is better; None for a lossless codec
    max_crf: int  # largest constant rate factor
    bits: int  # largest bit depth
    full_chroma: bool  # the encoder keeps 4:4:4 chroma
    options: Mapping[str, str]  # further options of the encoder


ENCODERS: Mapping[str, Encoder] = {
    'h264': Encoder('libx264', 17, 51, 10, False, {'preset': 'medium'}),
    'h265': Encoder('libx265', 19, 51, 12, True, {'preset': 'medium', 'x265-params': 'log-level=error'}),
    'av1': Encoder('libsvtav1', 22, 63, 10, False, {'preset': '6'}),
    'vp9': Encoder('libvpx-vp9', 22, 63, 12, True, {'b': '0', 'row-mt': '1', 'deadline': 'good', 'cpu-used': '3'}),
    'ffv1': Encoder('ffv1', None, 0, 16, True, {'level': '3'}),
}


@dataclass(frozen=True)
class VideoSettings:
    """Codec, quality and time range of a written video; InputError if the codec is unknown or a number out of range."""

    codec: str | None = None  # one of ENCODERS; None is h264, or h265 above 8 bits, or vp9 in WebM
    crf: int | None = None  # constant rate factor, smaller is better; None is the codec's default
    start: float = 0.0  # seconds to skip at the beginning
    duration: float | None = None  # seconds to upscale from there; None is the rest
    size: TargetSize | None = None  # of the frames; None is the scale of the network

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in ENCODERS:
            raise InputError(f"--codec: unknown codec '{self.codec}'{suggest(self.codec, ENCODERS)}")
        if not 0 <= self.start < float('inf'):
            raise InputError(f'--start must be 0 or more seconds, got {self.start}')
        if self.duration is not None and not 0 < self.duration < float('inf'):
            raise InputError(f'--duration must be more than 0 seconds, got {self.duration}')
        if self.crf is not None and self.codec is not None:
            self._check_crf(self.codec)

    def choose(self, target: Path, colour: Colour) -> tuple[Encoder, int | None]:
        """Encoder for a target file and its constant rate factor.

        Raises InputError if the factor is out of range, or PyAV lacks the encoder.
        """
        codec = self.codec or ('vp9' if target.suffix.lower() == '.webm' else 'h265' if colour.bits > 8 else 'h264')
        self._check_crf(codec)
        encoder = ENCODERS[codec]
        if encoder.name not in import_extra('av', 'video').codecs_available:
            raise InputError(f"PyAV has no encoder {encoder.name} here; choose another --codec or PyAV's own wheels")
        return encoder, encoder.crf if self.crf is None else self.crf

    def _check_crf(self, codec: str) -> None:
        encoder = ENCODERS[codec]
        if self.crf is not None and encoder.crf is None:
            raise InputError(f'--crf: {codec} is lossless and has no quality to choose')
        if self.crf is not None and not 0 <= self.crf <= encoder.max_crf:
            raise InputError(f'--crf must be a whole number in [0, {encoder.max_crf}] for {codec}, got {self.crf}')


class VideoFacts(NamedTuple):
    """Properties of a video."""

    width: int  # stored pixels, before rotation
    height: int  # stored pixels, before rotation
    frames: int  # number of frames to upscale, as far as the container tells
    origin: Fraction  # time in the file that becomes 0, in seconds
    colour: Colour  # colour format of the first frame
    matrix: list[int] | None  # the nine numbers of the display matrix; None if there is none
    notes: list[str]  # parts that are not kept
    joined: bool  # the clock starts anew or jumps, so that times of the file cannot be sought


@contextmanager
def open_video(path: Path) -> Iterator['tuple[av.container.InputContainer, av.VideoStream]']:
    """Opens a file and yields the container and its largest video stream; cover images are ignored.

    Raises InputError if it cannot be read, or holds no video.
    """
    av = import_extra('av', 'video')
    options = {'protocol_whitelist': 'file', 'format_whitelist': _READ}
    try:
        container = av.open(f'file:{path}', container_options=options, metadata_errors='replace')
    except av.FFmpegError as error:
        if not path.is_file():
            raise InputError(f'{path}: expected a video, found no file there; check the path') from error
        raise InputError(f'{path}: cannot be read as a video ({error.strerror}); check the file') from error
    with container:
        covers = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & covers]
        streams = [stream for stream in streams if stream.codec_context is not None and stream.width]
        if not streams:
            raise InputError(f'{path}: holds no video; check the file')
        yield container, max(streams, key=lambda stream: stream.width * stream.height)


def scan_video(path: Path, settings: VideoSettings) -> VideoFacts:
    """Reads a file from end to end without decoding, to find damage before hours of work.

    Raises InputError as :func:`open_video`, or if the file is truncated, its frames are too large, or the time range of
    the settings is empty.
    """
    with open_video(path) as (container, stream):
        codec = stream.codec_context.name
        if stream.width * stream.height > MAX_PIXELS:
            raise InputError(f'{path}: {stream.width} x {stream.height} pixels are more than {MAX_PIXELS}; cut it')
        first = Fraction(container.start_time or 0, 1_000_000)
        origin = first + to_fraction(settings.start)
        frames, last = 0, first
        clock = Clock()
        for packet in demux(path, container, clock=clock):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                frames += packet.stream is stream and packet.size > 0
                continue
            time = stamp * packet.time_base
            last = max(last, time + (packet.duration or 0) * packet.time_base)
            frames += packet.stream is stream and time >= origin and not is_after(time - origin, settings)
        left_out = container.chapters() and (settings.start or settings.duration is not None)
        declared = Fraction(container.duration or 0, 1_000_000)
        # Decoders of VP8 and VP9 leave transparency out; the case of the tag depends on the writer.
        has_alpha = {key.lower(): value for key, value in stream.metadata.items()}.get('alpha_mode') == '1'
        present = last if 'matroska' in container.format.name else last - first  # its duration counts from 0
        if not clock.jumps:  # else the declared duration is that between the clocks
            _check_whole(path, present, declared, settings)
        if not frames:
            raise InputError(f'{path}: no frames in the part that was asked for; it has {float(present):.1f} seconds')
    image = _decode_first(path, 0 if clock.jumps else settings.start, origin)
    matrix: Any = image.side_data.get('DISPLAYMATRIX')
    notes = ['is interlaced, which is upscaled as it is; better deinterlace it first'] if image.interlaced_frame else []
    if left_out:
        notes.append('chapters left out')
    if has_alpha or image.format.name.startswith('yuva') or image.format.name in ('rgba', 'bgra', 'gbrap'):
        notes.append('transparency left out')
    if any(image.side_data.get(name) is not None for name in _HDR):
        notes.append('mastering metadata of HDR left out')
    if is_meaningless(int(image.colorspace)) and image.format.name.startswith('yuv'):
        notes.append(f'the colour matrix {int(image.colorspace)} has no meaning here and is taken for untagged')
    with naming(path):
        colour = read_colour(image, codec)
    numbers = None if matrix is None else np.frombuffer(memoryview(matrix), np.int32).tolist()
    return VideoFacts(image.width, image.height, frames, origin, colour, numbers, notes, clock.jumps > 0)


def is_after(time: Fraction, settings: VideoSettings) -> bool:
    """True if a time, in seconds after the origin, is after the selected range."""
    return settings.duration is not None and time >= to_fraction(settings.duration)


def to_fraction(seconds: float) -> Fraction:
    """Seconds as a fraction, rounded to microseconds: the float nearest to 0.08 is larger than 0.08."""
    return Fraction(seconds).limit_denominator(1_000_000)


def demux(
    path: Path,
    container: 'av.container.InputContainer',
    streams: 'Sequence[av.stream.Stream] | None' = None,
    clock: Clock | None = None,
) -> 'Iterator[av.Packet[av.stream.Stream]]':
    """Packets of some or all streams in file order; InputError if the file is damaged.

    Clocks that start anew or jump are mended, in formats that may have them; ``clock`` then counts them.
    """
    errors = import_extra('av', 'video').FFmpegError
    packets = container.demux() if streams is None else container.demux(streams)
    try:
        yield from (clock or Clock()).mend(packets) if container.format.name in FORMATS else packets
    except errors as error:
        raise InputError(f'{path}: is damaged ({error.strerror}); copy it again') from error


def _decode_first(path: Path, start: float, origin: Fraction) -> 'av.VideoFrame':
    """Decodes the first intact frame."""
    errors = import_extra('av', 'video').FFmpegError
    with open_video(path) as (container, stream):
        if start:
            container.seek(int(origin * 1_000_000))
        for packet in demux(path, container, [stream]):
            with suppress(errors):
                for frame in stream.decode(packet):
                    return frame
    raise InputError(f'{path}: no frame can be decoded; the file is damaged, or of a codec that PyAV does not have')


def _check_whole(path: Path, present: Fraction, declared: Fraction, settings: VideoSettings) -> None:
    """Raises InputError if the selected range reaches beyond the end of a truncated file."""
    truncated = declared - present > max(1, _TRUNCATED * declared)
    stop = None if settings.duration is None else settings.start + settings.duration
    if truncated and (stop is None or stop > present):
        raise InputError(
            f'{path}: is truncated, {float(present):.1f} of {float(declared):.1f} seconds are there; copy it again, or '
            f'upscale what there is with --duration {max(0, int(10 * (present - to_fraction(settings.start)))) / 10}'
        )
