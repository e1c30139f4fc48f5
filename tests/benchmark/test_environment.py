"""What results record of the machine and of the code."""

import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from dasr_arch.benchmark.environment import name_device, read_commit
from dasr_arch.benchmark.own_process import read_peak_memory


def test_system_without_proc_names_its_kind_of_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, 'read_text', refuse)
    assert name_device(torch.device('cpu')) == (platform.processor() or platform.machine())


@pytest.mark.parametrize('error', [FileNotFoundError(2, 'No such file', 'git'), subprocess.TimeoutExpired('git', 10)])
def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, 'run', refuse)
    assert read_commit() is None


def test_system_without_proc_tells_its_peak_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError

    known = read_peak_memory()
    monkeypatch.setattr(Path, 'read_text', refuse)
    assert read_peak_memory() >= 0.9 * known
