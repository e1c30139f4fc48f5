"""The adaptive parts: every image is treated by its own code."""

import pytest
import torch

from dasr_arch.archs.dasr_arch import (
    DABlock,
    DAConv,
    DAGroup,
    PixelShuffleUpsampler,
)
from dasr_arch.archs.dasr_variants import ConcatConv


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('part', [DAConv(16), DAConv(16, modulate=False), ConcatConv(16), DABlock(16, 8, 'full')])
def test_parts_treat_a_batch_as_its_members(part):
    x, code = draw(3, 16, 5, 4), draw(3, 16)
    single = torch.cat([part(x[i : i + 1], code[i : i + 1]) for i in range(3)])
    assert torch.allclose(part(x, code), single, atol=1e-5)


@pytest.mark.parametrize('kind', ['full', 'kernel', 'concat'])
def test_code_changes_the_result_and_gets_a_gradient(kind):
    group = DAGroup(16, 2, 4, kind)
    x, code = draw(1, 16, 5, 4), draw(1, 16).requires_grad_()
    out = group(x, code)
    assert out.shape == x.shape
    assert not torch.allclose(out, group(x, code + 1))
    out.square().sum().backward()
    assert torch.isfinite(code.grad).all()
    assert code.grad.abs().sum() > 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in group.parameters())


def test_modulation_scales_the_input_by_at_most_one():
    conv = DAConv(16)
    torch.nn.init.zeros_(conv.pointwise.weight)
    torch.nn.init.zeros_(conv.pointwise.bias)
    x = draw(1, 16, 5, 4)
    factor = conv(x, draw(1, 16)) / x
    assert torch.allclose(factor, factor.mean((-2, -1), keepdim=True).expand_as(x), atol=1e-5)
    assert factor.min() > 0
    assert factor.max() < 1


def test_group_and_block_without_weights_pass_their_input():
    x, code = draw(1, 16, 5, 4), draw(1, 16)
    for part in (DABlock(16, 8, 'full'), DAGroup(16, 2, 8, 'full')):
        for parameter in part.parameters():
            torch.nn.init.zeros_(parameter)
        assert torch.equal(part(x, code), x)


@pytest.mark.parametrize(('scale', 'convolutions'), [(1, 0), (2, 1), (3, 1), (4, 2), (8, 3)])
def test_upsampler_enlarges_by_the_scale(scale, convolutions):
    upsampler = PixelShuffleUpsampler(scale, 4)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in upsampler) == convolutions
    assert upsampler(draw(2, 4, 3, 5)).shape == (2, 4, 3 * scale, 5 * scale)
