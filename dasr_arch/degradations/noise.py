"""What happens to the small image: Gaussian noise, rounding to 8 bit, JPEG compression."""

import cv2
import numpy as np
import torch
from torch import Tensor


def add_noise(x: Tensor, noise_level: Tensor, noise: Tensor) -> Tensor:
    """Adds white Gaussian noise.

    Args:
        x: images of shape (B, C, h, w) in [0, 1].
        noise_level: standard deviations in grey levels of 0..255, shape (B,).
        noise: standard normal values of x's shape.

    Returns:
        Noisy images, not clamped.
    """
    return x + noise * (noise_level.to(x.dtype) / 255).reshape(-1, 1, 1, 1)


def quantise(x: Tensor) -> Tensor:
    """Rounds to the nearest of 256 grey levels (halves to even) and clamps.

    Args:
        x: images with values around [0, 1].

    Returns:
        Images in [0, 1] on the grid of 1/255; no gradient passes.
    """
    return (x.detach() * 255).round().clamp(0, 255) / 255


def compress_jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """Compresses and restores images with the JPEG codec (4:2:0 chroma), on the CPU.

    Args:
        x: RGB images of shape (B, 3, h, w) in [0, 1] on the grid of 1/255.
        quality: JPEG quality in 1..100, or 0 to leave an image as it is; shape (B,).

    Returns:
        Images of the same shape, device and grid.
    """
    out = x.clone()
    for i, value in enumerate(quality.tolist()):
        if value == 0:
            continue
        image = (x[i] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        bgr = np.ascontiguousarray(image[..., ::-1])
        encoded = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, int(value)])[1]
        restored = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert restored is not None  # it has just been encoded
        rgb = np.ascontiguousarray(restored[..., ::-1])
        out[i] = torch.from_numpy(rgb).permute(2, 0, 1).to(x) / 255
    return out
