"""Down- and upsampling by an integer factor as MATLAB's ``imresize``: cubic with a = -0.5, antialiased when shrinking.

OpenCV's and torch's plain bicubic differ from it by visible amounts (another cubic, no antialiasing).
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from dasr_arch.degradations.padding import Border, pad_border
from dasr_arch.degradations.resize_filters import shrink_matrix

UPSAMPLE_PAD = 4  # LR pixels; the cubic reaches two


def downsample_bicubic(x: Tensor, scale: int, border: Border = 'replicate') -> Tensor:
    """Downsamples images (B, C, H, W) of any value range by an integer factor; differentiable, not clamped.

    The border is 'replicate' as in the released DASR code or 'mirror' as in MATLAB. ValueError if a side is not a
    multiple of scale.
    """
    check_multiple(x, scale)
    return downsample_bicubic_valid(pad_border(x, 2 * scale, border), scale)


def downsample_bicubic_valid(x: Tensor, scale: int) -> Tensor:
    """Downsamples images whose sides, multiples of scale, have a margin of 2 * scale pixels on every side.

    From (B, C, H + 4 scale, W + 4 scale) to (B, C, H / scale, W / scale).
    """
    if scale == 1:
        return x[..., 2:-2, 2:-2]
    size = (x.shape[-2] // scale, x.shape[-1] // scale)
    # With antialias torch takes a = -0.5; the margin keeps its treatment of borders out of what is returned.
    out = functional.interpolate(x, size=size, mode='bicubic', align_corners=False, antialias=True)
    return out[..., 2:-2, 2:-2]


def downsample_matrix(size: int, scale: int, method: Literal['bicubic', 's_fold'] = 'bicubic') -> Tensor:
    """One axis of the downsampling of images that carry a margin of 2 * scale pixels on both ends; not to be changed.

    'bicubic' is :func:`downsample_bicubic_valid`, 's_fold' :func:`downsample_s_fold`. ``size`` is the axis with its
    margins, a multiple of scale. The matrix has shape (size / scale - 4, size), float32.
    """
    if method == 's_fold':
        return torch.eye(size)[2 * scale : -2 * scale : scale]
    return shrink_matrix(0, size // scale - 4, 2 * scale, scale)


def upsample_bicubic(x: Tensor, scale: int, border: Border = 'replicate') -> Tensor:
    """Upsamples images (B, C, h, w) by an integer factor; the Bicubic baseline.

    Values may have any range; the result is not clamped, and differentiable. The border is 'replicate' as in the
    released DASR code or 'mirror' as in MATLAB.
    """
    if scale == 1:
        return x
    padded = pad_border(x, UPSAMPLE_PAD, border)
    size = (padded.shape[-2] * scale, padded.shape[-1] * scale)
    # With antialias torch takes a = -0.5, without it a = -0.75; when enlarging, antialiasing itself does nothing.
    out = functional.interpolate(padded, size=size, mode='bicubic', align_corners=False, antialias=True)
    trim = UPSAMPLE_PAD * scale
    return out[..., trim:-trim, trim:-trim]


def downsample_s_fold(x: Tensor, scale: int) -> Tensor:
    """Keeps the top left pixel of every block of scale x scale pixels of images (B, C, H, W).

    The result is shifted by (scale - 1) / 2 HR pixels against bicubic. ValueError if a side is not a multiple of scale.
    """
    check_multiple(x, scale)
    return x[..., ::scale, ::scale]


def check_multiple(x: Tensor, scale: int) -> None:
    """Raises ValueError if the last two axes of x are not multiples of scale."""
    if scale < 1 or x.shape[-2] % scale or x.shape[-1] % scale:
        size = f'{x.shape[-2]} x {x.shape[-1]}'
        raise ValueError(f'sides must be multiples of scale {scale}, got {size}; crop them first')
