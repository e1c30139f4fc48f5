"""Tests of the progress bars."""

import io
import os
import subprocess
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


def test_tqdms_variable_decides_how_often_a_file_is_written():
    code = 'from dasr_arch._bars import progress_bar; [None for _ in progress_bar(range(8), desc="work")]'
    environment = {**os.environ, 'TQDM_MININTERVAL': '0', 'TQDM_MINITERS': '1'}  # tqdm reads them when it is imported
    found = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True)
    assert found.stderr.count('work') >= 8


def test_texts_do_not_fill_a_file(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', stream)
    with progress_bar(total=50) as bar:
        for step in range(50):
            bar.set_description(f'step {step}')
            bar.set_postfix_str('more')
            bar.update()
    assert stream.getvalue().count('step') == 1  # the last
    assert '50/50' in stream.getvalue()


def test_a_terminal_gets_every_state(monkeypatch):
    assert _write_bar(_Terminal(), monkeypatch).count('work') > 4


def test_a_bar_without_items_is_moved_by_hand(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    with progress_bar(total=3) as bar:
        bar.update(2)
    assert bar.n == 2
