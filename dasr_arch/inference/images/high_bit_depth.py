"""Encoding of 16-bit PNG and TIFF with colour profile and metadata.

Pillow supports no 16-bit RGB, and OpenCV writes no metadata. OpenCV therefore encodes the pixels, and the metadata is
inserted afterwards: chunks of a PNG (ISO 15948), tags of a TIFF (TIFF 6.0).
"""

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from dasr_arch.inference.images.metadata import Metadata, png_colour_chunks

_IHDR_END = 33  # end of the header of a PNG: signature, length, name, 13 bytes, checksum
_INCHES_PER_METRE = 39.3700787
_BYTE, _TEXT, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 2, 3, 4, 5, 7  # types of TIFF
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_SIZES = {_BYTE: 1, _TEXT: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _UNDEFINED: 1}


def encode_deep_png(pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    """Encodes a 16-bit PNG from an array of shape (H, W), or (H, W, channels) with 1 to 4 channels.

    Grey with alpha is stored as RGB with alpha.
    """
    data = _encode(pixels, '.png', [cv2.IMWRITE_PNG_COMPRESSION, 3])
    chunks = []
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    fits = metadata.icc_profile is None or grey or metadata.icc_profile[16:20] != b'GRAY'  # no grey profile for RGB
    if metadata.icc_profile and fits:
        chunks.append((b'iCCP', b'ICC\0\0' + zlib.compress(metadata.icc_profile)))
    else:
        chunks += png_colour_chunks(metadata.png)
    if metadata.dpi:
        across, down = (round(value * _INCHES_PER_METRE) for value in metadata.dpi)
        chunks.append((b'pHYs', struct.pack('>IIB', across, down, 1)))
    if metadata.exif:
        chunks.append((b'eXIf', metadata.exif.removeprefix(b'Exif\0\0')))
    entries = {key: value.encode() for key, value in metadata.text.items()}
    if metadata.xmp:
        entries['XML:com.adobe.xmp'] = metadata.xmp
    for key, value in entries.items():
        chunks.append((b'iTXt', key.encode('latin-1', 'replace') + b'\0\0\0\0\0' + value))
    return add_to_png(data, chunks)


def add_to_png(data: bytes, chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Adds chunks, each a name and its content, behind the header of a PNG."""
    return data[:_IHDR_END] + b''.join(_chunk(*chunk) for chunk in chunks) + data[_IHDR_END:]


def encode_deep_tiff(pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    """Encodes a 16-bit TIFF with lossless compression from an array as for ``encode_deep_png``."""
    data = _encode(pixels, '.tiff', [cv2.IMWRITE_TIFF_COMPRESSION, 8])  # deflate
    tags: dict[int, tuple[int, bytes]] = {}
    if metadata.icc_profile:
        tags[34675] = (_UNDEFINED, metadata.icc_profile)
    if metadata.dpi:
        for tag, value in zip((282, 283), metadata.dpi, strict=True):
            tags[tag] = (_RATIONAL, struct.pack('<II', round(value * 1000), 1000))
        tags[296] = (_SHORT, struct.pack('<H', 2))  # inches
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        tags[338] = (_SHORT, struct.pack('<H', 2))  # straight alpha
    return add_to_tiff(_add_tags(data, tags), metadata)


def add_to_tiff(data: bytes, metadata: Metadata) -> bytes:
    """Adds XMP and EXIF to the first image of a little-endian TIFF; Pillow does not write them into compressed ones."""
    if metadata.xmp:
        data = _add_tags(data, {700: (_BYTE, metadata.xmp)})
    if not metadata.exif:
        return data
    block: Any = Image.Exif()
    block.load(metadata.exif)
    texts = {tag: (_TEXT, value.encode() + b'\0') for tag, value in block.items() if isinstance(value, str)}
    data = _add_tags(data, texts)
    for tag in (_EXIF_IFD, _GPS_IFD):
        entries = block.get_ifd(tag)
        if entries:
            data += b'\0' * (len(data) % 2)
            directory = TiffImagePlugin.ImageFileDirectory_v2(b'II*\0\x08\0\0\0', group=tag)
            directory.update(entries)
            place = len(data)
            data = _add_tags(data + directory.tobytes(place), {tag: (_LONG, struct.pack('<I', place))})
    return data


def _encode(pixels: NDArray[np.uint16], suffix: str, settings: list[int]) -> bytes:
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = pixels[:, :, [0, 0, 0, 1]]
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    done, data = cv2.imencode(suffix, np.ascontiguousarray(pixels), settings)
    if not done:
        raise cv2.error(f'cannot encode {suffix}')
    return bytes(data.tobytes())


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def _add_tags(data: bytes, tags: dict[int, tuple[int, bytes]]) -> bytes:
    """Adds tags, each a type and a value, to the first image of a little-endian TIFF, in a new directory at its end."""
    assert data[:4] == b'II*\0', 'OpenCV and Pillow write little-endian TIFF'
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
