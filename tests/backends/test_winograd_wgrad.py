"""The gradient of a convolution's weights as matrix products."""

import pytest
import torch
from torch import nn

from dasr_arch.backends import channels_last
from dasr_arch.backends.channels_last import Conv3x3
from dasr_arch.backends.winograd_wgrad import weight_gradient
from tests.golden.weights import relative_error


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


@pytest.mark.parametrize('shape', [(1, 5, 1, 1), (2, 3, 1, 4), (3, 4, 6, 1), (2, 7, 9, 5)])
def test_matrix_products_give_the_gradient_of_autograd(shape):
    x, weight = draw(*shape, dtype=torch.float64), draw(6, shape[1], 3, 3, dtype=torch.float64).requires_grad_()
    out = nn.functional.conv2d(x, weight, padding=1)
    gradient = draw(*out.shape, dtype=torch.float64)
    expected = torch.autograd.grad(out, weight, gradient)[0]
    assert torch.allclose(weight_gradient(x, gradient), expected, atol=1e-12)


@pytest.mark.parametrize('shape', [(4, 64, 48, 48), (2, 128, 24, 24), (1, 32, 31, 50)])
def test_half_of_the_multiplications_cost_no_more_than_rounding(shape):
    x, gradient = draw(*shape), draw(*shape).flip(0, 1, 2)
    weight = torch.zeros(shape[1], shape[1], 3, 3, dtype=torch.float64, requires_grad=True)
    out = nn.functional.conv2d(x.double(), weight, padding=1)
    expected = torch.autograd.grad(out, weight, gradient.double())[0]
    assert relative_error(weight_gradient(x, gradient), expected) < 5e-6  # asked for gradients: 1e-4


@pytest.mark.parametrize('of_input', [False, True])
def test_convolution_learns_as_torchs_own_does(monkeypatch, of_input):
    monkeypatch.setattr(channels_last, '_SLOW_WEIGHT_GRADIENT', True)
    ours = Conv3x3(32, 12)
    other = nn.Conv2d(32, 12, 3, padding=1)
    other.load_state_dict(ours.state_dict())
    x = draw(4, 32, 10, 11).requires_grad_(of_input)
    out, expected = ours(x), other(x)
    assert '_Convolve' in type(out.grad_fn).__name__
    assert torch.equal(out, expected)
    inputs = [x] if of_input else []
    found = torch.autograd.grad(out.square().sum(), [*inputs, *ours.parameters()])
    known = torch.autograd.grad(expected.square().sum(), [*inputs, *other.parameters()])
    for a, b in zip(found, known, strict=True):
        assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize('why', ['no gradient', 'frozen', 'contiguous', 'float64', 'bfloat16', 'few channels'])
def test_torchs_own_gradient_where_products_gain_nothing(monkeypatch, why):
    monkeypatch.setattr(channels_last, '_SLOW_WEIGHT_GRADIENT', True)
    module = Conv3x3(8 if why == 'few channels' else 32, 4)
    x = draw(2, module.in_channels, 6, 5).requires_grad_()
    if why == 'contiguous':
        x = x.contiguous()
    if why == 'float64':
        module, x = module.double(), x.double()
    module.requires_grad_(why != 'frozen')
    with torch.set_grad_enabled(why != 'no gradient'), torch.autocast('cpu', torch.bfloat16, enabled=why == 'bfloat16'):
        out = module(x)
    assert '_Convolve' not in type(out.grad_fn).__name__
