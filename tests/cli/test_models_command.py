"""Output of `dasr models` as text and JSON."""

import json

import pytest

from dasr_cli.main import main
from tests.checkpoints.test_packaged import write_manifest, write_weights


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of weights that DASR_WEIGHTS names."""
    write_manifest(tmp_path, [write_weights(tmp_path, 'tiny_iso_x2', 'iso', 2)])
    monkeypatch.setenv('DASR_WEIGHTS', str(tmp_path))
    return tmp_path


def test_weights_are_listed(weights, capsys):
    assert main(['models']) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith('tiny_iso_x2: x2 iso, 0.00 million parameters')
    assert second == '  trained on random numbers; model card: docs/models/tiny.md'
    assert third == '  Set14, width 2.4: PSNR 27.5'


def test_json_is_the_manifest(weights, capsys):
    assert main(['models', '--json']) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((weights / 'manifest.json').read_text())


def test_empty_list_says_so(tmp_path, monkeypatch, capsys):
    write_manifest(tmp_path, [])
    monkeypatch.setenv('DASR_WEIGHTS', str(tmp_path))
    assert main(['models']) == 0
    assert capsys.readouterr().out == f'no weights are installed in {tmp_path}; --model takes a weights file\n'


def test_damaged_weights_are_one_line(weights, capsys):
    (weights / 'tiny_iso_x2.safetensors').write_bytes(b'')
    assert main(['models']) == 2
    assert 'checksum differs' in capsys.readouterr().err
