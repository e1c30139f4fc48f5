"""Inputs of non-blind networks: PCA code of the blur kernel and noise-level map.

Weights depend on the PCA basis, so the basis is a buffer in weights files. The authors' files lack it; see
:meth:`KernelPCA.basis_of_released_weights`.
"""

import os
from pathlib import Path

import numpy as np
import scipy.io
import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import InputError


class KernelPCA(nn.Module):
    """Projects blur kernels onto a PCA basis, components of shape (C, k, k).

    The network's own basis is replaced by that of the authors' weights if ``path`` names its file, see
    :func:`read_basis`. ``known`` is False while the basis of the loaded weights is not known.
    """

    basis: Tensor

    def __init__(self, network: str, basis: Tensor, path: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self.network = network
        self.given = path is not None
        self.known = True
        self.register_buffer('basis', basis if path is None else read_basis(path, *basis.shape[:2]))
        self.register_load_state_dict_post_hook(_update_known)  # type: ignore[no-untyped-call]

    def basis_of_released_weights(self) -> Tensor:
        """Basis to load with the authors' weights: the one from ``path``, or NaN, with which kernels are refused."""
        return self.basis if self.given else torch.full_like(self.basis, torch.nan)

    def forward(self, batch: int, kernel: Tensor | None, code: Tensor | None) -> Tensor:
        """Code of shape (B, C) or (B, C, h, w) for a batch of B images, from kernels or as given.

        Kernels, (B, k, k) or (1, k, k) with k odd, are cropped or padded to the basis's size and normalised to sum 1.
        The code itself, (B, C), (1, C) or (B, C, h, w), takes precedence. ValueError if there is neither, a shape does
        not fit, or the basis is not known.
        """
        if code is not None:
            if code.ndim not in (2, 4) or code.shape[0] not in (1, batch) or code.shape[1] != len(self.basis):
                raise ValueError(f'code must have shape ({batch}, {len(self.basis)}), got {tuple(code.shape)}')
            return code.expand(batch, *code.shape[1:])
        if kernel is None:
            raise ValueError(f'{self.network} needs the blur kernel, got none; pass kernel=(B, k, k)')
        if kernel.ndim != 3 or kernel.shape[0] not in (1, batch) or kernel.shape[1] != kernel.shape[2]:
            raise ValueError(f'kernel must have shape ({batch}, k, k), got {tuple(kernel.shape)}')
        if not self.known:
            raise ValueError(
                f"these {self.network} weights came without the basis of their kernels; give the authors' file as "
                'basis_path'
            )
        return self._encode(kernel).expand(batch, -1)

    def _encode(self, kernel: Tensor) -> Tensor:
        """Code of shape (B, C), in the type of the basis, computed in float32 at least."""
        precise = torch.promote_types(self.basis.dtype, torch.float32)
        with torch.autocast(kernel.device.type, enabled=False):
            fitted = fit_kernel(kernel.to(precise), self.basis.shape[-1])
            code = fitted.flatten(1) @ self.basis.to(precise).flatten(1).T
        return code.to(self.basis.dtype)


def fit_kernel(kernel: Tensor, side: int) -> Tensor:
    """Crops or pads kernels (B, k, k) around their centre to an odd side, with sum 1; ValueError if k is even."""
    if kernel.shape[-1] % 2 == 0:
        raise ValueError(f'kernel must have an odd side, got {kernel.shape[-1]}')
    margin = (side - kernel.shape[-1]) // 2  # negative: crops
    fitted = functional.pad(kernel, (margin, margin, margin, margin))
    return fitted / fitted.sum((-2, -1), keepdim=True)


def expand_to_maps(code: Tensor, like: Tensor) -> Tensor:
    """Expands a kernel code (B, C) to maps (B, C, h, w) of the size and type of ``like``; maps stay as they are."""
    maps = code if code.ndim == 4 else code[..., None, None].expand(-1, -1, *like.shape[-2:])
    return maps.to(like.dtype)


def noise_map(noise_level: Tensor | None, lq: Tensor) -> Tensor:
    """Noise-level map (B, 1, h, w) in [0, 1] of levels in 0..255, (B,), (1,) or a map; ValueError for other shapes."""
    shape = (len(lq), 1, *lq.shape[-2:])
    if noise_level is None:
        return lq.new_zeros(shape)
    if noise_level.shape not in ((len(lq),), (1,), shape):
        raise ValueError(f'noise_level must have shape ({len(lq)},), got {tuple(noise_level.shape)}')
    level = noise_level if noise_level.ndim == 4 else noise_level.reshape(-1, 1, 1, 1)
    return (level / 255).to(lq.dtype).expand(shape)


def read_basis(path: str | os.PathLike[str], num_components: int, kernel_size: int) -> Tensor:
    """Reads the PCA basis of the authors' weights, (C, k, k) in float32: KAIR's .mat, IKC's .pth, or a .npy.

    The file has one matrix, components by pixels or pixels by components, pixels in column-major order. InputError if
    it is missing, unreadable or of another size.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"basis_path: file '{path}' does not exist; check the path")
    try:
        matrix = _read_matrix(path)
    except Exception as error:  # on damaged files the readers of the three formats raise exceptions of any type
        raise InputError(f"basis_path: '{path}' is no .mat, .pth or .npy file with a matrix, or damaged") from error
    expected = (num_components, kernel_size**2)
    if matrix.shape == expected[::-1]:
        matrix = matrix.T
    if matrix.shape != expected:
        raise InputError(f"basis_path: expected a matrix of {expected} numbers in '{path}', got {tuple(matrix.shape)}")
    # Authors flatten kernels column by column.
    return matrix.float().reshape(num_components, kernel_size, kernel_size).transpose(1, 2).contiguous()


def _read_matrix(path: Path) -> Tensor:
    """The only matrix in a file."""
    if path.suffix == '.mat':
        (matrix,) = (value for key, value in scipy.io.loadmat(path).items() if not key.startswith('__'))
        return torch.from_numpy(np.asarray(matrix, np.float32))
    if path.suffix == '.npy':
        return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    content = torch.load(path, map_location='cpu', weights_only=True)
    if not isinstance(content, Tensor):
        raise TypeError('no tensor')
    return content


def _update_known(module: nn.Module, incompatible: object) -> None:
    """Load hook: a basis of NaN is unknown."""
    assert isinstance(module, KernelPCA)
    module.known = module.basis.is_meta or not bool(module.basis.isnan().any())
