"""PCA of blur kernels, the compact kernel description of SRMD and IKC.

Each public set of weights belongs to the basis that it was trained with; ours are computed here, from kernels of our
own degradations.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from dasr_arch.degradations.base import Degradation
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel, isotropic_gaussian_kernel

SMALLEST_WIDTH = 0.2  # HR pixels; the paper's lower end at every scale
_DRAWS = 5000  # kernels
_SEED = 0
_NEARLY_LARGEST = 0.999  # mirrored entries differ by rounding alone; the first of them fixes the sign


def compute_kernel_basis(kernels: Tensor, num_components: int, centred: bool = False) -> Tensor:
    """Principal components of blur kernels (N, k, k), the strongest first, orthonormal, float32.

    There are at most k * k and N of them; in each, the first entry of largest magnitude is positive. ``centred``
    subtracts the mean kernel first, as IKC does; SRMD does not. ValueError if there are not as many components, or
    kernels is no stack of squares.
    """
    if kernels.ndim != 3 or kernels.shape[1] != kernels.shape[2]:
        raise ValueError(f'kernels must have shape (N, k, k), got {tuple(kernels.shape)}')
    rows = kernels.double().flatten(1)
    if not 1 <= num_components <= min(rows.shape):
        raise ValueError(f'num_components must lie in 1..{min(rows.shape)} for these kernels, got {num_components}')
    if centred:
        rows = rows - rows.mean(0)
    vectors: Tensor = torch.linalg.eigh(rows.T @ rows).eigenvectors  # columns, weakest first
    components = vectors.flip(1)[:, :num_components].T
    size = components.abs()
    decisive = (size >= _NEARLY_LARGEST * size.amax(1, keepdim=True)).int().argmax(1)
    components = components * components.gather(1, decisive.unsqueeze(1)).sign()
    return components.reshape(-1, *kernels.shape[1:]).float()


def draw_kernels(degradation: Degradation, count: int, seed: int = _SEED) -> Tensor:
    """Kernels (count, k, k) as a degradation draws them, on the CPU, the same in every call."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([degradation.draw_kernel(generator) for _ in range(count)])


def anisotropic_basis(largest: float, kernel_size: int = 15, num_components: int = 15) -> Tensor:
    """Basis of anisotropic Gaussians with standard deviations from 0.2 to ``largest`` pixels and any angle.

    By default kernel size and number of components are SRMD's. Components are as :func:`compute_kernel_basis` gives
    them, not centred, the same in every call.
    """
    return _compute_basis(largest, kernel_size, num_components, isotropic=False).clone()


def isotropic_basis(scale: int, kernel_size: int = 21, num_components: int = 10) -> Tensor:
    """Basis of isotropic Gaussians with sigma from 0.2 to ``scale``.

    By default kernel size and number of components are IKC's. Components are as :func:`compute_kernel_basis` gives
    them, centred, the same in every call.
    """
    return _compute_basis(scale, kernel_size, num_components, isotropic=True).clone()


@lru_cache(maxsize=8)
def _compute_basis(largest: float, kernel_size: int, num_components: int, isotropic: bool) -> Tensor:
    """Basis of Gaussians of uniform widths, computed on the CPU also where networks are being built elsewhere."""
    generator = torch.Generator().manual_seed(_SEED)
    drawn = torch.rand(1 if isotropic else 3, _DRAWS, generator=generator, dtype=torch.float64, device='cpu')
    widths = SMALLEST_WIDTH + (largest - SMALLEST_WIDTH) * drawn[:2]
    if isotropic:
        kernels = isotropic_gaussian_kernel(widths[0], kernel_size)
    else:
        kernels = anisotropic_gaussian_kernel(widths[0], widths[1], math.pi * drawn[2], kernel_size)
    return compute_kernel_basis(kernels, num_components, centred=isotropic)
