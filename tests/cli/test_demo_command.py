"""Errors and interruption of `dasr demo`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dasr_arch.pipelines.demo import DemoReport
from dasr_cli.main import main


def test_folder_that_holds_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'mine.txt').write_text('kept')
    assert main(['demo', '--out', str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (f'dasr: error: {tmp_path}: exists already; the demo needs a folder of its own, choose another name')
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_end_of_a_demo_tells_where_its_page_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path) -> DemoReport:  # tests/pipelines/test_demo.py runs the real one
        return DemoReport(folder / 'index.html', 'the table', 90)

    monkeypatch.setattr('dasr_arch.pipelines.demo.run_demo', run)
    assert main(['demo', '--out', str(tmp_path / 'out')]) == 0
    table, last = capsys.readouterr().out.splitlines()
    assert table == 'the table'
    assert last == f'done in 1.5 minutes; open in a browser: file://{tmp_path}/out/index.html'


@pytest.mark.slow
def test_interrupted_demo_says_where_its_files_are(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, '-m', 'dasr_cli', 'demo', '--out', 'out'],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / 'out/experiments/train_demo').exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 130
    assert 'the demo did not finish; what it made so far is in out' in printed
    assert 'Traceback' not in printed
    assert not (tmp_path / 'out/index.html').exists()
