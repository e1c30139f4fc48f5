"""Blur kernels, sampled at pixel centres and normalised: Gaussians, generalized Gaussians and low-pass filters.

Isotropic and anisotropic Gaussians are those of Wang et al., Unsupervised Degradation Representation Learning for Blind
Super-Resolution, CVPR 2021; the others those of Wang et al., Real-ESRGAN, ICCVW 2021.
"""

import math

import torch
from torch import Tensor

_NEGLIGIBLE = 1e-20  # far below the last digit of any sum with the kernel's centre


def dirac_kernel(kernel_size: int = 21) -> Tensor:
    """Identity kernel: one at the centre.

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
    return _normalise(-_quadratic_form(lambda_1, lambda_2, theta, kernel_size) / 2)


def generalized_gaussian_kernel(
    lambda_1: Tensor, lambda_2: Tensor, theta: Tensor, beta: Tensor, kernel_size: int = 21
) -> Tensor:
    """Generalized Gaussian blur kernels, one per image: exp(-q^beta / 2) where a Gaussian has exp(-q / 2).

    Args:
        lambda_1: as for :func:`anisotropic_gaussian_kernel`, shape (B,).
        lambda_2: likewise, shape (B,).
        theta: rotations in radians, shape (B,).
        beta: exponents, shape (B,), positive; below 1 a sharper peak, above 1 a flatter one, 1 the Gaussian.
        kernel_size: side of the support in pixels, odd.

    Returns:
        Kernels of shape (B, kernel_size, kernel_size), each summing to 1, on lambda_1's device and dtype.

    Raises:
        ValueError: if kernel_size is even, a deviation or exponent is not positive or an angle is not finite.

    Source:
        Wang et al., Real-ESRGAN, ICCVW 2021.
    """
    _check_positive('beta', beta)
    form = _quadratic_form(lambda_1, lambda_2, theta, kernel_size)
    return _normalise(-(form ** beta.reshape(-1, 1, 1)) / 2)


def plateau_gaussian_kernel(
    lambda_1: Tensor, lambda_2: Tensor, theta: Tensor, beta: Tensor, kernel_size: int = 21
) -> Tensor:
    """Plateau-shaped blur kernels, one per image: 1 / (1 + q^beta) where a Gaussian has exp(-q / 2).

    Arguments, result, errors and source are those of :func:`generalized_gaussian_kernel`.
    """
    _check_positive('beta', beta)
    form = _quadratic_form(lambda_1, lambda_2, theta, kernel_size)
    return _normalise(-torch.log1p(form ** beta.reshape(-1, 1, 1)))


def sinc_kernel(cutoff: Tensor, kernel_size: int = 21) -> Tensor:
    """Ideal circular low-pass filters, one per image; they leave ringing beside edges.

    Args:
        cutoff: highest angular frequencies that pass, radians per pixel, shape (B,), in (0, pi].
        kernel_size: side of the support in pixels, odd.

    Returns:
        Kernels of shape (B, kernel_size, kernel_size) with negative lobes, each summing to 1, on cutoff's device and
        dtype.

    Raises:
        ValueError: if kernel_size is even or a cutoff lies outside (0, pi].

    Source:
        Wang et al., Real-ESRGAN, ICCVW 2021.
    """
    _check_kernel_size(kernel_size)
    _check_positive('cutoff', cutoff)
    if bool((cutoff > math.pi).any()):
        raise ValueError(f'cutoff must lie in (0, pi], got {cutoff.tolist()}')
    x, y = _grid(kernel_size, cutoff)
    radius = (x**2 + y**2).sqrt()
    limit = cutoff.reshape(-1, 1, 1)
    ring = limit * torch.special.bessel_j1(limit * radius) / (2 * math.pi * radius.clamp(min=1))
    kernel = torch.where(radius == 0, limit**2 / (4 * math.pi), ring)
    return kernel / kernel.sum((-2, -1), keepdim=True)


def _quadratic_form(lambda_1: Tensor, lambda_2: Tensor, theta: Tensor, kernel_size: int) -> Tensor:
    """Squared distances from the centre in units of the deviations, shape (B, k, k)."""
    _check_kernel_size(kernel_size)
    _check_positive('lambda_1', lambda_1)
    _check_positive('lambda_2', lambda_2)
    if not bool(torch.isfinite(theta).all()):
        raise ValueError(f'theta must be finite, got {theta.tolist()}')
    x, y = _grid(kernel_size, lambda_1)
    cos, sin = theta.cos().reshape(-1, 1, 1), theta.sin().reshape(-1, 1, 1)
    along, across = x * cos + y * sin, y * cos - x * sin
    return (along / lambda_1.reshape(-1, 1, 1)) ** 2 + (across / lambda_2.reshape(-1, 1, 1)) ** 2


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
