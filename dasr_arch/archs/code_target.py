"""A target for the degradation encoder that training alone knows: the true kernel's code and the noise level.

Not part of the paper, whose encoder learns by contrast alone. A linear layer reads both from the representation;
weights for testing do not hold it, and restoring costs nothing more.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import InputError
from dasr_arch.degradations.base import Degradation
from dasr_arch.degradations.kernel_basis import compute_kernel_basis, draw_kernels

_DRAWS = 2000  # kernels, for the basis and its scale
_WEAKEST = 1e-3  # of the strongest component's spread; what varies less is not blown up to a spread of one


class CodeTarget(nn.Module):
    """Predicts the known degradation from the representation.

    A kernel is told by its coefficients in the principal components of the kernels that the training draws, each
    shifted and scaled to mean 0 and deviation 1 over those; the noise level likewise.

    Args:
        representation_dim: length D of representations.
        degradation: what the training draws from.
        components: number C of coefficients.

    Raises:
        InputError: if every picture gets the same kernel, or there are not so many components.
    """

    basis: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, representation_dim: int, degradation: Degradation, components: int = 10) -> None:
        super().__init__()
        if degradation.fixed_kernel:
            raise InputError(
                f"code_opt: '{degradation.label}' has one kernel for all pictures, so there is none to find"
            )
        kernels = draw_kernels(degradation, _DRAWS)
        most = kernels[0].numel()
        if not 1 <= components <= most:
            raise InputError(f'code_opt.components must lie in 1..{most} for these kernels, got {components}')
        self.register_buffer('basis', compute_kernel_basis(kernels, components, centred=True))
        codes = self._project(kernels)
        spread = codes.std(0)
        self.register_buffer('centre', codes.mean(0))
        self.register_buffer('spread', spread.clamp(min=_WEAKEST * float(spread.max())))
        low, high = degradation.noise_range or (0.0, 0.0)
        self.noise = (low + high) / 2, (high - low) / 12**0.5  # mean and deviation of a uniform draw
        self.head = nn.Linear(representation_dim, components + (high > low))

    def target(self, kernel: Tensor, noise_level: Tensor) -> Tensor:
        """What is to be predicted.

        Args:
            kernel: true kernels of shape (B, k, k).
            noise_level: standard deviations of the noise on the scale 0..255, shape (B,).

        Returns:
            Shape (B, C), or (B, C + 1) where noise levels are drawn: coefficients, then noise.
        """
        code = (self._project(kernel) - self.centre) / self.spread
        mean, deviation = self.noise
        if deviation == 0:
            return code
        return torch.cat([code, ((noise_level.to(code) - mean) / deviation).unsqueeze(1)], 1)

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

    def _project(self, kernel: Tensor) -> Tensor:
        return kernel.to(self.basis).flatten(1) @ self.basis.flatten(1).T
