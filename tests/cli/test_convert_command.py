"""Output and exit codes of `dasr convert`."""

import errno
import os
from pathlib import Path

import pytest
import torch

from dasr_cli.main import main
from tests.inference.making import make_network


def test_weights_are_converted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': make_network().state_dict()}, 'net.pth')
    assert main(['convert', 'net.pth', 'net.safetensors', '--half']) == 0
    assert capsys.readouterr().out.startswith('net.safetensors: x2, ')
    assert main(['convert', 'net.pth', 'net.safetensors']) == 2
    assert 'net.safetensors: exists already' in capsys.readouterr().err
    assert main(['convert', 'net.safetensors', 'again.pth', '--force']) == 0


def test_installed_weights_are_named_as_for_export(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['convert', 'iso', 'iso.safetensors', '--scale', '2', '--half']) == 0
    assert capsys.readouterr().out.startswith('iso.safetensors: x2, ')
    assert main(['convert', 'dasr_s_x3_iso', 'encoder.pth', '--encoder']) == 0
    assert capsys.readouterr().out.startswith('encoder.pth: x3, ')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('none out.pth', "model 'none' is neither a file nor the name of installed weights"),
        ('none.pth out.pth', "weights file 'none.pth' does not exist"),
        ('photo out.pth --scale 5', "no weights for model 'photo' at x5 are installed"),
        ('net.pth net.pth/out.pth', 'net.pth is a file; choose another folder'),
        ('net.pth out.pth --scale 4', "'net.pth' is for x2, not for x4"),
    ],
)
def test_wrong_arguments_get_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': make_network(2).state_dict()}, 'net.pth')
    assert main(['convert', *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / 'out.pth').exists()


def test_what_is_no_weights_file_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'net.pth').write_bytes(b'hello')
    assert main(['convert', 'net.pth', 'net.safetensors']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dasr: error: weights file 'net.pth' is damaged")


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_full_disk_is_one_line_that_names_the_file(ending, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': make_network().state_dict()}, 'net.pth')

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, 'write_bytes', fail)
    assert main(['convert', 'net.pth', f'out{ending}']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'out{ending}' in line
    assert 'No space left on device' in line
    assert [path.name for path in tmp_path.iterdir()] == ['net.pth']


def test_a_folder_is_not_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'd.pth').mkdir()
    assert main(['convert', 'iso', 'd.pth', '--force']) == 2
    assert 'd.pth: is a folder; choose the name of a file' in capsys.readouterr().err
