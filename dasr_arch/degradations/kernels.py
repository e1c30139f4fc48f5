"""Blur kernels of the paper: isotropic and anisotropic Gaussians, sampled at pixel centres and normalised.

Wang et al., Unsupervised Degradation Representation Learning for Blind Super-Resolution, CVPR 2021.
"""

import torch
from torch import Tensor

_NEGLIGIBLE = 1e-20  # far below the last digit of any sum with the kernel's centre


def dirac_kernel(kernel_size: int = 21) -> Tensor:
    """The kernel that changes nothing: one at the centre.

    Args:
        kernel_size: side of the support in pixels, odd.

    Returns:
        Kernel of shape (1, kernel_size, kernel_size), float32.

    Raises:
        ValueError: if kernel_size is not odd and positive.
    """
    _check_kernel_size(kernel_size)
    kernel = torch.zeros(1, kernel_size, kernel_size)
    kernel[0, kernel_size // 2, kernel_size // 2] = 1
    return kernel


def isotropic_gaussian_kernel(sigma: Tensor, kernel_size: int = 21) -> Tensor:
    """Isotropic Gaussian blur kernels, one per image.

    Args:
        sigma: kernel widths in HR pixels, shape (B,), positive; the paper draws from [0.2, 4.0] at x4.
        kernel_size: side of the support in pixels, odd.

    Returns:
        Kernels of shape (B, kernel_size, kernel_size), each summing to 1, on sigma's device and dtype.

    Raises:
        ValueError: if kernel_size is even or a width is not positive.

    Source:
        Wang et al., CVPR 2021; agrees with the released code.
    """
    _check_kernel_size(kernel_size)
    _check_positive('sigma', sigma)
    x, y = _grid(kernel_size, sigma)
    return _normalise(-(x**2 + y**2) / (2 * sigma.reshape(-1, 1, 1) ** 2))


def anisotropic_gaussian_kernel(lambda_1: Tensor, lambda_2: Tensor, theta: Tensor, kernel_size: int = 21) -> Tensor:
    """Anisotropic Gaussian blur kernels, one per image.

    The covariance is U diag(lambda_1^2, lambda_2^2) U^T with U the rotation by theta. Rows count downwards, so a
    positive angle turns the first axis clockwise on the screen.

    Args:
        lambda_1: standard deviations in HR pixels along the axis (cos theta, sin theta), shape (B,), positive.
        lambda_2: standard deviations in HR pixels across it, shape (B,), positive.
        theta: rotations in radians, shape (B,).
        kernel_size: side of the support in pixels, odd.

    Returns:
        Kernels of shape (B, kernel_size, kernel_size), each summing to 1, on lambda_1's device and dtype.

    Raises:
        ValueError: if kernel_size is even, a deviation is not positive or an angle is not finite.

    Source:
        Wang et al., CVPR 2021; the paper calls the deviations eigenvalues, its released code squares them.
    """
    _check_kernel_size(kernel_size)
    _check_positive('lambda_1', lambda_1)
    _check_positive('lambda_2', lambda_2)
    if not bool(torch.isfinite(theta).all()):
        raise ValueError(f'theta must be finite, got {theta.tolist()}')
    x, y = _grid(kernel_size, lambda_1)
    cos, sin = theta.cos().reshape(-1, 1, 1), theta.sin().reshape(-1, 1, 1)
    along, across = x * cos + y * sin, y * cos - x * sin
    exponent = (along / lambda_1.reshape(-1, 1, 1)) ** 2 + (across / lambda_2.reshape(-1, 1, 1)) ** 2
    return _normalise(-exponent / 2)


def _grid(kernel_size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row coordinates from the centre, shapes (1, 1, k) and (1, k, 1)."""
    axis = torch.arange(kernel_size, device=like.device, dtype=like.dtype) - kernel_size // 2
    return axis.reshape(1, 1, -1), axis.reshape(1, -1, 1)


def _normalise(exponent: Tensor) -> Tensor:
    """Exponentials that sum to 1 over the last two axes."""
    kernel = exponent.exp()
    kernel = kernel / kernel.sum((-2, -1), keepdim=True)
    # Products with the far tail of a narrow kernel are subnormal numbers, on which processors are many times slower.
    return torch.where(kernel < _NEGLIGIBLE, 0, kernel)


def _check_kernel_size(kernel_size: int) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'kernel_size must be odd and positive, got {kernel_size}; the paper uses 21')


def _check_positive(name: str, value: Tensor) -> None:
    if not bool((torch.isfinite(value) & (value > 0)).all()):
        raise ValueError(f'{name} must be positive and finite, got {value.tolist()}')
