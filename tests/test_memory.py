"""glibc keeps freed blocks when asked to, gives them back when asked to, and the user's own settings stand."""

import os
import platform
import subprocess
import sys

import pytest

from dasr_arch import _memory

COUNT_FAULTS = """
import resource, sys
import torch
from dasr_arch._memory import keep_freed_memory, return_freed_memory

def held():
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmRSS'))

print(int(keep_freed_memory()))
for _ in range(20):  # blocks find their places
    torch.empty(64 << 20, dtype=torch.uint8).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(64 << 20, dtype=torch.uint8).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
kept = held()
return_freed_memory()
print((kept - held()) // 1024)
"""
PAGES = (64 << 20) // 4096
glibc = pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='needs glibc')


def count_faults(**variables: str) -> tuple[int, int, int]:
    """True if a new process keeps memory; its page faults, and the MiB that it returns."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('MALLOC_', 'GLIBC_'))}
    result = subprocess.run(
        [sys.executable, '-c', COUNT_FAULTS], env=environment | variables, capture_output=True, text=True, check=True
    )
    keeps, faults, returned = map(int, result.stdout.split())
    return keeps, faults, returned


@glibc
def test_kept_blocks_are_not_cleared_anew() -> None:
    keeps, faults, returned = count_faults()
    assert keeps == 1
    assert faults < 9 * PAGES  # not for each of the twenty
    assert returned > 60  # MiB


@glibc
@pytest.mark.parametrize('variable', ['MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_'])
def test_users_own_setting_stands(variable: str) -> None:
    keeps, _, _ = count_faults(**{variable: '131072'})
    assert keeps == 0


@glibc
def test_tunables_of_malloc_stand() -> None:
    assert count_faults(GLIBC_TUNABLES='glibc.malloc.mmap_threshold=131072')[0] == 0


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _memory._USERS_OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    monkeypatch.setattr(_memory, '_find', lambda *_: None)
    assert not _memory.keep_freed_memory.__wrapped__()


def test_a_function_that_no_library_has_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _memory._find('no_such_function') is None
    with monkeypatch.context() as patch:
        patch.setattr(os, 'name', 'nt')
        assert _memory._find('mallopt') is None
