"""Kernels as SRMD and MZSR draw them."""

import pytest
import torch

from dasr_arch import InputError
from dasr_arch.degradations import build_degradation

OPTIONS = {'type': 'CovarianceGaussian', 'variance_range': [1.0, 9.0], 'kernel_size': 31}


def measure(kernels: torch.Tensor) -> torch.Tensor:
    """Eigenvalues of the covariances of kernels, the smaller first, shape (N, 2)."""
    side = kernels.shape[-1]
    x = torch.arange(side, dtype=torch.float64) - side // 2
    kernels = kernels.double()
    across, down = (kernels.sum(1) * x**2).sum(1), (kernels.sum(2) * x**2).sum(1)
    mixed = (kernels * x[:, None] * x).sum((1, 2))
    matrices = torch.stack([torch.stack([across, mixed], -1), torch.stack([mixed, down], -1)], -1)
    return torch.linalg.eigvalsh(matrices)


def draw(count: int, **options: object) -> torch.Tensor:
    degradation = build_degradation({**OPTIONS, **options}, 4)
    generator = torch.Generator().manual_seed(0)
    return torch.stack([degradation.draw_kernel(generator) for _ in range(count)])


def test_variances_lie_in_the_range_and_the_larger_is_uniform_in_it():
    variances = measure(draw(400))
    assert 0.95 < variances.min() < variances.max() < 9.05
    larger, smaller = variances[:, 1], variances[:, 0]
    quarters = torch.histc(larger.float(), 4, 1, 9) / 400
    assert (quarters - 0.25).abs().max() < 0.08
    assert ((smaller - 1) / (larger - 1)).mean() == pytest.approx(0.5, abs=0.05)  # uniform below it


def test_kernels_have_sum_one_and_every_angle():
    kernels = draw(300)
    assert torch.allclose(kernels.sum((1, 2)), torch.ones(300), atol=1e-5)
    x = torch.arange(31.0) - 15
    assert 0.4 < ((kernels * x[:, None] * x).sum((1, 2)) > 0).float().mean() < 0.6
    assert 0.4 < ((kernels.sum(1) * x**2).sum(1) > (kernels.sum(2) * x**2).sum(1)).float().mean() < 0.6


def test_label_and_specification_tell_the_range():
    degradation = build_degradation({**OPTIONS, 'noise_range': [0, 75]}, 4)
    assert degradation.label == 'variances 1-9, noise 0-75, kernel 31'
    assert degradation.specification() == {**OPTIONS, 'variance_range': [1.0, 9.0], 'noise_range': [0, 75]}
    assert not degradation.fixed_kernel


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'variance_range': None}, 'CovarianceGaussian needs variance_range'),
        ({'variance_range': [0, 9]}, r'variance_range must be a number in \(0, 10000\]'),
        ({'variance_range': [9, 1]}, 'variance_range must begin with the lower number'),
    ],
)
def test_wrong_range_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        build_degradation({**OPTIONS, **options}, 4)
