"""Blur kernels for non-blind networks, estimated from the image by IKC ("+ Predictor" in DASR's comparison).

IKC estimates coefficients in its own PCA basis. Other networks take a kernel, so the isotropic Gaussian with the
nearest coefficients is used.
"""

import torch
from torch import Tensor

from dasr_arch.archs.ikc_arch import IKC
from dasr_arch.degradations.kernel_pca import SMALLEST_WIDTH
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel

_STEP = 0.01  # HR pixels between two candidate widths


def estimate_width(network: IKC, code: Tensor) -> Tensor:
    """Widths (B,) of the isotropic Gaussians with the nearest PCA coefficients to ``code``, (B, code_length).

    They are in HR pixels, float32, from 0.2 to the network's scale in steps of 0.01. ValueError if the network's
    weights lack the PCA basis of the kernels.
    """
    count = round((network.scale - SMALLEST_WIDTH) / _STEP) + 1
    widths = SMALLEST_WIDTH + _STEP * torch.arange(count, dtype=torch.float32, device=code.device)
    kernels = isotropic_gaussian_kernel(widths, network.sftmd.kernel_size)
    candidates = network.sftmd.kernel_code(count, kernels, None).float()
    return widths[torch.cdist(code.float(), candidates).argmin(1)]


@torch.no_grad()
def estimate_kernel(network: IKC, lq: Tensor) -> Tensor:
    """Estimates the blur kernels (B, k, k), each of sum 1, of RGB images (B, 3, h, w) in [0, 1].

    The Predictor alone estimates, as in DASR's comparison. ValueError as in :func:`estimate_width`.
    """
    return isotropic_gaussian_kernel(estimate_width(network, network.predictor(lq)), network.sftmd.kernel_size)
