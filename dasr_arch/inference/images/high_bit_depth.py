"""Encoding of 16-bit PNG and TIFF with colour profile and metadata.

Pillow supports no 16-bit RGB, and imagecodecs, which encodes PNG instead, writes no metadata.
"""

import struct
from dataclasses import replace
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from dasr_arch.inference.images.metadata import Metadata

_IHDR_END = 33  # end of the header of a PNG: signature, length, name, 13 bytes, checksum
_SIZES = {1: 1, 2: 1, 4: 4}  # bytes of a value by TIFF type
_BYTE, _TEXT, _LONG = _SIZES
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825


def encode_deep_png(pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    """Encodes a 16-bit PNG from an array of shape (H, W), or (H, W, channels) with 1 to 4 channels.

    Grey with alpha is stored as RGB with alpha. The metadata is that of a PNG of one pixel that Pillow writes.
    """
    pixels = _without_grey_alpha(pixels)
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    if not grey and metadata.icc_profile and metadata.icc_profile[16:20] == b'GRAY':  # no grey profile for RGB
        metadata = replace(metadata, icc_profile=None)
    stream = BytesIO()
    Image.new('L', (1, 1)).save(stream, 'PNG', **metadata.options('PNG'))
    chunks = stream.getvalue()[_IHDR_END:].rpartition(b'IDAT')[0][:-4]  # without the length before the name
    data = imagecodecs.png_encode(pixels, level=3)
    return bytes(data[:_IHDR_END] + chunks + data[_IHDR_END:])


def encode_deep_tiff(pixels: NDArray[np.uint16], metadata: Metadata) -> bytes:
    """Encodes a 16-bit TIFF with lossless compression from an array as for ``encode_deep_png``."""
    pixels = _without_grey_alpha(pixels)
    colour = pixels.ndim == 3 and pixels.shape[2] > 1
    stream = BytesIO()
    tifffile.imwrite(
        stream,
        pixels,
        byteorder='<',
        photometric='rgb' if colour else 'minisblack',
        extrasamples=['unassalpha'] if colour and pixels.shape[2] == 4 else None,
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


def _without_grey_alpha(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The array, contiguous, with grey and alpha as RGB and alpha."""
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = pixels[:, :, [0, 0, 0, 1]]
    return np.ascontiguousarray(pixels)


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
