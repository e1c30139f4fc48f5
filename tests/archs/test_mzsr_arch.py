"""MZSR's network has the paper's size and can be differentiated through steps of its own training."""

import pytest
import torch
from torch.func import functional_call

from dasr_arch.archs.mzsr_arch import MZSR
from dasr_arch.degradations.resize import upsample_bicubic


def make_images(batch: int = 1, height: int = 9, width: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def loss_with(network: MZSR, weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (functional_call(network, weights, (x,), {'is_upsampled': True}) - y).abs().mean()


def test_size_is_that_of_the_paper():
    assert sum(parameter.numel() for parameter in MZSR().parameters()) == 225_091


def test_initial_weights_are_truncated_and_biases_zero():
    torch.manual_seed(0)
    network = MZSR().requires_grad_(False)
    for index in range(0, 15, 2):
        conv = network.body[index]
        std = (1 / (9 * conv.in_channels)) ** 0.5
        assert conv.weight.abs().max() <= 2 * std
        assert conv.weight.std() == pytest.approx(0.88 * std, rel=0.05)  # of a normal distribution cut at 2
        assert not conv.bias.any()


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_residual_is_added_to_the_upsampled_image(scale):
    network, lq = MZSR(scale), make_images()
    torch.nn.init.zeros_(network.body[-1].weight)
    torch.nn.init.constant_(network.body[-1].bias, 0.25)
    assert torch.allclose(network(lq), upsample_bicubic(lq, scale, 'mirror') + 0.25, atol=1e-6)


def test_step_on_one_batch_is_differentiable_through_another():
    torch.manual_seed(0)
    network = MZSR(num_feat=8, num_layers=4)
    weights = dict(network.named_parameters())
    x, y, query = make_images(2), make_images(2, seed=1), make_images(2, seed=2)
    gradients = torch.autograd.grad(loss_with(network, weights, x, y), list(weights.values()), create_graph=True)
    adapted = {name: value - 0.01 * g for (name, value), g in zip(weights.items(), gradients, strict=True)}
    second = torch.autograd.grad(loss_with(network, adapted, query, y), list(weights.values()))
    detached = {name: value - 0.01 * g.detach() for (name, value), g in zip(weights.items(), gradients, strict=True)}
    first = torch.autograd.grad(loss_with(network, detached, query, y), list(weights.values()))
    assert all(torch.isfinite(value).all() for value in second)
    assert any(not torch.allclose(a, b, atol=1e-7) for a, b in zip(first, second, strict=True))


def test_step_lowers_the_loss_and_leaves_the_network_alone():
    torch.manual_seed(0)
    network = MZSR(num_feat=8, num_layers=4)
    weights = dict(network.named_parameters())
    before = {name: value.detach().clone() for name, value in weights.items()}
    x, y = make_images(2), make_images(2, seed=1)
    loss = loss_with(network, weights, x, y)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    adapted = {name: value - 0.01 * g for (name, value), g in zip(weights.items(), gradients, strict=True)}
    assert loss_with(network, adapted, x, y) < loss
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())


def test_adaptation_takes_the_kernel_and_forward_does_not():
    assert MZSR.needs == ()
    assert MZSR.adapts_to == ('kernel',)
    assert not MZSR.blind


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scale': 0}, 'scale must be a whole number of at least 1 for MZSR, got 0'),
        ({'num_layers': 0}, 'num_layers must be a whole number'),
    ],
)
def test_argument_without_such_a_choice_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MZSR(**options)
