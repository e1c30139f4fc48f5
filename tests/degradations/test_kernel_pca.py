"""The components of kernels are orthonormal, the same everywhere, and few of them are enough."""

import pytest
import torch

from dasr_arch.degradations.kernel_pca import anisotropic_basis, compute_kernel_basis, isotropic_basis
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel, isotropic_gaussian_kernel

SCALES = pytest.mark.parametrize('scale', [2, 3, 4])


def rebuild(kernels: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    codes = torch.einsum('nij,cij->nc', kernels, basis)
    return torch.einsum('nc,cij->nij', codes, basis)


@SCALES
def test_components_are_orthonormal(scale):
    for basis, shape in ((anisotropic_basis(scale), (15, 15, 15)), (isotropic_basis(scale), (10, 21, 21))):
        assert basis.shape == shape
        assert basis.dtype == torch.float32
        rows = basis.flatten(1)
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-6)


@SCALES
def test_fifteen_numbers_tell_an_anisotropic_kernel(scale):
    generator = torch.Generator().manual_seed(1)
    axes = 0.2 + (scale - 0.2) * torch.rand(2, 200, generator=generator)
    kernels = anisotropic_gaussian_kernel(axes[0], axes[1], 3.14 * torch.rand(200, generator=generator), 15)
    differences = (rebuild(kernels, anisotropic_basis(scale)) - kernels).flatten(1).norm(dim=1)
    errors = differences / kernels.flatten(1).norm(dim=1)
    assert errors.mean() < 0.13
    assert errors.max() < 0.4  # the narrowest lines between two pixels


@SCALES
def test_ten_numbers_tell_the_difference_between_isotropic_kernels(scale):
    kernels = isotropic_gaussian_kernel(torch.linspace(0.2, scale, 100))
    differences = kernels - kernels.mean(0)
    assert (rebuild(differences, isotropic_basis(scale)) - differences).norm() < 1e-3 * differences.norm()


@SCALES
def test_codes_of_other_widths_differ(scale):
    kernels = isotropic_gaussian_kernel(torch.linspace(0.2, scale, 20))
    codes = torch.einsum('nij,cij->nc', kernels, isotropic_basis(scale))
    assert (codes[1:] - codes[:-1]).norm(dim=1).min() > 1e-3


def test_strongest_component_comes_first_and_is_positive():
    kernels = isotropic_gaussian_kernel(torch.linspace(0.3, 3, 50), 9)
    basis = compute_kernel_basis(kernels, 5)
    energies = torch.einsum('nij,cij->nc', kernels, basis).square().sum(0)
    assert torch.equal(energies.sort(descending=True).values, energies)
    for component in basis:
        first = component.flatten()[(component.abs().flatten() >= 0.999 * component.abs().max()).nonzero()[0]]
        assert first > 0


def test_centred_components_describe_deviations_from_the_mean():
    kernels = torch.rand(30, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    basis = compute_kernel_basis(kernels, 9, centred=True)
    weakest = torch.einsum('nij,cij->nc', (kernels - kernels.mean(0)).float(), basis)[:, -1]
    plain = compute_kernel_basis(kernels, 9)
    assert weakest.std() < 1
    assert torch.allclose(plain[0], torch.full((3, 3), 1 / 3), atol=0.02)  # the mean itself
    assert not torch.allclose(basis[0], plain[0], atol=0.1)


def test_every_call_gives_a_copy_of_the_same_numbers():
    first = anisotropic_basis(4)
    first.zero_()
    assert anisotropic_basis(4).abs().sum() > 0
    with torch.device('meta'):
        assert anisotropic_basis(4, 5, 3).device.type == 'cpu'
    assert torch.equal(isotropic_basis(3), isotropic_basis(3))


def test_random_state_of_torch_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    anisotropic_basis(2, 7, 4)
    isotropic_basis(2, 7, 4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ('shape', 'number', 'message'),
    [
        ((4, 3, 5), 2, r'kernels must have shape \(N, k, k\), got \(4, 3, 5\)'),
        ((9, 9), 2, 'kernels must have shape'),
        ((4, 3, 3), 0, r'num_components must lie in 1\.\.4 for these kernels, got 0'),
        ((4, 3, 3), 5, r'num_components must lie in 1\.\.4'),
        ((40, 3, 3), 10, r'num_components must lie in 1\.\.9'),
    ],
)
def test_impossible_components_are_refused(shape, number, message):
    with pytest.raises(ValueError, match=message):
        compute_kernel_basis(torch.rand(shape), number)
