"""Fast ways to convolve every channel of every picture with its own 3 x 3 kernel.

On CPUs one depth-wise convolution for each picture keeps tensors in channels_last order, in which the convolutions
around it are fastest; the reference needs contiguous ones. On GPUs a compiler makes one kernel of nine products.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def convolve_each(x: Tensor, kernel: Tensor) -> Tensor:
    """One depth-wise convolution for each picture, zero-padded; the same values as the reference.

    Args:
        x: features of shape (B, C, H, W), best in channels_last order.
        kernel: kernels of shape (B, C, 3, 3).

    Returns:
        Features of shape (B, C, H, W) in the order of x.
    """
    if len(x) == 1:
        return functional.conv2d(x, kernel.reshape(-1, 1, 3, 3).to(x.dtype), padding=1, groups=x.shape[1])
    kernel = kernel.to(x.dtype)
    if not torch.is_grad_enabled():
        return _convolve_each(x, kernel)
    out: Tensor = _ConvolveEach.apply(x, kernel)
    return out


def convolve_shifted(x: Tensor, kernel: Tensor) -> Tensor:
    """The same as nine shifted products and their sum, for torch.compile, which keeps none of them in memory.

    Args:
        x: features of shape (B, C, H, W), best in channels_last order.
        kernel: kernels of shape (B, C, 3, 3).

    Returns:
        Features of shape (B, C, H, W).
    """
    height, width = x.shape[-2:]
    padded, factors = functional.pad(x, (1, 1, 1, 1)), kernel.to(x.dtype)[..., None, None]
    out = padded[..., :height, :width] * factors[:, :, 0, 0]
    for place in range(1, 9):
        i, j = divmod(place, 3)
        out = out + padded[..., i : i + height, j : j + width] * factors[:, :, i, j]
    return out


class _ConvolveEach(torch.autograd.Function):
    """Autograd would slice the batch and add up a gradient of full size for each picture; this writes each once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return _convolve_each(x, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        if x.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        for_x = _convolve_each(gradient, kernel.flip((-2, -1))) if ctx.needs_input_grad[0] else None
        for_kernel = None
        if ctx.needs_input_grad[1]:
            for_kernel = torch.empty_like(kernel)
            sides = [1, 1]
            for index in range(len(x)):
                for_kernel[index] = torch.ops.aten.convolution_backward(
                    gradient[index : index + 1],
                    x[index : index + 1],
                    kernel[index].unsqueeze(1),
                    None,
                    sides,
                    sides,
                    sides,
                    False,
                    [0, 0],
                    x.shape[1],
                    [False, True, False],
                )[1].squeeze(1)
        return for_x, for_kernel


def _convolve_each(x: Tensor, kernel: Tensor) -> Tensor:
    out = torch.empty_like(x)
    for index in range(len(x)):
        one = functional.conv2d(x[index : index + 1], kernel[index].unsqueeze(1), padding=1, groups=x.shape[1])
        out[index] = one[0]
    return out
