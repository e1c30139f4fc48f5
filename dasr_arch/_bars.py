"""Progress bars that a log file survives."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

TERMINAL_SECONDS = 0.1
FILE_SECONDS = 30.0


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> 'tqdm[Any]':
    """A bar on stderr; where that is a file or a pipe, it is written twice a minute instead of ten times a second.

    Args:
        items: what is gone through; None for a bar that is moved by hand.
        options: those of tqdm.
    """
    seconds = TERMINAL_SECONDS if sys.stderr.isatty() else FILE_SECONDS
    return tqdm(items, mininterval=seconds, maxinterval=max(seconds, 10.0), **options)
