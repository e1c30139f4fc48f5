"""Exit codes of train.py and test.py.

A mistake of the user is one line and code 2, a training that diverged one line and code 1; a bug shows its traceback.
"""

import logging
import os
import sys
from collections.abc import Callable

from dasr_arch._errors import DivergedError, InputError

DIVERGED_CODE = 1
INPUT_ERROR_CODE = 2
INTERRUPTED_CODE = 130

_LOGGER = logging.getLogger(__name__)


def run_guarded(action: Callable[[], int], debug: bool = False) -> int:
    """Runs a command's work; its exit code: 2 after InputError or OSError, 1 after DivergedError, 130 after Ctrl-C.

    ``debug`` shows the traceback of input errors, too.
    """
    try:
        return action()
    except KeyboardInterrupt:
        sys.stderr.write('dasr: interrupted\n')
        return INTERRUPTED_CODE
    except DivergedError as error:
        if os.environ.get('RANK', '0') == '0':  # under torchrun all processes find the same
            sys.stderr.write(f'dasr: error: {_describe(error)}\n')
        return DIVERGED_CODE
    except (InputError, OSError) as error:
        if debug:
            _LOGGER.exception('the line below came from here')
        rank = os.environ.get('RANK', '0')  # under torchrun each process reads other images
        sys.stderr.write(f'dasr: error: {f"process {rank}: " if rank != "0" else ""}{_describe(error)}\n')
        return INPUT_ERROR_CODE


def _describe(error: Exception) -> str:
    """The message in one line; a system error names its file."""
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    return ' '.join(str(error).split())
