"""Kernels equal those of the released code and have the symmetries of Gaussians."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch.degradations.kernels import (
    anisotropic_gaussian_kernel,
    dirac_kernel,
    generalized_gaussian_kernel,
    isotropic_gaussian_kernel,
    plateau_gaussian_kernel,
    sinc_kernel,
)

GOLDEN = np.load(Path(__file__).parents[1] / 'golden' / 'degradations.npz')
ISOTROPIC = [name for name in GOLDEN.files if name.startswith('kernel_iso')]
ANISOTROPIC = [name for name in GOLDEN.files if name.startswith('kernel_aniso')]
TOLERANCE = 2e-6  # of the golden files: float32 exponentials of different libraries


def draw_axes(count: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lambda_1, lambda_2 = (torch.rand(2, count, generator=generator) * 3.8 + 0.2).unbind()
    return lambda_1, lambda_2, torch.rand(count, generator=generator) * math.pi


@pytest.mark.parametrize('name', ISOTROPIC)
def test_isotropic_kernel_equals_the_released_code(name):
    sigma = float(name.removeprefix('kernel_iso_sig'))
    kernel = isotropic_gaussian_kernel(torch.tensor([sigma]))[0]
    assert np.abs(kernel.numpy() - GOLDEN[name]).max() < TOLERANCE


@pytest.mark.parametrize('name', ANISOTROPIC)
def test_anisotropic_kernel_equals_the_released_code(name):
    axes, angle = name.removeprefix('kernel_aniso_l').split('_t')
    lambda_1, lambda_2 = (torch.tensor([float(axis)]) for axis in axes.split('_'))
    kernel = anisotropic_gaussian_kernel(lambda_1, lambda_2, torch.tensor([math.radians(float(angle))]))[0]
    assert np.abs(kernel.numpy() - GOLDEN[name]).max() < TOLERANCE


@pytest.mark.parametrize('kernel_size', [1, 3, 21])
def test_kernels_sum_to_one_and_are_not_negative(kernel_size):
    lambda_1, lambda_2, theta = draw_axes()
    for kernel in (
        isotropic_gaussian_kernel(lambda_1, kernel_size),
        anisotropic_gaussian_kernel(lambda_1, lambda_2, theta, kernel_size),
        dirac_kernel(kernel_size),
    ):
        assert kernel.shape[1:] == (kernel_size, kernel_size)
        assert torch.allclose(kernel.sum((1, 2)), torch.ones(len(kernel)), atol=1e-6)  # 441 float32 additions
        assert kernel.min() >= 0


def test_equal_axes_give_the_isotropic_kernel_at_any_angle():
    sigma, _, theta = draw_axes()
    assert torch.allclose(
        anisotropic_gaussian_kernel(sigma, sigma, theta), isotropic_gaussian_kernel(sigma), atol=TOLERANCE
    )


def test_quarter_turn_swaps_the_axes():
    lambda_1, lambda_2, theta = draw_axes()
    turned = anisotropic_gaussian_kernel(lambda_1, lambda_2, theta + math.pi / 2)
    assert torch.allclose(turned, anisotropic_gaussian_kernel(lambda_2, lambda_1, theta), atol=TOLERANCE)


def test_half_turn_changes_nothing():
    lambda_1, lambda_2, theta = draw_axes()
    kernel = anisotropic_gaussian_kernel(lambda_1, lambda_2, theta)
    assert torch.allclose(anisotropic_gaussian_kernel(lambda_1, lambda_2, theta + math.pi), kernel, atol=TOLERANCE)
    assert torch.allclose(kernel.flip(1, 2), kernel, atol=1e-7)


def test_first_axis_lies_along_the_columns_at_angle_zero():
    kernel = anisotropic_gaussian_kernel(torch.tensor([3.0]), torch.tensor([1.0]), torch.zeros(1))[0]
    assert kernel[10, 13] > 10 * kernel[13, 10]


def test_positive_angle_turns_clockwise_on_the_screen():
    kernel = anisotropic_gaussian_kernel(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([math.pi / 4]))[0]
    assert kernel[13, 13] > 10 * kernel[7, 13]  # below and right of the centre, not above and right


def test_width_is_the_standard_deviation():
    x = torch.arange(-10.0, 11)
    kernel = anisotropic_gaussian_kernel(torch.tensor([2.0]), torch.tensor([1.5]), torch.zeros(1))[0]
    assert (kernel.sum(0) * x**2).sum().sqrt().item() == pytest.approx(2.0, abs=1e-3)  # cut off at 5 deviations
    assert (kernel.sum(1) * x**2).sum().sqrt().item() == pytest.approx(1.5, abs=1e-3)


def test_kernels_of_a_batch_are_those_of_its_members():
    lambda_1, lambda_2, theta = draw_axes(3)
    batch = anisotropic_gaussian_kernel(lambda_1, lambda_2, theta)
    single = [anisotropic_gaussian_kernel(lambda_1[i : i + 1], lambda_2[i : i + 1], theta[i : i + 1]) for i in range(3)]
    assert torch.allclose(batch, torch.cat(single), atol=1e-8)  # vector instructions differ in the last bit
    assert isotropic_gaussian_kernel(lambda_1).shape == (3, 21, 21)


def test_kernels_have_the_type_of_their_widths():
    assert isotropic_gaussian_kernel(torch.tensor([1.0], dtype=torch.float64)).dtype == torch.float64


def test_gradient_reaches_widths_and_angle():
    values = [
        axis.double().requires_grad_() for axis in (torch.tensor([1.2]), torch.tensor([2.5]), torch.tensor([0.4]))
    ]
    assert torch.autograd.gradcheck(lambda *axes: anisotropic_gaussian_kernel(*axes, 7), values)
    assert torch.autograd.gradcheck(lambda sigma: isotropic_gaussian_kernel(sigma, 7), values[:1])


@pytest.mark.parametrize('kernel_size', [0, -3, 2, 20])
def test_kernel_size_that_is_not_odd_and_positive_is_refused(kernel_size):
    one = torch.ones(1)
    for make in (
        lambda: isotropic_gaussian_kernel(one, kernel_size),
        lambda: anisotropic_gaussian_kernel(one, one, one, kernel_size),
        lambda: dirac_kernel(kernel_size),
    ):
        with pytest.raises(ValueError, match=f'kernel_size must be odd and positive, got {kernel_size}'):
            make()


@pytest.mark.parametrize('width', [0.0, -1.0, math.nan, math.inf])
def test_width_that_is_not_positive_and_finite_is_refused(width):
    one, bad = torch.ones(1), torch.tensor([width])
    with pytest.raises(ValueError, match='sigma must be positive'):
        isotropic_gaussian_kernel(bad)
    with pytest.raises(ValueError, match='lambda_1 must be positive'):
        anisotropic_gaussian_kernel(bad, one, one)
    with pytest.raises(ValueError, match='lambda_2 must be positive'):
        anisotropic_gaussian_kernel(one, bad, one)


def test_angle_that_is_not_finite_is_refused():
    one = torch.ones(1)
    with pytest.raises(ValueError, match='theta must be finite'):
        anisotropic_gaussian_kernel(one, one, torch.tensor([math.nan]))


# --- generalized Gaussians and low-pass filters ---


def test_generalized_gaussian_with_exponent_one_is_the_gaussian():
    axes = (torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([0.5]))
    assert torch.allclose(generalized_gaussian_kernel(*axes, torch.ones(1)), anisotropic_gaussian_kernel(*axes))


def test_larger_exponents_make_the_peak_flatter():
    one, angle = torch.full((3,), 2.0), torch.zeros(3)
    for make in (generalized_gaussian_kernel, plateau_gaussian_kernel):
        kernels = make(one, one, angle, torch.tensor([0.5, 1.0, 4.0]))
        assert kernels.sum((1, 2)) == pytest.approx(torch.ones(3), abs=1e-5)
        flatness = kernels[:, 10, 11] / kernels[:, 10, 10]
        assert (flatness.diff() > 0).all()


def test_plateau_is_half_as_high_one_deviation_from_the_centre():
    kernel = plateau_gaussian_kernel(torch.tensor([3.0]), torch.tensor([2.0]), torch.zeros(1), torch.tensor([1.7]))[0]
    assert (kernel[10, 13] / kernel[10, 10]).item() == pytest.approx(0.5, abs=1e-5)
    assert (kernel[12, 10] / kernel[10, 10]).item() == pytest.approx(0.5, abs=1e-5)


def test_low_pass_filter_passes_what_lies_below_its_cutoff():
    kernel = sinc_kernel(torch.tensor([1.0]), 61)[0]
    place = torch.arange(61.0) - 30
    passed = [float((kernel.sum(0) * (frequency * place).cos()).sum()) for frequency in (0.0, 0.6, 1.5, 2.5)]
    assert passed == pytest.approx([1, 1, 0, 0], abs=0.1)
    assert kernel.min() < 0
    assert torch.allclose(kernel, kernel.T)


@pytest.mark.parametrize('cutoff', [0.0, -1.0, 3.2, math.nan])
def test_cutoff_outside_its_range_is_refused(cutoff):
    with pytest.raises(ValueError, match='cutoff must'):
        sinc_kernel(torch.tensor([cutoff]))


def test_exponent_that_is_not_positive_is_refused():
    one = torch.ones(1)
    for make in (generalized_gaussian_kernel, plateau_gaussian_kernel):
        with pytest.raises(ValueError, match='beta must be positive'):
            make(one, one, one, torch.zeros(1))
