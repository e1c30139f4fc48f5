"""Augmenting a picture and cutting patches out of it."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch.degradations.borders import border_index


class PatchGeometry(NamedTuple):
    """How patches are cut.

    Attributes:
        size: side of the patch in pixels.
        margin: pixels more on every side, reflected where they lie outside the picture.
        step: patches start at multiples of this.
    """

    size: int
    margin: int = 0
    step: int = 1


def augment(
    picture: NDArray[np.uint8], generator: torch.Generator, use_hflip: bool, use_rot: bool
) -> NDArray[np.uint8]:
    """Mirrors and turns a picture, each way with probability one half.

    Args:
        picture: shape (H, W, C).
        generator: where the choices come from; as many numbers are drawn whatever is allowed.
        use_hflip: allows mirroring left to right.
        use_rot: allows mirroring top to bottom and transposing, hence rotations by 90 degrees.

    Returns:
        A view of the picture, never the picture changed in place.
    """
    flip, turn, transpose = (torch.rand(3, generator=generator) < 0.5).tolist()
    if use_hflip and flip:
        picture = picture[:, ::-1]
    if use_rot and turn:
        picture = picture[::-1]
    return picture.transpose(1, 0, 2) if use_rot and transpose else picture


def draw_position(height: int, width: int, geometry: PatchGeometry, generator: torch.Generator) -> tuple[int, int]:
    """Draws where a patch starts, uniformly among all places where it lies inside the picture.

    Args:
        height: rows of the picture, at least the patch's size.
        width: columns of the picture, at least the patch's size.
        geometry: size and step of the patch.
        generator: where the numbers come from.

    Returns:
        First row and column, multiples of the step.
    """
    places = [(side - geometry.size) // geometry.step + 1 for side in (height, width)]
    top, left = (int(torch.randint(count, (), generator=generator)) * geometry.step for count in places)
    return top, left


def cut_patch(picture: NDArray[np.uint8], top: int, left: int, geometry: PatchGeometry) -> Tensor:
    """Cuts a patch with its margin.

    Args:
        picture: shape (H, W, 3).
        top: first row of the patch without margin.
        left: first column of the patch without margin.
        geometry: size and margin.

    Returns:
        uint8 tensor of shape (3, size + 2 margin, size + 2 margin), a copy.
    """
    height, width = picture.shape[:2]
    first_row, first_column = top - geometry.margin, left - geometry.margin
    side = geometry.size + 2 * geometry.margin
    if first_row >= 0 and first_column >= 0 and first_row + side <= height and first_column + side <= width:
        patch = picture[first_row : first_row + side, first_column : first_column + side]
    else:
        rows = border_index(torch.arange(first_row, first_row + side), height, 'reflect').numpy()
        columns = border_index(torch.arange(first_column, first_column + side), width, 'reflect').numpy()
        patch = picture[rows[:, None], columns[None, :]]
    return torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))
