"""The far tail of a narrow kernel is cut, because it costs time and changes nothing."""

import pytest
import torch

from dasr_arch.degradations.blur import blur
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel


@pytest.mark.parametrize('sigma', [0.2, 0.6, 0.8, 1.0, 4.0])
def test_kernel_holds_no_value_whose_products_are_subnormal(sigma: float) -> None:
    kernel = isotropic_gaussian_kernel(torch.tensor([sigma]))
    assert kernel[kernel > 0].min() >= 1e-20
    assert kernel.sum() == pytest.approx(1, abs=1e-6)


def test_cut_tail_changes_no_blurred_value() -> None:
    x, y = torch.meshgrid(torch.arange(-10.0, 11), torch.arange(-10.0, 11), indexing='xy')
    whole = (-(x**2 + y**2) / (2 * 0.6**2)).exp()[None]
    whole = whole / whole.sum()
    assert bool((isotropic_gaussian_kernel(torch.tensor([0.6])) != whole).any())
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(blur(image, isotropic_gaussian_kernel(torch.tensor([0.6]))), blur(image, whole))
