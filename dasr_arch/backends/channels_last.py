"""channels_last: PyTorch's modules in channels_last order; depth-wise convolutions, gradients, upsampling are faster.

oneDNN's convolutions are fastest in channels_last order. A tensor's order also selects the formulation of the
operations below: contiguous tensors take the authors' formulation, channels_last tensors the faster one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function_unary

from dasr_arch.backends.choose import AcceleratedNetwork, Backend, is_exported

LARGE_FOR_A_GPU = 256 * 256  # LR pixels; with fewer, launching kernels takes the time (docs/results/speed.md)
_SLOW_WEIGHT_GRADIENT = torch.backends.cpu.get_cpu_capability() == 'AVX2'
_LEAST_CHANNELS = 32  # below that oneDNN's own gradient is as fast

Convolve = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A zero-padded convolution of features with a weight and a bias, whose result is float32."""


class ChannelsLast(Backend):
    """PyTorch's modules in channels_last order, with the upsampler as one convolution."""

    name = 'channels_last'
    summary = 'channels_last order, upsampler as one convolution'
    memory_format = torch.channels_last

    def refuse(self, network: AcceleratedNetwork, x: Tensor) -> str | None:
        """Refuses nothing if the user asks for it; 'auto' takes it on CPUs, and on GPUs for large images."""
        if network.implementation != 'auto' or x.device.type == 'cpu':
            return None
        if x.device.type != 'cuda':
            return 'slower on this device'
        if torch.is_grad_enabled() or is_exported():
            return 'slower on a GPU with gradients'
        if x.shape[0] * x.shape[-2] * x.shape[-1] < LARGE_FOR_A_GPU:
            return 'slower on a GPU below 256 x 256 LR pixels'
        return None

    def upsample(self, network: AcceleratedNetwork, features: Tensor) -> Tensor:
        """As in the base class; large enough images by one convolution (``backends/collapsed_tail.py``)."""
        if is_exported() or network.last_conv.weight.dtype != torch.float32 or len(network.upsampler) == 0:
            return network.upsample(features)
        from dasr_arch.backends import collapsed_tail  # noqa: PLC0415  (not needed to define a network)

        if min(features.shape[-2:]) < collapsed_tail.SMALLEST_SIDE:
            return network.upsample(features)
        tail = nn.Sequential(*network.upsampler, network.last_conv)
        convolve = self.choose_convolution(network, features)
        return collapsed_tail.collapsed_upsample(tail, features, network.scale, network.derived_weights, convolve)

    def choose_convolution(self, network: AcceleratedNetwork, features: Tensor) -> Convolve:
        """What computes the convolution of the upsampler for features (B, C, h, w)."""
        del network, features
        return convolve_float32


BACKEND = ChannelsLast


class Conv3x3(nn.Conv2d):
    """A zero-padded 3 x 3 convolution of stride 1, with the keys and values of ``nn.Conv2d``.

    On CPUs with AVX2 oneDNN computes the gradient of the weights at half its speed (docs/results/speed.md). There,
    for float32 in channels_last order, ``backends/winograd_wgrad.py`` computes it; it has no gradient of its own then.
    Outside autocast, features of less precision than the weights are convolved in that of the weights.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves features: (B, in_channels, h, w) to (B, out_channels, h, w)."""
        if _SLOW_WEIGHT_GRADIENT and torch.is_grad_enabled() and self._takes_winograd(x):
            from dasr_arch.backends.winograd_wgrad import convolve_winograd  # noqa: PLC0415  (as above)

            return convolve_winograd(x, self.weight, self.bias)
        if x.dtype != self.weight.dtype and not torch.is_autocast_enabled(x.device.type):
            return convolve_float32(x, self.weight, self.bias)
        return super().forward(x)

    def _takes_winograd(self, x: Tensor) -> bool:
        return (
            self.weight.requires_grad
            and x.device.type == 'cpu'
            and x.dtype == self.weight.dtype == torch.float32
            and self.in_channels >= _LEAST_CHANNELS
            and not torch.is_autocast_enabled('cpu')
            and not torch.compiler.is_compiling()
            and x.is_contiguous(memory_format=torch.channels_last)
        )


def convolve_float32(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A zero-padded convolution in the precision of its weights, of features (B, C, h, w) that may have less.

    On CPUs, gradients are computed in the precision of the features, as for the other layers.
    """
    if x.dtype == torch.bfloat16 and x.device.type == 'cpu' and torch.is_grad_enabled() and not is_exported():
        out: Tensor = _ConvolveFloat32.apply(x, weight, bias)
        return out
    return functional.conv2d(x.to(weight.dtype), weight, bias, padding=weight.shape[-1] // 2)


class _ConvolveFloat32(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x.to(weight.dtype), weight, bias, padding=weight.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        sides, pad = [1, 1], [weight.shape[-1] // 2] * 2
        for_x, for_weight, _ = torch.ops.aten.convolution_backward(
            gradient.to(x.dtype), x, weight.to(x.dtype), None, sides, pad, sides, False, [0, 0], 1, [True, True, False]
        )
        return for_x, for_weight.to(weight.dtype), gradient.sum((0, 2, 3))


def depthwise_conv_leaky(x: Tensor, kernel: Tensor, slope: float) -> Tensor:
    """A zero-padded depth-wise convolution of (B, C, H, W) with kernels (B, C, 3, 3), and LeakyReLU.

    Backends may replace the function for values of their own kind (``__torch_function__``).
    """
    if has_torch_function_unary(x):
        out: Tensor = handle_torch_function(depthwise_conv_leaky, (x,), x, kernel, slope)
        return out
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return functional.leaky_relu(convolve_grouped(x, kernel), slope)  # in place it would change a view: costly
    convolve = convolve_shifted if x.is_cuda and torch.compiler.is_compiling() else convolve_each
    return functional.leaky_relu(convolve(x, kernel), slope, inplace=True)


def convolve_grouped(x: Tensor, kernel: Tensor) -> Tensor:
    """As ``convolve_each``, in the authors' formulation: one convolution with B * C groups."""
    batch, channels, height, width = x.shape
    stacked = x.reshape(1, batch * channels, height, width)
    weight = kernel.reshape(batch * channels, 1, 3, 3)
    return functional.conv2d(stacked, weight, padding=1, groups=batch * channels).reshape(x.shape)


def convolve_each(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolves each image and channel of (B, C, H, W), best in channels_last order, with its own of (B, C, 3, 3)."""
    if len(x) == 1:
        return functional.conv2d(x, kernel.reshape(-1, 1, 3, 3).to(x.dtype), padding=1, groups=x.shape[1])
    kernel = kernel.to(x.dtype)
    if not torch.is_grad_enabled():
        return _convolve_each(x, kernel)
    out: Tensor = _ConvolveEach.apply(x, kernel)
    return out


def convolve_shifted(x: Tensor, kernel: Tensor) -> Tensor:
    """As ``convolve_each``, by nine shifted products and their sum: torch.compile keeps none of them in memory."""
    height, width = x.shape[-2:]
    padded, factors = functional.pad(x, (1, 1, 1, 1)), kernel.to(x.dtype)[..., None, None]
    out = padded[..., :height, :width] * factors[:, :, 0, 0]
    for place in range(1, 9):
        i, j = divmod(place, 3)
        out = out + padded[..., i : i + height, j : j + width] * factors[:, :, i, j]
    return out


class _ConvolveEach(torch.autograd.Function):
    """Saves the features in their own layout, as other operations do; autograd would save a second copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return _convolve_each(x, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        weight, groups = kernel.reshape(-1, 1, 3, 3), x.shape[0] * x.shape[1]
        errors, sides, wanted = _merge_batch(gradient), [1, 1], [*ctx.needs_input_grad, False]
        for_x = None
        if wanted[0] and x.dtype == torch.bfloat16:  # twice as fast as oneDNN's gradient
            for_x, wanted[0] = functional.conv2d(errors, weight.flip(-2, -1), padding=1, groups=groups), False
        rest = torch.ops.aten.convolution_backward(
            errors, _merge_batch(x), weight, None, sides, sides, sides, False, [0, 0], groups, wanted
        )
        for_x, for_kernel = rest[0] if for_x is None else for_x, rest[1]
        return (
            None if for_x is None else _split_batch(for_x, len(x)),
            None if for_kernel is None else for_kernel.reshape(kernel.shape),
        )


def _convolve_each(x: Tensor, kernel: Tensor) -> Tensor:
    batch, channels = x.shape[:2]
    out = functional.conv2d(_merge_batch(x), kernel.reshape(-1, 1, 3, 3), padding=1, groups=batch * channels)
    return _split_batch(out, batch)


def _merge_batch(x: Tensor) -> Tensor:
    """Images (B, C, H, W) as one of shape (1, B * C, H, W), in channels_last order."""
    height, width = x.shape[-2:]
    return x.permute(2, 3, 0, 1).reshape(1, height, width, -1).permute(0, 3, 1, 2)


def _split_batch(x: Tensor, batch: int) -> Tensor:
    """The images (B, C, H, W), in channels_last order, that ``_merge_batch`` has merged."""
    height, width = x.shape[-2:]
    images = x.permute(2, 3, 0, 1).reshape(height, width, batch, -1).permute(2, 3, 0, 1)
    return images.contiguous(memory_format=torch.channels_last)
