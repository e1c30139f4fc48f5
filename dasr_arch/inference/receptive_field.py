"""Receptive fields of the encoder and the super-resolution network; they set the padding of tiles."""

import math

from torch import nn

from dasr_arch.archs.dasr_arch import DASR, DAConv

_BICUBIC_RADIUS = 2  # LR pixels


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


def _encoder_convolutions(network: DASR) -> list[nn.Conv2d]:
    return [layer for layer in network.encoder.body if isinstance(layer, nn.Conv2d)]


def _sum_radii(module: nn.Module) -> int:
    """Sum of the radii of a module's convolutions; a DAConv's predicted 3 x 3 kernel counts as 1."""
    radius = 0
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            radius += layer.kernel_size[0] // 2
        elif isinstance(layer, DAConv):
            radius += 1
    return radius
