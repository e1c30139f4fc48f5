"""The exceptions that commands print as one line, checks of arguments, and suggestions of similar names."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeGuard

FOREIGN_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Exceptions of other packages' code for an argument or a file that it does not accept."""


class InputError(ValueError):
    """Invalid input: a file, an option or an argument.

    The message is one line: the object, the expected and the actual value, and a remedy. Commands print it without a
    traceback and exit with code 2.
    """


class DivergedError(ArithmeticError):
    """Training whose losses, weights or outputs are no longer finite.

    The message is one line. Commands print it without a traceback and exit with code 1.
    """


@contextmanager
def naming(place: object) -> Iterator[None]:
    """Puts a place, such as a file or a key, before the messages of InputErrors within a ``with`` block."""
    try:
        yield
    except InputError as error:
        raise InputError(f'{place}: {error}') from error


def check_choice(name: str, value: object, known: Sequence[object], owner: str = '') -> None:
    """Raises InputError unless an argument, of a network if ``owner`` names one, has one of its valid values."""
    if value not in known:
        where = f' for {owner}' if owner else ''
        raise InputError(f'{name} must be one of {", ".join(map(str, known))}{where}, got {value!r}')


def check_counts(owner: str, **counts: int) -> None:
    """Raises InputError unless every argument of a network is a whole number of at least 1."""
    for name, value in counts.items():
        if not is_whole(value) or value < 1:
            raise InputError(f'{name} must be a whole number of at least 1 for {owner}, got {value!r}')


def check_kernel_size(owner: str, **sizes: int) -> None:
    """Raises InputError unless every argument of a network is a kernel size, odd and positive."""
    for name, value in sizes.items():
        if not is_whole(value) or value < 1 or value % 2 == 0:
            raise InputError(f'{name} must be odd and positive for {owner}, got {value!r}')


def is_whole(value: object) -> TypeGuard[int]:
    """True for whole numbers; truth values are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def suggest(name: str, known: Iterable[str]) -> str:
    """Suggestions for a message about an unknown name.

    '; did you mean X? (known: ...)' when one is near, else '; known: ...'.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    listing = ', '.join(names) if names else 'none'
    return f"; did you mean '{near[0]}'? (known: {listing})" if near else f'; known: {listing}'
