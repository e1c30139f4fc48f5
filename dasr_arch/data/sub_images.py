"""Overlapping sub-images, which a data loader decodes faster than whole images.

The grid and the names are those of BasicSR's `extract_subimages`.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import decode_image, encode_png, read_bytes
from dasr_arch.data.lmdb_store import Piece


@dataclass(frozen=True)
class Cutting:
    """Sizes of the sub-images and compression; InputError if a number is out of range."""

    size: int = 480  # side of a sub-image in pixels; a shorter side of an image is kept as it is
    step: int = 240  # pixels from one sub-image to the next, at most ``size``, so that nothing is left out
    min_size: int = 192  # images with a shorter side are refused; a training patch has to fit, 192 at x4
    whole: bool = False  # store images uncut; ``size`` and ``step`` then have no effect
    compress_level: int = 1  # of the PNG, 0 to 9

    def __post_init__(self) -> None:
        if self.min_size < 1:
            raise InputError(f'min-size must be at least 1 pixel, got {self.min_size}')
        if not 0 <= self.compress_level <= 9:
            raise InputError(f'compress-level must be 0 (none) to 9 (small, slow), got {self.compress_level}')
        if self.whole:
            return
        if self.size < self.min_size:
            raise InputError(
                f'size must be at least min-size, or sub-images are too small to use, got {self.size} < {self.min_size}'
            )
        if not 1 <= self.step <= self.size:
            raise InputError(
                f'step must be 1 to size ({self.size}), or parts of the images are left out, got {self.step}'
            )


class CutTask(NamedTuple):
    """One image to cut."""

    path: str  # the image file
    key: str  # unique name of the image, the beginning of the keys of its sub-images
    cutting: Cutting


class CutResult(NamedTuple):
    """Result for one image."""

    pieces: list[Piece]  # its sub-images, row by row; empty if it was refused
    reason: str | None  # of the refusal, or None


def cut_image(task: CutTask) -> CutResult:
    """Reads an image and encodes its sub-images; runs in a worker process."""
    cutting = task.cutting
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow's warnings about large or odd files; problems are errors
            image = decode_image(read_bytes(task.path), task.path)
    except InputError as error:
        return CutResult([], str(error).removeprefix(f'{task.path}: '))
    height, width = image.shape[:2]
    if min(height, width) < cutting.min_size:
        return CutResult([], f'{width} x {height} pixels, expected sides of at least {cutting.min_size}')
    size, step = (max(height, width), 1) if cutting.whole else (cutting.size, cutting.step)
    windows = [
        image[top : top + size, left : left + size]
        for top in window_starts(height, size, step)
        for left in window_starts(width, size, step)
    ]
    keys = piece_keys(task.key, len(windows), cutting.whole)
    pieces = [
        Piece(key, window.shape[0], window.shape[1], encode_png(window, cutting.compress_level))
        for key, window in zip(keys, windows, strict=True)
    ]
    return CutResult(pieces, None)


def piece_keys(key: str, count: int, whole: bool) -> list[str]:
    """Keys of an image's sub-images: numbered from 1 row by row, or the image's own key if it is whole."""
    return [key] if whole else [f'{key}_s{number:03d}' for number in range(1, count + 1)]


def window_starts(length: int, size: int, step: int) -> list[int]:
    """Start positions, from 0 on, of windows along one side of an image, in pixels.

    The last window ends with the image, and may overlap its neighbour more than the others. A side no longer than
    ``size`` has one window. ``step`` is at most ``size``.
    """
    starts = list(range(0, max(length - size, 0) + 1, step))
    if starts[-1] + size < length:
        starts.append(length - size)
    return starts
