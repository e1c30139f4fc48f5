"""Measurements in a process of their own: its peak memory is that of one case, its failure does not stop others."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dasr_arch._errors import InputError

MEBIBYTE = 1 << 20
_TIME_LIMIT = 3600  # seconds


def run_in_own_process(module: str, request: str) -> dict[str, Any]:
    """Runs a module with a request as its standard input; returns the last line of its output, read as JSON.

    Raises RuntimeError with the reason in one line if the process fails or takes more than an hour.
    """
    command = [sys.executable, '-m', module]
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=_TIME_LIMIT, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        lines = (getattr(error, 'stderr', None) or str(error)).strip().splitlines()
        raise RuntimeError(lines[-1] if lines else str(error)) from error
    return found


def read_peak_memory() -> int:
    """Peak resident memory of this process in bytes; raises InputError on Windows.

    On Linux it is VmHWM; getrusage would start from the peak of the parent process.
    """
    try:
        lines = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
    except OSError:
        if sys.platform == 'win32':
            raise InputError('the memory of a process is measured on Linux and macOS only') from None
        import resource  # noqa: PLC0415  (Windows has none)

        unit = 1 if sys.platform == 'darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM:'))
