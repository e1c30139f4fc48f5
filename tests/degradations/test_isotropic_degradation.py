"""The isotropic setting makes the images of the released code."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from dasr_arch._errors import InputError
from dasr_arch.degradations import build_degradation, degrade_image
from dasr_arch.degradations.kernels import dirac_kernel, isotropic_gaussian_kernel

GOLDEN = np.load(Path(__file__).parents[1] / 'golden' / 'degradations.npz')
IMAGES = [name for name in GOLDEN.files if name.startswith(('iso_x', 'sfold_x'))]


@pytest.mark.parametrize('name', IMAGES)
def test_images_equal_those_of_the_released_code(name):
    match = re.fullmatch(r'(iso|sfold)_x(\d)_sig([\d.]+)', name)
    assert match
    downsample = 's_fold' if match[1] == 'sfold' else 'bicubic'
    specification = {'type': 'IsotropicGaussian', 'sigma': float(match[3]), 'downsample': downsample}
    hr = GOLDEN['hr'].transpose(1, 2, 0).astype(np.uint8)
    out = degrade_image(build_degradation(specification, int(match[2])), hr).transpose(2, 0, 1)
    difference = np.abs(out - GOLDEN[name])
    # Sums in another order: a value may fall to the other side of a rounding edge.
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3


def test_fixed_width_gives_its_kernel():
    degradation = build_degradation({'type': 'IsotropicGaussian', 'sigma': 1.7}, 4)
    assert torch.equal(degradation.draw_kernel(torch.Generator()), isotropic_gaussian_kernel(torch.tensor([1.7]))[0])


def test_width_zero_is_plain_bicubic():
    degradation = build_degradation({'type': 'IsotropicGaussian', 'sigma': 0, 'kernel_size': 9}, 4)
    assert torch.equal(degradation.draw_kernel(torch.Generator()), dirac_kernel(9)[0])


def test_widths_fill_their_range_evenly():
    degradation = build_degradation({'type': 'IsotropicGaussian', 'sigma_range': [1.0, 2.0]}, 4)
    generator = torch.Generator().manual_seed(0)
    kernels = torch.stack([degradation.draw_kernel(generator) for _ in range(300)])
    x = torch.arange(-10.0, 11)
    widths = (kernels.sum(1) * x**2).sum(1).sqrt()
    assert 1.0 - 1e-3 < widths.min() < 1.02
    assert 1.98 < widths.max() < 2.0 + 1e-3
    assert widths.mean().item() == pytest.approx(1.5, abs=0.05)  # three standard errors


def draw_widths(**parameters):
    """Widths of a thousand kernels, in order, HR pixels."""
    degradation = build_degradation({'type': 'IsotropicGaussian', 'kernel_size': 21, **parameters}, 4)
    generator = torch.Generator().manual_seed(0)
    kernels = torch.stack([degradation.draw_kernel(generator) for _ in range(1000)]).double()
    x = torch.arange(-10.0, 11, dtype=torch.float64)
    return (kernels.sum(1) * x**2).sum(1).sqrt().sort().values


def test_arcsine_draws_the_ends_of_the_range_twice_as_often():
    widths = draw_widths(sigma_range=[1.0, 2.0], distribution='arcsine')
    assert 1.0 - 1e-3 < widths.min() < 1.001
    assert 1.999 - 1e-3 < widths.max() < 2.0 + 1e-3
    expected = 2 / np.pi * np.arcsin(np.sqrt(0.1))  # 0.205
    for share in ((widths < 1.1).double().mean().item(), (widths > 1.9).double().mean().item()):
        assert share == pytest.approx(expected, abs=0.04)  # three standard errors
    assert ((widths > 1.45) & (widths < 1.55)).double().mean().item() == pytest.approx(0.0638, abs=0.025)


@pytest.mark.parametrize(('low', 'high'), [(0.5, 0.5), (0.3, 0.6), (1.0, 1.0)])
def test_beta_draws_as_the_distribution_says(low, high):
    widths = draw_widths(sigma_range=[1.0, 2.0], distribution='beta', beta=[low, high])
    expected = scipy.stats.beta(low, high)
    for end in (1.1, 1.3, 1.5, 1.9):
        assert (widths < end).double().mean().item() == pytest.approx(expected.cdf(end - 1), abs=0.05)
    assert widths.min() > 1.0 - 1e-3
    assert widths.max() < 2.0 + 1e-3


def test_each_draw_is_that_of_the_uniform_one_moved():
    uniform, moved = (draw_widths(sigma_range=[1.0, 2.0], distribution=name) for name in ('uniform', 'arcsine'))
    assert torch.allclose(1 + torch.sin(torch.pi / 2 * (uniform - 1)) ** 2, moved, atol=2e-3)


def test_range_of_one_width_is_that_width():
    assert torch.allclose(draw_widths(sigma_range=[1.5, 1.5], distribution='arcsine'), torch.tensor(1.5).double())


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        (
            {'sigma_range': [1, 2], 'distribution': 'normal'},
            "distribution must be one of uniform, arcsine, beta, got 'normal'",
        ),
        ({'sigma': 1, 'distribution': 'arcsine'}, "distribution 'arcsine' needs a sigma_range"),
        ({'sigma_range': [1, 2], 'distribution': 'beta'}, 'give both, such as'),
        ({'sigma_range': [1, 2], 'beta': [0.5, 0.5]}, 'give both, such as'),
        ({'sigma_range': [1, 2], 'distribution': 'beta', 'beta': [0.5]}, 'beta must be two numbers'),
        ({'sigma_range': [1, 2], 'distribution': 'beta', 'beta': [0, 0.5]}, r'beta must be a number in \[0.05, 1\]'),
    ],
)
def test_wrong_distributions_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        build_degradation({'type': 'IsotropicGaussian', **parameters}, 4)


def test_label_of_a_range_names_its_ends():
    assert build_degradation({'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0]}, 4).label == 'sigma 0.2-4'
