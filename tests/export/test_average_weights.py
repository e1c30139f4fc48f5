"""The mean of weights, from outside."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from dasr_arch.checkpoints.io import load_network
from tests.inference.making import make_network

TOOL = Path(__file__).parents[2] / 'tools' / 'average_weights.py'


@pytest.fixture
def average(monkeypatch, tmp_path):
    """Calls the tool with arguments, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location('average_weights', TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, 'argv', ['average_weights.py', *arguments])
        return module.main()

    return run


def test_every_tensor_is_the_mean(average):
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        networks.append(make_network())
        torch.save({'params': networks[-1].state_dict()}, f'{seed}.pth')
    assert average('0.pth', '1.pth', '-o', 'mean.pth') == 0
    first, second = (network.state_dict() for network in networks)
    for name, value in load_network('mean.pth').state_dict().items():
        assert torch.allclose(value.float(), (first[name].float() + second[name].float()) / 2), name


def test_other_networks_and_missing_files_are_one_line(average, capsys):
    for blocks in (1, 2):
        torch.save({'params': make_network(num_blocks=blocks).state_dict()}, f'{blocks}.pth')
    assert average('1.pth', '2.pth', '-o', 'mean.pth') == 2
    assert average('1.pth', 'absent.pth', '-o', 'mean.pth') == 2
    lines = capsys.readouterr().err.splitlines()
    assert 'are of different networks' in lines[0]
    assert 'absent.pth' in lines[1]
    assert not Path('mean.pth').exists()
