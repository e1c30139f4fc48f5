"""Blur and down-sampling as matrices give what convolution gives."""

import pytest
import torch
from torch.nn import functional

from dasr_arch.degradations import Window
from dasr_arch.degradations.blur import apply_matrices, blur_matrix, blur_valid, split_kernel, split_kernels
from dasr_arch.degradations.isotropic_degradation import IsotropicGaussian
from dasr_arch.degradations.kernels import (
    anisotropic_gaussian_kernel,
    dirac_kernel,
    isotropic_gaussian_kernel,
    sinc_kernel,
)
from dasr_arch.degradations.resize import downsample_bicubic_valid, downsample_matrix


def draw(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('size', [1, 3, 21])
def test_column_and_row_multiply_to_the_kernel(size):
    kernels = torch.cat([isotropic_gaussian_kernel(torch.tensor([0.2, 1.3, 4.0]), size), dirac_kernel(size)])
    column, row = split_kernel(kernels)
    torch.testing.assert_close(column.unsqueeze(2) * row.unsqueeze(1), kernels, rtol=1e-5, atol=1e-8)


def test_any_kernel_is_a_sum_of_columns_times_rows():
    turned = anisotropic_gaussian_kernel(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([0.6]))
    kernels = torch.cat([isotropic_gaussian_kernel(torch.tensor([1.3])), dirac_kernel(), turned])
    kernels = torch.cat([kernels, sinc_kernel(torch.tensor([0.8])), draw(1, 21, 21) / 220])
    counts = []
    for kernel, (columns, rows) in zip(kernels, split_kernels(kernels), strict=True):
        assert columns.shape == rows.shape
        assert (columns.T @ rows - kernel).square().sum().sqrt() < 1.1e-4
        counts.append(len(columns))
    assert counts[:2] == [1, 1]
    assert 1 < counts[2] < 14
    assert counts[4] > 15


def test_axes_along_the_image_keep_rows_and_columns_apart():
    zero = torch.zeros(1)
    kernel = anisotropic_gaussian_kernel(torch.tensor([3.0]), torch.tensor([0.5]), zero)
    column, row = split_kernel(kernel)
    assert row[0, 10] < column[0, 10]  # wide along the row
    x = draw(1, 2, 30, 28)
    rows, columns = torch.arange(10).unsqueeze(0), torch.arange(8).unsqueeze(0)
    out = apply_matrices(x, blur_matrix(column, rows), blur_matrix(row, columns))
    torch.testing.assert_close(out, blur_valid(x, kernel), rtol=1e-5, atol=1e-6)


def test_matrix_of_an_axis_correlates_without_flipping():
    taps = torch.tensor([[1.0, 2.0, 4.0]])
    matrix = blur_matrix(taps, torch.tensor([[0, 1, 2]]))
    assert matrix.tolist() == [[[1, 2, 4, 0, 0], [0, 1, 2, 4, 0], [0, 0, 1, 2, 4]]]


def test_rows_of_a_matrix_give_the_pixels_that_are_asked_for():
    taps = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    matrix = blur_matrix(taps, torch.tensor([[1, 0, 1], [2, 2, 0]]))
    assert matrix.tolist() == [[[0, 1, 2, 0], [1, 2, 0, 0], [0, 1, 2, 0]], [[0, 0, 3, 5], [0, 0, 3, 5], [3, 5, 0, 0]]]


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_matrix_shrinks_as_the_convolution_does(scale):
    x = draw(2, 3, 9 * scale, 11 * scale)
    rows, columns = (downsample_matrix(side, scale).expand(2, -1, -1) for side in x.shape[-2:])
    expected = downsample_bicubic_valid(x, scale) if scale > 1 else x[..., 2:-2, 2:-2]
    torch.testing.assert_close(apply_matrices(x, rows, columns), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('downsample', ['bicubic', 's_fold'])
@pytest.mark.parametrize('border', ['replicate', 'mirror'])
@pytest.mark.parametrize('corner', [(0, 0), (8, 12), (16, 20)])
def test_patches_equal_those_of_two_dimensional_blur(downsample, border, corner, monkeypatch):
    degradation = IsotropicGaussian(scale=4, sigma_range=(0.2, 4.0), downsample=downsample, border=border)
    side, margin = 32, degradation.margin
    image = functional.pad(draw(2, 3, 48, 52), [margin] * 4, mode='reflect')
    top, left = corner
    patches = image[..., top : top + side + 2 * margin, left : left + side + 2 * margin]
    window = Window(*(torch.tensor([value, value]) for value in (top, left, 48, 52)))
    draws = {'kernel': isotropic_gaussian_kernel(torch.tensor([0.7, 3.4]))}
    fast = degradation.apply(patches, draws, window)
    monkeypatch.setattr(IsotropicGaussian, 'separable', False)
    slow = degradation.apply(patches, draws, window)
    levels = ((fast - slow) * 255).round().abs()
    assert levels.max() <= 1  # a value on the edge between two levels may be rounded either way
    assert (levels > 0).float().mean() < 0.002
