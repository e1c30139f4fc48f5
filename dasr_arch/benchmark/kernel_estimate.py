"""A blur kernel from the coefficients that IKC's Predictor gives, for networks that must be told one.

A Predictor is trained against coefficients in one basis and its weights file does not say in which; a file of the whole
IKC holds the basis beside it. So what other networks are told is a kernel, which each of them reads in its own basis.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dasr_arch._errors import InputError
from dasr_arch.archs.conditions import fit_kernel
from dasr_arch.degradations.kernel_basis import SMALLEST_WIDTH, isotropic_basis
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel

BASIS_KEY = 'sftmd.kernel_code.basis'
"""Where the weights of a whole IKC hold the basis of its coefficients."""

_PREDICTOR_PREFIX = 'predictor.'
_STEP = 0.01  # HR pixels, between the widths that are tried
_KERNEL_SIZE = 21


class KernelEstimator:
    """Estimates the blur kernel of a picture: the isotropic Gaussian whose coefficients are nearest the predicted ones.

    The nearest width rather than the kernel that the coefficients span: that one may have negative entries and does not
    sum to 1, and it is what the Predictor's training ranges over.

    Args:
        predictor: maps an LR picture (1, 3, h, w) to coefficients (1, C).
        scale: up-sampling factor; widths are searched from 0.2 to it, the range of the training.
        basis: what the coefficients are in, components (C, k, k); None for IKC's own at this scale.

    Raises:
        InputError: if basis and predictor differ in the number of coefficients.

    Source:
        Gu et al., CVPR 2019, for the coefficients; the search is ours, see docs/comparison.md.
    """

    def __init__(self, predictor: nn.Module, scale: int, basis: Tensor | None = None) -> None:
        self.predictor = predictor
        parameter = next(predictor.parameters())
        with torch.inference_mode():
            length = predictor(torch.full((1, 3, 8, 8), 0.5, device=parameter.device, dtype=parameter.dtype)).shape[-1]
        basis = isotropic_basis(scale, _KERNEL_SIZE, length) if basis is None else basis.detach().float().cpu()
        if len(basis) != length:
            raise InputError(f'the basis has {len(basis)} components, but the predictor gives {length} coefficients')
        widths = torch.arange(SMALLEST_WIDTH, scale + _STEP / 2, _STEP)
        self.widths = widths
        self._kernels = isotropic_gaussian_kernel(widths, _KERNEL_SIZE)
        self._codes = fit_kernel(self._kernels, basis.shape[-1]).flatten(1) @ basis.flatten(1).T

    def __call__(self, lq: Tensor) -> Tensor:
        """The kernel of one picture.

        Args:
            lq: RGB of shape (1, 3, h, w) in [0, 1], on the predictor's device.

        Returns:
            Shape (1, 21, 21), sum 1, on the device of ``lq``.
        """
        return self._kernels[self._find(lq)].unsqueeze(0).to(lq.device)

    def estimate_width(self, lq: Tensor) -> float:
        """The standard deviation in HR pixels of the kernel that is found for a picture (1, 3, h, w)."""
        return float(self.widths[self._find(lq)])

    def _find(self, lq: Tensor) -> int:
        with torch.inference_mode():
            code: Tensor = self.predictor(lq).float().cpu()
        return int((self._codes - code).square().sum(1).argmin())

    def to(self, device: torch.device) -> 'KernelEstimator':
        """Moves the predictor."""
        self.predictor.to(device)
        return self


def split_predictor(state: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Tensor | None]:
    """The Predictor's tensors of a file, and the basis of its coefficients.

    Args:
        state: tensors of a Predictor alone, or of a whole IKC.

    Returns:
        The Predictor's state dict, and the basis (C, k, k); None where the file does not hold a known one.
    """
    part = {k.removeprefix(_PREDICTOR_PREFIX): v for k, v in state.items() if k.startswith(_PREDICTOR_PREFIX)}
    if not part:
        return state, None
    basis = state.get(BASIS_KEY)
    return part, basis if basis is not None and bool(torch.isfinite(basis).all()) else None
