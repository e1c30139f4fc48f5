"""Resizing along one axis by any factor and with several filters, as matrices whose rows are output pixels.

Filters are stretched when shrinking (antialiasing), as in Pillow and MATLAB. Both steps of a resizing through an
intermediate size are linear, so one matrix does both.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

FILTERS = ('bicubic', 'bilinear', 'area', 'lanczos')
"""Names of the filters; a draw holds a filter's place in this list."""

LARGEST_SUPPORT = 3
"""Pixels that the widest filter reaches on either side, before it is stretched."""


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
    places, weights = _taps(torch.arange(count), 1 / scale, name)
    matrix = torch.zeros(count, count * scale + 2 * reach, dtype=torch.float64)
    _add(matrix, places + reach, weights)
    return matrix.float()


def _taps(rows: Tensor, factor: float, name: str) -> tuple[Tensor, Tensor]:
    """Positions and weights, both (n, T), of the input pixels of output pixels (n,), on an infinite axis.

    A factor below 1 shrinks. Each row of weights sums to 1.
    """
    stretch = max(1.0, 1 / factor)
    support = _SUPPORTS[name] * stretch
    centre = (rows.double() + 0.5) / factor - 0.5
    place = (centre - support).ceil().long().unsqueeze(1) + torch.arange(math.ceil(2 * support) + 1)
    weight = _SHAPES[name]((place - centre.unsqueeze(1)) / stretch)
    return place, weight / weight.sum(1, keepdim=True)


def _add(matrix: Tensor, columns: Tensor, weights: Tensor) -> None:
    """Adds weights to the columns of each row."""
    inside = (columns >= 0) & (columns < matrix.shape[1])
    if bool((weights[~inside] != 0).any()):
        raise ValueError(f'a filter reaches beyond the {matrix.shape[1]} pixels that it was given')
    matrix.scatter_add_(1, columns.clamp(0, matrix.shape[1] - 1), torch.where(inside, weights, 0))


def _bicubic(t: Tensor) -> Tensor:
    """Keys' cubic with a = -0.5."""
    t = t.abs()
    inner = 1.5 * t**3 - 2.5 * t**2 + 1
    outer = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t <= 1, inner, torch.where(t < 2, outer, 0))


def _bilinear(t: Tensor) -> Tensor:
    return (1 - t.abs()).clamp(min=0)


def _area(t: Tensor) -> Tensor:
    return ((t > -0.5) & (t <= 0.5)).double()


def _lanczos(t: Tensor) -> Tensor:
    inside = t.abs() < LARGEST_SUPPORT
    return torch.where(inside, torch.sinc(t) * torch.sinc(t / LARGEST_SUPPORT), 0)


_SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    'bicubic': _bicubic,
    'bilinear': _bilinear,
    'area': _area,
    'lanczos': _lanczos,
}
_SUPPORTS: dict[str, float] = {'bicubic': 2.0, 'bilinear': 1.0, 'area': 0.5, 'lanczos': float(LARGEST_SUPPORT)}
