"""Decoding of PNG and TIFF files with 16 bits per sample, which Pillow reduces to 8.

tifffile and imagecodecs decode. OpenCV would be a third decoder for fewer kinds of TIFF: where the planes are stored
one after another, it returns memory of the process that nothing was written to.
"""

import logging
from io import BytesIO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, Deflate, PackBits, Deflate, LZMA, Zstandard
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # TIFF tag PhotometricInterpretation
_UNSPECIFIED, _PREMULTIPLIED = 0, 1  # TIFF tag ExtraSamples

logging.getLogger('tifffile').addHandler(logging.NullHandler())  # else its warnings would go to stderr


def decode_16_bits(data: bytes, kind: str) -> NDArray[np.uint16]:
    """Decodes a PNG or TIFF of 16 bits, the first page, without rounding; not turned upright, alpha straight.

    Returns shape (H, W) for grey and (H, W, 3) for RGB, with alpha (H, W, 2) and (H, W, 4). ValueError if a TIFF is
    neither grey nor RGB, or compressed with loss. Damage raises this or another of ``image_io.DECODING_ERRORS``.
    """
    pixels = np.asarray(imagecodecs.png_decode(data) if kind == 'PNG' else _decode_tiff(data))
    if pixels.dtype != np.uint16:
        raise ValueError('damaged, or an unusual kind of 16 bits')
    return pixels


def _decode_tiff(data: bytes) -> NDArray[np.uint16]:
    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages.first
        if page.compression not in _LOSSLESS:
            raise ValueError(f'16 bits with compression {page.compression}, expected one without loss')
        if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            raise ValueError('16 bits of another colour model than grey or RGB')
        colours = 3 if page.photometric == _RGB else 1
        if not colours <= page.samplesperpixel <= colours + 1 or page.imagedepth != 1:
            raise ValueError(f'{page.samplesperpixel} samples in a pixel, expected {colours} or {colours + 1}')
        if 0 in page.databytecounts:
            raise ValueError('a part of the image is missing')
        # In zeros, so that no part that a damaged file leaves out is memory of this process.
        stored = page.asarray(out=np.zeros(page.shaped, np.uint16), squeeze=False, maxworkers=1)
    planes, _, height, width, samples = stored.shape  # either planes or samples is 1
    pixels = np.moveaxis(stored[:, 0], 0, 2).reshape(height, width, planes * samples)
    if page.photometric == _WHITE_IS_ZERO:
        pixels[:, :, 0] = 65535 - pixels[:, :, 0]
    if page.extrasamples and page.extrasamples[0] == _UNSPECIFIED:  # such as infrared
        pixels = pixels[:, :, :colours]
    if pixels.shape[2] == colours + 1 and _PREMULTIPLIED in page.extrasamples:
        pixels = _divide_by_alpha(pixels)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _divide_by_alpha(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Converts premultiplied alpha, the last channel, to straight alpha."""
    alpha = np.maximum(pixels[:, :, -1:].astype(np.float64), 1)
    colours = np.minimum(pixels[:, :, :-1] * (65535 / alpha), 65535)
    return np.concatenate([np.rint(colours).astype(np.uint16), pixels[:, :, -1:]], 2)
