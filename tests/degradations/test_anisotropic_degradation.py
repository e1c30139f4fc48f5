"""The anisotropic setting makes the images of the released code."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch.degradations import build_degradation, degrade_image
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel

GOLDEN = np.load(Path(__file__).parents[1] / 'golden' / 'degradations.npz')
TRAINING = {'type': 'AnisotropicGaussian', 'lambda_range': [0.2, 4.0], 'theta_deg_range': [0, 180]}


@pytest.mark.parametrize('name', [name for name in GOLDEN.files if name.startswith('aniso_x')])
def test_images_equal_those_of_the_released_code(name):
    match = re.fullmatch(r'aniso_x(\d)_l([\d.]+)_([\d.]+)_t(\d+)', name)
    assert match
    axes = {'lambda_1': float(match[2]), 'lambda_2': float(match[3]), 'theta_deg': float(match[4])}
    degradation = build_degradation({'type': 'AnisotropicGaussian', **axes}, int(match[1]))
    hr = GOLDEN['hr'].transpose(1, 2, 0).astype(np.uint8)
    difference = np.abs(degrade_image(degradation, hr).transpose(2, 0, 1) - GOLDEN[name])
    # Sums in another order: a value may fall to the other side of a rounding edge.
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3


def test_fixed_axes_give_their_kernel_with_the_angle_in_degrees():
    degradation = build_degradation({'type': 'AnisotropicGaussian', 'lambda_1': 3, 'lambda_2': 1, 'theta_deg': 30}, 4)
    values = torch.tensor([[3.0], [1.0], [math.radians(30)]])
    assert torch.equal(degradation.draw_kernel(torch.Generator()), anisotropic_gaussian_kernel(*values)[0])


def test_axes_are_drawn_apart_and_angles_over_half_a_turn():
    degradation = build_degradation(TRAINING, 4)
    generator = torch.Generator().manual_seed(0)
    kernels = torch.stack([degradation.draw_kernel(generator) for _ in range(300)])
    x = torch.arange(-10.0, 11)
    horizontal, vertical = (kernels.sum(1) * x**2).sum(1), (kernels.sum(2) * x**2).sum(1)
    mixed = (kernels * x[:, None] * x).sum((1, 2))
    assert ((horizontal / vertical).log2().abs() > 1).float().mean() > 0.2  # not isotropic
    assert 0.35 < (horizontal > vertical).float().mean() < 0.65  # no axis is preferred
    assert 0.35 < (mixed > 0).float().mean() < 0.65  # both diagonals: angles are not a degree or two


def test_one_range_may_be_fixed():
    fixed_angle = build_degradation({**TRAINING, 'theta_deg_range': None, 'theta_deg': 45}, 4)
    assert not fixed_angle.fixed_kernel
    assert fixed_angle.label == 'lambda 0.2-4, theta 45'
    assert build_degradation(TRAINING, 4).label == 'lambda 0.2-4, theta 0-180'
