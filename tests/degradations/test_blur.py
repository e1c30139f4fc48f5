"""Blur gives every image its own kernel and keeps what a Gaussian keeps."""

import pytest
import torch
from torch.nn import functional

from dasr_arch.degradations.blur import blur, blur_valid, blur_valid_fourier
from dasr_arch.degradations.kernels import dirac_kernel, isotropic_gaussian_kernel


def make_images(batch: int = 2, height: int = 30, width: int = 26) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_dirac_kernel_changes_nothing():
    x = make_images(1)
    assert torch.equal(blur(x, dirac_kernel()), x)


def test_constant_image_stays_constant():
    x = torch.full((1, 3, 12, 15), 0.25)
    assert torch.allclose(blur(x, isotropic_gaussian_kernel(torch.tensor([2.0]))), x, atol=1e-6)  # 441 roundings


def test_borders_are_reflected_as_in_the_released_code():
    x, kernel = make_images(1), isotropic_gaussian_kernel(torch.tensor([2.5]))
    padded = functional.pad(x, (10, 10, 10, 10), mode='reflect')
    expected = functional.conv2d(padded.transpose(0, 1), kernel.unsqueeze(1)).transpose(0, 1)
    assert torch.allclose(blur(x, kernel), expected, atol=1e-6)


def test_kernel_is_not_flipped():
    x, kernel = torch.zeros(1, 1, 5, 5), torch.zeros(1, 3, 3)
    x[0, 0, 2, 2] = 1
    kernel[0, 1, 2] = 1  # looks at the pixel to the right
    assert blur(x, kernel)[0, 0].nonzero().tolist() == [[2, 1]]


def test_batch_equals_images_one_by_one():
    x, kernels = make_images(3), isotropic_gaussian_kernel(torch.tensor([0.6, 1.7, 3.1]))
    single = [blur(x[i : i + 1], kernels[i : i + 1]) for i in range(3)]
    assert torch.allclose(blur(x, kernels), torch.cat(single), atol=1e-6)  # sums in another order


@pytest.mark.parametrize('size', [(1, 1), (3, 10), (10, 10)])
def test_images_smaller_than_the_kernel_are_blurred(size):
    x = make_images(1, *size)
    out = blur(x, isotropic_gaussian_kernel(torch.tensor([1.5])))
    assert out.shape == x.shape
    assert x.min() - 1e-6 <= out.min() <= out.max() <= x.max() + 1e-6


def test_valid_blur_is_the_inside_of_the_blur():
    x, kernel = make_images(1), isotropic_gaussian_kernel(torch.tensor([1.5]), 7)
    assert torch.allclose(blur_valid(x, kernel), blur(x, kernel)[..., 3:-3, 3:-3], atol=1e-6)


def test_gradient_reaches_image_and_kernel():
    x = make_images(1, 4, 5).double().requires_grad_()
    kernel = isotropic_gaussian_kernel(torch.tensor([1.0], dtype=torch.float64), 3).requires_grad_()
    assert torch.autograd.gradcheck(blur, (x, kernel))


@pytest.mark.parametrize('shape', [(3, 3), (1, 3, 3), (2, 3, 5), (2, 4, 4)])
def test_kernels_that_do_not_fit_the_batch_are_refused(shape):
    with pytest.raises(ValueError, match=r'kernel must have shape \(2, k, k\) with k odd'):
        blur_valid(make_images(2), torch.ones(shape))


def test_valid_blur_refuses_images_smaller_than_the_kernel():
    with pytest.raises(ValueError, match='image of 5 x 30 is smaller than the kernel of 21 pixels'):
        blur_valid(make_images(1, 5, 30), dirac_kernel())


def test_fourier_transform_gives_the_same_blur():
    x, kernels = make_images(3, 40, 33), isotropic_gaussian_kernel(torch.tensor([0.2, 1.7, 4.0]))
    kernels[1, 3, 7] += 0.1  # without symmetry, so that a flipped kernel shows
    assert torch.allclose(blur_valid_fourier(x, kernels), blur_valid(x, kernels), atol=2e-6)
    with pytest.raises(ValueError, match='kernel'):
        blur_valid_fourier(x, kernels[:2])
