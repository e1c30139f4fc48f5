"""The tail as one convolution gives what the tail gives, inside the image and along its border."""

import pytest
import torch
from torch import nn

from dasr_arch.archs.dasr_arch import DASR, PixelShuffleUpsampler
from dasr_arch.backends.cache import DerivedWeights
from dasr_arch.backends.collapsed_tail import SMALLEST_SIDE, collapse_tail, collapsed_upsample

SCALES = pytest.mark.parametrize('scale', [2, 3, 4, 8])


def make_tail(scale, num_feat=8):
    torch.manual_seed(scale)
    return nn.Sequential(*PixelShuffleUpsampler(scale, num_feat), nn.Conv2d(num_feat, 3, 3, padding=1))


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@SCALES
@pytest.mark.parametrize('size', [(SMALLEST_SIDE, SMALLEST_SIDE), (19, 23)])
@torch.no_grad()
def test_equals_the_tail_up_to_the_border(scale, size):
    tail, x = make_tail(scale), draw(2, 8, *size)
    torch.testing.assert_close(collapsed_upsample(tail, x, scale, DerivedWeights()), tail(x), rtol=1e-5, atol=1e-5)


@SCALES
def test_one_convolution_reaches_all_that_the_tail_sees(scale):
    weight, bias = collapse_tail(make_tail(scale), scale)
    assert weight.shape == (3 * scale**2, 8, 5, 5)
    assert bias.shape == (3 * scale**2,)
    tail, x = make_tail(scale), draw(1, 8, 1, 1)
    alone = tail(nn.functional.pad(x, [6] * 4)) - tail(torch.zeros(1, 8, 13, 13))
    seen = (alone[0].abs().amax(0) > 1e-7).nonzero() // scale - 6
    assert seen.abs().max() <= 2


@torch.no_grad()
def test_follows_a_change_of_the_weights_and_keeps_nothing_of_it_in_between():
    tail, x, cache = make_tail(4), draw(1, 8, 20, 20), DerivedWeights()
    before = collapsed_upsample(tail, x, 4, cache)
    assert torch.equal(collapsed_upsample(tail, x, 4, cache), before)
    tail[0].weight.mul_(2)
    after = collapsed_upsample(tail, x, 4, cache)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, tail(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_weights_made_in_inference_mode_are_followed():
    with torch.inference_mode():
        tail, cache = make_tail(2), DerivedWeights()
        x = draw(1, 8, 20, 20)
        collapsed_upsample(tail, x, 2, cache)
        tail[0].weight.mul_(2)
        torch.testing.assert_close(collapsed_upsample(tail, x, 2, cache), tail(x), rtol=1e-5, atol=1e-5)


@SCALES
def test_gradients_equal_those_of_the_tail(scale):
    tail, x, weight = make_tail(scale), draw(2, 8, 18, 17).requires_grad_(), draw(2, 3, 18 * scale, 17 * scale)
    found = []
    for run in (tail, lambda features: collapsed_upsample(tail, features, scale, DerivedWeights())):
        tail.zero_grad()
        x.grad = None
        (run(x) * weight).sum().backward()
        found.append([x.grad, *(parameter.grad.clone() for parameter in tail.parameters())])
    for expected, actual in zip(*found, strict=True):
        assert (actual - expected).norm() <= 1e-5 * expected.norm()


@torch.no_grad()
def test_the_image_is_not_rounded_under_autocast():
    tail, x = make_tail(4), draw(1, 8, 20, 20)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = collapsed_upsample(tail, x, 4, DerivedWeights())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, tail(x), rtol=1e-5, atol=1e-5)


def test_a_network_keeps_its_state_dict_and_copies():
    from copy import deepcopy

    network = DASR(scale=2, num_feat=16, num_groups=1, num_blocks=1, encoder_feat=8, representation_dim=16).eval()
    keys = set(network.state_dict())
    lq = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = network(lq)
        copy = deepcopy(network)
        assert set(network.state_dict()) == keys
        copy.last_conv.weight.mul_(2)
        assert not torch.allclose(copy(lq), out)
        torch.testing.assert_close(network(lq), out)
