"""Noise, rounding to 8 bit and compression of LR images: JPEG with either chroma sampling, and WebP."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CODECS = ('none', 'jpeg 4:4:4', 'jpeg 4:2:0', 'webp')
"""Names of the codecs; a draw holds a codec's place in this list."""

BLOCK = 16
"""Side of the blocks that JPEG with 4:2:0 and WebP code, pixels; JPEG's own blocks of 8 divide it."""

_SUFFIXES = {'jpeg 4:4:4': '.jpg', 'jpeg 4:2:0': '.jpg', 'webp': '.webp'}
_PARAMETERS = {
    'jpeg 4:4:4': (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, cv2.IMWRITE_JPEG_QUALITY),
    'jpeg 4:2:0': (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_QUALITY),
    'webp': (cv2.IMWRITE_WEBP_QUALITY,),
}


def add_noise(x: Tensor, noise_level: Tensor, noise: Tensor) -> Tensor:
    """Adds white Gaussian noise to images (B, C, h, w) in [0, 1]; the result is not clamped.

    ``noise_level`` (B,) has standard deviations in grey levels of 0..255, ``noise`` standard normal values of x's
    shape.
    """
    return x + noise * (noise_level.to(x.dtype) / 255).reshape(-1, 1, 1, 1)


def quantise(x: Tensor) -> Tensor:
    """Rounds values around [0, 1] to the nearest of 256 grey levels (halves to even) and clamps; no gradient passes."""
    return (x.detach() * 255).round().clamp(0, 255) / 255


def compress_jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """Compresses and restores RGB images (B, 3, h, w) with the JPEG codec (4:2:0 chroma), on the CPU.

    Values are in [0, 1] on the grid of 1/255, before and after. ``quality`` (B,) is in 1..100, or 0 to leave an image
    as it is.
    """
    out = x.clone()
    for i, value in enumerate(quality.tolist()):
        if value:
            out[i] = _to_tensor(_code(_to_bgr(x[i]), '.jpg', [cv2.IMWRITE_JPEG_QUALITY, int(value)])).to(x) / 255
    return out


def compress(x: Tensor, codec: Tensor, quality: Tensor, grid: Tensor) -> Tensor:
    """Compresses and restores RGB images (B, 3, h, w) in [0, 1] on the grid of 1/255, on the CPU.

    An image may be a part of the one that was compressed: then blocks begin before its first row and column, by
    ``grid`` (B, 2) pixels, each in 0..15, and what they hold beyond the part is its mirror image. ``codec`` (B,) has
    places in CODECS, ``quality`` (B,) is in 1..100 and has no effect on codec 'none'.
    """
    out = x.clone()
    for i, (kind, value, (top, left)) in enumerate(zip(codec.tolist(), quality.tolist(), grid.tolist(), strict=True)):
        name = CODECS[kind]
        if name != 'none':
            out[i] = _to_tensor(_code_framed(_to_bgr(x[i]), name, value, top, left)).to(x) / 255
    return out


def _code_framed(bgr: NDArray[np.uint8], name: str, quality: int, top: int, left: int) -> NDArray[np.uint8]:
    """One image, shape (h, w, 3), through a codec whose blocks begin at (-top, -left)."""
    height, width = bgr.shape[:2]
    bottom, right = -(height + top) % BLOCK, -(width + left) % BLOCK
    framed = np.asarray(cv2.copyMakeBorder(bgr, top, bottom, left, right, cv2.BORDER_REFLECT), np.uint8)
    restored = _code(framed, _SUFFIXES[name], [*_PARAMETERS[name], quality])
    return restored[top : top + height, left : left + width]


def _code(bgr: NDArray[np.uint8], suffix: str, parameters: Sequence[int]) -> NDArray[np.uint8]:
    restored = cv2.imdecode(cv2.imencode(suffix, bgr, parameters)[1], cv2.IMREAD_COLOR)
    assert restored is not None  # it has just been encoded
    return np.asarray(restored, np.uint8)


def _to_bgr(image: Tensor) -> NDArray[np.uint8]:
    rgb = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(rgb[..., ::-1])


def _to_tensor(bgr: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(bgr[..., ::-1])).permute(2, 0, 1)
