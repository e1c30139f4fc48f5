"""A 3 x 3 convolution whose weights learn faster on CPUs that have AVX2 and no AVX-512."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_SLOW_WEIGHT_GRADIENT = torch.backends.cpu.get_cpu_capability() == 'AVX2'
_LEAST_CHANNELS = 32  # below that oneDNN's own gradient is as fast


class Conv3x3(nn.Conv2d):
    """A zero-padded 3 x 3 convolution of stride 1, with the keys and values of ``nn.Conv2d``.

    On CPUs with AVX2 oneDNN computes its convolutions in channels_last order at full speed, but the gradient of
    their weights at a third of it (docs/performance.md). There, in float32, nine batched matrix products find it
    instead; gradients of that gradient do not exist then.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves features.

        Args:
            x: shape (B, in_channels, H, W).

        Returns:
            Shape (B, out_channels, H, W).
        """
        if not (_SLOW_WEIGHT_GRADIENT and self._can_multiply(x)):
            return super().forward(x)
        out: Tensor = _Convolve.apply(x, self.weight, self.bias)
        return out

    def _can_multiply(self, x: Tensor) -> bool:
        recorded = torch.is_grad_enabled() and self.weight.requires_grad
        plain = x.device.type == 'cpu' and x.dtype == self.weight.dtype == torch.float32
        return (
            recorded
            and plain
            and self.in_channels >= _LEAST_CHANNELS
            and not torch.is_autocast_enabled('cpu')
            and not torch.compiler.is_compiling()
            and x.is_contiguous(memory_format=torch.channels_last)
        )


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
    """The gradient of the weights of a zero-padded 3 x 3 convolution, as one matrix product for each of nine shifts.

    The rows of a padded picture follow each other without a gap, so a shift of the picture is a shift of its pixels in
    memory; what runs over the end of a row meets a gradient of zero.

    Args:
        x: input of shape (B, C, H, W), channels_last.
        gradient: of the output, shape (B, O, H, W), channels_last.

    Returns:
        Shape (O, C, 3, 3).
    """
    batch, channels, height, width = x.shape
    row = width + 2
    pixels = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).reshape(batch, -1, channels)
    errors = functional.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, 2)).reshape(batch, -1, gradient.shape[1])
    length = height * row - 2  # up to the last pixel that is not padding
    errors = errors[:, :length].transpose(1, 2)
    out = x.new_empty(3, 3, gradient.shape[1], channels)
    for i in range(3):
        for j in range(3):
            start = i * row + j
            torch.sum(torch.bmm(errors, pixels[:, start : start + length]), 0, out=out[i, j])
    return out.permute(2, 3, 0, 1)
