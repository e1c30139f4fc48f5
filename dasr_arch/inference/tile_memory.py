"""Memory of a tile: the largest tile that fits, and errors that mean that memory ran out."""

import torch

from dasr_arch._memory import keep_freed_memory
from dasr_arch.archs.dasr_arch import DASR

MIN_TILE = 16
"""Shortest side of a tile in LR pixels; a tile that does not fit in memory is halved down to this."""

FAST_BYTES = 32 << 20
"""Size of a feature map above which a CPU is slower because its system clears new memory (``dasr_arch._memory``)."""

_MEMORY_SHARE = 0.5  # of the available memory
_CPU_BUDGET = 1 << 30  # bytes: larger tiles are not faster, and 1920 x 1080 at x4 fits in 3 GB with Python and torch
_MESSAGES = ('allocate memory', 'out of memory', 'not enough memory', 'bad_alloc', 'a primitive')  # the last: oneDNN


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
    return FAST_BYTES // (network.head.out_channels * 4)  # the tail computes in float32 in any case


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
        if isinstance(layer, torch.nn.PixelShuffle):
            upsampled *= layer.upscale_factor
            tail = max(tail, (2 * feat * upsampled**2 + 2 * feat) * size)
    return max(body, tail) + 4 * feat * upsampled**2 + image


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error means that memory ran out; torch has no exception type for this on CPUs."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _MESSAGES)
