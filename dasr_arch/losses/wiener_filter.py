"""Loss of the linear filter that the representation predicts, against the Wiener filter of the true degradation.

Not part of the paper; for networks with ``skip: wiener``.
"""

import torch
from torch import Tensor, nn

from dasr_arch.archs.layers.wiener_skip import FILTER_SIZE
from dasr_arch.degradations.wiener import compute_wiener_statistics, solve_wiener

# Real images have edges, so that the error of the Wiener filter is smaller than its model says by about this factor.
_REAL_ERROR = 1 / 8


class WienerFilterLoss(nn.Module):
    """Loss in decibels against the Wiener filter, by the model of :mod:`dasr_arch.degradations.wiener`."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    @torch.no_grad()
    def target(self, kernel: Tensor, noise_level: Tensor) -> Tensor:
        """Covariance, weights and error of the Wiener filters of true degradations, in one float32 tensor (B, n).

        Kernels have shape (B, k, k); noise levels, standard deviations on the scale 0..255, shape (B,).
        """
        statistics = compute_wiener_statistics(kernel, noise_level, self.scale, FILTER_SIZE)
        best = solve_wiener(statistics)
        least = statistics.detail.mean(1) - (best * statistics.cross).sum((1, 2)) / best.shape[1]
        return torch.cat([statistics.covariance.flatten(1), best.flatten(1), least[:, None]], 1).float()

    def forward(self, filters: Tensor, target: Tensor) -> Tensor:
        """Batch mean in decibels, at least 0, for predicted weights (B, s * s, k, k), with gradient."""
        taps, pixels = FILTER_SIZE**2, self.scale**2
        with torch.autocast(filters.device.type, enabled=False):
            covariance, best, least = target.split([taps**2, taps * pixels, 1], 1)
            change = (filters.float().flatten(1) - best).reshape(-1, pixels, taps)
            excess = ((change @ covariance.reshape(-1, taps, taps)) * change).sum((1, 2)) / pixels
            return 10 * torch.log10(1 + excess / (_REAL_ERROR * least[:, 0])).mean()
