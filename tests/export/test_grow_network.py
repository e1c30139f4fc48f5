"""A grown network gives the output of the small one, and all of its new layers learn."""

import sys

import pytest
import torch

import grow_network
from dasr_arch import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.io import load_network

SMALL = {'num_feat': 16, 'num_groups': 2, 'num_blocks': 1, 'representation_dim': 12, 'encoder_feat': 8}


@pytest.fixture
def tool(monkeypatch):
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, 'argv', ['grow_network.py', *arguments])
        return grow_network.main()

    return run


@pytest.fixture
def source(tmp_path):
    torch.manual_seed(0)
    torch.save({'params': DASR(2, **SMALL, skip='bicubic').state_dict()}, tmp_path / 'small.pth')
    return str(tmp_path / 'small.pth')


@pytest.mark.parametrize(('groups', 'blocks'), [(2, 3), (3, 1), (4, 2)])
def test_output_is_unchanged_and_new_layers_get_gradients(tool, source, tmp_path, groups, blocks):
    target = str(tmp_path / 'large.pth')
    assert tool(source, '--groups', str(groups), '--blocks', str(blocks), '-o', target) == 0
    small, large = load_network(source), load_network(target)
    assert [len(group.blocks) for group in large.groups] == [blocks] * groups
    lq = torch.rand(2, 3, 12, 17)
    with torch.no_grad():
        assert torch.equal(large(lq), small(lq))
    optimiser = torch.optim.SGD(large.parameters(), lr=1e-3)
    for _ in range(3):  # the zero convolutions learn first, then what is before them
        optimiser.zero_grad()
        (large.train()(lq) - 0.5).square().mean().backward()
        optimiser.step()
    still = [name for name, parameter in large.named_parameters() if not parameter.grad.any()]
    assert not still


@pytest.mark.parametrize('size', [(2, 1), (1, 3), (3, 0)])
def test_a_size_that_is_not_larger_is_one_line(tool, source, tmp_path, capsys, size):
    groups, blocks = map(str, size)
    assert tool(source, '--groups', groups, '--blocks', blocks, '-o', str(tmp_path / 'large.pth')) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'{groups} groups of {blocks} blocks are not larger than 2 groups of 1 blocks' in line
    assert not (tmp_path / 'large.pth').exists()


def test_the_projection_head_is_kept_and_the_name_checked(tool, source, tmp_path, capsys):
    head = {'0.weight': torch.rand(12, 12)}
    torch.save({**torch.load(source), 'projection': head}, source)
    target = tmp_path / 'large.pth'
    assert tool(source, '--groups', '2', '--blocks', '2', '-o', str(target)) == 0
    assert torch.equal(torch.load(target)['projection']['0.weight'], head['0.weight'])
    assert tool(source, '--groups', '2', '--blocks', '2', '-o', str(tmp_path / 'x.safetensors')) == 2
    assert 'x.safetensors: the name must end in .pth' in capsys.readouterr().err
    assert not (tmp_path / 'x.safetensors').exists()


def test_a_file_of_another_network_is_one_line(tool, tmp_path, capsys):
    torch.save({'params': {'conv.weight': torch.zeros(3)}}, tmp_path / 'x.pth')
    assert tool(str(tmp_path / 'x.pth'), '--groups', '3', '--blocks', '3', '-o', str(tmp_path / 'y.pth')) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(InputError):
        load_network(tmp_path / 'x.pth')
