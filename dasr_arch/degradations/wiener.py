"""Wiener filters: optimal linear filters against known blur, downsampling and noise under a power-law image model.

The power of natural images falls with the square of the frequency (D. J. Field, Relations between the statistics of
natural images and the response properties of cortical cells, Journal of the Optical Society of America A, 1987). What
LR pixels share with each other and with the HR pixels below them then follows from kernel and noise level, and the best
weights from a system of linear equations (N. Wiener, 1949). No training image is used.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dasr_arch.degradations.resize import downsample_matrix

LARGEST_KERNEL = 65  # pixels; a larger one would overlap itself on the torus
_SIDE = 128  # HR pixels of the model's torus
_VARIANCE = 2500.0  # of grey levels 0..255
_LONGEST = 256.0  # HR pixels; the power of longer waves is that of this wavelength
_ROUNDING = 1 / 12  # variance of rounding to grey levels


class WienerStatistics(NamedTuple):
    """Second-order statistics of a window of LR pixels and the HR pixels at its centre, without the window's mean.

    All are float64, in squared grey levels.
    """

    covariance: Tensor  # of the LR pixels, shape (N, k * k, k * k)
    cross: Tensor  # of HR pixels with LR pixels, shape (N, s * s, k * k)
    detail: Tensor  # variance of HR pixels, shape (N, s * s)


def compute_wiener_filters(kernel: Tensor, noise_level: Tensor, scale: int, size: int = 7) -> Tensor:
    """Optimal linear filters from a window of LR pixels to the HR pixels at its centre.

    The blur kernels (N, k, k) sum to 1, with k odd and at most 65; noise levels (N,) are in grey levels of 0..255;
    ``scale`` s is that of bicubic downsampling; ``size`` is the side of the window in LR pixels, odd. Weights have
    shape (N, s * s, size, size), float32 on the kernels' device; each window sums to 1, and the HR pixels are in the
    order of ``torch.nn.PixelShuffle``. ValueError if a shape or size does not fit.
    """
    weights = solve_wiener(compute_wiener_statistics(kernel, noise_level, scale, size))
    return weights.reshape(-1, scale**2, size, size).float()


def compute_wiener_statistics(kernel: Tensor, noise_level: Tensor, scale: int, size: int = 7) -> WienerStatistics:
    """Second-order statistics of the image model; arguments and errors as in :func:`compute_wiener_filters`."""
    _check(kernel, noise_level, scale, size)
    device, reach, half = kernel.device, size // 2, kernel.shape[-1] // 2
    wave = torch.fft.fftfreq(_SIDE, dtype=torch.float64, device=device)
    power = 1 / (wave[:, None] ** 2 + wave**2 + _LONGEST**-2)
    power *= _VARIANCE / power.sum()

    # From HR to LR as a factor for each frequency: blur, then the downsampling to the block that starts at 4 * scale.
    row = downsample_matrix(9 * scale, scale)[2].to(device, torch.complex128)
    shrink = _waves(wave, torch.arange(9 * scale, device=device) - 4 * scale) @ row
    turn = _waves(wave, torch.arange(-half, half + 1, device=device)) * shrink[:, None]
    transfer = turn @ kernel.to(turn.dtype) @ turn.T  # (N, side, side)

    lr_steps = torch.arange(-2 * reach, 2 * reach + 1, device=device) * scale
    hr_steps = torch.arange(1 - (reach + 1) * scale, reach * scale + 1, device=device)
    lr_lr = _correlate((transfer.real**2 + transfer.imag**2) * power, _waves(wave, lr_steps))
    lr_hr = _correlate(transfer * power, _waves(wave, hr_steps))

    y, x = _grid(size, device)
    i, j = _grid(scale, device)
    raw = lr_lr[:, y[:, None] - y + 2 * reach, x[:, None] - x + 2 * reach]
    unit = torch.eye(size**2).to(raw)
    raw = raw + (noise_level.to(raw) ** 2 + _ROUNDING)[:, None, None] * unit
    cross = lr_hr[:, y * scale - i[:, None] + scale - 1, x * scale - j[:, None] + scale - 1]
    centre = unit - 1 / size**2
    return WienerStatistics(
        covariance=centre @ raw @ centre,
        cross=(cross - raw.mean(1, keepdim=True)) @ centre,
        detail=_VARIANCE - 2 * cross.mean(2) + raw.mean((1, 2))[:, None],
    )


def solve_wiener(statistics: WienerStatistics) -> Tensor:
    """The weights (N, s * s, k * k), float64, of least squared error among those that sum to 1."""
    covariance, cross, _ = statistics
    taps = covariance.shape[-1]
    # Without its mean a window has no variance along (1, ..., 1); any value will do.
    whole = covariance + covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] / taps
    weights: Tensor = torch.linalg.solve(whole, cross.transpose(1, 2)).transpose(1, 2)
    return weights + 1 / taps


def apply_filters(x: Tensor, weights: Tensor) -> Tensor:
    """Upsamples each image (B, C, h, w) with its own filters and replicated borders to (B, C, h * s, w * s).

    Weights have shape (B, s * s, k, k) or (1, s * s, k, k), k odd, and the type of x, whose value range may be any. The
    result is not clamped and differentiable in both.
    """
    batch, channels, height, width = x.shape
    pixels, size = weights.shape[1], weights.shape[-1]
    padded = functional.pad(x, [size // 2] * 4, mode='replicate').transpose(0, 1)  # colours are the batch
    weights = weights.expand(batch, -1, -1, -1).reshape(batch * pixels, 1, size, size)
    out = functional.conv2d(padded.contiguous(), weights, groups=batch)  # (C, B * s * s, h, w)
    out = out.reshape(channels, batch, pixels, height, width).transpose(0, 1)
    return functional.pixel_shuffle(out.reshape(batch, channels * pixels, height, width), round(pixels**0.5))


def _check(kernel: Tensor, noise_level: Tensor, scale: int, size: int) -> None:
    if kernel.ndim != 3 or kernel.shape[1] != kernel.shape[2] or kernel.shape[1] % 2 == 0:
        raise ValueError(f'kernel must have shape (N, k, k) with k odd, got {tuple(kernel.shape)}')
    if kernel.shape[1] > LARGEST_KERNEL:
        raise ValueError(f'kernel must have at most {LARGEST_KERNEL} pixels a side, got {kernel.shape[1]}')
    if noise_level.shape != kernel.shape[:1]:
        raise ValueError(f'noise_level must have shape ({len(kernel)},), got {tuple(noise_level.shape)}')
    if scale < 1 or size < 1 or size % 2 == 0 or 2 * size * scale > _SIDE:
        raise ValueError(
            f'scale must be at least 1 and size odd, scale * size at most {_SIDE // 2}, got {scale} and {size}'
        )


def _grid(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of all pixels of a square, each of shape (side * side,)."""
    axis = torch.arange(side, device=device)
    return axis.repeat_interleave(side), axis.repeat(side)


def _waves(wave: Tensor, places: Tensor) -> Tensor:
    """exp(2 pi i f x): a row for each frequency, a column for each place."""
    return torch.exp(2j * torch.pi * wave[:, None] * places)


def _correlate(spectrum: Tensor, waves: Tensor) -> Tensor:
    """The inverse Fourier transform at some rows and columns, for real signals; shape (N, places, places)."""
    return (waves.T @ spectrum.to(waves.dtype) @ waves).real
