"""Structural similarity with a separable window, in bands of rows: BasicSR's figures in less than half its time.

Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 2004.
"""

import cv2
import numpy as np
from basicsr.metrics.metric_util import reorder_image, to_y_channel
from numpy.typing import NDArray

WINDOW_SIZE = 11  # pixels; an image must be at least this large after the border is cropped
_WINDOW_SIGMA = 1.5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2

_LUMA_BGR = (24.966, 128.553, 65.481)  # BT.601
_BAND = 64  # rows that are compared at a time, so that they stay in the processor's cache

Array = NDArray[np.float64]


def measure_plane_ssim(plane: Array, reference: Array) -> float:
    """Mean SSIM, at most 1, of two planes (H, W), float64 in [0, 255], over the region where the whole window fits.

    ValueError if the shapes differ or a side is shorter than the window.
    """
    if plane.shape != reference.shape or plane.ndim != 2:
        raise ValueError(f'SSIM compares two planes of one shape, got {plane.shape} and {reference.shape}')
    if min(plane.shape) < WINDOW_SIZE:
        raise ValueError(f'SSIM needs sides of at least {WINDOW_SIZE} pixels, got {plane.shape[0]} x {plane.shape[1]}')
    height, width = (side - WINDOW_SIZE + 1 for side in plane.shape)
    total = 0.0
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height) + WINDOW_SIZE - 1)
        total += float(_compare(plane[rows], reference[rows]).sum())
    return float(total / (height * width))


def calculate_ssim_separable(
    img: NDArray[np.generic],
    img2: NDArray[np.generic],
    crop_border: int,
    input_order: str = 'HWC',
    test_y_channel: bool = False,
) -> float:
    """SSIM equal to BasicSR's ``calculate_ssim`` (to 1e-10), computed with two one-dimensional windows.

    Images in [0, 255] are BGR, (H, W, C), (H, W) or (C, H, W) by ``input_order``, without ``crop_border`` pixels on
    each side. ``test_y_channel`` compares BT.601 luma, unrounded, instead of the mean over the channels. ValueError if
    the shapes differ or too few pixels are left.
    """
    planes = [crop_sides(reorder_image(image, input_order), crop_border) for image in (img, img2)]
    if test_y_channel:
        planes = [_find_luma(image) for image in planes]
    first, second = (image.astype(np.float64) for image in planes)
    if first.shape != second.shape:
        raise ValueError(f'SSIM compares two images of one shape, got {first.shape} and {second.shape}')
    channels = range(first.shape[2])
    return float(np.mean([measure_plane_ssim(first[..., channel], second[..., channel]) for channel in channels]))


def crop_sides(image: NDArray[np.generic], border: int) -> NDArray[np.generic]:
    """A view of ``image`` (H, W, ...) without ``border`` pixels on each of its four sides."""
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def _compare(first: Array, second: Array) -> Array:
    """SSIM around every pixel whose window lies inside."""
    mean_1, mean_2 = _average(first), _average(second)
    means = mean_1 * mean_2
    squares = mean_1 * mean_1 + mean_2 * mean_2
    variances = _average(first * first + second * second) - squares  # of both together, as the formula needs them
    covariance = _average(first * second) - means
    similarity: Array = (2 * means + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
    return similarity


def _find_luma(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """BasicSR's luma, rounded where it rounds, with the channels of 8-bit images looked up in tables."""
    if image.dtype != np.uint8 or image.shape[2] != 3:
        return np.asarray(to_y_channel(image))
    levels = (np.arange(256, dtype=np.float32) / 255).astype(np.float64)
    parts = [cv2.LUT(np.ascontiguousarray(image[..., c]), levels * weight) for c, weight in enumerate(_LUMA_BGR)]
    luma = (parts[0] + parts[1] + parts[2] + 16.0) / 255
    return (luma.astype(np.float32) * np.float32(255))[..., None]


def _average(plane: Array) -> Array:
    """Gaussian average around every pixel whose window lies inside, shape (H - 10, W - 10)."""
    window = cv2.getGaussianKernel(WINDOW_SIZE, _WINDOW_SIGMA)
    half = WINDOW_SIZE // 2
    averaged = cv2.sepFilter2D(plane, -1, window, window)[half:-half, half:-half]
    return np.asarray(averaged, dtype=np.float64)
