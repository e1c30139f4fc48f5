"""Encoding of upscaled frames into image files.

Pillow supports no 16-bit RGB, and imagecodecs, which encodes PNG instead, writes no metadata.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from itertools import chain, islice
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import round_to_8_bits
from dasr_arch.inference.images.colour import is_other_than_srgb, make_png_profile, profile_to_srgb
from dasr_arch.inference.images.io import Frame, ImageFile, OutputSettings, becomes_srgb, has_alpha, is_grey_profile
from dasr_arch.inference.images.metadata import EXIF_IFD, GPS_IFD, INTEROPERABILITY, Metadata

QUALITY = 95
"""Default quality of JPEG, AVIF and lossy WebP."""

_TIFF_COMPRESSIONS = ('raw', 'packbits', 'tiff_lzw', 'tiff_adobe_deflate', 'tiff_deflate', 'lzma', 'zstd')
_VISIBLE = 128  # least alpha of an opaque pixel of a GIF
_IHDR_END = 33  # end of the header of a PNG: signature, length, name, 13 bytes, checksum
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of a value by TIFF type
_BYTE, _LONG = 1, 4


class FrameSequence(Image.Image):
    """Images that are computed when Pillow seeks them in order while it writes them; one is in memory at a time."""

    def __init__(self, images: Iterator[Image.Image], count: int) -> None:
        super().__init__()
        self.is_animated, self.n_frames = True, count
        self.failure: Exception | None = None
        """The exception of the computation, which Pillow passes on."""
        self._images, self._index = images, -1
        self.seek(0)

    def tell(self) -> int:
        """Index of the current image."""
        return self._index

    def seek(self, frame: int) -> None:
        """Goes on to an image; EOFError after the last one. Earlier ones are gone."""
        if frame >= self.n_frames:
            raise EOFError
        while self._index < frame:
            try:
                image = next(self._images)
            except Exception as error:
                self.failure = error
                raise
            self.im, self._mode, self._size, self.palette = image.im, image.mode, image.size, image.palette
            self._index += 1


def encode_image_file(frames: Iterable[Frame], file: ImageFile, settings: OutputSettings) -> bytes:
    """Encodes upscaled frames, one per frame of the input file, which gives format, timing and metadata.

    They may be computed while they are written: TIFF, WebP, GIF and AVIF take them one by one, APNG all at once.
    Raises InputError if the format cannot hold the frames.
    """
    kind = settings.format or file.format
    metadata = file.metadata
    waiting = iter(frames)
    first = next(waiting)
    if isinstance(first, np.ndarray) and kind in ('PNG', 'TIFF'):
        return encode_16_bit_png(first, metadata) if kind == 'PNG' else encode_16_bit_tiff(first, metadata)
    skipped = int(file.animated and file.has_default and kind != 'PNG')  # the fallback image, which only APNG has
    count = len(file.frames) - skipped
    transparent = any(map(has_alpha, file.frames))
    prepared = (
        _prepare(frame, kind, file.metadata, transparent) for frame in islice(chain([first], waiting), skipped, None)
    )
    image = next(prepared)
    options = _encoding(kind, file, settings, count)
    if kind == 'PNG' or (kind == 'AVIF' and image.mode == 'L'):  # Pillow looks at all frames before it writes one
        options |= {'append_images': list(prepared)} if count > 1 else {}
    elif count > 1:
        image = FrameSequence(chain([image], prepared), count)
    if kind == 'GIF' and transparent:
        options |= {'transparency': 255, 'disposal': 2}
    if becomes_srgb(first, kind, metadata):
        metadata = replace(metadata, icc_profile=None)
    stream = BytesIO()
    try:
        image.save(stream, kind, **metadata.options(kind), **options)
    except (OSError, ValueError, RuntimeError, SystemError, struct.error) as error:
        if error is getattr(image, 'failure', None):  # of the computation
            raise
        raise InputError(f'cannot be written as {kind} ({" ".join(str(error).split())}); use --format png') from error
    if kind == 'PNG':
        return _add_chunks(stream.getvalue(), metadata)
    return add_to_tiff(stream.getvalue(), metadata) if kind == 'TIFF' else stream.getvalue()


def encode_16_bit_png(pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    """Encodes a 16-bit PNG from an array of shape (H, W), or (H, W, channels) with 2 to 4 channels.

    The metadata is that of a PNG of one pixel that Pillow writes.
    """
    if pixels.shape[2:] > (2,) and is_grey_profile(metadata.icc_profile):  # no grey profile for RGB
        metadata = replace(metadata, icc_profile=None)
    stream = BytesIO()
    Image.new('L', (1, 1)).save(stream, 'PNG', **metadata.options('PNG'))
    chunks = stream.getvalue()[_IHDR_END:].rpartition(b'IDAT')[0][:-4]  # without the length before the name
    data = imagecodecs.png_encode(np.ascontiguousarray(pixels), level=3)
    return _add_chunks(bytes(data[:_IHDR_END] + chunks + data[_IHDR_END:]), metadata)


def encode_16_bit_tiff(pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    """Encodes a lossless 16-bit TIFF from an array as ``encode_16_bit_png``; grey with alpha becomes RGB with alpha."""
    if pixels.shape[2:] == (2,):  # Pillow and others read no such TIFF
        pixels = pixels[:, :, [0, 0, 0, 1]]
    colour = pixels.ndim == 3
    if metadata.icc_profile is None and is_other_than_srgb(metadata.png):
        metadata = replace(metadata, icc_profile=make_png_profile(metadata.png, not colour))
    stream = BytesIO()
    tifffile.imwrite(
        stream,
        np.ascontiguousarray(pixels),
        byteorder='<',
        photometric='rgb' if colour else 'minisblack',
        extrasamples=['unassalpha'] if pixels.shape[2:] == (4,) else None,
        compression='zlib',
        predictor=True,
        iccprofile=metadata.icc_profile,
        resolution=metadata.dpi,
        resolutionunit='INCH' if metadata.dpi else None,
        metadata=None,
        software=False,
    )
    return add_to_tiff(stream.getvalue(), metadata)


def add_to_tiff(data: bytes, metadata: Metadata) -> bytes:
    """Adds XMP and EXIF to the first image of a little-endian TIFF; Pillow does not write them into compressed ones."""
    if metadata.xmp:
        data = _add_tags(data, {700: (_BYTE, metadata.xmp)})
    if not metadata.exif:
        return data
    block: Any = Image.Exif()
    block.load(metadata.exif)
    data = _add_tags(data, _read_tags(metadata.exif))
    for tag in (EXIF_IFD, GPS_IFD):
        entries = block.get_ifd(tag)
        entries.pop(INTEROPERABILITY, None)  # Pillow would give its place wrongly
        if entries:
            data += b'\0' * (len(data) % 2)
            directory = TiffImagePlugin.ImageFileDirectory_v2(b'II*\0\x08\0\0\0', group=tag)
            directory.update(entries)
            place = len(data)
            data = _add_tags(data + directory.tobytes(place), {tag: (_LONG, struct.pack('<I', place))})
    return data


def _prepare(frame: Frame, kind: str, metadata: Metadata, transparent: bool) -> Image.Image:
    """A frame in a mode that the format can hold, in sRGB if it could only hold it as other colours."""
    if isinstance(frame, np.ndarray):
        frame = Image.fromarray(round_to_8_bits(frame))
    if becomes_srgb(frame, kind, metadata):
        frame = profile_to_srgb(frame, metadata.icc_profile)
    elif kind != 'PNG' and metadata.icc_profile is None and is_other_than_srgb(metadata.png):
        grey = frame.mode in ('L', 'LA')
        converted = profile_to_srgb(frame, make_png_profile(metadata.png, grey))
        frame = converted.convert(frame.mode) if grey else converted
    frame.info = {}  # Pillow would write it as metadata
    if kind == 'GIF':
        return _to_palette(frame, transparent)
    return frame.convert('RGBA') if kind == 'BMP' and frame.mode == 'LA' else frame


def _to_palette(frame: Image.Image, transparent: bool) -> Image.Image:
    """Quantises to 256 colours; with transparency to 255 and a transparent one."""
    if not transparent:
        return frame.convert('RGB').quantize(256)
    rgba = frame.convert('RGBA')
    hidden = np.array(rgba)[..., 3] < _VISIBLE
    indexed = rgba.convert('RGB').quantize(255)
    indices = np.array(indexed)
    indices[hidden] = 255
    out = Image.fromarray(indices).convert('P')
    palette = (indexed.getpalette() or []) + [0] * 768
    out.putpalette(palette[:768])
    return out


def _encoding(kind: str, file: ImageFile, settings: OutputSettings, count: int) -> dict[str, Any]:
    """Arguments of Pillow's ``save`` besides metadata."""
    quality = settings.quality or QUALITY
    options: dict[str, Any] = {}
    if kind == 'JPEG':
        options |= {'quality': quality, 'subsampling': 0 if quality >= 90 else 2}
    elif kind == 'WEBP':
        lossless = settings.quality is None and (file.lossless or file.format not in ('JPEG', 'WEBP', 'AVIF'))
        options |= {'lossless': lossless, 'quality': 80 if lossless else quality, 'exact': True}
    elif kind == 'AVIF':
        options |= {'quality': quality}
    elif kind == 'TIFF':
        known = file.compression in _TIFF_COMPRESSIONS
        options |= {'compression': file.compression if known else 'tiff_adobe_deflate'}
    if count > 1:
        options |= {'save_all': True}
    if count > 1 and file.animated:
        hidden = int(file.has_default)  # the fallback image has no duration
        options |= {'duration': [round(duration) for duration in file.durations[hidden:]]}
        once = file.format == 'GIF' and kind != 'GIF'  # a GIF without a loop count plays once, others endlessly
        loop = 1 if file.loop is None and once else file.loop
        if loop is not None and kind != 'AVIF':
            options |= {'loop': loop}
        if kind == 'PNG':
            options |= {'default_image': file.has_default, 'disposal': 0, 'blend': 0}
    return options


def _add_chunks(png: bytes, metadata: Metadata) -> bytes:
    """Adds the chunks of video colour, which Pillow does not write, behind the header."""
    chunks = b''
    for name, content in metadata.cicp_chunks.items():
        chunks += struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))
    return png[:_IHDR_END] + chunks + png[_IHDR_END:]


def _read_tags(exif: bytes) -> dict[int, tuple[int, bytes]]:
    """Type and value of the tags in the first directory of EXIF as Pillow writes it, without those of directories."""
    data = exif.removeprefix(b'Exif\0\0')
    assert data.startswith(b'II'), 'that of a TIFF is read as little-endian'
    (start,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, start)
    tags = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number, place = struct.unpack_from('<HHII', data, entry)
        length = number * _SIZES[kind]
        place = entry + 8 if length <= 4 else place
        if tag not in (EXIF_IFD, GPS_IFD):
            tags[tag] = (kind, data[place : place + length])
    return tags


def _add_tags(data: bytes, tags: dict[int, tuple[int, bytes]]) -> bytes:
    """Adds tags, each a type and a value, to the first image of a little-endian TIFF, in a new directory at its end."""
    assert data[:4] == b'II*\0', 'Pillow and tifffile write little-endian TIFF'
    (start,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, start)
    following = data[start + 2 + 12 * count : start + 6 + 12 * count]  # offset of the next image
    entries = {}
    for index in range(count):
        entry = data[start + 2 + 12 * index : start + 14 + 12 * index]
        entries[struct.unpack_from('<H', entry)[0]] = entry
    out = bytearray(data + b'\0' * (len(data) % 2))
    for tag, (kind, value) in tags.items():
        if len(value) <= 4:
            place = value.ljust(4, b'\0')
        else:
            place = struct.pack('<I', len(out))
            out += value + b'\0' * (len(value) % 2)
        entries[tag] = struct.pack('<HHI', tag, kind, len(value) // _SIZES[kind]) + place
    struct.pack_into('<I', out, 4, len(out))
    directory = b''.join(entries[tag] for tag in sorted(entries))
    return bytes(out + struct.pack('<H', len(entries)) + directory + following)
