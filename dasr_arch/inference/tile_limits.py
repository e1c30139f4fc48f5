"""Padding and memory of a tile: receptive fields, the largest tile that fits, errors that mean that memory ran out."""

import math

import torch
from torch import nn

from dasr_arch._memory import keep_freed_memory
from dasr_arch.archs.dasr_arch import DASR, DAConv

MIN_TILE = 16
"""Shortest side of a tile in LR pixels; a tile that does not fit in memory is halved down to this."""

FAST_BYTES = 32 << 20
"""Size of a feature map above which a CPU is slower because its system clears new memory (``dasr_arch._memory``)."""

_BICUBIC_RADIUS = 2  # LR pixels
_MEMORY_SHARE = 0.5  # of the available memory
_CPU_BUDGET = 1 << 30  # bytes; larger tiles are not faster, and 1920 x 1080 at x4 then takes 3 GB in all
_MESSAGES = ('allocate memory', 'out of memory', 'not enough memory', 'bad_alloc', 'a primitive')  # the last: oneDNN


def receptive_radius(network: DASR) -> int:
    """Radius of the super-resolution network's receptive field in LR pixels, the representation being given.

    Summed over the network's layers: 109 for the paper's DASR, 42 for DASR-S.
    """
    radius = float(_sum_radii(network.head) + _sum_radii(network.groups) + _sum_radii(network.body_conv))
    upsampled = 1  # factor by which the feature map is larger than the input
    for layer in network.upsampler.children():
        if isinstance(layer, nn.PixelShuffle):
            upsampled *= layer.upscale_factor
        else:
            radius += _sum_radii(layer) / upsampled
    radius += _sum_radii(network.last_conv) / upsampled
    return max(math.ceil(radius), _BICUBIC_RADIUS if network.bicubic_skip is not None else 0)


def encoder_stride(network: DASR) -> int:
    """Stride of the encoder's last feature map in LR pixels: 4 for the paper's."""
    return math.prod(conv.stride[0] for conv in _encoder_convolutions(network))


def encoder_radius(network: DASR) -> int:
    """Radius of the receptive field of the encoder's last feature map in LR pixels: 11 for the paper's."""
    radius, stride = 0, 1
    for conv in _encoder_convolutions(network):
        radius += conv.kernel_size[0] // 2 * stride
        stride *= conv.stride[0]
    return radius


def max_tile_pixels(network: DASR, dtype: torch.dtype, memory: int, device: torch.device) -> int:
    """LR pixels, padding included, of the largest tile that fits in half of the available memory, given in bytes.

    On a CPU, a tile takes at most one gigabyte.
    """
    budget = int(memory * _MEMORY_SHARE)
    if device.type == 'cpu':
        budget = min(budget, _CPU_BUDGET)
    return max(MIN_TILE**2, budget // bytes_per_pixel(network, dtype, device))


def fast_tile_pixels(network: DASR, device: torch.device) -> int | None:
    """LR pixels of the largest tile at which a CPU is fastest; None on a GPU, and where freed memory is kept."""
    if device.type != 'cpu' or keep_freed_memory():
        return None
    return FAST_BYTES // (network.head.out_channels * 4)  # the tail is always computed in float32


def bytes_per_pixel(network: DASR, dtype: torch.dtype, device: torch.device) -> int:
    """Peak memory of the network per LR pixel in bytes, estimated from its layers.

    On a CPU the tail is one convolution, and the body takes most. Elsewhere it is the tail: the output of a convolution
    and its shuffled copy exist at once, and at the end the features of every HR pixel in float32.
    """
    feat, size, upsampled = network.head.out_channels, dtype.itemsize, 1
    body = 7 * feat * size  # feature maps that exist at once
    image = 9 * 4 * network.scale**2  # the result and its copies
    if network.resolve_implementation(device) == 'fast':
        return body + 4 * feat + image
    tail = 0
    for layer in network.upsampler.children():
        if isinstance(layer, nn.PixelShuffle):
            upsampled *= layer.upscale_factor
            tail = max(tail, (2 * feat * upsampled**2 + 2 * feat) * size)
    return max(body, tail) + 4 * feat * upsampled**2 + image


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error means that memory ran out; torch has no exception type for this on CPUs."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _MESSAGES)


def _encoder_convolutions(network: DASR) -> list[nn.Conv2d]:
    return [layer for layer in network.encoder.body if isinstance(layer, nn.Conv2d)]


def _sum_radii(module: nn.Module) -> int:
    """Sum of the radii of a module's convolutions; a DAConv's predicted 3 x 3 kernel counts as 1."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | DAConv)]
    return sum(layer.kernel_size[0] // 2 if isinstance(layer, nn.Conv2d) else 1 for layer in layers)
