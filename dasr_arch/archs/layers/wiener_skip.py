"""A linear filter, mixed for each image from a few Wiener filters, that enlarges it and undoes its blur.

Not part of the paper. What a linear filter can restore need not be learned by convolutions: the representation says how
to mix it, and the network adds what a linear filter cannot know.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dasr_arch.archs.blocks import SLOPE
from dasr_arch.degradations.kernel_pca import SMALLEST_WIDTH
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel
from dasr_arch.degradations.wiener import (
    WienerStatistics,
    apply_filters,
    compute_wiener_statistics,
    solve_wiener,
)

FILTER_SIZE = 7  # LR pixels
NUM_FILTERS = 24  # within 0.04 dB of the filters themselves, anisotropic blur included
_HIDDEN = 64
_DRAWS = 400  # degradations
_AT_ONCE = 50
_ISOTROPIC = 3  # one in so many
_LARGEST_NOISE = 25.0  # grey levels, paper


class FilterBasis(NamedTuple):
    """Few filters that many are mixtures of.

    Attributes:
        mean: shape (s * s, k, k), each window of sum 1.
        filters: shape (F, s * s, k, k), each window of sum 0.
    """

    mean: Tensor
    filters: Tensor


class WienerEnlargement(nn.Module):
    """Enlarges images with a linear filter that their representations choose; not to be rounded by autocast.

    Args:
        scale: up-sampling factor s.
        representation_dim: length D of representations.

    Attributes:
        mean_filter: see FilterBasis; buffers, which weights files carry.
        filters: likewise.
    """

    mean_filter: Tensor
    filters: Tensor

    def __init__(self, scale: int, representation_dim: int) -> None:
        super().__init__()
        last = nn.Linear(_HIDDEN, NUM_FILTERS)
        nn.init.zeros_(last.weight)  # starts with the mean filter
        nn.init.zeros_(last.bias)
        self.mix = nn.Sequential(nn.Linear(representation_dim, _HIDDEN), nn.LeakyReLU(SLOPE), last)
        basis = compute_filter_basis(scale)
        self.register_buffer('mean_filter', basis.mean.to(last.weight, copy=True))
        self.register_buffer('filters', basis.filters.to(last.weight, copy=True))

    def choose(self, representation: Tensor) -> Tensor:
        """The filters that representations ask for.

        Args:
            representation: shape (B, D).

        Returns:
            Weights of shape (B, s * s, k, k), each window of sum 1.
        """
        shares = self.mix(representation.to(self.filters.dtype))
        weights: Tensor = self.mean_filter + (shares @ self.filters.flatten(1)).reshape(-1, *self.mean_filter.shape)
        # The buffers' sums are 1 and 0, but files of 16 bit round them.
        return weights - weights.mean((2, 3), keepdim=True) + 1 / FILTER_SIZE**2

    def forward(self, x: Tensor, representation: Tensor) -> Tensor:
        """Enlarges.

        Args:
            x: images of shape (B, 3, h, w), any value range.
            representation: shape (B, D) or (1, D).

        Returns:
            Images of shape (B, 3, h * s, w * s), not clamped.
        """
        return apply_filters(x.to(self.filters.dtype), self.choose(representation))


@lru_cache(maxsize=8)
def compute_filter_basis(scale: int) -> FilterBasis:
    """What the filters of Gaussian blurs, of widths up to the scale and any angle, and of noise have in common.

    Principal components, in the measure of what a change of the filter changes in images.

    Args:
        scale: up-sampling factor s.

    Returns:
        The same in every call, float32, on the CPU also where networks are being built elsewhere.
    """
    with torch.device('cpu'), torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        first, second, turn, noise = torch.rand(4, _DRAWS, generator=generator, dtype=torch.float64)
        second[::_ISOTROPIC] = first[::_ISOTROPIC]
        span = max(scale, 1 + SMALLEST_WIDTH) - SMALLEST_WIDTH
        kernels = anisotropic_gaussian_kernel(
            SMALLEST_WIDTH + span * first, SMALLEST_WIDTH + span * second, math.pi * turn
        )
        levels = _LARGEST_NOISE * noise**2  # filters change most where there is little noise
        parts = [
            compute_wiener_statistics(some, level, scale, FILTER_SIZE)
            for some, level in zip(kernels.split(_AT_ONCE), levels.split(_AT_ONCE), strict=True)
        ]
        statistics = WienerStatistics(*(torch.cat(part) for part in zip(*parts, strict=True)))
        weights = solve_wiener(statistics)  # (N, s * s, k * k)
        mean = weights.mean(0)
        spread = statistics.covariance.mean(0)
        spread = spread + spread.diagonal().mean() / len(spread) * torch.eye(len(spread), dtype=spread.dtype)
        root = torch.linalg.cholesky(spread)
        changes = ((weights - mean) @ root).flatten(1)
        components: Tensor = torch.linalg.eigh(changes.T @ changes).eigenvectors.flip(1)[:, :NUM_FILTERS].T
        components = components * (changes.norm() / _DRAWS**0.5)  # shares of about one
        filters = torch.linalg.solve_triangular(
            root, components.reshape(len(components), *mean.shape), upper=False, left=False
        )
        shape = (scale**2, FILTER_SIZE, FILTER_SIZE)
        return FilterBasis(mean.reshape(shape).float(), filters.reshape(-1, *shape).float())
