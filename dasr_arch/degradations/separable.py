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


def split_kernels(kernel: Tensor, tolerance: float = 1e-4) -> list[tuple[Tensor, Tensor]]:
    """Columns and rows whose products add up to any kernel, by its singular values.

    Args:
        kernel: kernels of shape (B, k, k).
        tolerance: root of the sum of squares of what may be left of a kernel.

    Returns:
        For each kernel, columns and rows, both of shape (R, k); R is 1 for separable kernels.
    """
    left, values, right = torch.linalg.svd(kernel.double())
    rest = (values**2).flip(1).cumsum(1).flip(1).sqrt()
    out = []
    counts = (rest > tolerance).sum(1).clamp(min=1).tolist()
    for columns, strengths, rows, count in zip(left, values, right, counts, strict=True):
        out.append(((columns[:, :count] * strengths[:count]).T.float(), rows[:count].float()))
    return out


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
