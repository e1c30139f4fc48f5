"""Blur of image batches with one kernel per image: direct, with FFT, or as two matrix products.

The matrices serve separable kernels. They compute blur, border and downsampling of the LR pixels only: on a CPU ten
times as fast as a two-dimensional blur of all HR pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from dasr_arch.degradations.padding import pad_border


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Blurs images (B, C, H, W) of any value range with reflected borders, as the released code does.

    There is one kernel per image, shape (B, k, k), k odd; every channel gets the same. ValueError if the shapes do not
    fit.
    """
    return blur_valid(pad_border(x, kernel.shape[-1] // 2, 'reflect'), kernel)


def blur_valid(x: Tensor, kernel: Tensor) -> Tensor:
    """Blurs images (B, C, H, W) where the whole kernel lies inside; returns (B, C, H - k + 1, W - k + 1).

    There is one kernel per image, shape (B, k, k), k odd, which is not flipped. ValueError if the shapes do not fit or
    an image is smaller than the kernel.
    """
    _check_shapes(x, kernel)
    batch, channels, height, width = x.shape
    weight = kernel.to(x.dtype).repeat_interleave(channels, 0).unsqueeze(1)  # (B * C, 1, k, k)
    out = functional.conv2d(x.reshape(1, batch * channels, height, width), weight, groups=batch * channels)
    return out.reshape(batch, channels, *out.shape[-2:])


def blur_valid_fourier(x: Tensor, kernel: Tensor) -> Tensor:
    """As :func:`blur_valid`, through the Fourier transform: three times as fast on a CPU, other rounding.

    Images are float32 or float64; in float32 the result is within 2e-6 of the largest value of x.
    """
    _check_shapes(x, kernel)
    side = kernel.shape[-1]
    height, width = x.shape[-2:]
    spectrum: Tensor = torch.fft.rfft2(kernel.to(x.dtype), s=(height, width)).conj().unsqueeze(1)
    out: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * spectrum, s=(height, width))
    return out[..., : height - side + 1, : width - side + 1]


def split_kernel(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors, column and row, of separable kernels (B, k, k); kernel and factors (B, k) have the sum 1."""
    return kernel.sum(-1), kernel.sum(-2)


def split_kernels(kernel: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Columns and rows whose products add up to any kernel (B, k, k), by its singular values.

    For each kernel both have shape (R, k), with R = 1 for separable kernels; the difference from it has an L2 norm of
    at most 1e-4.
    """
    left, values, right = torch.linalg.svd(kernel.double())
    rest = (values**2).flip(1).cumsum(1).flip(1).sqrt()
    counts = (rest > 1e-4).sum(1).clamp(min=1).tolist()
    return [
        ((columns[:, :count] * strengths[:count]).T.float(), rows[:count].float())
        for columns, strengths, rows, count in zip(left, values, right, counts, strict=True)
    ]


def blur_matrix(taps: Tensor, index: Tensor) -> Tensor:
    """Matrices (B, n, n + k - 1) that blur one axis with kernels (B, k), not flipped, where they lie inside.

    ``index`` (B, n) is the blurred pixel that each row of a matrix gives, each in [0, n).
    """
    batch, side = taps.shape
    count = index.shape[1]
    places = index.unsqueeze(-1) + torch.arange(side, device=taps.device)
    matrix = taps.new_zeros(batch, count, count + side - 1)
    return matrix.scatter_(2, places, taps.unsqueeze(1).expand_as(places))


def apply_matrices(x: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Filters images (B, C, H, W) along both axes with matrices (B, h, H) and (B, w, W); returns (B, C, h, w)."""
    to_narrow = horizontal.to(x.dtype).transpose(1, 2)
    # One channel after the other: all at once, patches cut out of larger ones would be copied first.
    narrow = torch.stack([torch.bmm(channel, to_narrow) for channel in x.unbind(1)], 1)
    return torch.matmul(vertical.to(x.dtype).unsqueeze(1), narrow)


def _check_shapes(x: Tensor, kernel: Tensor) -> None:
    batch, _, height, width = x.shape
    if kernel.ndim != 3 or kernel.shape[0] != batch or kernel.shape[1] != kernel.shape[2] or kernel.shape[1] % 2 == 0:
        raise ValueError(f'kernel must have shape ({batch}, k, k) with k odd, got {tuple(kernel.shape)}')
    if min(height, width) < kernel.shape[-1]:
        raise ValueError(f'image of {height} x {width} is smaller than the kernel of {kernel.shape[-1]} pixels')
