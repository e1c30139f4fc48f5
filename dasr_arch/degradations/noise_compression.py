"""Noise, rounding to 8 bit and compression of LR images: JPEG with either chroma sampling, and WebP."""

import cv2
import numpy as np
import torch
from torch import Tensor

CODECS = ('none', 'jpeg 4:4:4', 'jpeg 4:2:0', 'webp')
"""Names of the codecs; a draw holds a codec's place in this list."""

BLOCK = 16
"""Side of the blocks that JPEG with 4:2:0 and WebP code, pixels; JPEG's own blocks of 8 divide it."""

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
            out[i] = _compress_one(x[i], 'jpeg 4:2:0', value)
    return out


def compress(x: Tensor, codec: Tensor, quality: Tensor, grid: Tensor) -> Tensor:
    """Compresses and restores RGB images (B, 3, h, w) in [0, 1] on the grid of 1/255, on the CPU.

    An image may be a part of the one that was compressed: then blocks begin before its first row and column, by
    ``grid`` (B, 2) pixels, each in 0..15, and what they hold beyond the part is its mirror image. ``codec`` (B,) has
    places in CODECS, ``quality`` (B,) is in 1..100 and has no effect on codec 'none'.
    """
    out = x.clone()
    for i, (kind, value, (top, left)) in enumerate(zip(codec.tolist(), quality.tolist(), grid.tolist(), strict=True)):
        if CODECS[kind] != 'none':
            bottom, right = -(x.shape[2] + top) % BLOCK, -(x.shape[3] + left) % BLOCK
            out[i] = _compress_one(x[i], CODECS[kind], value, (top, bottom, left, right))
    return out


def _compress_one(x: Tensor, name: str, quality: int, border: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Tensor:
    """One image through a codec, with mirrored borders at the top, bottom, left and right."""
    image = (x * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    framed = cv2.copyMakeBorder(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), *border, cv2.BORDER_REFLECT)
    encoded = cv2.imencode('.webp' if name == 'webp' else '.jpg', framed, [*_PARAMETERS[name], quality])[1]
    restored = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert restored is not None  # it has just been encoded
    top, _, left, _ = border
    part = restored[top : top + image.shape[0], left : left + image.shape[1]]
    rgb = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(rgb).permute(2, 0, 1).to(x) / 255
