"""Augmentation of images and extraction of patches."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch.degradations.padding import border_index
from dasr_arch.degradations.resize import cubic

_ONE = 2.0**15  # weights are multiples of its inverse, so that float32 adds 8-bit values without rounding


class PatchGeometry(NamedTuple):
    """Size, margin and grid of patches."""

    size: int  # side of the patch in pixels
    margin: int = 0  # pixels more on every side, reflected where they lie outside the image
    step: int = 1  # patches start at multiples of this


class Turns(NamedTuple):
    """Flips of an image, in this order."""

    mirror: bool  # left to right
    upend: bool  # top to bottom
    transpose: bool


def draw_turns(generator: torch.Generator, use_hflip: bool, use_rot: bool) -> Turns:
    """Draws flips and transposition of an image, each with probability one half.

    ``use_hflip`` allows mirroring left to right; ``use_rot`` mirroring top to bottom and transposing, hence rotations
    by 90 degrees. The number of draws does not depend on them.
    """
    mirror, upend, transpose = (torch.rand(3, generator=generator) < 0.5).tolist()
    return Turns(use_hflip and mirror, use_rot and upend, use_rot and transpose)


def turn(image: NDArray[np.uint8], turns: Turns) -> NDArray[np.uint8]:
    """Flips and transposes an image (H, W, C); returns a view."""
    image = image[:: -1 if turns.upend else 1, :: -1 if turns.mirror else 1]
    return image.transpose(1, 0, 2) if turns.transpose else image


def find_resized(height: int, width: int, factor: float, least: int) -> tuple[int, int]:
    """Height and width of a resized image, of which no side becomes shorter than ``least`` pixels."""
    factor = max(factor, least / min(height, width))  # of both sides, so that the image keeps its shape
    return max(least, round(height * factor)), max(least, round(width * factor))


def find_ratio(size: Sequence[int], resized: Sequence[int]) -> float:
    """The larger ratio of an image's height and width to those after resizing."""
    return max(before / after for before, after in zip(size, resized, strict=True))


def draw_position(height: int, width: int, geometry: PatchGeometry, generator: torch.Generator) -> tuple[int, int]:
    """Draws the first row and column of a patch, uniformly among all multiples of the step inside the image."""
    places = [(side - geometry.size) // geometry.step + 1 for side in (height, width)]
    top, left = (int(torch.randint(count, (), generator=generator)) * geometry.step for count in places)
    return top, left


def cut_patch(image: NDArray[np.uint8], top: int, left: int, geometry: PatchGeometry) -> Tensor:
    """Cuts a patch with its margin, uint8 of shape (3, size + 2 margin, size + 2 margin); a copy.

    The image (H, W, 3) may be a turned view. ``top`` and ``left`` are the first row and column without margin.
    """
    side = geometry.size + 2 * geometry.margin
    first_row, first_column = top - geometry.margin, left - geometry.margin
    end_row, end_column = first_row + side, first_column + side
    height, width = image.shape[:2]
    borders = (max(-first_row, 0), max(end_row - height, 0), max(-first_column, 0), max(end_column - width, 0))
    patch: NDArray[Any] = _copy(image[max(first_row, 0) : end_row, max(first_column, 0) : end_column])
    if max(borders) >= min(patch.shape[:2]):  # the reflection is wider than what it reflects
        row_index = border_index(torch.arange(first_row, end_row), height, 'reflect').numpy()
        column_index = border_index(torch.arange(first_column, end_column), width, 'reflect').numpy()
        patch = image[np.ix_(row_index, column_index)]
    elif any(borders):
        patch = cv2.copyMakeBorder(patch, *borders, cv2.BORDER_REFLECT_101)
    return torch.from_numpy(np.stack(cv2.split(patch)))


def _copy(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A contiguous copy of an image that may have been turned.

    NumPy copies such a view pixel by pixel. Rows are copied as they lie in memory instead, and OpenCV turns them.
    """
    mirrored = [stride < 0 for stride in view.strides[:2]]
    upright = view[:: -1 if mirrored[0] else 1, :: -1 if mirrored[1] else 1]
    transposed = upright.strides[0] < upright.strides[1]
    copy: NDArray[Any] = np.ascontiguousarray(upright.transpose(1, 0, 2) if transposed else upright)
    if transposed:
        copy = cv2.transpose(copy)
    if any(mirrored):
        copy = cv2.flip(copy, -1 if all(mirrored) else int(mirrored[1]))
    return copy


class Table(NamedTuple):
    """Images on a device, one after the other, row by row."""

    pixels: Tensor  # (N, 3) uint8
    starts: Tensor  # of each image, (n,) int64
    sizes: Tensor  # height and width of each image, (n, 2) int64


class Places(NamedTuple):
    """Where P patches of each of B images lie, on the device of the images."""

    image: Tensor  # number of the image in the table, (B,) int64
    turns: Tensor  # mirror, upend and transpose, (B, 3) bool
    window: Tensor  # first rows and columns of the patches, height and width of the turned image, (B, 4, P) int64
    resized: Tensor  # height and width of the image, resized before it is turned, (B, 2) int64


def cut_patches(table: Table, places: Places, geometry: PatchGeometry, ratio: float | None = None) -> Tensor:
    """Cuts patches of several images with their margins, as :func:`cut_patch`.

    Args:
        table: all images.
        places: where the patches lie.
        geometry: their size and margin.
        ratio: the largest :func:`find_ratio` of the images, which are resized bicubically, with antialiasing; shrunk
            images have sharper edges, enlarged ones softer edges. None if no image is to be resized.

    Returns:
        Patches (B, P, 3, side, side) uint8, the same on every device.
    """
    start, old = table.starts[places.image][:, None, None, None], table.sizes[places.image]
    down, across = _find_axes(places, old, geometry)
    if ratio is None:
        pixels = _gather(table, start, down, down.position, across, across.position)
        return pixels.movedim(-1, 2).contiguous()
    rows, down_weights = _weigh(down, ratio)
    columns, across_weights = _weigh(across, ratio)
    pixels = _gather(table, start, down, rows, across, columns).float()  # (B, P, length, length, 3)
    resized_down = _round(down_weights @ pixels.flatten(-2)).unflatten(-1, (-1, 3))  # (B, P, side, length, 3)
    return _round(resized_down.movedim(-1, 2) @ across_weights.unsqueeze(2).mT).byte()


class _Axis(NamedTuple):
    """One axis of the patches, in the images before they are turned."""

    position: Tensor  # of the patches' pixels in the resized image, (B, P, side) int64
    old: Tensor  # pixels of the image in the table, (B, 1, 1)
    new: Tensor  # pixels of the resized image, (B, 1, 1)
    stride: Tensor  # rows of the table from a pixel to the next, (B, 1, 1)


def _find_axes(places: Places, old: Tensor, geometry: PatchGeometry) -> tuple[_Axis, _Axis]:
    """The axes of the patches from top to bottom and from left to right, for images of sizes (B, 2) in the table."""
    span = torch.arange(-geometry.margin, geometry.size + geometry.margin, device=old.device)
    top, left, height, width = places.window.unsqueeze(-1).unbind(1)  # (B, P, 1)
    mirror, upend, transpose = places.turns[:, None, None, :].unbind(-1)  # (B, 1, 1)
    stride = torch.stack([old[:, 1], torch.ones_like(old[:, 1])], 1)
    upright = [lengths[:, None, None, :] for lengths in (old, places.resized, stride)]
    turned = [torch.where(transpose.unsqueeze(-1), lengths.flip(-1), lengths) for lengths in upright]

    def find(axis: int, first: Tensor, length: Tensor, flipped: Tensor) -> _Axis:
        position = border_index(first + span, length, 'reflect')
        position = torch.where(flipped, length - 1 - position, position)
        return _Axis(position, *(lengths[..., axis] for lengths in turned))

    down = find(0, top, height, torch.where(transpose, mirror, upend))
    return down, find(1, left, width, torch.where(transpose, upend, mirror))


def _gather(table: Table, start: Tensor, down: _Axis, rows: Tensor, across: _Axis, columns: Tensor) -> Tensor:
    """Pixels (B, P, n, m, 3) at the crossings of rows (B, P, n) and columns (B, P, m)."""
    place = start + (rows * down.stride).unsqueeze(-1) + (columns * across.stride).unsqueeze(-2)
    return table.pixels.index_select(0, place.flatten()).view(*place.shape, 3)  # faster than indexing


def _weigh(axis: _Axis, ratio: float) -> tuple[Tensor, Tensor]:
    """Positions (B, P, length) of the pixels that patches are made of, and weights (B, P, side, length) in 1 / _ONE.

    Beyond the image its border is repeated.
    """
    factor = axis.old.double() / axis.new
    stretch = factor.clamp(min=1)  # of the cubic, which reaches two pixels
    centre = (axis.position + 0.5) * factor - 0.5
    first = (centre - 2 * stretch).ceil()
    reach = torch.arange(math.ceil(4 * max(ratio, 1)) + 1, device=centre.device)
    place = first.unsqueeze(-1) + reach  # (B, P, side, taps)
    weight = cubic((place - centre.unsqueeze(-1)) / stretch.unsqueeze(-1))
    weight = (weight / weight.sum(-1, keepdim=True) * _ONE).round().float()
    start = first.amin(-1, keepdim=True)
    length = math.ceil(axis.position.shape[-1] * ratio) + len(reach)
    matrix = weight.new_zeros(*axis.position.shape, length)
    matrix.scatter_(-1, (place - start.unsqueeze(-1)).long(), weight)
    return (start + torch.arange(length, device=start.device)).long().clamp(min=0).minimum(axis.old - 1), matrix


def _round(sums: Tensor) -> Tensor:
    return sums.div_(_ONE).round_().clamp_(0, 255)
