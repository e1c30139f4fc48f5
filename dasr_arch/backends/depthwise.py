"""Fast ways to convolve every channel of every image with its own 3 x 3 kernel.

On CPUs the channels of all images are put side by side, in channels_last order, for one depth-wise convolution.
Moving them there and back costs less than a convolution for each image, and the convolutions around it are fastest
in channels_last order; the reference needs contiguous tensors. On GPUs a compiler makes one kernel of nine products.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def convolve_each(x: Tensor, kernel: Tensor) -> Tensor:
    """A depth-wise convolution with a kernel for each image and channel, zero-padded; the values of the reference.

    Args:
        x: features of shape (B, C, H, W), best in channels_last order.
        kernel: kernels of shape (B, C, 3, 3).

    Returns:
        Features of shape (B, C, H, W), for several images in channels_last order.
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
    """Keeps the features as they came, which others keep as well; autograd would keep a second copy, side by side."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return _convolve_each(x, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        batch, channels = x.shape[:2]
        sides = [1, 1]
        for_x, for_kernel, _ = torch.ops.aten.convolution_backward(
            _side_by_side(gradient),
            _side_by_side(x),
            kernel.reshape(-1, 1, 3, 3),
            None,
            sides,
            sides,
            sides,
            False,
            [0, 0],
            batch * channels,
            [*ctx.needs_input_grad, False],
        )
        return (
            None if for_x is None else _one_by_one(for_x, batch),
            None if for_kernel is None else for_kernel.reshape(kernel.shape),
        )


def _convolve_each(x: Tensor, kernel: Tensor) -> Tensor:
    batch, channels = x.shape[:2]
    out = functional.conv2d(_side_by_side(x), kernel.reshape(-1, 1, 3, 3), padding=1, groups=batch * channels)
    return _one_by_one(out, batch)


def _side_by_side(x: Tensor) -> Tensor:
    """Images (B, C, H, W) as one of shape (1, B * C, H, W), in channels_last order."""
    height, width = x.shape[-2:]
    return x.permute(2, 3, 0, 1).reshape(1, height, width, -1).permute(0, 3, 1, 2)


def _one_by_one(x: Tensor, batch: int) -> Tensor:
    """The images (B, C, H, W), in channels_last order, that ``_side_by_side`` made one of."""
    height, width = x.shape[-2:]
    images = x.permute(2, 3, 0, 1).reshape(height, width, batch, -1).permute(2, 3, 0, 1)
    return images.contiguous(memory_format=torch.channels_last)
