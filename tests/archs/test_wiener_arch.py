"""The Wiener filter as a network: output depends on kernel and noise level."""

import pytest
import torch

from dasr_arch.archs.wiener_arch import Wiener
from dasr_arch.degradations.kernels import dirac_kernel, isotropic_gaussian_kernel
from dasr_arch.degradations.wiener import apply_filters, compute_wiener_filters


def make_images(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, 8, 9, generator=torch.Generator().manual_seed(0))


def test_each_image_gets_the_filter_of_its_kernel_and_noise():
    lq, kernel = make_images(), isotropic_gaussian_kernel(torch.tensor([1.0, 3.0]))
    level = torch.tensor([0.0, 8.0])
    out = Wiener(3)(lq, kernel=kernel, noise_level=level)
    assert torch.allclose(out, apply_filters(lq, compute_wiener_filters(kernel, level, 3)), atol=1e-6)


def test_one_kernel_and_one_level_serve_the_batch_and_no_level_is_no_noise():
    lq, kernel = make_images(), isotropic_gaussian_kernel(torch.tensor([2.0]))
    levels = torch.tensor([0.0, 6.0])
    out = Wiener(2)(lq, kernel=kernel, noise_level=levels)
    assert torch.allclose(out[:1], Wiener(2)(lq[:1], kernel=kernel), atol=1e-6)
    assert torch.allclose(out[1:], Wiener(2)(lq[1:], kernel=kernel, noise_level=levels[1:]), atol=1e-6)
    assert not torch.allclose(out[1:], Wiener(2)(lq[1:], kernel=kernel), atol=1e-2)


def test_flat_images_stay_flat_up_to_the_border():
    flat = torch.full((1, 3, 5, 4), 0.3)
    out = Wiener(4)(flat, kernel=isotropic_gaussian_kernel(torch.tensor([3.6])))
    assert torch.allclose(out, torch.full_like(out, 0.3), atol=1e-5)


def test_missing_inputs_are_named():
    lq, kernel = make_images(), dirac_kernel()
    with pytest.raises(ValueError, match='Wiener needs the blur kernel, got none'):
        Wiener(4)(lq)
    with pytest.raises(ValueError, match=r'kernel must have shape \(2, k, k\)'):
        Wiener(4)(lq, kernel=kernel.expand(3, -1, -1))
    with pytest.raises(ValueError, match=r'noise_level must have shape \(2,\)'):
        Wiener(4)(lq, kernel=kernel, noise_level=torch.zeros(3))
    with pytest.raises(ValueError, match='size'):
        Wiener(4, size=4)
