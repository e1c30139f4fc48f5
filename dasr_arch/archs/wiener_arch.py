"""Wiener filter as a network: the best linear filter for a known degradation, without training."""

import torch
from torch import Tensor

from dasr_arch._errors import check_choice
from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.degradations.wiener import apply_filters, compute_wiener_filters


@ARCH_REGISTRY.register()
class Wiener(SRNetwork):
    """Upsamples with the best linear filter for a known blur kernel and noise level; no weights.

    Args:
        scale: upsampling factor, 1, 2, 3 or 4.
        size: size of the filter in LR pixels, odd.

    Raises:
        ValueError: if an argument is out of range.

    Source:
        :mod:`dasr_arch.degradations.wiener`.
    """

    needs = ('kernel', 'noise_level')

    def __init__(self, scale: int = 4, size: int = 7) -> None:
        super().__init__()
        check_choice('scale', scale, (1, 2, 3, 4), 'Wiener')
        check_choice('size', size, (3, 5, 7, 9, 11, 13, 15), 'Wiener')
        self.scale = scale
        self.size = size

    def forward(self, lq: Tensor, *, kernel: Tensor | None = None, noise_level: Tensor | None = None) -> Tensor:
        """Super-resolves images (B, C, h, w) in [0, 1], of any floating type, to (B, C, h * scale, w * scale).

        The result is around [0, 1], not clamped. Kernels have shape (B, k, k) or (1, k, k), k odd and at most 65, and
        sum 1. Noise levels are standard deviations on the scale 0..255, shape (B,) or (1,), by default 0. ValueError
        without kernel, or if a shape does not fit.
        """
        if kernel is None:
            raise ValueError('Wiener needs the blur kernel, got none; pass kernel=(B, k, k)')
        if kernel.ndim != 3 or len(kernel) not in (1, len(lq)):
            raise ValueError(f'kernel must have shape ({len(lq)}, k, k), got {tuple(kernel.shape)}')
        if noise_level is None:
            noise_level = kernel.new_zeros(len(kernel))
        if noise_level.shape not in ((len(lq),), (1,)):
            raise ValueError(f'noise_level must have shape ({len(lq)},), got {tuple(noise_level.shape)}')
        count = max(len(kernel), len(noise_level))
        filters = compute_wiener_filters(
            kernel.to(lq.device).expand(count, -1, -1), noise_level.to(lq.device).expand(count), self.scale, self.size
        )
        with torch.autocast(lq.device.type, enabled=False):
            return apply_filters(lq.float(), filters).to(lq.dtype)
