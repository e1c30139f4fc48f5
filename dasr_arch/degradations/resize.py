"""Down- and upsampling as MATLAB's ``imresize``: cubic with a = -0.5, antialiased when shrinking.

OpenCV's and torch's plain bicubic differ from it by visible amounts (another cubic, no antialiasing). Other filters and
factors are matrices for one axis, whose rows are output pixels: both steps of a resizing through an intermediate size
are linear, so one matrix does both.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from dasr_arch.degradations.padding import Border, pad_border

UPSAMPLE_PAD = 4  # LR pixels; the cubic reaches two

FILTERS = ('bicubic', 'bilinear', 'area', 'lanczos')
"""Names of the filters; a draw holds a filter's place in this list."""

LARGEST_SUPPORT = 3
"""Pixels that the widest filter reaches on either side, before it is stretched."""


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
    # With antialias torch takes a = -0.5; the margin excludes its own padding from the result.
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


def shrink_matrix(
    start: int, count: int, reach: int, scale: int, factor: float = 1.0, filters: tuple[str, str] = ('bicubic',) * 2
) -> Tensor:
    """Matrix that downsamples one axis of an image, or of a part of it, by an integer factor.

    The part begins at the HR position ``start``, a multiple of the scale, and has ``count`` LR pixels; the input holds
    ``reach`` HR pixels more on both ends. A ``factor`` in [1 / scale, 1) resizes the image first, with the first
    filter, which has no effect otherwise. The shape is (count, count * scale + 2 * reach), float32; every row sums to
    1. ValueError if the reach is too short.
    """
    if factor == 1:
        return _direct_matrix(count, reach, scale, filters[1])
    origin, length = start - reach, count * scale + 2 * reach
    rows = torch.arange(start // scale, start // scale + count)
    places, weights = _taps(rows, 1 / (scale * factor), filters[1])
    matrix = torch.zeros(count, length, dtype=torch.float64)
    for place, weight in zip(places.unbind(1), weights.unbind(1), strict=True):
        before, share = _taps(place, factor, filters[0])
        _add(matrix, before - origin, share * weight.unsqueeze(1))
    return matrix.float()


@lru_cache(maxsize=32)
def _direct_matrix(count: int, reach: int, scale: int, name: str) -> Tensor:
    """As shrink_matrix in one step, independent of the part's position."""
    rows = torch.arange(count, device='cpu')  # also where networks are being built elsewhere: the matrix is kept
    places, weights = _taps(rows, 1 / scale, name)
    matrix = torch.zeros(count, count * scale + 2 * reach, dtype=torch.float64, device='cpu')
    _add(matrix, places + reach, weights)
    return matrix.float()


def resize_matrix(first: int, last: int, factor: float, start: int, stop: int) -> Tensor:
    """Matrix that resizes a part of one axis of an image bicubically by any factor, antialiased if it is below 1.

    It takes the input pixels [start, stop) to the output pixels [first, last), shape (last - first, stop - start),
    float32; every row sums to 1. Beyond the part its border is repeated.
    """
    places, weights = _taps(torch.arange(first, last), factor, 'bicubic')
    matrix = torch.zeros(last - first, stop - start, dtype=torch.float64)
    return matrix.scatter_add_(1, places.clamp(start, stop - 1) - start, weights).float()


def _taps(rows: Tensor, factor: float, name: str) -> tuple[Tensor, Tensor]:
    """Positions and weights, both (n, T), of the input pixels of output pixels (n,), on an infinite axis.

    A factor below 1 shrinks. Each row of weights sums to 1.
    """
    stretch = max(1.0, 1 / factor)
    reach, shape = _SHAPES[name]
    support = reach * stretch
    centre = (rows.double() + 0.5) / factor - 0.5
    place = (centre - support).ceil().long().unsqueeze(1) + torch.arange(math.ceil(2 * support) + 1, device=rows.device)
    weight = shape((place - centre.unsqueeze(1)) / stretch)
    return place, weight / weight.sum(1, keepdim=True)


def _add(matrix: Tensor, columns: Tensor, weights: Tensor) -> None:
    """Adds weights to the columns of each row."""
    inside = (columns >= 0) & (columns < matrix.shape[1])
    if bool((weights[~inside] != 0).any()):
        raise ValueError(f'a filter reaches beyond the {matrix.shape[1]} pixels that it was given')
    matrix.scatter_add_(1, columns.clamp(0, matrix.shape[1] - 1), torch.where(inside, weights, 0))


def cubic(t: Tensor) -> Tensor:
    """Keys' cubic with a = -0.5, zero from 2 on, at distances of any shape."""
    t = t.abs()
    inner = 1.5 * t**3 - 2.5 * t**2 + 1
    outer = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t <= 1, inner, torch.where(t < 2, outer, 0))


def _lanczos(t: Tensor) -> Tensor:
    return torch.where(t.abs() < LARGEST_SUPPORT, torch.sinc(t) * torch.sinc(t / LARGEST_SUPPORT), 0)


_SHAPES: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {  # pixels on either side, and weight by distance
    'bicubic': (2.0, cubic),
    'bilinear': (1.0, lambda t: (1 - t.abs()).clamp(min=0)),
    'area': (0.5, lambda t: ((t > -0.5) & (t <= 0.5)).double()),
    'lanczos': (LARGEST_SUPPORT, _lanczos),
}
