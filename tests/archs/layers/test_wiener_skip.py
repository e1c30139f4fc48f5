"""The filter that a representation mixes: what its basis can express, where it starts, and what it is held against."""

import math

import pytest
import torch
from torch import Tensor

from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.layers.wiener_skip import FILTER_SIZE, NUM_FILTERS, WienerUpsampler, compute_filter_basis
from dasr_arch.checkpoints.io import build_from_state
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel, isotropic_gaussian_kernel
from dasr_arch.degradations.resize import upsample_bicubic
from dasr_arch.degradations.wiener import apply_filters, compute_wiener_filters
from dasr_arch.export.plain_network import PlainDASR
from dasr_arch.losses.wiener_filter import WienerFilterLoss

TINY = {'num_feat': 8, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 16, 'encoder_feat': 8}
SCALES = pytest.mark.parametrize('scale', [2, 3, 4])


def make_degradations(scale: int) -> tuple[Tensor, Tensor]:
    widths = torch.tensor([0.2, 0.3 * scale, 0.6 * scale, 0.9 * scale])
    turned = anisotropic_gaussian_kernel(0.9 * scale * torch.ones(1), 0.3 * scale * torch.ones(1), torch.tensor([0.6]))
    return torch.cat([isotropic_gaussian_kernel(widths), turned]).repeat(2, 1, 1), torch.tensor([0.0] * 5 + [10.0] * 5)


def make_network(scale: int = 3, **changes: object) -> DASR:
    """A network whose filter and tail are no longer as they start."""
    torch.manual_seed(0)
    network = DASR(scale, **{**TINY, 'skip': 'wiener', 'upsampler': 'direct', **changes}).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def choose_nearest(target: WienerFilterLoss, goal: Tensor, scale: int) -> Tensor:
    """The mixtures of the basis that lose least, by the model, against the best filters."""
    mean, filters = compute_filter_basis(scale)
    taps, pixels = FILTER_SIZE**2, scale**2
    covariance, best, _ = goal.double().split([taps**2, taps * pixels, 1], 1)
    found = []
    for one, wanted in zip(covariance.reshape(-1, taps, taps), best.reshape(-1, pixels, taps), strict=True):
        root = torch.linalg.cholesky(one + 1e-6 * one.diagonal().mean() * torch.eye(taps, dtype=one.dtype))
        spread = (filters.double().reshape(-1, pixels, taps) @ root).flatten(1).T
        wanted_change = ((wanted - mean.double().reshape(pixels, taps)) @ root).flatten()
        shares = torch.linalg.lstsq(spread, wanted_change[:, None], driver='gelsd').solution[:, 0]
        found.append(mean + (shares.float() @ filters.flatten(1)).reshape(mean.shape))
    return torch.stack(found)


@SCALES
def test_few_filters_are_enough_for_all_blurs_of_the_paper(scale: int) -> None:
    basis = compute_filter_basis(scale)
    assert basis.filters.shape == (NUM_FILTERS, scale**2, FILTER_SIZE, FILTER_SIZE)
    assert torch.allclose(basis.mean.sum((1, 2)), torch.ones(scale**2), atol=1e-4)
    assert basis.filters.sum((2, 3)).abs().max() < 1e-3
    target = WienerFilterLoss(scale)
    goal = target.target(*make_degradations(scale))
    nearest = choose_nearest(target, goal, scale)
    lost = torch.stack([target(nearest[i : i + 1], goal[i : i + 1]) for i in range(len(goal))])
    unmixed = torch.stack([target(basis.mean[None], goal[i : i + 1]) for i in range(len(goal))])
    assert lost.max() < 0.15  # decibels
    assert unmixed.min() > 0.5


def test_the_basis_is_the_same_in_every_call_and_where_networks_are_built_without_memory():
    first = compute_filter_basis(2)
    compute_filter_basis.cache_clear()
    with torch.device('meta'):
        second = compute_filter_basis(2)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@SCALES
def test_target_is_nothing_for_the_best_filter_and_grows_with_what_is_wrong(scale: int) -> None:
    target, (kernel, level) = WienerFilterLoss(scale), make_degradations(scale)
    goal = target.target(kernel, level)
    best = compute_wiener_filters(kernel, level, scale)
    assert float(target(best, goal)) == pytest.approx(0, abs=1e-3)
    near = compute_wiener_filters(kernel, level + 2, scale)
    far = compute_wiener_filters(kernel, level + 10, scale)
    assert 1e-3 < target(near, goal) < target(far, goal)


def test_target_is_the_mean_of_decibels_lost():
    target, (kernel, level) = WienerFilterLoss(2), make_degradations(2)
    goal = target.target(kernel, level)
    other = compute_wiener_filters(kernel, level + 3, 2)
    each = [float(target(other[i : i + 1], goal[i : i + 1])) for i in range(len(goal))]
    assert float(target(other, goal)) == pytest.approx(sum(each) / len(each), rel=1e-4)
    taps = FILTER_SIZE**2
    covariance, least = goal[3, : taps**2].reshape(taps, taps), goal[3, -1]
    change = (other[3] - compute_wiener_filters(kernel, level, 2)[3]).reshape(4, taps)
    lost = sum(row @ covariance @ row for row in change) / 4
    assert each[3] == pytest.approx(10 * math.log10(1 + 8 * lost / least), rel=1e-2)


def test_gradients_lead_to_the_best_filter():
    torch.manual_seed(0)
    enlargement, target = WienerUpsampler(4, 8), WienerFilterLoss(4)
    kernel, level = make_degradations(4)
    goal, representation = target.target(kernel, level), torch.randn(len(kernel), 8)
    optimizer = torch.optim.Adam(enlargement.parameters(), 3e-3)
    history = []
    for _ in range(300):
        loss = target(enlargement.predict_filters(representation), goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[0] > 1
    assert history[-1] < 0.2 * history[0]


def test_network_starts_with_the_mean_filter_and_adds_nothing():
    torch.manual_seed(0)
    network, lq = DASR(4, **TINY, skip='wiener').eval(), torch.rand(2, 3, 9, 7)
    with torch.no_grad():
        out = network(lq)
    expected = apply_filters(lq, compute_filter_basis(4).mean[None])
    assert torch.allclose(out, expected, atol=1e-4)
    assert not torch.allclose(out, upsample_bicubic(lq, 4), atol=1e-2)


def test_representation_chooses_the_filter():
    network, lq = make_network(), torch.rand(2, 3, 9, 7)
    one, other = torch.randn(2, 1, 16)
    with torch.no_grad():
        filters = network.enlargement.predict_filters(torch.cat([one, other]))
        both = network(lq, representation=torch.cat([one, other]))
        alone = network(lq, representation=one)
    assert not torch.allclose(filters[0], filters[1], atol=1e-4)
    assert torch.allclose(both[0], alone[0], atol=1e-5)
    assert not torch.allclose(both[1], alone[1], atol=1e-4)


def test_flat_images_keep_their_brightness_with_filters_of_16_bit():
    network = make_network()
    rounded = {key: value.half().float() for key, value in network.state_dict().items()}
    network.load_state_dict(rounded)
    enlarged = network.enlargement(torch.full((1, 3, 5, 6), 200.0), torch.randn(1, 16))
    assert torch.allclose(enlarged, torch.full_like(enlarged, 200.0), atol=1e-2)


def test_state_dict_alone_tells_the_skip():
    network, lq = make_network(), torch.rand(1, 3, 9, 7)
    again = build_from_state(network.state_dict()).eval()
    with torch.no_grad():
        assert torch.equal(again(lq), network(lq))


@pytest.mark.parametrize('upsampler', ['direct', 'pixelshuffle'])
def test_implementations_and_the_exported_network_agree(upsampler: str) -> None:
    network, lq = make_network(upsampler=upsampler), torch.rand(1, 3, 12, 11)
    with torch.no_grad():
        results = [PlainDASR(network)(lq)]
        for implementation in ('reference', 'fast'):
            network.set_implementation(implementation)
            results.append(network(lq))
    assert torch.allclose(results[0], results[1], atol=1e-5)
    assert torch.allclose(results[1], results[2], atol=1e-5)


def test_half_precision_leaves_the_filter_alone():
    network, lq = make_network(), torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        for parameter in network.last_conv.parameters():
            parameter.zero_()
        expected = network(lq, representation=torch.ones(1, 16))
        with torch.autocast('cpu', torch.bfloat16):
            out = network(lq, representation=torch.ones(1, 16))
    assert out.dtype == torch.float32
    assert torch.allclose(out, expected, atol=1e-6)
