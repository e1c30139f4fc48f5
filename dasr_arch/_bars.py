"""Progress bars that stay readable in log files."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

TERMINAL_SECONDS = 0.1
FILE_SECONDS = 30.0


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> 'tqdm[Any]':
    """Progress bar on stderr, updated ten times a second on a terminal and twice a minute in a file or pipe.

    tqdm's variable TQDM_MININTERVAL overrides the interval for files and pipes. Without items the bar is updated by
    hand. The options are arguments of tqdm.
    """
    if sys.stderr.isatty():
        return tqdm(items, mininterval=TERMINAL_SECONDS, **options)
    if 'TQDM_MININTERVAL' not in os.environ:  # tqdm reads it as its default
        options = {'mininterval': FILE_SECONDS, 'maxinterval': FILE_SECONDS, **options}
    return _FileBar(items, **options)


class _FileBar(tqdm):  # type: ignore[type-arg]
    """Progress bar that writes new texts only with its next update."""

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        """Sets the text before the bar."""
        super().set_description(desc, refresh=False)

    def set_postfix_str(self, s: str = '', refresh: bool = True) -> None:
        """Sets the text after the bar."""
        super().set_postfix_str(s, refresh=False)
