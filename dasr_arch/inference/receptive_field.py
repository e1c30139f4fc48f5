"""How far the pixels of the output look: what a tile needs around it to come out as it would in the whole image."""

import math

from torch import nn

from dasr_arch.archs.dasr_arch import DASR, DAConv

_BICUBIC = 2  # LR pixels that the cubic reaches


def super_resolution_reach(network: DASR) -> int:
    """LR pixels that an output pixel of the super-resolution network depends on, to each side.

    Summed up over the network's own layers, the representation taken as given: 109 for the paper's DASR, 42 for DASR-S.

    Args:
        network: any DASR.
    """
    reach = float(_reach_of(network.head) + _reach_of(network.groups) + _reach_of(network.body_conv))
    fineness = 1
    for layer in network.upsampler.children():
        if isinstance(layer, nn.PixelShuffle):
            fineness *= layer.upscale_factor
        else:
            reach += _reach_of(layer) / fineness
    reach += _reach_of(network.last_conv) / fineness
    return max(math.ceil(reach), _BICUBIC if network.bicubic_skip is not None else 0)


def encoder_stride(network: DASR) -> int:
    """LR pixels from one position of the encoder's last feature map to the next: 4."""
    return math.prod(conv.stride[0] for conv in _encoder_convolutions(network))


def encoder_reach(network: DASR) -> int:
    """LR pixels around a position of the encoder's last feature map that it depends on: 11."""
    reach, fineness = 0, 1
    for conv in _encoder_convolutions(network):
        reach += conv.kernel_size[0] // 2 * fineness
        fineness *= conv.stride[0]
    return reach


def _encoder_convolutions(network: DASR) -> list[nn.Conv2d]:
    return [layer for layer in network.encoder.body if isinstance(layer, nn.Conv2d)]


def _reach_of(module: nn.Module) -> int:
    """Sum over all convolutions of a module that follow each other; a DAConv's predicted kernels count as one."""
    reach = 0
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            reach += layer.kernel_size[0] // 2
        elif isinstance(layer, DAConv):
            reach += 1  # 3 x 3, predicted
    return reach
