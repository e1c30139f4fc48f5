"""The separable SSIM is BasicSR's number, and the released variant is what its formula says."""

import numpy as np
import pytest
from basicsr.metrics import calculate_metric, calculate_ssim
from scipy.signal import convolve2d

from dasr_arch.metrics.ssim_release_metric import calculate_ssim_release
from dasr_arch.metrics.structural_similarity import calculate_ssim_separable, measure_plane_ssim


def make_pair(height: int = 47, width: int = 61, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth colourful image and a noisy copy, uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / (5 + c) + y / (7 - c) + c) for c in range(3)]
    image = np.stack(waves, axis=2)
    noisy = image + generator.normal(0, 15, image.shape)
    return image.round().clip(0, 255).astype(np.uint8), noisy.round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('luma', [True, False])
@pytest.mark.parametrize('border', [0, 2, 4])
def test_separable_ssim_equals_basicsr(luma: bool, border: int) -> None:
    for seed in range(3):
        pair = make_pair(seed=seed)
        expected = calculate_ssim(*pair, crop_border=border, test_y_channel=luma)
        assert abs(calculate_ssim_separable(*pair, border, test_y_channel=luma) - expected) < 1e-10


def test_separable_ssim_equals_basicsr_on_channels_first_and_grey() -> None:
    first, second = make_pair()
    expected = calculate_ssim(first, second, crop_border=3)
    chw = calculate_ssim_separable(first.transpose(2, 0, 1), second.transpose(2, 0, 1), 3, input_order='CHW')
    assert abs(chw - expected) < 1e-10
    grey = calculate_ssim(first[..., 0], second[..., 0], crop_border=3)
    assert abs(calculate_ssim_separable(first[..., 0], second[..., 0], 3) - grey) < 1e-10


def test_luma_of_float_images_is_that_of_basicsr() -> None:
    first, second = (image.astype(np.float64) for image in make_pair())
    expected = calculate_ssim(first, second, crop_border=3, test_y_channel=True)
    assert abs(calculate_ssim_separable(first, second, 3, test_y_channel=True) - expected) < 1e-10


def test_equal_images_have_ssim_one() -> None:
    image, _ = make_pair()
    assert calculate_ssim_separable(image, image, 4, test_y_channel=True) == pytest.approx(1, abs=1e-12)
    assert calculate_ssim_release(image, image, 4) == pytest.approx(1, abs=1e-12)


def release_formula(first: np.ndarray, second: np.ndarray, border: int) -> float:
    """SSIM of the released luma, written out with a two-dimensional window."""
    lumas = []
    for image in (first, second):
        inner = image[border:-border, border:-border].astype(np.float64)
        lumas.append((65.738 * inner[..., 2] + 129.057 * inner[..., 1] + 25.064 * inner[..., 0]) / 255 + 16)
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = lumas

    def mean(plane: np.ndarray) -> np.ndarray:
        return convolve2d(plane, window, mode='valid')

    c1, c2 = 6.5025, 58.5225
    covariance = mean(a * b) - mean(a) * mean(b)
    spread = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    top = (2 * mean(a) * mean(b) + c1) * (2 * covariance + c2)
    return float((top / ((mean(a) ** 2 + mean(b) ** 2 + c1) * (spread + c2))).mean())


@pytest.mark.parametrize('border', [2, 3, 4])
def test_release_variant_equals_its_formula(border: int) -> None:
    pair = make_pair(seed=border)
    assert abs(calculate_ssim_release(*pair, border) - release_formula(*pair, border)) < 1e-10


def test_release_variant_is_found_by_basicsr_and_differs_slightly() -> None:
    first, second = make_pair()
    options = {'type': 'calculate_ssim_release', 'crop_border': 4}
    ours = calculate_metric({'img': first, 'img2': second}, options)
    basicsr = calculate_ssim(first, second, crop_border=4, test_y_channel=True)
    assert 0 < abs(ours - basicsr) < 5e-3


def test_release_variant_refuses_grey_images() -> None:
    first, second = make_pair()
    with pytest.raises(ValueError, match='needs colour images'):
        calculate_ssim_release(first[..., 0], second[..., 0], 4)


def test_images_smaller_than_the_window_are_refused() -> None:
    first, second = make_pair(18, 40)
    with pytest.raises(ValueError, match='at least 11 pixels, got 10 x 32'):
        calculate_ssim_separable(first, second, 4, test_y_channel=True)


def test_planes_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match='one shape'):
        measure_plane_ssim(np.zeros((20, 20)), np.zeros((20, 21)))
    first, second = make_pair()
    with pytest.raises(ValueError, match='one shape'):
        calculate_ssim_separable(first, second[:, 1:], 0)
