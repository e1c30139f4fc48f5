"""A network carried over to another scale gives the means of the pixels of the old scale."""

import sys

import pytest
import torch
from torch.nn import functional as F

import change_scale
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.io import load_network

SMALL = {'num_feat': 16, 'num_groups': 2, 'num_blocks': 1, 'representation_dim': 12, 'encoder_feat': 8}


@pytest.fixture
def tool(monkeypatch):
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, 'argv', ['change_scale.py', *map(str, arguments)])
        return change_scale.main()

    return run


def write(path, scale, **settings):
    torch.manual_seed(0)
    torch.save({'params': DASR(scale, **SMALL, **settings).state_dict()}, path)
    return load_network(path)


def test_output_is_the_mean_of_covered_pixels(tool, tmp_path):
    old = write(tmp_path / 'x4.pth', 4, upsampler='direct')
    assert tool(tmp_path / 'x4.pth', '--scale', 2, '-o', tmp_path / 'x2.pth') == 0
    lq = torch.rand(2, 3, 12, 17)
    with torch.no_grad():
        torch.testing.assert_close(load_network(tmp_path / 'x2.pth')(lq), F.avg_pool2d(old(lq), 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize('skip', ['bicubic', 'wiener'])
@pytest.mark.parametrize(('old', 'new'), [(4, 3), (2, 4), (3, 3)])
def test_representation_and_mean_stay(tool, tmp_path, skip, old, new):
    before = write(tmp_path / 'old.pth', old, upsampler='direct', skip=skip)
    assert tool(tmp_path / 'old.pth', '--scale', new, '-o', tmp_path / 'new.pth') == 0
    after = load_network(tmp_path / 'new.pth')
    lq = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(after.encoder(255 * lq), before.encoder(255 * lq))
        one, other = (net.last_conv.weight.reshape(3, -1, 16, 3, 3).mean(1) for net in (before, after))
        torch.testing.assert_close(one, other)
        assert after(lq).shape[-1] == 40 * new


def test_other_up_samplers_and_names_are_one_line(tool, tmp_path, capsys):
    write(tmp_path / 'x2.pth', 2)
    assert tool(tmp_path / 'x2.pth', '--scale', 3, '-o', tmp_path / 'x3.pth') == 2
    assert 'the up-sampler is pixelshuffle; only networks with `upsampler: direct`' in capsys.readouterr().err
    assert tool(tmp_path / 'x2.pth', '--scale', 3, '-o', tmp_path / 'x3.onnx') == 2
    assert 'the name must end in .pth' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x2.pth']
