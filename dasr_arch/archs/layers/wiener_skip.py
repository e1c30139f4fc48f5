"""Skip connection by a linear filter: an upsampling deblurring filter, mixed per image from a basis of Wiener filters.

Not part of the paper. The representation predicts the mixing weights; the network adds the residual that a linear
filter cannot restore.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dasr_arch.archs.dasr_arch import SLOPE
from dasr_arch.degradations.kernel_pca import SMALLEST_WIDTH
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel
from dasr_arch.degradations.wiener import WienerStatistics, apply_filters, compute_wiener_statistics, solve_wiener

FILTER_SIZE = 7  # LR pixels
NUM_FILTERS = 24  # loss against exact Wiener filters below 0.04 dB, also for anisotropic blur
_HIDDEN = 64
_DRAWS = 400  # degradations for the basis
_CHUNK = 50  # degradations computed at a time
_ISOTROPIC = 3  # one draw in three is isotropic
_LARGEST_NOISE = 25.0  # grey levels, paper


class FilterBasis(NamedTuple):
    """Basis of the Wiener filters."""

    mean: Tensor  # (s * s, k, k), each window of sum 1
    filters: Tensor  # (F, s * s, k, k), each window of sum 0


class WienerUpsampler(nn.Module):
    """Upsamples images with a linear filter predicted from the representation; to be run without autocast."""

    mean_filter: Tensor  # as FilterBasis.mean, in weights files
    filters: Tensor  # as FilterBasis.filters, in weights files

    def __init__(self, scale: int, representation_dim: int) -> None:
        super().__init__()
        last = nn.Linear(_HIDDEN, NUM_FILTERS)
        nn.init.zeros_(last.weight)  # starts with the mean filter
        nn.init.zeros_(last.bias)
        self.mix = nn.Sequential(nn.Linear(representation_dim, _HIDDEN), nn.LeakyReLU(SLOPE), last)
        basis = compute_filter_basis(scale)
        self.register_buffer('mean_filter', basis.mean.to(last.weight, copy=True))
        self.register_buffer('filters', basis.filters.to(last.weight, copy=True))

    def predict_filters(self, representation: Tensor) -> Tensor:
        """Filters (B, s * s, k, k), each window of sum 1, predicted from representations (B, D)."""
        shares = self.mix(representation.to(self.filters.dtype))
        weights: Tensor = self.mean_filter + (shares @ self.filters.flatten(1)).reshape(-1, *self.mean_filter.shape)
        # 16-bit weights files round the buffers, so the sum is made 1 again.
        return weights - weights.mean((2, 3), keepdim=True) + 1 / FILTER_SIZE**2

    def forward(self, x: Tensor, representation: Tensor) -> Tensor:
        """Upsamples (B, 3, h, w) to (B, 3, h * s, w * s), not clamped, given representations (B, D) or (1, D)."""
        return apply_filters(x.to(self.filters.dtype), self.predict_filters(representation))


@lru_cache(maxsize=8)
def compute_filter_basis(scale: int) -> FilterBasis:
    """Principal components of the Wiener filters for Gaussian blur and noise, deterministic.

    Widths reach the scale, angles are arbitrary. The metric is the change of the output image. The basis is float32 and
    on the CPU, also under ``torch.device``.
    """
    with torch.device('cpu'), torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        first, second, turn, noise = torch.rand(4, _DRAWS, generator=generator, dtype=torch.float64)
        second[::_ISOTROPIC] = first[::_ISOTROPIC]
        span = max(scale, 1 + SMALLEST_WIDTH) - SMALLEST_WIDTH
        kernels = anisotropic_gaussian_kernel(
            SMALLEST_WIDTH + span * first, SMALLEST_WIDTH + span * second, math.pi * turn
        )
        levels = _LARGEST_NOISE * noise**2  # more draws of low noise, where filters vary most
        parts = [
            compute_wiener_statistics(some, level, scale, FILTER_SIZE)
            for some, level in zip(kernels.split(_CHUNK), levels.split(_CHUNK), strict=True)
        ]
        statistics = WienerStatistics(*(torch.cat(part) for part in zip(*parts, strict=True)))
        weights = solve_wiener(statistics)  # (N, s * s, k * k)
        mean = weights.mean(0)
        spread = statistics.covariance.mean(0)
        spread = spread + spread.diagonal().mean() / len(spread) * torch.eye(len(spread), dtype=spread.dtype)
        root = torch.linalg.cholesky(spread)
        changes = ((weights - mean) @ root).flatten(1)
        components: Tensor = torch.linalg.eigh(changes.T @ changes).eigenvectors.flip(1)[:, :NUM_FILTERS].T
        components = components * (changes.norm() / _DRAWS**0.5)  # mixing weights of about one
        filters = torch.linalg.solve_triangular(
            root, components.reshape(len(components), *mean.shape), upper=False, left=False
        )
        shape = (scale**2, FILTER_SIZE, FILTER_SIZE)
        return FilterBasis(mean.reshape(shape).float(), filters.reshape(-1, *shape).float())
