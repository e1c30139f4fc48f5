"""How a network is told a blur kernel: a few numbers, the kernel's coefficients in a basis of its own.

Weights and basis belong together: with another basis the same kernel has other coefficients. So the basis is a buffer
that weights files carry. The authors' files do not; see :meth:`KernelCode.basis_of_released_weights`.
"""

import os
from pathlib import Path

import numpy as np
import scipy.io
import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import InputError


class KernelCode(nn.Module):
    """Blur kernels to coefficients.

    Args:
        basis: components of shape (C, k, k).
        given: whether the basis comes from outside, as one that belongs to weights of other authors.
    """

    basis: Tensor

    def __init__(self, basis: Tensor, given: bool = False) -> None:
        super().__init__()
        self.given = given
        self.known = True
        self.register_buffer('basis', basis)
        self.register_load_state_dict_post_hook(_note_whether_known)

    def basis_of_released_weights(self) -> Tensor:
        """What stands for the basis when a file of the authors is loaded, which holds none.

        Returns:
            The basis that was given; without one NaN, so that kernels are refused instead of misunderstood.
        """
        return self.basis if self.given else torch.full_like(self.basis, torch.nan)

    def forward(self, kernel: Tensor, batch: int) -> Tensor:
        """Encodes kernels.

        Args:
            kernel: shape (B, k, k) or (1, k, k), any side; what lies outside the basis's own side is cut off, and the
                rest scaled to the sum of 1 again.
            batch: B.

        Returns:
            Coefficients of shape (B, C), in the type of the basis, computed in float32 at least.

        Raises:
            ValueError: if the shape does not fit, or the basis is not known.
        """
        if kernel.ndim != 3 or kernel.shape[0] not in (1, batch) or kernel.shape[1] != kernel.shape[2]:
            raise ValueError(f'kernel must have shape ({batch}, k, k), got {tuple(kernel.shape)}')
        if not self.known:
            raise ValueError(
                "these weights came without the basis of their kernels; give the authors' file as basis_path"
            )
        precise = torch.promote_types(self.basis.dtype, torch.float32)
        with torch.autocast(kernel.device.type, enabled=False):
            fitted = fit_kernel(kernel.to(precise), self.basis.shape[-1])
            code = fitted.flatten(1) @ self.basis.to(precise).flatten(1).T
        return code.to(self.basis.dtype).expand(batch, -1)


def fit_kernel(kernel: Tensor, side: int) -> Tensor:
    """Cuts or pads kernels around their centre to another side, and scales them to the sum of 1.

    Args:
        kernel: shape (B, k, k), k odd.
        side: the other side, odd.

    Returns:
        Kernels of shape (B, side, side).

    Raises:
        ValueError: if k is even, because such a kernel has no centre.
    """
    if kernel.shape[-1] % 2 == 0:
        raise ValueError(f'kernel must have an odd side, got {kernel.shape[-1]}')
    margin = (side - kernel.shape[-1]) // 2  # negative: cuts
    fitted = functional.pad(kernel, (margin, margin, margin, margin))
    return fitted / fitted.sum((-2, -1), keepdim=True)


def stretch(code: Tensor, like: Tensor) -> Tensor:
    """Coefficients as feature maps.

    Args:
        code: shape (B, C), or maps of shape (B, C, h, w) that are returned as they are.
        like: features of shape (B, ..., h, w).

    Returns:
        Maps of shape (B, C, h, w) in the type of ``like``.
    """
    maps = code if code.ndim == 4 else code[..., None, None].expand(-1, -1, *like.shape[-2:])
    return maps.to(like.dtype)


def read_basis(path: str | os.PathLike[str], num_components: int, kernel_size: int) -> Tensor:
    """Reads the basis that belongs to weights of other authors: KAIR's .mat, IKC's .pth, or a .npy.

    Args:
        path: a file with one matrix, components by pixels or pixels by components, pixels counted down the columns of
            the kernel.
        num_components: number C of components.
        kernel_size: side k of the kernels in pixels.

    Returns:
        Components of shape (C, k, k), float32.

    Raises:
        InputError: if the file is missing, unreadable or of another size.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"basis_path: file '{path}' does not exist; check the path")
    try:
        matrix = _read_matrix(path)
    except Exception as error:  # readers of three formats raise whatever they like on damaged files
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


def _note_whether_known(module: nn.Module, incompatible: object) -> None:
    """Runs after weights were loaded: a basis of NaN says that it is not known."""
    assert isinstance(module, KernelCode)
    module.known = module.basis.is_meta or not bool(module.basis.isnan().any())
