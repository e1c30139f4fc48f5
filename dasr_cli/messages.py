"""Messages on stderr that all subcommands print in the same form."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dasr_arch.data.image_io import FailedImage

SHOWN = 20
"""Longest list of files that a command prints."""

EMPTY_SHARD = 'none of the inputs, nothing to do'
"""Result of a shard that no input belongs to, which is a success."""


def print_error(message: object) -> None:
    """Prints one error line."""
    print(f'dasr: error: {message}', file=sys.stderr)


def print_warning(message: object) -> None:
    """Prints one warning line."""
    print(f'dasr: warning: {message}', file=sys.stderr)


def print_note(source: object, note: str) -> None:
    """Prints what a result will lack or how it is changed."""
    print(f'dasr: {source}: {note}', file=sys.stderr)


def print_failures(failed: 'Sequence[FailedImage]') -> None:
    """Prints an error line for each image that was left out, for the first SHOWN of them."""
    for image in failed[:SHOWN]:
        print_error(f'{image.path}: {image.reason}')
    if len(failed) > SHOWN:
        print_error(f'and {len(failed) - SHOWN} more images')
