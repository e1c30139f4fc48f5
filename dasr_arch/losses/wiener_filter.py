"""A target for the filter that a representation chooses: the best one for the degradation, which training knows."""

import torch
from torch import Tensor, nn

from dasr_arch.archs.layers.wiener_skip import FILTER_SIZE
from dasr_arch.degradations.wiener import compute_wiener_statistics, solve_wiener

# Of the model's least error this share is real: images have edges, which hold power that a filter need not guess.
_REAL = 1 / 8


class FilterTarget(nn.Module):
    """How many decibels a filter loses against the best one, by the model of :mod:`dasr_arch.degradations.wiener`.

    Args:
        scale: up-sampling factor s.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    @torch.no_grad()
    def target(self, kernel: Tensor, noise_level: Tensor) -> Tensor:
        """What filters are compared with.

        Args:
            kernel: true kernels of shape (B, k, k).
            noise_level: standard deviations of the noise on the scale 0..255, shape (B,).

        Returns:
            Shape (B, n), float32: covariances, best weights and least error of each.
        """
        statistics = compute_wiener_statistics(kernel, noise_level, self.scale, FILTER_SIZE)
        best = solve_wiener(statistics)
        least = statistics.detail.mean(1) - (best * statistics.cross).sum((1, 2)) / best.shape[1]
        return torch.cat([statistics.covariance.flatten(1), best.flatten(1), least[:, None]], 1).float()

    def forward(self, filters: Tensor, target: Tensor) -> Tensor:
        """Compares.

        Args:
            filters: weights of shape (B, s * s, k, k), with gradient.
            target: what :meth:`target` gave.

        Returns:
            Mean loss in decibels, at least 0.
        """
        taps, pixels = FILTER_SIZE**2, self.scale**2
        with torch.autocast(filters.device.type, enabled=False):
            covariance, best, least = target.split([taps**2, taps * pixels, 1], 1)
            change = (filters.float().flatten(1) - best).reshape(-1, pixels, taps)
            lost = ((change @ covariance.reshape(-1, taps, taps)) * change).sum((1, 2)) / pixels
            return 10 * torch.log10(1 + lost / (_REAL * least[:, 0])).mean()
