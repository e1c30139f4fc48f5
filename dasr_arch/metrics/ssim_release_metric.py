"""SSIM of the authors' released test code, for comparison with its results.

Wang et al., Unsupervised Degradation Representation Learning for Blind Super-Resolution, CVPR 2021.
"""

import numpy as np
from basicsr.metrics.metric_util import reorder_image
from numpy.typing import NDArray

from dasr_arch._registration import METRIC_REGISTRY
from dasr_arch.metrics.structural_similarity import crop_sides, measure_plane_ssim

# Luma weights meant for a division by 256; the release divides by 255, so its luma is 0.4 % too large.
_WEIGHTS_BGR = np.array([25.064, 129.057, 65.738]) / 255


@METRIC_REGISTRY.register()
def calculate_ssim_release(
    img: NDArray[np.generic], img2: NDArray[np.generic], crop_border: int, input_order: str = 'HWC'
) -> float:
    """Mean SSIM on the released code's luma; a few ten-thousandths below BasicSR's.

    Args:
        img: colour image in [0, 255], BGR as BasicSR's, shape (H, W, 3) or (3, H, W).
        img2: the image it is compared with.
        crop_border: pixels ignored on each side; the release ignores as many as the scale.
        input_order: 'HWC' or 'CHW'.

    Returns:
        Mean SSIM, at most 1.

    Raises:
        ValueError: if an image is not a colour image, the shapes differ, or too few pixels are left.
    """
    lumas = [_release_luma(reorder_image(image, input_order), crop_border) for image in (img, img2)]
    return measure_plane_ssim(*lumas)


def _release_luma(image: NDArray[np.generic], crop_border: int) -> NDArray[np.float64]:
    """Luma plane (H - 2b, W - 2b) of a BGR image (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'calculate_ssim_release needs colour images of shape (H, W, 3), got {image.shape}')
    luma: NDArray[np.float64] = crop_sides(image, crop_border).astype(np.float64) @ _WEIGHTS_BGR + 16
    return luma
