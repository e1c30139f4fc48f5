"""Blur kernels, sampled at pixel centres and normalised: Gaussians, generalized Gaussians and low-pass filters.

Isotropic and anisotropic Gaussians are those of Wang et al., Unsupervised Degradation Representation Learning for Blind
Super-Resolution, CVPR 2021; the others those of Wang et al., Real-ESRGAN, ICCVW 2021.
"""

import math

import torch
from torch import Tensor

_NEGLIGIBLE = 1e-20  # far below the last digit of any sum with the kernel's centre


def dirac_kernel(kernel_size: int = 21) -> Tensor:
    """Identity kernel (1, k, k), float32: one at the centre. ValueError if kernel_size is not odd and positive."""
    _check_kernel_size(kernel_size)
    kernel = torch.zeros(1, kernel_size, kernel_size)
    kernel[0, kernel_size // 2, kernel_size // 2] = 1
    return kernel


def isotropic_gaussian_kernel(sigma: Tensor, kernel_size: int = 21) -> Tensor:
    """Isotropic Gaussian kernels (B, k, k), one per image, each summing to 1, in sigma's device and dtype.

    ``sigma`` (B,) is the width in HR pixels, positive; the paper draws from [0.2, 4.0] at x4. ValueError if kernel_size
    is even or a width is not positive.

    Source: Wang et al., CVPR 2021; agrees with the released code.
    """
    _check_kernel_size(kernel_size)
    _check_positive('sigma', sigma)
    x, y = _grid(kernel_size, sigma)
    return _normalise(-(x**2 + y**2) / (2 * sigma.reshape(-1, 1, 1) ** 2))


def anisotropic_gaussian_kernel(lambda_1: Tensor, lambda_2: Tensor, theta: Tensor, kernel_size: int = 21) -> Tensor:
    """Anisotropic Gaussian kernels (B, k, k), one per image, each summing to 1, in lambda_1's device and dtype.

    The covariance is U diag(lambda_1^2, lambda_2^2) U^T with U the rotation by theta, radians. Rows count downwards, so
    a positive angle turns the first axis clockwise on the screen. The standard deviations in HR pixels, positive, are
    along the axis (cos theta, sin theta) and across it. All three have shape (B,). ValueError if kernel_size is even, a
    deviation is not positive or an angle is not finite.

    Source: Wang et al., CVPR 2021; the paper calls the deviations eigenvalues, its released code squares them.
    """
    return _normalise(-_quadratic_form(lambda_1, lambda_2, theta, kernel_size) / 2)


def generalized_gaussian_kernel(
    lambda_1: Tensor, lambda_2: Tensor, theta: Tensor, beta: Tensor, kernel_size: int = 21
) -> Tensor:
    """Generalized Gaussian blur kernels, one per image: exp(-q^beta / 2) where a Gaussian has exp(-q / 2).

    The exponents ``beta`` (B,) are positive: below 1 for a sharper peak, above 1 for a flatter one, 1 for the Gaussian.
    The other arguments, the result and errors are those of :func:`anisotropic_gaussian_kernel`.

    Source: Wang et al., Real-ESRGAN, ICCVW 2021.
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
    """Ideal circular low-pass filters (B, k, k), one per image; they leave ringing beside edges.

    ``cutoff`` (B,) has the highest angular frequencies that pass, radians per pixel, in (0, pi]. Kernels have negative
    lobes, sum to 1, and are in cutoff's device and dtype. ValueError if kernel_size is even or a cutoff lies outside.

    Source: Wang et al., Real-ESRGAN, ICCVW 2021.
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
