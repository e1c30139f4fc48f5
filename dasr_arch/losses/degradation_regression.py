"""Auxiliary loss: regression of true kernel, noise level, JPEG quality and strength from the representation.

Training only. Not part of the paper, whose encoder is trained by contrast alone. The regression head is one linear
layer, which weights files do not contain.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import InputError
from dasr_arch.degradations.base import Degradation
from dasr_arch.degradations.kernel_pca import compute_kernel_basis, draw_kernels

UNCOMPRESSED = 100
"""JPEG quality that stands for an image without compression."""

_DRAWS = 2000  # kernels, for the basis and the normalisation
_SAME = 1e-6  # deviation of a parameter that is constant but for rounding
_WEAKEST = 1e-3  # share of the largest deviation; parameters that vary less are not normalised to a deviation of 1
_NARROWEST = 1e-6  # square pixels; below it the variances of a kernel in float32 are rounding, also negative


class DegradationRegression(nn.Module):
    """Regression head on representations of length D, and its loss.

    A kernel is described by its width matrix ('widths': the C <= 3 numbers of :func:`width_matrix` that vary), or by
    its C coefficients in the principal components of the training's kernels ('components'). Each parameter and the
    noise level are normalised to mean 0 and deviation 1 over the training's draws. The compression quality, with
    ``jpeg_quality``, is 100 without compression and normalised as a uniform variable; the strength, with ``level``, is
    its place among those of the degradation. InputError if the kernel is fixed, there are fewer components, or the
    degradation draws no quality or strength.
    """

    basis: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        representation_dim: int,
        degradation: Degradation,
        kernel: Literal['widths', 'components'] = 'widths',
        components: int = 10,
        jpeg_quality: bool = False,
        level: bool = False,
    ) -> None:
        super().__init__()
        if degradation.fixed_kernel:
            raise InputError(f"code_opt: '{degradation.label}' has one kernel for all images, so there is none to find")
        kernels = draw_kernels(degradation, _DRAWS)
        self.kernel = kernel
        if kernel == 'components':
            most = kernels[0].numel()
            if not 1 <= components <= most:
                raise InputError(f'code_opt.components must lie in 1..{most} for these kernels, got {components}')
            self.register_buffer('basis', compute_kernel_basis(kernels, components, centred=True))
        self.varying: Tensor | None
        self.register_buffer('varying', None, persistent=False)
        codes = self._describe(kernels)
        spread = codes.std(0)
        if float(spread.max()) < _SAME:
            raise InputError(f"code_opt: '{degradation.label}' has one kernel for all images, so there is none to find")
        if kernel == 'widths':  # the covariance of isotropic kernels is constant
            self.varying = (spread > _WEAKEST * spread.max()).nonzero().flatten()
            codes, spread = codes[:, self.varying], spread[self.varying]
        self.register_buffer('centre', codes.mean(0))
        self.register_buffer('spread', spread.clamp(min=_WEAKEST * float(spread.max())))
        low, high = degradation.drawn_noise_levels or (0.0, 0.0)
        self.noise = _uniform_moments(low, high)
        self.quality: tuple[float, float] | None = None
        if jpeg_quality:
            if degradation.drawn_jpeg_qualities is None:
                raise InputError(f"code_opt.jpeg_quality: '{degradation.label}' draws no JPEG quality; remove it")
            self.quality = _uniform_moments(degradation.drawn_jpeg_qualities[0], UNCOMPRESSED)
        self.level: tuple[float, float] | None = None
        if level:
            shares = degradation.drawn_levels
            if shares is None or max(shares) == 1:
                raise InputError(f"code_opt.level: '{degradation.label}' draws no level; remove it")
            self.level = _moments_of_places(shares)
        self.head = nn.Linear(representation_dim, codes.shape[1] + (high > low) + jpeg_quality + level)

    def target(
        self,
        kernel: Tensor,
        noise_level: Tensor,
        jpeg_quality: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Tensor:
        """Normalised parameters (B, C) of true degradations: kernel, noise level if drawn, quality and level if asked.

        Kernels have shape (B, k, k); noise levels, standard deviations on the scale 0..255, qualities, 1..100 or 0 for
        an image that is not compressed, and levels, 0 for the weakest, shape (B,).
        """
        parts = [(self._describe(kernel) - self.centre) / self.spread]
        mean, deviation = self.noise
        if deviation > 0:
            parts.append(((noise_level.to(parts[0]) - mean) / deviation).unsqueeze(1))
        if self.quality is not None:
            assert jpeg_quality is not None
            known = torch.where(jpeg_quality == 0, UNCOMPRESSED, jpeg_quality).to(parts[0])
            parts.append(((known - self.quality[0]) / self.quality[1]).unsqueeze(1))
        if self.level is not None:
            assert level is not None
            parts.append(((level.to(parts[0]) - self.level[0]) / self.level[1]).unsqueeze(1))
        return torch.cat(parts, 1)

    def forward(self, representation: Tensor, target: Tensor) -> Tensor:
        """Mean squared error from the target, for representations (B, D) with gradient; 1 for predicting the mean."""
        with torch.autocast(representation.device.type, enabled=False):
            return functional.mse_loss(self.head(representation.float()), target)

    def _describe(self, kernel: Tensor) -> Tensor:
        if self.kernel == 'widths':
            found = width_matrix(kernel)
            return found if self.varying is None else found.index_select(1, self.varying)
        return kernel.to(self.basis).flatten(1) @ self.basis.flatten(1).T


def _uniform_moments(low: float, high: float) -> tuple[float, float]:
    """Mean and deviation of a uniform draw."""
    return (low + high) / 2, (high - low) / 12**0.5


def _moments_of_places(shares: Sequence[float]) -> tuple[float, float]:
    """Mean and deviation of a place that is drawn with given probabilities."""
    mean = sum(place * share for place, share in enumerate(shares))
    return mean, sum((place - mean) ** 2 * share for place, share in enumerate(shares)) ** 0.5


def width_matrix(kernel: Tensor) -> Tensor:
    """Matrix square root of the covariance of kernels (B, k, k) of sum 1: xx, yy, xy in pixels, float32 (B, 3).

    For a Gaussian with axis widths l1 and l2 and rotation R it is R diag(l1, l2) R^T. Unlike widths and angle, it is
    continuous where both widths are equal.

    A kernel with negative lobes, such as a low-pass filter, is squared first, and the result is multiplied by the root
    of two: a Gaussian gives the same either way, and the lobes do not cancel what lies between them.
    """
    mass = kernel.double()
    lobed = (mass < 0).flatten(1).any(1)
    squared = mass**2 / (mass**2).sum((-2, -1), keepdim=True)
    mass = torch.where(lobed.reshape(-1, 1, 1), squared, mass)
    place = torch.arange(kernel.shape[-1], dtype=mass.dtype, device=mass.device)
    x, y = torch.einsum('bij,j->b', mass, place), torch.einsum('bij,i->b', mass, place)
    xx = torch.einsum('bij,j->b', mass, place**2) - x**2
    yy = torch.einsum('bij,i->b', mass, place**2) - y**2
    xy = torch.einsum('bij,i,j->b', mass, place, place) - x * y
    root = (xx * yy - xy**2).clamp(min=0).sqrt()  # of the determinant
    trace = (xx + yy + 2 * root).clamp(min=_NARROWEST).sqrt()  # of the square root
    widths = torch.stack([(xx + root) / trace, (yy + root) / trace, xy / trace], 1)
    return torch.where(lobed.unsqueeze(1), math.sqrt(2) * widths, widths).float()
