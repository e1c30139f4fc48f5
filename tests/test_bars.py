"""Tests of the progress bars."""

import io
import sys
import time

import pytest

from dasr_arch._bars import progress_bar


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _write_bar(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, 'stderr', stream)
    for _ in progress_bar(range(8), desc='work'):
        time.sleep(0.15)
    return stream.getvalue()


def test_a_file_gets_the_first_and_the_last_state_alone(monkeypatch):
    assert _write_bar(io.StringIO(), monkeypatch).count('work') == 2


def test_a_terminal_gets_every_state(monkeypatch):
    assert _write_bar(_Terminal(), monkeypatch).count('work') > 4


def test_a_bar_without_items_is_moved_by_hand(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    with progress_bar(total=3) as bar:
        bar.update(2)
    assert bar.n == 2
