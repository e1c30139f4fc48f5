"""Progress bars that a log file survives."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

TERMINAL_SECONDS = 0.1
FILE_SECONDS = 30.0


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> 'tqdm[Any]':
    """A bar on stderr; where that is a file or a pipe, it is written twice a minute instead of ten times a second.

    Tqdm's variable TQDM_MININTERVAL, where it is set, says how often instead.

    Args:
        items: what is gone through; None for a bar that is moved by hand.
        options: those of tqdm.
    """
    if sys.stderr.isatty():
        return tqdm(items, mininterval=TERMINAL_SECONDS, **options)
    if 'TQDM_MININTERVAL' not in os.environ:  # which counts for what is not said here
        options = {'mininterval': FILE_SECONDS, 'maxinterval': FILE_SECONDS, **options}
    return _FileBar(items, **options)


class _FileBar(tqdm):  # type: ignore[type-arg]
    """A bar whose texts wait for its next state instead of being written at once."""

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        """Says what is done."""
        del refresh
        super().set_description(desc, refresh=False)

    def set_postfix_str(self, s: str = '', refresh: bool = True) -> None:
        """Says more."""
        del refresh
        super().set_postfix_str(s, refresh=False)
