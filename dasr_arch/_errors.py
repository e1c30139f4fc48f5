"""The one exception for mistakes of the user, and the suggestions that its messages carry."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something given from outside is wrong: a file, an option, an argument.

    The message is one line that names the thing, what was expected, what arrived and the way out. Commands print it
    without a traceback and exit with code 2.
    """


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name.

    Args:
        name: the name that was not found.
        known: the names that would have been.

    Returns:
        '; did you mean X? (known: ...)' when one is near, else '; known: ...'.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    listing = ', '.join(names) if names else 'none'
    return f"; did you mean '{near[0]}'? (known: {listing})" if near else f'; known: {listing}'
