"""Blur kernels for non-blind networks, estimated from the image by IKC ("+ Predictor" in DASR's comparison).

IKC estimates coefficients in its own PCA basis. Other networks take a kernel, so the isotropic Gaussian with the
nearest coefficients is used.
"""

import torch
from torch import Tensor

from dasr_arch.archs.ikc_arch import IKC, IKCOutput
from dasr_arch.degradations.kernel_pca import SMALLEST_WIDTH
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel

_STEP = 0.01  # HR pixels between two candidate widths


def estimate_width(network: IKC, code: Tensor) -> Tensor:
    """Width of the isotropic Gaussian with the nearest PCA coefficients.

    Args:
        network: the network whose basis the coefficients belong to; the widest candidate is its scale.
        code: coefficients of shape (B, code_length).

    Returns:
        Widths in HR pixels, shape (B,), float32, from 0.2 to the scale in steps of 0.01.

    Raises:
        ValueError: if the network's weights lack the PCA basis of the kernels.
    """
    count = round((network.scale - SMALLEST_WIDTH) / _STEP) + 1
    widths = SMALLEST_WIDTH + _STEP * torch.arange(count, dtype=torch.float32, device=code.device)
    kernels = isotropic_gaussian_kernel(widths, network.sftmd.kernel_size)
    candidates = network.sftmd.kernel_code(count, kernels, None).float()
    return widths[torch.cdist(code.float(), candidates).argmin(1)]


@torch.no_grad()
def estimate_kernel(network: IKC, lq: Tensor, corrected: bool = False) -> Tensor:
    """Estimates the blur kernels of images.

    Args:
        network: a trained IKC.
        lq: RGB of shape (B, 3, h, w) in [0, 1].
        corrected: whether the Corrector refines the estimate; by default the Predictor alone estimates, as in DASR's
            comparison.

    Returns:
        Kernels of shape (B, k, k), k the kernel size of the network, each summing to 1.

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
