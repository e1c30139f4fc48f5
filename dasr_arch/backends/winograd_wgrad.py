"""Winograd F(3, 4) gradient of the weights of a 3 x 3 convolution: faster than oneDNN's on CPUs with AVX2 alone."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Winograd's F(3, 4): the correlation of 6 pixels of a row with 4 errors, for 3 shifts, is W ((E errors) * (T pixels)).
_STEP = 4  # pixels from a tile to the next
_SIZE = _STEP + 2  # pixels of a tile, the first of which belongs to the tile before and the last to the one after
_FOR_PIXELS = [  # T
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_FOR_ERRORS = [[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]]  # E
_FOR_WEIGHTS = [[6, -4, -4, 1, 1, 0], [0, -4, 4, 2, -2, 0], [0, -4, -4, 4, 4, 24]]  # 24 W


def convolve_winograd(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A zero-padded 3 x 3 convolution whose weight gradient is :func:`weight_gradient`; float32, channels_last, CPU."""
    out: Tensor = _Convolve.apply(x, weight, bias)  # (B, O, H, W)
    return out


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        for_x = None
        if ctx.needs_input_grad[0]:
            sides = [1, 1]
            for_x = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, sides, sides, sides, False, [0, 0], 1, [True, False, False]
            )[0]
        return for_x, weight_gradient(x, gradient), gradient.sum((0, 2, 3))


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient (O, C, 3, 3) of the weights of a zero-padded 3 x 3 convolution, in half of the multiplications.

    It is the correlation of the input (B, C, H, W) with the gradient of the output (B, O, H, W), the errors, both in
    channels_last order. Each row of both is cut into tiles and transformed: Winograd's F(3, 4) in one dimension, with
    the points 0, 1, -1, 2, -2 and infinity (Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR
    2016). What is left are 6 x 3 products of matrices, one for each transformed pixel and each row of the kernel.
    """
    missing = -x.shape[-1] % _STEP  # columns
    if missing:
        x, gradient = functional.pad(x, (0, missing)), functional.pad(gradient, (0, missing))
    channels, outputs, row = x.shape[1], gradient.shape[1], x.shape[-1] // _STEP  # tiles
    transform = x.new_tensor(_FOR_PIXELS)
    pixels = _transform(transform[:, 1:-1].contiguous(), x)
    own = x.permute(0, 2, 3, 1).unflatten(2, (row, _STEP))
    pixels[:, :-1, 1:, 0].add_(own[:, :, :-1, -1], alpha=_FOR_PIXELS[0][0])  # of the tile before, in this sum alone
    pixels[:, :-1, :-1, -1].add_(own[:, :, 1:, 0], alpha=_FOR_PIXELS[-1][-1])
    pixels = pixels.reshape(-1, _SIZE, channels).transpose(0, 1)  # (6, tiles, C)
    errors = _transform(x.new_tensor(_FOR_ERRORS), gradient).reshape(-1, _SIZE, outputs).permute(1, 2, 0)
    # The rows of the kernel differ in the first row of pixels; a row of zeros follows each image.
    products = x.new_empty(3, _SIZE, outputs, channels)
    torch.bmm(errors[..., row:], pixels[:, :-row], out=products[0])
    torch.bmm(errors, pixels, out=products[1])
    torch.bmm(errors[..., :-row], pixels[:, row:], out=products[2])
    out = torch.matmul(x.new_tensor(_FOR_WEIGHTS) / 24, products.flatten(2))
    return out.reshape(3, 3, outputs, channels).permute(2, 3, 0, 1)


def _transform(matrix: Tensor, x: Tensor) -> Tensor:
    """The tiles of x, transformed by a matrix (6, 4), as (B, H + 1, W / 4, 6, C); a row of zeros follows each image."""
    batch, channels, height, width = x.shape
    tiles = x.permute(0, 2, 3, 1).reshape(batch, -1, _STEP, channels)
    out = x.new_empty(batch, height + 1, width // _STEP, _SIZE, channels)
    out[:, -1].zero_()
    matrices = matrix.expand(tiles.shape[1], -1, -1)
    for index in range(batch):
        torch.bmm(matrices, tiles[index], out=out[index, :-1].view(-1, _SIZE, channels))
    return out
