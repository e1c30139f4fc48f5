"""Collapsed upsampler: upsampler and last convolution of DASR, the tail, as a single convolution.

The tail has convolutions and pixel shuffles without activations, so it is one linear map: for x4 a 5 x 5 convolution
from the features to 48 channels, the 4 x 4 RGB pixels, with a tenth of the multiply-adds and without the large tensors.
Inside the image both are equal up to rounding. Within two LR pixels of the border they are not, because each
convolution of the tail pads its own input with zeros; there the tail itself is computed on strips.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dasr_arch.backends.cache import DerivedWeights
from dasr_arch.backends.channels_last import Convolve, convolve_float32

_RADIUS = 2  # LR pixels, of the receptive field; after a pixel shuffle, convolutions add half a pixel and less
_STRIP = 2 * _RADIUS  # thickness of a strip, of which the outer half is used
SMALLEST_SIDE = 4 * _STRIP  # LR pixels; below that the strips are most of the image


def collapsed_upsample(
    tail: nn.Sequential, x: Tensor, scale: int, cache: DerivedWeights, convolve: Convolve = convolve_float32
) -> Tensor:
    """Computes a tail for features (B, C, h, w) with sides of at least SMALLEST_SIDE; the result is float32.

    ``convolve`` computes the collapsed convolution. Along the border, the convolutions but the last are of the type of
    the features.

    Without gradients the cache keeps the convolution. In training it is computed in every step, which is faster for the
    last upsampling step alone; the steps before it are computed as they are.
    """
    if torch.is_grad_enabled():
        x, tail = tail[:-3](x), tail[-3:]
        shuffle = tail[1]
        assert isinstance(shuffle, nn.PixelShuffle)
        scale = shuffle.upscale_factor
    with torch.autocast(x.device.type, enabled=False):
        if torch.is_grad_enabled():
            collapsed = collapse_tail(tail, scale, torch.float32)
        else:
            collapsed = cache.get('tail', list(tail.parameters()), lambda: collapse_tail(tail, scale))
        return _run(tail, x, collapsed, scale, convolve)


def collapse_tail(tail: nn.Sequential, scale: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The convolution that equals a tail, from the tail's impulse responses.

    Returns a weight (3 * scale**2, C, 5, 5) and a bias (3 * scale**2,), whose outputs a pixel shuffle puts in place;
    they are computed in ``dtype`` and returned in float32, on the tail's device.
    """
    side = 2 * _RADIUS + 1
    first = next(tail.parameters())
    channels = first.shape[1]
    impulses = torch.zeros(channels, channels, side, side, dtype=dtype, device=first.device)
    impulses[torch.arange(channels), torch.arange(channels), _RADIUS, _RADIUS] = 1
    responses = _respond(tail, impulses.contiguous(memory_format=torch.channels_last), with_bias=False)
    weight = functional.pixel_unshuffle(responses, scale).transpose(0, 1).flip((-2, -1))
    offset = _respond(tail, torch.zeros_like(impulses[:1]), with_bias=True)
    bias = functional.pixel_unshuffle(offset, scale)[0, :, _RADIUS, _RADIUS]
    return weight.float().contiguous(memory_format=torch.channels_last), bias.float()


def _respond(tail: nn.Sequential, x: Tensor, with_bias: bool) -> Tensor:
    for layer in tail:
        if isinstance(layer, nn.Conv2d):
            bias = layer.bias.to(x.dtype) if with_bias and layer.bias is not None else None
            x = functional.conv2d(x, layer.weight.to(x.dtype), bias, padding=1)
        else:
            x = layer(x)
    return x


def _run(tail: nn.Sequential, x: Tensor, collapsed: tuple[Tensor, Tensor], scale: int, convolve: Convolve) -> Tensor:
    """The collapsed tail inside, the tail itself along the border."""
    inside = functional.pixel_shuffle(convolve(x, *collapsed), scale)
    width = _RADIUS * scale
    along_rows, along_columns = _Strips.apply(x)
    rows, columns = _upsample(tail, along_rows), _upsample(tail, along_columns)
    top, bottom = rows[: len(x), :, :width], rows[len(x) :, :, -width:]
    left, right = columns[: len(x), ..., :width], columns[len(x) :, ..., -width:]
    middle = slice(width, -width)
    if not torch.is_grad_enabled():  # autograd would copy the gradient for each part
        inside[..., middle, :width], inside[..., middle, -width:] = left[..., middle, :], right[..., middle, :]
        inside[..., :width, :], inside[..., -width:, :] = top, bottom
        return inside
    between = [left[..., middle, :], inside[..., middle, middle], right[..., middle, :]]
    return torch.cat([top, torch.cat(between, -1), bottom], -2)


def _upsample(tail: nn.Sequential, x: Tensor) -> Tensor:
    """A tail for features in their own type but for its last convolution, which is in float32."""
    with torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32):
        x = tail[:-1](x)
    out: Tensor = tail[-1](x)
    return out


class _Strips(torch.autograd.Function):
    """The strips along the border. Autograd would fill and add up a gradient of full size for each of the four."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = x.shape
        rows = torch.cat([x[..., :_STRIP, :], x[..., -_STRIP:, :]])
        columns = torch.cat([x[..., :_STRIP], x[..., -_STRIP:]])
        order = torch.channels_last
        return rows.contiguous(memory_format=order), columns.contiguous(memory_format=order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, for_rows: Tensor, for_columns: Tensor) -> Tensor:
        batch = ctx.shape[0]
        out = torch.empty(ctx.shape, dtype=for_rows.dtype, device=for_rows.device, memory_format=torch.channels_last)
        out.zero_()
        out[..., :_STRIP, :] = for_rows[:batch]
        out[..., -_STRIP:, :] = for_rows[batch:]
        out[..., :_STRIP] += for_columns[:batch]
        out[..., -_STRIP:] += for_columns[batch:]
        return out
