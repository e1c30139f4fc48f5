"""The kernel that IKC finds, as other networks take it."""

import pytest
import torch

from dasr_arch.archs.ikc_arch import IKC
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel
from dasr_arch.zero_shot.kernel_estimation import estimate_kernel, estimate_width


def make_network(scale: int = 4) -> IKC:
    torch.manual_seed(0)
    return IKC(scale=scale, num_feat=8, num_blocks=1, num_steps=3).eval()


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_width_of_a_true_code_is_found(scale):
    network = make_network(scale)
    widths = torch.linspace(0.35, scale, 9)
    code = network.sftmd.kernel_code(9, isotropic_gaussian_kernel(widths), None)
    assert (estimate_width(network, code) - widths).abs().max() < 0.02


def test_code_off_the_curve_gives_the_nearest_width_within_the_range():
    network = make_network()
    code = network.sftmd.kernel_code(1, isotropic_gaussian_kernel(torch.tensor([2.0])), None)
    noisy = code + 0.001 * torch.randn(1, 10, generator=torch.Generator().manual_seed(0))
    assert estimate_width(network, noisy).item() == pytest.approx(2.0, abs=0.15)
    assert 0.2 <= estimate_width(network, code * 100).item() <= 4.0


def test_kernel_is_the_gaussian_of_the_code_that_the_predictor_finds():
    network = make_network()
    lq = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    kernel = estimate_kernel(network, lq)
    with torch.no_grad():
        code = network(lq, return_steps=True).codes[0]
    assert torch.equal(kernel, isotropic_gaussian_kernel(estimate_width(network, code)))
    assert kernel.shape == (2, 21, 21)
    assert torch.allclose(kernel.sum((1, 2)), torch.ones(2), atol=1e-5)


def test_weights_without_their_basis_are_refused():
    network = make_network()
    network.sftmd.kernel_code.known = False
    with pytest.raises(ValueError, match='came without the basis of their kernels'):
        estimate_kernel(network, torch.rand(1, 3, 8, 8))
