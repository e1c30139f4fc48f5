"""Output and exit codes of `dasr convert`."""

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


def test_what_is_no_weights_file_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'net.pth').write_bytes(b'hello')
    assert main(['convert', 'net.pth', 'net.safetensors']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dasr: error: weights file 'net.pth' is damaged")
