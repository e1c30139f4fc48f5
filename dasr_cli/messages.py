"""Messages on stderr that all subcommands print in the same form."""

import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dasr_arch.data.image_io import FailedImage

SHOWN = 20
"""Longest list of results that a command prints."""

EMPTY_SHARD = 'none of the inputs, nothing to do'
"""Result of a shard that no input belongs to, which is a success."""


def show(text: object) -> str:
    """A text or path on one line; a name may hold characters that would control the terminal."""
    return ''.join('?' if unicodedata.category(one) in ('Cc', 'Zl', 'Zp') else one for one in str(text))


def print_path(path: Path) -> None:
    """Prints the path of a result, unchanged for another program."""
    print(show(path) if sys.stdout.isatty() else path)


def print_error(message: object) -> None:
    """Prints one error line."""
    print(f'dasr: error: {show(message)}', file=sys.stderr)


def print_warning(message: object) -> None:
    """Prints one warning line."""
    print(f'dasr: warning: {show(message)}', file=sys.stderr)


def print_note(source: object, note: str) -> None:
    """Prints what a result will lack or how it is changed."""
    print(f'dasr: {show(source)}: {show(note)}', file=sys.stderr)


def print_failures(failed: 'Sequence[FailedImage]') -> None:
    """Prints an error line for each image that was left out."""
    for image in failed:
        print_error(f'{image.path}: {image.reason}')


def describe_left_out(paths: Sequence[Path]) -> str:
    """Counts files that a run over a folder left out, such as '3 left out (2 .heic, 1 .txt)'."""
    endings = Counter(path.suffix or path.name for path in paths)
    return f'{len(paths)} left out ({", ".join(f"{number} {ending}" for ending, number in endings.most_common(5))})'


def print_others(paths: Sequence[Path]) -> None:
    """Prints what a run over folders left out because `dasr degrade` and `dasr prepare` do not read it."""
    if paths:
        print(f'{describe_left_out(paths)}: not PNG, JPEG, BMP, TIFF or WebP', file=sys.stderr)
