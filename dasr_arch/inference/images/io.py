"""Reading of image files with all frames, bit depths, modes, colour profiles and metadata.

Pillow decodes; PNG and TIFF of 16 bits, which it reduces to 8, are decoded by ``data/high_bit_depth.py``.
"""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image, ImageOps, features

from dasr_arch._errors import InputError
from dasr_arch.backends.devices import available_memory
from dasr_arch.data.high_bit_depth import decode_16_bits
from dasr_arch.data.image_io import (
    DECODING_ERRORS,
    MAX_PIXELS,
    RAW_EXIF,
    adopt_raw_exif,
    has_16_bits,
    make_error,
    turn_upright,
)
from dasr_arch.inference.images.colour import is_other_than_srgb, is_profile
from dasr_arch.inference.images.gif import compose_frames
from dasr_arch.inference.images.metadata import Metadata, read_metadata
from dasr_arch.inference.target_size import Scale, label_scale, resize

Frame = NDArray[np.uint16] | Image.Image
"""A decoded image: an array for 16 bits, else a Pillow image."""

_ENDINGS_OF = {
    'PNG': ('.png', '.apng'),
    'JPEG': ('.jpg', '.jpeg', '.jfif', '.jpe'),
    'WEBP': ('.webp',),
    'TIFF': ('.tiff', '.tif'),
    'BMP': ('.bmp', '.dib'),
    'GIF': ('.gif',),
} | ({'AVIF': ('.avif', '.avifs')} if features.check('avif') else {})

FORMATS = tuple(_ENDINGS_OF)
SUFFIXES = {ending: kind for kind, endings in _ENDINGS_OF.items() for ending in endings}
"""Formats by file ending in lower case; AVIF only if Pillow supports it."""

ENDINGS = {kind: endings[0] for kind, endings in _ENDINGS_OF.items()}
"""Default file ending of each format."""

_LONGEST_SIDE = {'JPEG': 65500, 'WEBP': 16383, 'GIF': 65535, 'AVIF': 65535}
_ANIMATED = ('GIF', 'PNG', 'WEBP', 'AVIF')
_WITHOUT_ALPHA = ('JPEG', 'BMP')
_WITHOUT_PROFILE = ('BMP', 'GIF')
_LONGEST_PROFILE = 255 * 65519  # bytes in a JPEG, which numbers its parts in one byte
_WITHOUT_GREY = ('AVIF', 'WEBP')  # grey is stored as colour
_BYTES = 4  # of a pixel of a decoded frame
_ENCODING_BYTES = {'PNG': 9.0, 'TIFF': 4.0, 'GIF': 2.5}  # of a pixel of a result with several frames; of others 1
_UNLIMITED = threading.Lock()  # Pillow's pixel limit is global


class Header(NamedTuple):
    """Format and size of an image file."""

    format: str  # one of FORMATS
    width: int  # in pixels, with EXIF rotation applied
    height: int  # in pixels, with EXIF rotation applied
    frames: int  # number of frames or pages


@dataclass(frozen=True)
class ImageFile:
    """A decoded image file."""

    format: str  # one of FORMATS, by the content of the file
    frames: Sequence[Frame]  # at least one image, with EXIF rotation applied
    animated: bool  # the frames are an animation; otherwise they are pages
    durations: Sequence[float]  # of each frame of an animation, milliseconds
    loop: int | None  # number of repetitions, 0 for endless; None if unspecified
    lossless: bool  # a WebP with lossless compression
    compression: str | None  # of a TIFF
    has_default: bool  # the first frame of an APNG is a fallback and not part of the animation
    metadata: Metadata
    quantisation: Sequence[int] = ()  # luma table of a JPEG


@dataclass(frozen=True)
class OutputSettings:
    """Format and quality of written files; InputError if the format is unknown or the quality out of range."""

    format: str | None = None  # one of FORMATS; None keeps that of the input
    quality: int | None = None  # of lossy formats, 1 to 100; None is 95, and lossless for WebP from lossless input

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise InputError(f"unknown format '{self.format}'; use one of {', '.join(FORMATS)}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise InputError(f'quality must be a whole number in [1, 100], got {self.quality}')


def read_header(source: bytes | Path, name: str, limited: bool = True) -> Header:
    """Reads format and size of an image without decoding it; InputError if it is no image, or too large.

    ``name`` is that of the image in error messages. Images above MAX_PIXELS are refused if ``limited``; results may be
    larger.
    """
    try:
        if not (source.stat().st_size if isinstance(source, Path) else source):
            raise InputError(f'{name}: is empty, expected an image; replace or remove it')
        with _limit(limited), _open(source) as image:
            if limited and image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            kind = _format_of(image)
            frames = getattr(image, 'n_frames', 1) if image.format != 'MPO' else 1
            return Header(kind, *(image.size[::-1] if _is_turned(image) else image.size), frames)
    except InputError:
        raise
    except DECODING_ERRORS as error:
        raise make_error(name, error, ', '.join(FORMATS)) from error


def read_image_file(
    data: bytes, name: str, scale: Scale = 1, limited: bool = True, kind: str | None = None
) -> ImageFile:
    """Decodes a file's content; ``name`` and ``limited`` as for ``read_header``.

    Image sizes in the metadata become those of the result; ``kind`` is the format of the result, by default that of
    the file. Raises InputError if the content is damaged, of a kind that
    cannot be upscaled, or an animation or stack of pages that does not fit in memory with its result.
    """
    header = read_header(data, name, limited)
    _check_room(header, name, scale, kind or header.format)
    try:
        with _limit(limited):
            return _read(data, scale, limited, kind)
    except DECODING_ERRORS as error:
        raise make_error(name, error, ', '.join(FORMATS)) from error


def _check_room(header: Header, name: str, scale: Scale, kind: str) -> None:
    """Refuses animations and stacks of pages that do not fit in memory with what the encoder of the result holds."""
    width, height = resize(scale, header.width, header.height)
    result = _ENCODING_BYTES.get(kind, 1.0) * width * height
    needed = header.frames * (header.width * header.height * _BYTES + result)
    available = available_memory(torch.device('cpu'))
    if header.frames > 1 and needed > available:
        raise InputError(
            f'{name}: its {header.frames} frames of {header.width} x {header.height} pixels and their '
            f'{label_scale(scale)} take {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are available; split it'
        )


def check_output(file: ImageFile, settings: OutputSettings, scale: Scale) -> list[str]:
    """Checks before the work that the output format can hold the result; returns notes of what is left out.

    Raises InputError if it cannot; the message names formats that can.
    """
    kind = settings.format or file.format
    sizes = [resize(scale, *size_of(frame)) for frame in file.frames]
    width, height = (max(size[axis] for size in sizes) for axis in (0, 1))
    if max(width, height) > _LONGEST_SIDE.get(kind, max(width, height)):
        raise InputError(f'{kind} cannot hold {width} x {height} pixels; use --format png or tiff')
    if len(file.frames) > 1 and not (kind in _ANIMATED if file.animated else kind == 'TIFF'):
        what, other = ('an animation', 'gif, png or webp') if file.animated else ('several pages', 'tiff')
        raise InputError(f'holds {what}, which {kind} cannot; use --format {other}')
    _check_alpha(file, kind)
    metadata = file.metadata
    deep = any(isinstance(frame, np.ndarray) for frame in file.frames)
    cicp = metadata.cicp
    first = cicp is not None and cicp.is_hdr and file.format == 'PNG'  # codes of a PNG count more than its profile
    if cicp is not None and kind != 'PNG' and (first or metadata.icc_profile is None):
        raise InputError(f'has the colour {cicp.describe()}, which {kind} cannot hold here; use --format png')
    notes = [f'{part} is left out' for part in metadata.notes]
    notes += [f'{name} is left out: {kind} cannot hold it' for name in metadata.find_losses(kind)]
    keeping = ('PNG', 'TIFF') if deep else ('PNG',)  # of a gamma; a TIFF of 16 bits as a profile
    if deep and kind not in ('PNG', 'TIFF'):
        notes.append(f'16 bits are rounded to 8: {kind} holds no more')
    if kind not in ('JPEG', 'TIFF') and any(map(_has_inks, file.frames)):
        notes.append(f'CMYK is converted to RGB: {kind} holds none')
    if kind == 'GIF' and file.format != 'GIF':
        hard = ', and pixels to transparent or opaque' if any(map(has_alpha, file.frames)) else ''
        notes.append(f'colours are reduced to 256{hard}: {kind} holds no more')
    if _loses_profile(kind, metadata.icc_profile):
        which = {'JPEG': ' of more than 16 MB'} | dict.fromkeys(_WITHOUT_GREY, ' of grey')
        whole = is_profile(metadata.icc_profile or b'')
        change = 'colour is converted to sRGB' if whole else 'the damaged profile is left out'
        notes.append(f'{change}: {kind} holds no profile{which.get(kind, "")}')
    elif kind not in keeping and metadata.icc_profile is None and is_other_than_srgb(metadata.png):
        notes.append(f'colour is converted to sRGB: {kind} holds no gamma')
    return notes


def _check_alpha(file: ImageFile, kind: str) -> None:
    if any(map(has_alpha, file.frames)):
        if kind in _WITHOUT_ALPHA:
            raise InputError(f'is transparent, which {kind} cannot be; use --format png or webp')
        if kind == 'TIFF' and isinstance(file.frames[0], np.ndarray) and is_grey_profile(file.metadata.icc_profile):
            raise InputError('is grey and transparent, 16 bits with a profile; TIFF cannot hold it, use --format png')


def becomes_srgb(frame: Frame, kind: str, metadata: Metadata) -> bool:
    """True if a format cannot hold the colour model or the profile of a frame, so that its colour is converted."""
    return (_has_inks(frame) and kind not in ('JPEG', 'TIFF')) or _loses_profile(kind, metadata.icc_profile)


def _has_inks(frame: Frame) -> bool:
    return isinstance(frame, Image.Image) and frame.mode == 'CMYK'


def is_grey_profile(profile: bytes | None) -> bool:
    """True for a colour profile of grey images."""
    return profile is not None and profile[16:20] == b'GRAY'


def _loses_profile(kind: str, profile: bytes | None) -> bool:
    grey = kind in _WITHOUT_GREY and is_grey_profile(profile)
    long = kind == 'JPEG' and len(profile or b'') > _LONGEST_PROFILE
    return grey or long or (kind in _WITHOUT_PROFILE and profile is not None)


def size_of(frame: Frame) -> tuple[int, int]:
    """Width and height of a frame."""
    return frame.size if isinstance(frame, Image.Image) else (frame.shape[1], frame.shape[0])


@contextmanager
def _limit(limited: bool) -> Iterator[None]:
    """Disables Pillow's global pixel limit if not ``limited``; other threads still check MAX_PIXELS themselves."""
    if limited:
        yield
        return
    with _UNLIMITED:
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = most


def _open(source: bytes | Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # starts at half of the limit
        return Image.open(source if isinstance(source, Path) else BytesIO(source), formats=FORMATS)


def _is_turned(image: Image.Image) -> bool:
    """True if EXIF turns width into height; a PNG with EXIF behind its pixels is not decoded for that."""
    adopt_raw_exif(image)
    known = image.format != 'PNG' or 'exif' in image.info or RAW_EXIF in image.info
    return known and image.getexif().get(274, 1) in (5, 6, 7, 8)


def _format_of(image: Image.Image) -> str:
    return 'JPEG' if image.format == 'MPO' else str(image.format)  # of phones: a JPEG followed by further images


def _read(data: bytes, scale: Scale, limited: bool, result_kind: str | None) -> ImageFile:
    with _open(data) as image:
        if image.format == 'PNG':
            image.verify()  # the checksum of every chunk, which loading skips; it spends the file object
    with _open(data) as image:
        adopt_raw_exif(image)
        kind = _format_of(image)
        count = getattr(image, 'n_frames', 1) if image.format != 'MPO' else 1
        has_16 = kind in ('PNG', 'TIFF') and has_16_bits(image, data)
        profile = getattr(image, 'tag_v2', {}).get(34675)
        orientation = image.getexif().get(274, 1)  # before loading, which turns a TIFF and removes its tag
        composed = isinstance(image, GifImagePlugin.GifImageFile) and (count > 1 or _leaves_free(image))
        durations, frames = [], compose_frames(data, count) if composed else []
        for index in range(count):
            image.seek(index)
            if count > 1 and (has_16 or (kind == 'TIFF' and has_16_bits(image, data))):
                raise ValueError('several images of 16 bits in one file, expected one')
            if getattr(image, 'tag_v2', {}).get(34675) != profile:
                raise ValueError('pages with different colour profiles in one file, expected one')
            image.load()
            if limited and image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            durations.append(float(image.info.get('duration', 0)))
            if not composed:
                frames.append(ImageOps.exif_transpose(image.convert('RGB') if image.mode == 'LAB' else image.copy()))
        image.seek(0)
        image.load()
        return ImageFile(
            format=kind,
            frames=[turn_upright(decode_16_bits(data, kind), orientation)] if has_16 else frames,
            animated=count > 1 and kind != 'TIFF',
            durations=durations,
            loop=image.info.get('loop'),
            lossless=b'VP8L' in data[:64] or (kind == 'WEBP' and _has_lossless_frames(data)),
            compression=image.info.get('compression'),
            has_default=bool(image.info.get('default_image', False)),
            metadata=read_metadata(data, image, ImageOps.exif_transpose(image.copy()), scale, orientation, result_kind),
            quantisation=getattr(image, 'quantization', {}).get(0, ()),
        )


def _leaves_free(image: GifImagePlugin.GifImageFile) -> bool:
    """True if the only frame of a GIF is smaller than the image; browsers show the rest as transparent."""
    return image.tile[0].extents != (0, 0, *image.size)


def _has_lossless_frames(data: bytes) -> bool:
    """True if the first image of an extended WebP is lossless (RIFF chunks: name, length, content)."""
    place = data.find(b'VP8L')
    lossy = data.find(b'VP8 ')
    return place >= 0 and (lossy < 0 or place < lossy)


def has_alpha(frame: Frame) -> bool:
    """True if a frame has transparency, be it used or not."""
    if isinstance(frame, Image.Image):
        return frame.has_transparency_data
    return frame.ndim == 3 and frame.shape[2] in (2, 4)
