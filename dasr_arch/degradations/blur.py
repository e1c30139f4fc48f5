"""Blurring a batch of images, each with its own kernel."""

import torch
from torch import Tensor
from torch.nn import functional

from dasr_arch.degradations.padding import pad_border


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Blurs images with reflected borders, as the released code does.

    Args:
        x: images of shape (B, C, H, W), any value range.
        kernel: one kernel per image, shape (B, k, k), k odd; every channel gets the same.

    Returns:
        Images of shape (B, C, H, W).

    Raises:
        ValueError: if the shapes do not fit.
    """
    return blur_valid(pad_border(x, kernel.shape[-1] // 2, 'reflect'), kernel)


def blur_valid(x: Tensor, kernel: Tensor) -> Tensor:
    """Blurs where the whole kernel lies inside the image; the kernel is not flipped.

    Args:
        x: images of shape (B, C, H, W), any value range, at least k pixels high and wide.
        kernel: one kernel per image, shape (B, k, k), k odd.

    Returns:
        Images of shape (B, C, H - k + 1, W - k + 1).

    Raises:
        ValueError: if the shapes do not fit.
    """
    _check_shapes(x, kernel)
    batch, channels, height, width = x.shape
    weight = kernel.to(x.dtype).repeat_interleave(channels, 0).unsqueeze(1)  # (B * C, 1, k, k)
    out = functional.conv2d(x.reshape(1, batch * channels, height, width), weight, groups=batch * channels)
    return out.reshape(batch, channels, *out.shape[-2:])


def blur_valid_fourier(x: Tensor, kernel: Tensor) -> Tensor:
    """As :func:`blur_valid`, through the Fourier transform: three times as fast on a CPU, other rounding.

    Args:
        x: images of shape (B, C, H, W) in float32 or float64, at least k pixels high and wide.
        kernel: one kernel per image, shape (B, k, k), k odd.

    Returns:
        Images of shape (B, C, H - k + 1, W - k + 1); in float32 within 2e-6 of the largest value of x.

    Raises:
        ValueError: if the shapes do not fit.
    """
    _check_shapes(x, kernel)
    side = kernel.shape[-1]
    height, width = x.shape[-2:]
    spectrum: Tensor = torch.fft.rfft2(kernel.to(x.dtype), s=(height, width)).conj().unsqueeze(1)
    out: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * spectrum, s=(height, width))
    return out[..., : height - side + 1, : width - side + 1]


def _check_shapes(x: Tensor, kernel: Tensor) -> None:
    batch, _, height, width = x.shape
    if kernel.ndim != 3 or kernel.shape[0] != batch or kernel.shape[1] != kernel.shape[2] or kernel.shape[1] % 2 == 0:
        raise ValueError(f'kernel must have shape ({batch}, k, k) with k odd, got {tuple(kernel.shape)}')
    if min(height, width) < kernel.shape[-1]:
        raise ValueError(f'image of {height} x {width} is smaller than the kernel of {kernel.shape[-1]} pixels')
