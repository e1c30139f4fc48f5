"""Large images in overlapping tiles whose results fit together as if the image had been computed whole.

Two things make tiles visible elsewhere and do not here: every tile adapts to one representation, that of the whole
image, and every tile is computed with a margin of neighbouring pixels, which is cut off afterwards.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._memory import keep_freed_memory
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.inference.receptive_field import encoder_reach, encoder_stride, super_resolution_reach

TILE_PAD = 20
"""LR pixels computed around a tile by default. Networks look farther (the paper's 109) but hardly see anything there:
docs/upscaler.md has what was measured."""

FAST_BYTES = 32 << 20
"""Feature maps above this size are slower on a CPU whose system clears each anew (``dasr_arch._memory``)."""

_SLOWER = 1.3  # so much slower
_MEMORY_SHARE = 0.5  # of what is available
_MEMORY_CAP = 1 << 30  # bytes on a CPU: more is not faster, and 1920 x 1080 at x4 fits in 3 GB with Python and torch
MIN_TILE = 16  # LR pixels; a tile that does not fit in memory is cut in half down to this
_OUT_OF_MEMORY = ('allocate memory', 'out of memory', 'not enough memory', 'bad_alloc', 'a primitive')  # oneDNN's words

Pixels = NDArray[Any]
"""An image of shape (H, W, 1) or (H, W, 3): uint8, uint16, or float32 in [0, 1]."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Attributes:
        size: side of a tile in LR pixels without its margin; None chooses from the memory.
        exact: take the margin that the network's structure asks for, so that only rounding differs from the whole.
        pad: margin in LR pixels; None is TILE_PAD, or with exact what the structure asks for.

    Raises:
        InputError: if a number is out of range.
    """

    size: int | None = None
    exact: bool = False
    pad: int | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.size is not None and self.size < MIN_TILE:
            raise InputError(f'tile must be at least {MIN_TILE} LR pixels, got {self.size}')
        if self.pad is not None and self.pad < 0:
            raise InputError(f'tile pad must be 0 or more LR pixels, got {self.pad}')

    def resolve_pad(self, network: DASR) -> int:
        """The margin in LR pixels for a network: never more than it can see."""
        reach = super_resolution_reach(network)
        return min(reach, self.pad if self.pad is not None else reach if self.exact else TILE_PAD)


class Span(NamedTuple):
    """A piece of one side of an image: what it yields, and what it is computed from; ends are excluded."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int


class Tile(NamedTuple):
    """A rectangle of LR pixels with its margin."""

    rows: Span
    columns: Span


class Plan(NamedTuple):
    """All tiles of an image, row by row, and the margin that they have."""

    tiles: list[Tile]
    pad: int


def plan_tiles(
    height: int, width: int, pad: int, max_pixels: int, fast_pixels: int | None = None, *, min_side: int = MIN_TILE
) -> Plan:
    """Tiles of nearly equal size that cover an image with the least work.

    Args:
        height: of the image, LR pixels.
        width: of the image.
        pad: margin of each tile, LR pixels.
        max_pixels: LR pixels that one tile may have, margin included, as far as the margin allows.
        fast_pixels: above so many LR pixels a tile takes more time for each of them; None if it does not.
        min_side: least side of a tile without its margin, as far as the image allows.
    """
    fast_pixels = max_pixels if fast_pixels is None else fast_pixels
    best: tuple[bool, float, int, int] | None = None
    for limit in {max_pixels, min(max_pixels, fast_pixels)}:
        for rows in range(1, _max_count(height, pad, min_side) + 1):
            tile_height = _outer_length(height, rows, pad)
            columns = _count_for(width, limit // tile_height, pad, min_side)
            area = tile_height * _outer_length(width, columns, pad)
            work = rows * columns * area * (_SLOWER if area > fast_pixels else 1.0)
            candidate = (area > max_pixels, work, rows, columns)
            best = candidate if best is None else min(best, candidate)
    assert best is not None
    return _make_plan(split(height, best[2], pad), split(width, best[3], pad), pad)


def plan_squares(height: int, width: int, pad: int, size: int) -> Plan:
    """Tiles of at most a given side, margin not included."""
    sides = []
    for length in (height, width):
        count = math.ceil(length / size)
        edges = [length * index // count for index in range(count + 1)]
        sides.append([_span(edges[index], edges[index + 1], pad, length) for index in range(count)])
    return _make_plan(sides[0], sides[1], pad)


def split(length: int, count: int, pad: int) -> list[Span]:
    """Cuts a side so that the pieces are of equal length with their margins, which are missing at the image's border.

    Args:
        length: of the side.
        count: number of pieces.
        pad: margin.
    """
    total = length + 2 * pad * (count - 1)  # of all pieces with their margins
    inner = [(2 * total * index + count) // (2 * count) - pad * (2 * index - 1) for index in range(1, count)]  # rounded
    edges = [0, *inner, length]
    return [_span(edges[index], edges[index + 1], pad, length) for index in range(count)]


def encode_tiled(network: DASR, pixels: Pixels, device: torch.device, max_pixels: int) -> Tensor:
    """The representation of an image, in memory that does not grow with the image.

    The encoder averages over a feature map; here the map is made in tiles whose margins hold all that it depends on,
    on the encoder's own grid, and summed up in float64.

    Args:
        network: a DASR with an encoder.
        pixels: the image.
        device: where the network is.
        max_pixels: LR pixels of a tile; an image of no more is encoded whole.

    Returns:
        Shape (1, representation_dim), float32: that of the whole image up to rounding.
    """
    height, width = pixels.shape[:2]
    if height * width <= max_pixels:
        whole: Tensor = network.encode(to_tensor(pixels, device)).float()
        return whole
    stride = encoder_stride(network)
    exact = torch.device('cpu') if device.type == 'mps' else device  # Apple's GPUs have no float64
    total = torch.zeros(1, network.compress.in_features, dtype=torch.float64, device=exact)
    for rows, columns in plan_encoder_tiles(network, height, width, max_pixels).tiles:
        x = to_tensor(_cut(pixels, rows, columns), device) * network.img_range
        if network.resolve_implementation(device) == 'fast':
            x = x.contiguous(memory_format=torch.channels_last)
        features = network.encoder.extract(x)
        inner = features[..., _on_grid(rows, stride), :][..., _on_grid(columns, stride)]
        total += inner.to(exact).double().sum((-2, -1))
    mean: Tensor = (total / (math.ceil(height / stride) * math.ceil(width / stride))).float().to(device)
    return mean


def plan_encoder_tiles(network: DASR, height: int, width: int, max_pixels: int) -> Plan:
    """Tiles of nearly equal size on the grid of the encoder's feature map.

    Args:
        network: a DASR with an encoder.
        height: of the image, LR pixels.
        width: of the image.
        max_pixels: LR pixels that one tile may have, margin included.
    """
    stride = encoder_stride(network)
    pad = math.ceil(encoder_reach(network) / stride)
    cells = plan_tiles(math.ceil(height / stride), math.ceil(width / stride), pad, max_pixels // stride**2, min_side=1)

    def enlarge(span: Span, length: int) -> Span:
        return Span(*(min(edge * stride, length) for edge in span))

    return Plan([Tile(enlarge(tile.rows, height), enlarge(tile.columns, width)) for tile in cells.tiles], pad * stride)


def super_resolve_tiled(
    network: DASR,
    pixels: Pixels,
    codes: Tensor,
    plan: Plan,
    context: Callable[[], AbstractContextManager[object]],
    progress: Callable[[int], object] | None = None,
) -> Pixels:
    """Super-resolves an image tile by tile.

    Args:
        network: any DASR.
        pixels: the image.
        codes: representations of shape (1, D), or (8, D), one for each of ORIENTATIONS, whose results are averaged.
        plan: how it is cut.
        context: entered around the work on each tile: a lock, and the number format.
        progress: called with the number of LR pixels that were finished.

    Returns:
        The image in the same type, of shape (H * scale, W * scale, channels).

    Raises:
        InputError: if not even a small tile fits into the memory.
    """
    scale = network.scale
    height, width, channels = pixels.shape
    out = np.empty((height * scale, width * scale, channels), pixels.dtype)
    waiting = plan.tiles[::-1]
    while waiting:
        tile = waiting.pop()
        rows, columns = tile
        try:
            with context():
                sr = _super_resolve(network, to_tensor(_cut(pixels, rows, columns), codes.device), codes)
                top, left = (rows.start - rows.outer_start) * scale, (columns.start - columns.outer_start) * scale
                size = (rows.stop - rows.start) * scale, (columns.stop - columns.start) * scale
                inner = to_pixels(sr[0, :, top : top + size[0], left : left + size[1]], pixels.dtype, channels)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            waiting += reversed(_halve(tile, (height, width), plan.pad, error))
            continue
        out[rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale] = inner
        if progress is not None:
            progress((rows.stop - rows.start) * (columns.stop - columns.start))
    return out


def orient(x: Tensor, index: int) -> Tensor:
    """One of the eight ways to lay an image down: ``index`` % 4 quarter turns, then a mirror from 4 on.

    Args:
        x: shape (..., H, W).
        index: 0, the image as it is, to 7.
    """
    turned = torch.rot90(x, index % 4, (-2, -1))
    return turned.flip(-1) if index >= 4 else turned


def orient_back(x: Tensor, index: int) -> Tensor:
    """Undoes :func:`orient`."""
    return torch.rot90(x.flip(-1) if index >= 4 else x, -(index % 4), (-2, -1))


def orient_pixels(pixels: Pixels, index: int) -> Pixels:
    """As :func:`orient`, for an array of shape (H, W, C), without a copy."""
    turned = np.rot90(pixels, index % 4, (0, 1))
    return turned[:, ::-1] if index >= 4 else turned


ORIENTATIONS = range(8)
"""Indices of :func:`orient`."""


def max_tile_pixels(network: DASR, dtype: torch.dtype, memory: int, device: torch.device) -> int:
    """LR pixels of the largest tile, margin included, that some memory has room for.

    Args:
        network: any DASR.
        dtype: what it computes in.
        memory: bytes that are available.
        device: where it computes; on a CPU no more than a gigabyte is taken, because more is not faster.
    """
    budget = int(memory * _MEMORY_SHARE)
    if device.type == 'cpu':
        budget = min(budget, _MEMORY_CAP)
    return max(MIN_TILE**2, budget // bytes_per_pixel(network, dtype, device))


def fast_tile_pixels(network: DASR, device: torch.device) -> int | None:
    """LR pixels up to which a CPU is at its fastest; None on a GPU, and where the process keeps freed memory."""
    if device.type != 'cpu' or keep_freed_memory():
        return None
    return FAST_BYTES // (network.head.out_channels * 4)  # the tail computes in float32 in any case


def bytes_per_pixel(network: DASR, dtype: torch.dtype, device: torch.device) -> int:
    """Most memory that the network takes for each LR pixel, estimated from its layers.

    Args:
        network: any DASR.
        dtype: what it computes in.
        device: where it computes. On a CPU the tail is one convolution and the body takes most; elsewhere it is the
            tail: a convolution's output and its copy after the shuffle are there at once, and at the end the features
            of every HR pixel in float32.
    """
    feat, size, fineness = network.head.out_channels, dtype.itemsize, 1
    body = 7 * feat * size  # maps that are there at once
    image = 9 * 4 * network.scale**2  # the result, a few times
    if network.resolve_implementation(device) == 'fast':
        return body + 4 * feat + image
    tail = 0
    for layer in network.upsampler.children():
        if isinstance(layer, torch.nn.PixelShuffle):
            fineness *= layer.upscale_factor
            tail = max(tail, (2 * feat * fineness**2 + 2 * feat) * size)
    return max(body, tail) + 4 * feat * fineness**2 + image


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; torch has no type of its own for this on CPUs."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """Pixels as a network takes them: (1, 3, H, W) in [0, 1], float32; grey becomes three equal channels."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).to(device)
    return (planes / _maximum(pixels.dtype)).permute(2, 0, 1).unsqueeze(0).expand(-1, 3, -1, -1)


def to_pixels(sr: Tensor, dtype: 'np.dtype[Any]', channels: int) -> Pixels:
    """Output of a network, (3, H, W) around [0, 1], as pixels of shape (H, W, channels), rounded and clamped."""
    sr = sr.float().clamp(0, 1)
    if channels == 1:
        weights = torch.tensor((0.299, 0.587, 0.114), device=sr.device)  # BT.601, as Pillow's grey
        sr = (sr * weights[:, None, None]).sum(0, keepdim=True).clamp(0, 1)
    if dtype.kind != 'f':
        sr = (sr * _maximum(dtype)).round_()
    return sr.permute(1, 2, 0).cpu().numpy().astype(dtype)


def _maximum(dtype: 'np.dtype[Any]') -> int:
    """The value of white."""
    return {'uint8': 255, 'uint16': 65535}.get(dtype.name, 1)


def _super_resolve(network: DASR, lq: Tensor, codes: Tensor) -> Tensor:
    """The average over the orientations that there are codes for."""
    if len(codes) == 1:
        return _plain(network, lq, codes)
    total = torch.zeros((), device=lq.device)
    for index in ORIENTATIONS:
        total = total + orient_back(_plain(network, orient(lq, index), codes[index : index + 1]).float(), index)
    return total / len(ORIENTATIONS)


def _plain(network: DASR, lq: Tensor, code: Tensor) -> Tensor:
    sr = network(lq, representation=code)
    assert isinstance(sr, Tensor)
    return sr


def _cut(pixels: Pixels, rows: Span, columns: Span) -> Pixels:
    return pixels[rows.outer_start : rows.outer_stop, columns.outer_start : columns.outer_stop]


def _span(start: int, stop: int, pad: int, length: int) -> Span:
    return Span(start, stop, max(0, start - pad), min(length, stop + pad))


def _on_grid(span: Span, stride: int) -> slice:
    """Positions of a feature map made of a span with its margin that belong to the span itself."""
    first = (span.start - span.outer_start) // stride
    return slice(first, first + math.ceil((span.stop - span.start) / stride))


def _outer_length(length: int, count: int, pad: int) -> int:
    return math.ceil((length + 2 * pad * (count - 1)) / count)


def _max_count(length: int, pad: int, min_side: int) -> int:
    """Most pieces that a side is cut into: none is shorter than its margin, or than what is worth it."""
    return max(1, (length - 2 * pad) // max(pad, min_side))


def _count_for(length: int, outer: int, pad: int, min_side: int) -> int:
    """Fewest pieces of a side that are at most so long with their margins, as far as that is possible."""
    most = _max_count(length, pad, min_side)
    if outer >= length:
        return 1
    if outer <= 2 * pad:
        return most
    return min(most, math.ceil((length - 2 * pad) / (outer - 2 * pad)))


def _make_plan(rows: Sequence[Span], columns: Sequence[Span], pad: int) -> Plan:
    return Plan([Tile(row, column) for row in rows for column in columns], pad)


def _halve(tile: Tile, size: tuple[int, int], pad: int, error: BaseException) -> list[Tile]:
    """Two tiles instead of one that did not fit into the memory, cut across its longer side."""
    rows, columns = tile
    tall = rows.stop - rows.start >= columns.stop - columns.start
    span, length = (rows, size[0]) if tall else (columns, size[1])
    if span.stop - span.start < 2 * MIN_TILE:
        sides = f'{rows.outer_stop - rows.outer_start} x {columns.outer_stop - columns.outer_start}'
        raise InputError(f'not enough memory even for {sides} LR pixels; close other programs') from error
    middle = (span.start + span.stop) // 2
    halves = [_span(span.start, middle, pad, length), _span(middle, span.stop, pad, length)]
    return [Tile(half, columns) if tall else Tile(rows, half) for half in halves]
