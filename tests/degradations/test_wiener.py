"""Wiener filters: their statistics against the degradations themselves, and what makes them the best."""

import pytest
import torch
from torch import Tensor

from dasr_arch.degradations.blur import blur_valid
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel, dirac_kernel, isotropic_gaussian_kernel
from dasr_arch.degradations.resize import downsample_bicubic, upsample_bicubic
from dasr_arch.degradations.wiener import (
    apply_filters,
    compute_wiener_filters,
    compute_wiener_statistics,
    solve_wiener,
)

TORUS = 128
LOPSIDED = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(3))


def make_kernels() -> Tensor:
    lopsided = torch.nn.functional.pad(LOPSIDED / LOPSIDED.sum(), [8] * 4)
    turned = anisotropic_gaussian_kernel(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([0.7]))
    return torch.cat([dirac_kernel(), isotropic_gaussian_kernel(torch.tensor([2.4])), turned, lopsided])


def find_rows(kernel: Tensor, scale: int, size: int) -> Tensor:
    """Gradients of the LR pixels of the window around the middle with respect to HR pixels."""
    hr = torch.zeros(1, 1, TORUS, TORUS, dtype=torch.float64, requires_grad=True)
    reach = kernel.shape[-1] // 2
    wide = torch.nn.functional.pad(hr, [reach] * 4)
    height = TORUS // scale * scale
    lr = downsample_bicubic(blur_valid(wide, kernel.double())[..., :height, :height], scale)[0, 0]
    middle, half = TORUS // 2 // scale, size // 2
    window = lr[middle - half : middle + half + 1, middle - half : middle + half + 1]
    return torch.stack([torch.autograd.grad(pixel, hr, retain_graph=True)[0][0, 0] for pixel in window.flatten()])


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
@pytest.mark.parametrize('index', range(4))
def test_statistics_are_those_of_the_degradation_on_images_with_such_a_spectrum(scale: int, index: int) -> None:
    kernel, size = make_kernels()[index : index + 1], 3
    found = compute_wiener_statistics(kernel, torch.tensor([4.0]), scale, size)

    wave = torch.fft.fftfreq(TORUS, dtype=torch.float64)
    power = 1 / (wave[:, None] ** 2 + wave**2 + 1 / 256**2)
    power *= 2500 / power.mean()
    rows = find_rows(kernel, scale, size)  # (9, side, side)
    spread = torch.fft.ifft2(torch.fft.fft2(rows) * power).real  # covariance of each LR pixel with all HR pixels
    lr_lr = rows.flatten(1) @ spread.flatten(1).T + (16 + 1 / 12) * torch.eye(size**2)
    start = TORUS // 2 // scale * scale
    hr_lr = spread[:, start : start + scale, start : start + scale].flatten(1).T
    centre = torch.eye(size**2, dtype=torch.float64) - 1 / size**2
    detail = 2500 - 2 * hr_lr.mean(1) + lr_lr.mean()
    assert torch.allclose(found.covariance[0], centre @ lr_lr @ centre, atol=1e-3)
    assert torch.allclose(found.cross[0], (hr_lr - lr_lr.mean(0)) @ centre, atol=1e-3)
    assert torch.allclose(found.detail[0], detail, atol=1e-3)


def test_no_other_weights_of_sum_one_have_a_smaller_error():
    statistics = compute_wiener_statistics(make_kernels(), torch.tensor([0.0, 3.0, 0.0, 10.0]), 4)
    best = solve_wiener(statistics)
    assert torch.allclose(best.sum(2), torch.ones(4, 16).double(), atol=1e-9)

    def error(weights: Tensor) -> Tensor:
        spent = weights @ statistics.covariance
        return statistics.detail - 2 * (weights * statistics.cross).sum(2) + (spent * weights).sum(2)

    least = error(best)
    assert (least > 0).all()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        change = 0.1 * torch.randn(best.shape, generator=generator, dtype=torch.float64)
        assert (error(best + change - change.mean(2, keepdim=True)) > least).all()


def test_filters_sharpen_what_was_blurred_and_smooth_what_is_noisy():
    kernel = isotropic_gaussian_kernel(torch.tensor([0.5, 2.0, 3.5]))
    gains = [
        compute_wiener_filters(kernel, torch.full((3,), level), 4).square().sum((1, 2, 3)) for level in (0.0, 5.0, 15.0)
    ]
    assert (gains[0].diff() > 0).all()  # the wider the blur the stronger
    assert (gains[0] > gains[1]).all()
    assert (gains[1] > gains[2]).all()


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_what_is_known_of_a_image_restores_more_of_it_than_bicubic(scale: int) -> None:
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing='ij')
    hr = 0.5 + 0.4 * torch.tanh((torch.sin(x / 9) + torch.cos(y / 7 + x / 15)) * 3)[None, None]  # edges
    kernel = isotropic_gaussian_kernel(torch.tensor([0.7 * scale]))
    lr = downsample_bicubic(blur_valid(torch.nn.functional.pad(hr, [10] * 4, mode='reflect'), kernel), scale)
    restored = apply_filters(lr, compute_wiener_filters(kernel, torch.zeros(1), scale))
    inner = (..., slice(8, -8), slice(8, -8))
    errors = [(out - hr)[inner].square().mean() for out in (restored, upsample_bicubic(lr, scale))]
    assert errors[0] < 0.5 * errors[1]


def test_each_image_is_enlarged_with_its_own_filters_and_its_colours_with_the_same():
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.rand(2, 3, 5, 6, generator=generator), torch.rand(2, 9, 3, 3, generator=generator)
    out = apply_filters(x, weights)
    assert out.shape == (2, 3, 15, 18)
    padded = torch.nn.functional.pad(x, [1] * 4, mode='replicate')
    for image, colour, i, j, y0, x0 in ((0, 0, 0, 0, 0, 0), (1, 2, 2, 1, 4, 5), (1, 0, 0, 2, 2, 3)):
        expected = (padded[image, colour, y0 : y0 + 3, x0 : x0 + 3] * weights[image, 3 * i + j]).sum()
        assert float(out[image, colour, 3 * y0 + i, 3 * x0 + j]) == pytest.approx(float(expected), abs=1e-5)
    assert torch.allclose(apply_filters(x, weights[:1])[1], apply_filters(x[1:], weights[:1])[0], atol=1e-6)


def test_a_batch_of_degradations_is_computed_one_by_one():
    kernels, levels = make_kernels(), torch.tensor([0.0, 2.0, 5.0, 10.0])
    filters = compute_wiener_filters(kernels, levels, 2, 5)
    assert filters.shape == (4, 4, 5, 5)
    assert filters.dtype == torch.float32
    for index in range(4):
        alone = compute_wiener_filters(kernels[index : index + 1], levels[index : index + 1], 2, 5)[0]
        assert torch.allclose(filters[index], alone, atol=1e-4)


@pytest.mark.parametrize(
    ('shape', 'levels', 'scale', 'size', 'message'),
    [
        ((1, 4, 4), 1, 4, 7, 'kernel must have shape'),
        ((21, 21), 1, 4, 7, 'kernel must have shape'),
        ((1, 67, 67), 1, 4, 7, 'at most 65 pixels'),
        ((2, 5, 5), 1, 4, 7, r'noise_level must have shape \(2,\)'),
        ((1, 5, 5), 1, 0, 7, 'scale must be at least 1'),
        ((1, 5, 5), 1, 4, 6, 'size odd'),
        ((1, 5, 5), 1, 4, 17, 'at most 64'),
    ],
)
def test_what_does_not_fit_is_refused(shape: tuple[int, ...], levels: int, scale: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_wiener_filters(torch.ones(shape), torch.zeros(levels), scale, size)
