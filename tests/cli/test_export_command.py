"""Output and exit codes of `dasr export`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dasr_cli.main import main
from tests.inference.making import make_network


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': make_network(2).state_dict()}, 'net.pth')


def test_file_is_written_and_the_difference_is_printed(capsys):
    assert main(['export', 'net.pth', '--format', 'torch']) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('net.pt2: x2, ')
    assert 'largest difference from torch ' in printed
    assert printed.rstrip().endswith('in [0, 1], at 24 x 32, 51 x 37, 5 x 5')
    program = torch.export.load('net.pt2')
    assert program.module()(torch.rand(1, 3, 6, 9)).shape == (1, 3, 12, 18)


def test_use_is_not_reported_to_anybody(folder):
    """ONNX Runtime keeps reports, and a number of the device, in the home folder until they are sent."""
    for package in ('onnx', 'onnxruntime', 'onnxscript'):
        pytest.importorskip(package)
    home = Path('home')
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != 'ORT_DISABLE_TELEMETRY'}
    command = [sys.executable, '-m', 'dasr_cli', 'export', 'net.pth', '--format', 'onnx']
    environment |= {'HOME': str(home.resolve()), 'XDG_CACHE_HOME': '', 'https_proxy': 'http://127.0.0.1:9'}
    subprocess.run(command, check=True, env=environment, timeout=200)
    assert [str(path) for path in home.rglob('*') if 'Microsoft' in str(path)] == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('net.pth', 'name a file to write'),
        ('net.pth out.tflite', "unknown ending '.tflite'"),
        ('net.pth --format tflite', "unknown format 'tflite'"),
        ('net.pth out.pt2 --scale 4', "'net.pth' is for x2, not for x4"),
        ('none --format torch', "model 'none' is neither a file nor the name of installed weights"),
        ('none.pth --format torch', "weights file 'none.pth' does not exist"),
        ('iso out.pt2 --scale 8', "no weights for model 'iso' at x8 are installed"),
    ],
)
def test_wrong_arguments_get_one_line(capsys, arguments, message):
    assert main(['export', *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dasr: error: ')
    assert message in line
    assert sorted(path.name for path in Path().iterdir()) == ['net.pth']
