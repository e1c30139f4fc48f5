"""The isotropic setting makes the pictures of the released code."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch.degradations import build_degradation, degrade_picture
from dasr_arch.degradations.kernels import dirac_kernel, isotropic_gaussian_kernel

GOLDEN = np.load(Path(__file__).parents[1] / 'golden' / 'degradations.npz')
PICTURES = [name for name in GOLDEN.files if name.startswith(('iso_x', 'sfold_x'))]


@pytest.mark.parametrize('name', PICTURES)
def test_pictures_equal_those_of_the_released_code(name):
    match = re.fullmatch(r'(iso|sfold)_x(\d)_sig([\d.]+)', name)
    assert match
    downsample = 's_fold' if match[1] == 'sfold' else 'bicubic'
    specification = {'type': 'IsotropicGaussian', 'sigma': float(match[3]), 'downsample': downsample}
    hr = GOLDEN['hr'].transpose(1, 2, 0).astype(np.uint8)
    out = degrade_picture(build_degradation(specification, int(match[2])), hr).transpose(2, 0, 1)
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


def test_label_of_a_range_names_its_ends():
    assert build_degradation({'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0]}, 4).label == 'width 0.2-4'
