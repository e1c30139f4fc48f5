"""The manifest of installed weights: what it lists is found, everything else is one line that says what there is."""

import hashlib
import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from dasr_arch import InputError, Upscaler
from dasr_arch.checkpoints.packaged import (
    MANIFEST_NAME,
    SETTINGS,
    WEIGHTS_FOLDER,
    check_packaged,
    find_packaged,
    read_manifest,
    weights_folder,
)
from tests.inference.making import make_network


def write_weights(folder: Path, name: str, setting: str, scale: int) -> dict[str, object]:
    """A tiny network in float16, and its entry."""
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in make_network(scale).state_dict().items()
    }
    path = folder / f'{name}.safetensors'
    save_file(state, path)
    data = path.read_bytes()
    return {
        'name': name,
        'setting': setting,
        'scale': scale,
        'file': path.name,
        'sha256': hashlib.sha256(data).hexdigest(),
        'size': len(data),
        'parameters': 1234,
        'figures': {'Set14, width 2.4: PSNR': 27.5},
        'trained_on': 'random numbers',
        'date': '2026-01-31',
        'card': 'docs/models/tiny.md',
    }


def write_manifest(folder: Path, entries: list[dict[str, object]]) -> None:
    (folder / MANIFEST_NAME).write_text(json.dumps({'format': 1, 'files': entries}))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of weights that DASR_WEIGHTS names."""
    entries = [
        write_weights(tmp_path, 'tiny_iso_x2', 'iso', 2),
        write_weights(tmp_path, 'tiny_general_x3', 'general', 3),
    ]
    write_manifest(tmp_path, entries)
    monkeypatch.setenv('DASR_WEIGHTS', str(tmp_path))
    return tmp_path


def test_the_package_has_a_manifest_whose_files_are_whole(monkeypatch):
    monkeypatch.delenv('DASR_WEIGHTS', raising=False)
    assert weights_folder() == WEIGHTS_FOLDER
    for entry in read_manifest().files:
        assert check_packaged(entry).stat().st_size == entry.size
        Upscaler(entry.scale, entry.name)


def test_folder_that_the_variable_names_wrongly_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv('DASR_WEIGHTS', str(tmp_path))
    with pytest.raises(InputError, match=r'manifest.json: cannot be read \(No such .*check the variable DASR_WEIGHTS'):
        read_manifest()


@pytest.mark.parametrize('name', ['iso', 'tiny_iso_x2'])
def test_weights_are_found_by_setting_and_by_name(weights, name):
    entry = find_packaged(name, 2)
    assert (entry.name, entry.setting, entry.scale) == ('tiny_iso_x2', 'iso', 2)
    assert check_packaged(entry) == weights / 'tiny_iso_x2.safetensors'


def test_upscaler_takes_them_in_float32(weights):
    network = Upscaler(3, 'general', device='cpu').network
    assert {parameter.dtype.itemsize for parameter in network.parameters()} == {4}


def test_missing_scale_lists_what_there_is(weights):
    with pytest.raises(InputError) as error:
        Upscaler(4, 'iso')
    assert str(error.value) == (
        "no weights for model 'iso' at x4 are installed; there are: tiny_iso_x2 (x2 iso), tiny_general_x3 (x3 general)"
    )


def test_every_setting_is_installed_for_every_scale(monkeypatch):
    monkeypatch.delenv('DASR_WEIGHTS', raising=False)
    for setting in SETTINGS:
        assert [find_packaged(setting, scale).name for scale in (2, 3, 4)] == [
            f'dasr_s_x{scale}_{setting}' for scale in (2, 3, 4)
        ]


def test_wrong_name_lists_what_there_is(weights):
    with pytest.raises(InputError, match=r"model 'genral' is neither .*did you mean 'general'\? \(known: general, iso"):
        Upscaler(3, 'genral')


def test_empty_manifest_says_so(tmp_path):
    write_manifest(tmp_path, [])
    with pytest.raises(InputError, match="no weights for model 'general' at x4 are installed; there are: none"):
        find_packaged('general', 4, tmp_path)


def test_changed_file_is_refused(weights):
    path = weights / 'tiny_iso_x2.safetensors'
    path.write_bytes(path.read_bytes()[:-1] + b'?')
    with pytest.raises(InputError, match='checksum differs'):
        Upscaler(2, 'iso')
    path.unlink()
    with pytest.raises(InputError, match='cannot be read'):
        Upscaler(2, 'iso')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'file': '../other.safetensors'}, 'is not the name of a .safetensors file beside it'),
        ({'file': 'net.pth'}, 'is not the name of a .safetensors file beside it'),
        ({'scale': 'four'}, 'is no manifest of weights'),
        ({'setting': 'real'}, 'is no manifest of weights'),
        ({'mood': 'good'}, 'unknown field `mood`'),
    ],
)
def test_manifest_is_checked(tmp_path, change, message):
    write_manifest(tmp_path, [write_weights(tmp_path, 'tiny', 'iso', 2) | change])
    with pytest.raises(InputError) as error:
        read_manifest(tmp_path)
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def test_missing_and_foreign_manifests_are_refused(tmp_path):
    with pytest.raises(InputError, match='cannot be read'):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST_NAME).write_text('{"format": 2, "files": []}')
    with pytest.raises(InputError, match='has format 2, expected 1'):
        read_manifest(tmp_path)
