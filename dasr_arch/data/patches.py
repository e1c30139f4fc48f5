"""Augmentation of images and extraction of patches."""

from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dasr_arch.degradations.padding import border_index


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


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bicubic resizing of an image (H, W, 3) to a height and width, with antialiasing.

    Shrunk images have sharper edges, enlarged ones softer edges than the photograph at its full size. The image itself
    is returned if nothing is to be done.
    """
    if size == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def draw_position(height: int, width: int, geometry: PatchGeometry, generator: torch.Generator) -> tuple[int, int]:
    """Draws the first row and column of a patch, uniformly among all multiples of the step inside the image."""
    places = [(side - geometry.size) // geometry.step + 1 for side in (height, width)]
    top, left = (int(torch.randint(count, (), generator=generator)) * geometry.step for count in places)
    return top, left


def cut_patch(image: NDArray[np.uint8], top: int, left: int, geometry: PatchGeometry) -> Tensor:
    """Cuts a patch with its margin, uint8 of shape (3, size + 2 margin, size + 2 margin); a copy.

    ``top`` and ``left`` are the first row and column of the patch without margin.
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
