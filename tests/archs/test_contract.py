"""Contract of every registered arch of this package: sizes, ranges, gradients, weights, number formats."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from functools import cache

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

REGISTERED = {name: arch for name, arch in ARCH_REGISTRY if arch.__module__.startswith('dasr_arch.')}
OURS = {name: arch for name, arch in REGISTERED.items() if getattr(arch, 'restores', True)}
SCALES = (1, 2, 3, 4)  # 1: networks that only denoise, or deblur
NEEDS: dict[str, Callable[[int], Tensor]] = {
    'kernel': lambda batch: torch.full((batch, 21, 21), 1 / 441),
    'noise_level': lambda batch: torch.full((batch,), 5.0),
}

# Deep networks keep their default depth at x4; at the other scales, which differ in the tail alone, they need not.
SHALLOW: dict[tuple[str, int], dict[str, int]] = {
    (name, scale): arguments
    for name, arguments in (('SAN', {'num_groups': 2, 'num_blocks': 2}), ('IKC', {'num_blocks': 2}))
    for scale in (2, 3)
}


def count_parameters(name: str, scale: int) -> int | None:
    """Number of parameters of an arch, without making them; None if it does not exist for the scale."""
    with torch.device('meta'):
        try:
            return sum(parameter.numel() for parameter in OURS[name](scale=scale).parameters())
        except ValueError:
            return None


@cache
def build_once(name: str, scale: int) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = OURS[name](scale=scale, **SHALLOW.get((name, scale), {}))
    return network.eval()


def build(name: str, scale: int) -> nn.Module:
    """A copy of the arch with its defaults, but for the depth of the deepest, in evaluation mode."""
    return deepcopy(build_once(name, scale))


COUNTS = {(name, scale): count_parameters(name, scale) for name in OURS for scale in SCALES}
CASES = pytest.mark.parametrize(('name', 'scale'), [case for case, count in COUNTS.items() if count is not None])
TRAINABLE = pytest.mark.parametrize(('name', 'scale'), [case for case, count in COUNTS.items() if count])


def make_images(batch: int = 2, height: int = 9, width: int = 7) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def restore(network: nn.Module, lq: Tensor) -> Tensor:
    return network(lq, **{key: NEEDS[key](len(lq)) for key in network.needs})


def test_the_package_registers_archs():
    assert {'DASR', 'Bicubic'} <= set(OURS)
    assert all(any(COUNTS[name, scale] is not None for scale in SCALES) for name in OURS)


def test_only_the_parts_of_ikc_give_no_image():
    assert set(REGISTERED) - set(OURS) == {'Predictor', 'Corrector'}


@CASES
@torch.no_grad()
def test_facts_about_an_arch_are_its_attributes(name, scale):
    network = build(name, scale)
    assert isinstance(network.blind, bool)
    assert isinstance(network.needs, tuple)
    assert set(network.needs) <= set(NEEDS)
    assert inspect.getdoc(type(network))


@CASES
@torch.no_grad()
def test_output_is_scale_times_as_large_and_near_the_range_of_images(name, scale):
    out = restore(build(name, scale), make_images())
    assert out.shape == (2, 3, 9 * scale, 7 * scale)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    beyond = 2 if name == 'DASRW' else 1  # untrained it sharpens, and the images are noise
    assert -beyond < out.min() <= out.max() < 1 + beyond  # untrained, but on the scale of [0, 1]


@CASES
@torch.no_grad()
def test_any_size_from_one_pixel_up_is_restored(name, scale):
    network = build(name, scale)
    for height, width in ((1, 1), (1, 2), (3, 1), (5, 7)):
        out = restore(network, make_images(1, height, width))
        assert out.shape == (1, 3, height * scale, width * scale)
        assert torch.isfinite(out).all()


@CASES
@torch.no_grad()
def test_batch_equals_images_one_by_one(name, scale):
    network, lq = build(name, scale), make_images(3)
    single = torch.cat([restore(network, image[None]) for image in lq])
    assert torch.allclose(restore(network, lq), single, atol=1e-4)  # sums in another order, through many layers


@TRAINABLE
def test_gradients_are_finite_and_reach_every_parameter(name, scale):
    network = build(name, scale)
    parameters = dict(network.named_parameters())
    restore(network, make_images()).square().mean().backward()
    missing = [key for key, value in parameters.items() if value.requires_grad and value.grad is None]
    assert not missing
    assert all(torch.isfinite(value.grad).all() for value in parameters.values() if value.grad is not None)


@CASES
@torch.no_grad()
def test_state_dict_restores_the_network(name, scale):
    network, other = build(name, scale), build(name, scale)
    for parameter in other.parameters():
        parameter.add_(1)
    other.load_state_dict(network.state_dict(), strict=True)
    lq = make_images()
    assert torch.equal(restore(other, lq), restore(network, lq))


@CASES
@torch.no_grad()
def test_what_comes_back_does_not_depend_on_the_mode(name, scale):
    network = build(name, scale)
    assert isinstance(restore(network.train(), make_images()), Tensor)


@CASES
@torch.no_grad()
def test_bfloat16_autocast_stays_close(name, scale):
    network, lq = build(name, scale), make_images(1)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = restore(network, lq).float()
    full = restore(network, lq)
    assert (half - full).norm() < 0.02 * full.norm()  # 8 bits in every layer


@CASES
@torch.no_grad()
def test_weights_in_bfloat16_and_float64_work(name, scale):
    lq = make_images(1)
    full = restore(build(name, scale), lq)
    for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float64, 1e-4)):
        out = restore(build(name, scale).to(dtype), lq.to(dtype))
        assert out.dtype == dtype
        assert (out.double() - full.double()).norm() < tolerance * full.norm()


@CASES
@torch.no_grad()
def test_memory_format_changes_nothing(name, scale):
    network, lq = build(name, scale), make_images()
    expected = restore(network, lq)
    network = network.to(memory_format=torch.channels_last)
    for memory_format in (torch.channels_last, torch.contiguous_format):
        out = restore(network, lq.contiguous(memory_format=memory_format))
        assert torch.allclose(out, expected, atol=1e-4)  # other kernels, other order of sums


@CASES
@torch.no_grad()
def test_input_is_not_written(name, scale):
    lq = make_images()
    restore(build(name, scale), lq)
    assert torch.equal(lq, make_images())
