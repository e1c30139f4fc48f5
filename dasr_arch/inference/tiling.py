"""Tiled inference: the image is cut into padded tiles whose results fit together without seams.

Two things prevent seams. All tiles share one representation, that of the whole image. Each tile is computed with a
padding of neighbouring pixels, which is cut off from its result.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.degradations.resize import resize_matrix
from dasr_arch.inference.images.image_modes import Pixels, to_pixels, to_tensor
from dasr_arch.inference.self_ensemble import super_resolve
from dasr_arch.inference.tile_limits import MIN_TILE, encoder_radius, encoder_stride, is_out_of_memory, receptive_radius

TILE_PAD = 20
"""Default padding of a tile in LR pixels. The receptive field is larger (109 for the paper's network), but pixels
beyond this padding hardly change the output: docs/results/upscaler.md holds the measurements."""

RESIZE_PAD = 3
"""LR pixels around a tile that the resizing of its result reaches."""

_SLOWDOWN = 1.3  # time per pixel of a tile above ``fast_pixels``, relative to a smaller one

Progress = Callable[[int], object]
"""Called with the number of LR pixels that were finished since the last call."""


@dataclass(frozen=True)
class Tiling:
    """Tile size and padding.

    Attributes:
        size: side of a tile in LR pixels without padding; None chooses it by the available memory.
        exact: pad by the full receptive field, so that the result equals untiled output up to rounding.
        pad: padding in LR pixels; None is TILE_PAD, or the receptive field if ``exact``.

    Raises:
        InputError: if ``size`` is below MIN_TILE, or ``pad`` is negative.
    """

    size: int | None = None
    exact: bool = False
    pad: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < MIN_TILE:
            raise InputError(f'tile must be at least {MIN_TILE} LR pixels, got {self.size}')
        if self.pad is not None and self.pad < 0:
            raise InputError(f'tile pad must be 0 or more LR pixels, got {self.pad}')

    def resolve_pad(self, network: DASR) -> int:
        """Padding in LR pixels for a network: at most the radius of its receptive field."""
        radius = receptive_radius(network)
        return min(radius, self.pad if self.pad is not None else radius if self.exact else TILE_PAD)


class Output(NamedTuple):
    """Result of one image, if it is not the network's own."""

    size: tuple[int, int]  # height and width; at most those of the network's result, which is reduced bicubically
    mask: Pixels | None = None  # float32 in [0, 1] of shape (H, W, 1), of the image's or this size; 0 is bicubic

    def is_plain(self, height: int, width: int, scale: int) -> bool:
        """True if it is the network's own result for an image."""
        return self.mask is None and self.size == (height * scale, width * scale)


class Span(NamedTuple):
    """An interval [start, stop) along one side of an image, and the padded interval [outer_start, outer_stop)."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int

    @property
    def outer(self) -> slice:
        """Positions of the padded interval in the image."""
        return slice(self.outer_start, self.outer_stop)

    def inside(self, scale: int) -> slice:
        """Positions in the padded interval's result that belong to the interval without padding."""
        first = (self.start - self.outer_start) * scale
        return slice(first, first + (self.stop - self.start) * scale)


class Tile(NamedTuple):
    """A rectangle of LR pixels with its padding."""

    rows: Span
    columns: Span

    @property
    def padded_area(self) -> int:
        """LR pixels of the tile, padding included."""
        height = self.rows.outer_stop - self.rows.outer_start
        return height * (self.columns.outer_stop - self.columns.outer_start)


class TilePlan(NamedTuple):
    """All tiles of an image in row-major order, their padding in LR pixels, and what is made of the results."""

    tiles: list[Tile]
    pad: int
    output: Output | None = None  # None for the network's own result


def plan_tiles(
    height: int, width: int, pad: int, max_pixels: int, fast_pixels: int | None = None, *, min_side: int = MIN_TILE
) -> TilePlan:
    """Tiles of nearly equal size that cover an image at the least cost; all numbers are in LR pixels.

    A tile has at most ``max_pixels``, padding included, unless the padding alone exceeds them; above ``fast_pixels`` it
    takes more time per pixel. Its sides are at least ``min_side`` without padding, unless the image is smaller.
    """
    fast_pixels = max_pixels if fast_pixels is None else fast_pixels
    candidates = []
    for limit in {max_pixels, min(max_pixels, fast_pixels)}:
        for rows in range(1, _max_count(height, pad, min_side) + 1):
            tile_height = _padded_length(height, rows, pad)
            columns = _count_for(width, limit // tile_height, pad, min_side)
            area = tile_height * _padded_length(width, columns, pad)
            cost = rows * columns * area * (_SLOWDOWN if area > fast_pixels else 1.0)
            candidates.append((area > max_pixels, cost, rows, columns))
    _, _, rows, columns = min(candidates)
    return _make_plan(split(height, rows, pad), split(width, columns, pad), pad)


def plan_squares(height: int, width: int, pad: int, size: int) -> TilePlan:
    """Tiles of at most ``size`` x ``size`` LR pixels without padding."""
    sides = []
    for length in (height, width):
        count = math.ceil(length / size)
        edges = [length * index // count for index in range(count + 1)]
        sides.append([_pad_span(edges[index], edges[index + 1], pad, length) for index in range(count)])
    return _make_plan(sides[0], sides[1], pad)


def split(length: int, count: int, pad: int) -> list[Span]:
    """Cuts one side of an image into spans of equal padded length; there is no padding beyond the image's border."""
    total = length + 2 * pad * (count - 1)  # padded lengths of all spans
    inner = [(2 * total * index + count) // (2 * count) - pad * (2 * index - 1) for index in range(1, count)]  # rounded
    edges = [0, *inner, length]
    return [_pad_span(edges[index], edges[index + 1], pad, length) for index in range(count)]


def encode_tiled(network: DASR, pixels: Pixels, device: torch.device, max_pixels: int) -> Tensor:
    """Representation of an image by a network with an encoder, in constant memory: (1, representation_dim), float32.

    The encoder averages its last feature map. For images of more than ``max_pixels`` the map is computed in tiles of at
    most that many LR pixels, which are padded by the full receptive field and aligned with the encoder's stride, and
    summed in float64. The result equals untiled encoding up to rounding.
    """
    height, width = pixels.shape[:2]
    if height * width <= max_pixels:
        whole: Tensor = network.encode(to_tensor(pixels, device)).float()
        return whole
    stride = encoder_stride(network)
    exact = torch.device('cpu') if device.type == 'mps' else device  # Apple's GPUs have no float64
    total = torch.zeros(1, network.compress.in_features, dtype=torch.float64, device=exact)
    for rows, columns in plan_encoder_tiles(network, height, width, max_pixels).tiles:
        x = to_tensor(pixels[rows.outer, columns.outer], device) * network.img_range
        if network.resolve_implementation(device) == 'fast':
            x = x.contiguous(memory_format=torch.channels_last)
        features = network.encoder.extract(x)
        inner = features[..., _map_span(rows, stride), :][..., _map_span(columns, stride)]
        total += inner.to(exact).double().sum((-2, -1))
    mean: Tensor = (total / (math.ceil(height / stride) * math.ceil(width / stride))).float().to(device)
    return mean


def plan_encoder_tiles(network: DASR, height: int, width: int, max_pixels: int) -> TilePlan:
    """Tiles of nearly equal size whose edges are multiples of the encoder's stride.

    A tile has at most ``max_pixels`` LR pixels, padding included.
    """
    stride = encoder_stride(network)
    pad = math.ceil(encoder_radius(network) / stride)
    cells = plan_tiles(math.ceil(height / stride), math.ceil(width / stride), pad, max_pixels // stride**2, min_side=1)

    def scale(span: Span, length: int) -> Span:
        return Span(*(min(edge * stride, length) for edge in span))

    tiles = [Tile(scale(tile.rows, height), scale(tile.columns, width)) for tile in cells.tiles]
    return TilePlan(tiles, pad * stride)


def super_resolve_tiled(
    network: DASR,
    pixels: Pixels,
    representations: Tensor,
    plan: TilePlan,
    context: Callable[[], AbstractContextManager[object]],
    progress: Progress | None = None,
) -> Pixels:
    """Super-resolves an image tile by tile: shape (H * scale, W * scale, channels), of the image's type.

    With an output in the plan, it has the size of that, and is the network's result only where its mask is white.

    The representations are of shape (1, D), or (8, D) for a self-ensemble. ``context``, a lock and the precision, is
    entered for each tile; ``progress`` is called after it. A tile that does not fit in memory is halved. Raises
    InputError if not even a tile of MIN_TILE pixels fits, or an output is not finite.
    """
    scale = network.scale
    height, width, channels = pixels.shape
    output = plan.output or Output((height * scale, width * scale))
    out = np.empty((*output.size, channels), pixels.dtype)
    waiting = plan.tiles[::-1]
    while waiting:
        tile = waiting.pop()
        rows, columns = tile
        try:
            with context():
                lq = to_tensor(pixels[rows.outer, columns.outer], representations.device)
                sr = super_resolve(network, lq, representations)[0]
                if not torch.isfinite(sr).all():
                    raise InputError('the output of the network is not finite; try precision fp32, or other weights')
                if output.is_plain(height, width, scale):
                    sr = sr[:, rows.inside(scale), columns.inside(scale)]
                else:
                    sr = _finish(sr, lq[0], tile, (height, width), output)
                inner = to_pixels(sr, pixels.dtype, channels)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            waiting += reversed(_halve(tile, (height, width), plan.pad, error))
            continue
        out[_place(rows, height, output.size[0]), _place(columns, width, output.size[1])] = inner
        if progress is not None:
            progress((rows.stop - rows.start) * (columns.stop - columns.start))
    return out


def _place(span: Span, length: int, new_length: int) -> slice:
    """Positions in the result of a side that belong to a span; those of neighbouring spans follow each other."""
    return slice(-(-span.start * new_length // length), -(-span.stop * new_length // length))


def _finish(sr: Tensor, lq: Tensor, tile: Tile, size: tuple[int, int], output: Output) -> Tensor:
    """The tile's part of the output, (C, H, W), from the results for a padded tile of an image of a size."""
    sr = _resize(sr.float().clamp(0, 1), tile, size, output.size)
    if output.mask is None:
        return sr
    bicubic = _resize(lq, tile, size, output.size).clamp(0, 1)
    if output.mask.shape[:2] == size:
        mask = to_tensor(output.mask[tile.rows.outer, tile.columns.outer], lq.device)[0]
        mask = _resize(mask, tile, size, output.size).clamp(0, 1)
    else:
        places = (_place(*axis) for axis in zip(tile, size, output.size, strict=True))
        mask = to_tensor(output.mask[tuple(places)], lq.device)[0]
    return torch.lerp(bicubic, sr, mask)


def _resize(x: Tensor, tile: Tile, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Bicubic resizing of a padded tile (C, h, w), of any factor to the LR pixels, to its place in the new size."""
    for span, length, new_length in zip(tile, size, new_size, strict=True):  # rows, then columns
        factor = x.shape[1] // (span.outer_stop - span.outer_start)
        place = _place(span, length, new_length)
        start, stop = span.outer_start * factor, span.outer_stop * factor
        matrix = resize_matrix(place.start, place.stop, new_length / (length * factor), start, stop)
        with torch.autocast(x.device.type, enabled=False):
            x = (matrix.to(x.device) @ x).transpose(1, 2)
    return x


def _pad_span(start: int, stop: int, pad: int, length: int) -> Span:
    return Span(start, stop, max(0, start - pad), min(length, stop + pad))


def _map_span(span: Span, stride: int) -> slice:
    """Positions in a padded span's feature map that belong to the span without padding."""
    first = (span.start - span.outer_start) // stride
    return slice(first, first + math.ceil((span.stop - span.start) / stride))


def _padded_length(length: int, count: int, pad: int) -> int:
    """Longest padded span when a side is split into ``count`` spans."""
    return math.ceil((length + 2 * pad * (count - 1)) / count)


def _max_count(length: int, pad: int, min_side: int) -> int:
    """Largest number of spans of a side that are no shorter than their padding and ``min_side``."""
    return max(1, (length - 2 * pad) // max(pad, min_side))


def _count_for(length: int, padded: int, pad: int, min_side: int) -> int:
    """Smallest number of spans with a padded length of at most ``padded``, limited by ``_max_count``."""
    most = _max_count(length, pad, min_side)
    if padded >= length:
        return 1
    if padded <= 2 * pad:
        return most
    return min(most, math.ceil((length - 2 * pad) / (padded - 2 * pad)))


def _make_plan(rows: Sequence[Span], columns: Sequence[Span], pad: int) -> TilePlan:
    return TilePlan([Tile(row, column) for row in rows for column in columns], pad)


def _halve(tile: Tile, size: tuple[int, int], pad: int, error: BaseException) -> list[Tile]:
    """Two tiles in place of one that did not fit in memory, cut across its longer side.

    Raises InputError if the halves would be shorter than MIN_TILE.
    """
    rows, columns = tile
    tall = rows.stop - rows.start >= columns.stop - columns.start
    span, length = (rows, size[0]) if tall else (columns, size[1])
    if span.stop - span.start < 2 * MIN_TILE:
        sides = f'{rows.outer_stop - rows.outer_start} x {columns.outer_stop - columns.outer_start}'
        raise InputError(f'not enough memory even for {sides} LR pixels; close other programs') from error
    middle = (span.start + span.stop) // 2
    halves = [_pad_span(span.start, middle, pad, length), _pad_span(middle, span.stop, pad, length)]
    return [Tile(half, columns) if tall else Tile(rows, half) for half in halves]
