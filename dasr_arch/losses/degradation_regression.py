"""A target for the degradation encoder that training alone knows: the kernel in a few numbers, noise level and quality.

Not part of the paper, whose encoder learns by contrast alone. A linear layer reads all from the representation;
weights for testing do not hold it, and restoring costs nothing more.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import InputError
from dasr_arch.degradations.base import Degradation
from dasr_arch.degradations.kernel_pca import compute_kernel_basis, draw_kernels

UNCOMPRESSED = 100
"""The quality that stands for an image without compression."""

_DRAWS = 2000  # kernels, for the basis and its scale
_SAME = 1e-6  # spread of what is the same in all kernels, but for rounding
_WEAKEST = 1e-3  # of the strongest component's spread; what varies less is not blown up to a spread of one
_NARROWEST = 1e-6  # square pixels; below it the variances of a kernel in float32 are rounding, also negative


class CodeTarget(nn.Module):
    """Predicts the known degradation from the representation.

    A kernel is told by its matrix of widths, or by its coefficients in the principal components of the kernels that the
    training draws; each number is shifted and scaled to mean 0 and deviation 1 over those draws, the noise level
    likewise. Compression quality, 100 without compression, is shifted and scaled as if it were uniform.

    Args:
        representation_dim: length D of representations.
        degradation: what the training draws from.
        kernel: 'widths', the C <= 3 numbers of :func:`width_matrix` that vary, or 'components'.
        components: number C of coefficients, for 'components'.
        jpeg_quality: whether the compression quality is told as well.

    Raises:
        InputError: if every image gets the same kernel, there are not so many components, or the quality is asked
            for and not drawn.
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
        if kernel == 'widths':  # isotropic kernels share nothing between x and y
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
        self.head = nn.Linear(representation_dim, codes.shape[1] + (high > low) + jpeg_quality)

    def target(self, kernel: Tensor, noise_level: Tensor, jpeg_quality: Tensor | None = None) -> Tensor:
        """What is to be predicted.

        Args:
            kernel: true kernels of shape (B, k, k).
            noise_level: standard deviations of the noise on the scale 0..255, shape (B,).
            jpeg_quality: qualities in 1..100, or 0 for an image that is not compressed, shape (B,); needed if the
                quality is a part of the target.

        Returns:
            Shape (B, C), with one column more where noise levels are drawn and one more for the quality: what tells the
            kernel, then noise, then quality.
        """
        parts = [(self._describe(kernel) - self.centre) / self.spread]
        mean, deviation = self.noise
        if deviation > 0:
            parts.append(((noise_level.to(parts[0]) - mean) / deviation).unsqueeze(1))
        if self.quality is not None:
            assert jpeg_quality is not None
            known = torch.where(jpeg_quality == 0, UNCOMPRESSED, jpeg_quality).to(parts[0])
            parts.append(((known - self.quality[0]) / self.quality[1]).unsqueeze(1))
        return torch.cat(parts, 1)

    def forward(self, representation: Tensor, target: Tensor) -> Tensor:
        """Compares.

        Args:
            representation: shape (B, D), with gradient.
            target: what :meth:`target` gave.

        Returns:
            The mean squared error; 1 is what predicting the mean gives.
        """
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


def width_matrix(kernel: Tensor) -> Tensor:
    """The square root of a kernel's covariance.

    Of a Gaussian with widths l1 and l2 along axes turned by theta it is R diag(l1, l2) R^T with R the rotation; an
    isotropic one has its width on the diagonal. Unlike axes and angle, it does not jump where both axes are equal.

    A kernel with negative lobes, such as a low-pass filter, is squared first, and the result is multiplied by the root
    of two: a Gaussian gives the same either way, and the lobes do not cancel what lies between them.

    Args:
        kernel: shape (B, k, k), with sum 1.

    Returns:
        Shape (B, 3): width along x, along y, and what they share (0 for axes along x and y), pixels, float32.
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
