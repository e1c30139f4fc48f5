"""Sizes of results: a multiple of that of the image, or what a user asks for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from dasr_arch._errors import InputError


@dataclass(frozen=True)
class TargetSize:
    """Size that results shall have, in pixels; they keep the aspect ratio of the image. One of the four is given.

    Attributes:
        box: width and height; the result is the largest that fits inside.
        long_side: the longer side.
        short_side: the shorter side.
        same: that of the image: restoration without enlargement.

    Raises:
        InputError: if none or several are given, or one is below 1.
    """

    box: tuple[int, int] | None = None
    long_side: int | None = None
    short_side: int | None = None
    same: bool = False

    def __post_init__(self) -> None:
        missing = [self.box, self.long_side, self.short_side].count(None)
        if self.same and missing < 3:
            raise InputError('the scale 1 keeps the size; give another scale, or none')
        if not self.same and missing != 2:
            raise InputError('give one of --to, --long-side and --short-side')
        if any(side is not None and side < 1 for side in (*(self.box or ()), self.long_side, self.short_side)):
            raise InputError(f'a size must be at least 1 pixel, got {self.label}')

    @classmethod
    def read(
        cls, to: str | None, long_side: int | None, short_side: int | None, scale: int | None = None
    ) -> Self | None:
        """The size of the options of a command, of which ``to`` is a text such as '3840x2160'.

        Scale 1 is the size of the image; None if the size is that of another scale.
        """
        if (to, long_side, short_side) == (None, None, None) and scale != 1:
            return None
        found = re.fullmatch(r'(\d{1,6})[xX\N{MULTIPLICATION SIGN}](\d{1,6})', to or '1x1')
        if found is None:
            raise InputError(f"--to must be width and height such as 3840x2160, got '{to}'")
        return cls((int(found[1]), int(found[2])) if to is not None else None, long_side, short_side, scale == 1)

    @property
    def label(self) -> str:
        """Part of the names of results: 'to3840x2160', 'long3840', 'short2160' or 'x1'."""
        if self.same:
            return 'x1'
        if self.box is not None:
            return f'to{self.box[0]}x{self.box[1]}'
        return f'long{self.long_side}' if self.long_side is not None else f'short{self.short_side}'

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result for an image; sides are rounded, and at least 1."""
        if self.same:
            return width, height
        if self.box is not None:
            ratio = min(Fraction(self.box[0], width), Fraction(self.box[1], height))
        elif self.long_side is not None:
            ratio = Fraction(self.long_side, max(width, height))
        else:
            ratio = Fraction(self.short_side or 1, min(width, height))
        return max(1, round(width * ratio)), max(1, round(height * ratio))


Scale = int | TargetSize
"""Size of a result: an upsampling factor, or what a user asks for."""


_LABEL = re.compile(r'(.+)_(?:x([1-4])|to(\d{1,6})x(\d{1,6})|long(\d{1,6})|short(\d{1,6}))')


def read_label(stem: str) -> tuple[str, Scale] | None:
    """The name of the image and the size in the name of a result such as 'photo_x4'; None for other names."""
    found = _LABEL.fullmatch(stem)
    if found is None:
        return None
    factor, width, height, long_side, short_side = (int(number or 0) for number in found.groups()[1:])
    if factor:
        return found[1], TargetSize(same=True) if factor == 1 else factor
    box = (width, height) if width and height else None
    given = (box, long_side or None, short_side or None)
    return None if given.count(None) != 2 else (found[1], TargetSize(*given))


def label_scale(scale: Scale) -> str:
    """Part of the names of results: 'x4', or the label of the size."""
    return scale.label if isinstance(scale, TargetSize) else f'x{scale}'


def resize(scale: Scale, width: int, height: int) -> tuple[int, int]:
    """Width and height of the result for an image."""
    return scale.fit(width, height) if isinstance(scale, TargetSize) else (width * scale, height * scale)


def choose_factor(scale: Scale, width: int, height: int, factors: Sequence[int]) -> int:
    """The smallest of some upsampling factors that reaches the size for an image; a factor is returned as it is.

    The size of the image itself is reached by the smallest of all.

    Raises InputError if the result would not be larger than the image, or larger than the largest factor makes it.
    """
    if isinstance(scale, int):
        return scale
    new_width, new_height = scale.fit(width, height)
    sizes = f'{width} x {height} pixels would become {new_width} x {new_height}'
    if new_width <= width and new_height <= height and not scale.same:
        raise InputError(f'{sizes}, which is no enlargement; ask for a larger size, or use the scale 1')
    for factor in sorted(factors):
        if new_width <= width * factor and new_height <= height * factor:
            return factor
    most = max(factors)
    limit = f'{width * most} x {height * most}'
    raise InputError(f'{sizes}, but x{most} is the largest factor of the model; ask for at most {limit}')


def check_mask(mask: tuple[int, int], image: tuple[int, int], result: tuple[int, int], name: str = '') -> None:
    """Raises InputError, beginning with a name, unless a mask has the size of the image or of its result."""
    if mask not in (image, result):
        own, new = f'{image[0]} x {image[1]}', f'{result[0]} x {result[1]}'
        wrong = f'{name}the mask has {mask[0]} x {mask[1]} pixels'
        raise InputError(f'{wrong}; it needs {own} as the image, or {new} as the result')
