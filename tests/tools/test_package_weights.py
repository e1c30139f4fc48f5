"""Weights of a training enter the manifest and are found there."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dasr_arch import InputError, Upscaler
from dasr_arch.checkpoints.packaged import check_packaged, find_packaged, read_manifest
from tests.checkpoints.test_packaged import write_manifest
from tests.inference.making import make_network
from tests.tools.conftest import import_tool

ROOT = Path(__file__).parents[2]
TOOL = import_tool('package_weights')
PackagingFacts, package_weights = TOOL.PackagingFacts, TOOL.package_weights
FACTS = PackagingFacts(
    'tiny_x2', 'general', 'random numbers', '2026-01-31', 'docs/models/tiny.md', {'Set14: PSNR': 27.5}
)


@pytest.fixture
def training(tmp_path):
    """A training's weights, and an empty manifest beside them."""
    state = make_network().state_dict()
    torch.save({'params': state, 'params_ema': state}, tmp_path / 'net_g_latest.pth')
    write_manifest(tmp_path, [])
    return tmp_path / 'net_g_latest.pth'


def test_packaged_weights_are_found_and_used(training, monkeypatch):
    folder = training.parent
    entry = package_weights(training, folder, FACTS)
    assert find_packaged('general', 2, folder) == entry
    assert check_packaged(entry, folder).stat().st_size == entry.size
    assert entry.parameters == sum(parameter.numel() for parameter in make_network().parameters())
    monkeypatch.setenv('DASR_WEIGHTS', str(folder))
    assert Upscaler(2, 'general', device='cpu').network.scale == 2


def test_entry_of_the_same_name_is_replaced(training):
    folder = training.parent
    package_weights(training, folder, FACTS)
    package_weights(training, folder, PackagingFacts('other', 'iso', 'x', '2026-01-31', 'y'))
    state = make_network(3).state_dict()
    torch.save({'params': state}, training)
    package_weights(training, folder, FACTS)
    assert [(entry.name, entry.scale) for entry in read_manifest(folder).files] == [('tiny_x2', 3), ('other', 2)]


@pytest.mark.parametrize('change', [{'name': '../x'}, {'name': 'general'}, {'setting': 'real'}, {'date': 'today'}])
def test_wrong_facts_are_refused(change):
    with pytest.raises(InputError):
        PackagingFacts(**{**vars(FACTS), **change})


def run_tool(training, setting):
    command = [sys.executable, 'tools/package_weights.py', str(training), 'tiny_x2', '--folder', str(training.parent)]
    facts = ['--setting', setting, '--trained-on', 'DIV2K', '--date', '2026-01-31', '--card', 'card.md']
    return subprocess.run(
        [*command, *facts, '--figure', 'PSNR', '27'],
        cwd=ROOT,
        env={'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_tool_packages_and_refuses_in_one_line(training):
    result = run_tool(training, 'iso')
    assert (result.returncode, result.stderr) == (0, '')
    assert find_packaged('iso', 2, training.parent).figures == {'PSNR': 27.0}
    result = run_tool(training, 'real')
    assert (result.returncode, result.stderr) == (
        2,
        "dasr: error: setting must be one of general, iso, photo, got 'real'\n",
    )
