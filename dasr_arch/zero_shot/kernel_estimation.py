"""Blur kernels for networks that must be told one, found by IKC in the image itself.

DASR's comparison feeds SRMDNF and MZSR so ("+ Predictor"). IKC knows a kernel as coefficients in a basis of its own;
what other networks take is a kernel, so the isotropic Gaussian whose coefficients are nearest is made.
"""

import torch
from torch import Tensor

from dasr_arch.archs.ikc_arch import IKC, IKCOutput
from dasr_arch.degradations.kernel_pca import SMALLEST_WIDTH
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel

_STEP = 0.01  # HR pixels between two widths that are tried


def estimate_width(network: IKC, code: Tensor) -> Tensor:
    """The width of the isotropic Gaussian whose coefficients are nearest.

    Args:
        network: whose basis the coefficients belong to; the widest Gaussian that is tried is as wide as its scale.
        code: coefficients of shape (B, code_length).

    Returns:
        Widths in HR pixels, shape (B,), float32, from 0.2 to the scale in steps of 0.01.

    Raises:
        ValueError: if the network's weights came without the basis of their kernels.
    """
    count = round((network.scale - SMALLEST_WIDTH) / _STEP) + 1
    widths = SMALLEST_WIDTH + _STEP * torch.arange(count, dtype=torch.float32, device=code.device)
    kernels = isotropic_gaussian_kernel(widths, network.sftmd.kernel_size)
    known = network.sftmd.kernel_code(count, kernels, None).float()
    return widths[torch.cdist(code.float(), known).argmin(1)]


@torch.no_grad()
def estimate_kernel(network: IKC, lq: Tensor, corrected: bool = False) -> Tensor:
    """Finds the blur kernels of images.

    Args:
        network: a trained IKC.
        lq: RGB of shape (B, 3, h, w) in [0, 1].
        corrected: whether the Corrector has its say; the default is the Predictor alone, as in DASR's comparison.

    Returns:
        Kernels of shape (B, k, k) with k the side that the network knows, each summing to 1.

    Raises:
        ValueError: as :func:`estimate_width`.
    """
    if corrected:
        out = network(lq, return_steps=True)
        assert isinstance(out, IKCOutput)
        code = out.codes[-1]
    else:
        code = network.predictor(lq)
    return isotropic_gaussian_kernel(estimate_width(network, code), network.sftmd.kernel_size)
