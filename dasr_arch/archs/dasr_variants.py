"""Variants of DASR beside the paper's network: its ablations, and extensions of ours.

======================= ========================= ================================================================
Argument of ``DASR``    Value                     Network
======================= ========================= ================================================================
``da_conv``             'concat'                  the paper's Model 2: plain convolutions of features and embedding
``da_conv``             'kernel'                  the paper's Model 3: no channel modulation (in ``DAConv`` itself)
``condition``           'kernel'                  the paper's Model 5: the true blur kernel instead of the encoder
``upsampler``           'direct'                  ours: one convolution to the HR pixels (in ``DASR`` itself)
``skip``                'bicubic', 'wiener'       ours: an upsampled input is added to the output
======================= ========================= ================================================================
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from dasr_arch._errors import check_choice, check_kernel_size
from dasr_arch.archs.dasr_arch import (  # noqa: F401  (the names that archs/blocks.py and archs/encoder.py had)
    DASR,
    SLOPE,
    DABlock,
    DAConv,
    DAConvKind,
    DAGroup,
    DegradationEncoder,
    PixelShuffleUpsampler,
    Skip,
)
from dasr_arch.archs.layers.wiener_skip import WienerUpsampler
from dasr_arch.backends.channels_last import Conv3x3
from dasr_arch.degradations.resize import upsample_bicubic

_POSITIVE = ('num_feat', 'num_groups', 'num_blocks', 'representation_dim', 'encoder_feat', 'reduction')
_CHOICES: dict[str, tuple[object, ...]] = {
    'scale': (1, 2, 3, 4, 8),
    'upsampler': ('pixelshuffle', 'direct'),
    'skip': ('none', 'bicubic', 'wiener'),
    'da_conv': ('full', 'kernel', 'concat'),
    'condition': ('encoder', 'kernel'),
}


def check_arguments(given: Mapping[str, Any]) -> None:
    """Raises ValueError if one of the arguments of :class:`DASR` is out of range or no valid choice.

    Other names among those given are ignored.
    """
    for name, known in _CHOICES.items():
        check_choice(name, given[name], known, 'DASR')
    counts = [given[name] for name in _POSITIVE]
    if min(counts) < 1 or given['num_feat'] < given['reduction']:
        raise ValueError(
            'num_feat, num_groups, num_blocks, representation_dim, encoder_feat and reduction must be positive '
            f'and num_feat at least reduction, got {", ".join(map(str, counts))}'
        )
    check_kernel_size('DASR', kernel_size=given['kernel_size'])
    if not given['img_range'] > 0:
        raise ValueError(f'img_range must be positive, got {given["img_range"]}')


class ConcatConv(nn.Module):
    """The paper's Model 2: a plain 3 x 3 convolution of the features and the embedding as constant feature maps."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv = Conv3x3(2 * num_feat, num_feat)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """As :meth:`DAConv.forward`."""
        maps = embedding[..., None, None].expand(-1, -1, *x.shape[-2:])
        out: Tensor = self.conv(torch.cat([x, maps], 1))
        return out


class KernelEncoder(nn.Sequential):
    """The paper's Model 5: five fully connected layers from the true blur kernel to a representation.

    The paper does not give their widths; here the first goes from the flattened kernel to the representation's length,
    the others keep it, with LeakyReLU between.
    """

    def __init__(self, kernel_size: int = 21, representation_dim: int = 256) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise([kernel_size**2, *([representation_dim] * 5)]):
            layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers[:-1])


def encode_kernel(network: DASR, kernel: Tensor | None) -> Tensor:
    """Representations (B, D) of true blur kernels (B, k, k), for condition 'kernel'; ValueError if there are none."""
    if kernel is None:
        raise ValueError('DASR with condition: kernel needs the true blur kernel, got none; pass kernel=(B, k, k)')
    out: Tensor = network.kernel_encoder(kernel.to(network.compress.weight.dtype))
    return out


def add_skip(network: DASR, skip: Skip) -> Callable[[DASR, Tensor, Tensor], Tensor] | None:
    """Adds the parts of a skip connection to a new network: a buffer for 'bicubic', Wiener filters for 'wiener'.

    Returns the function that upsamples the input, None for 'none'.
    """
    # A buffer, not an attribute: a network can be built from its state dict alone.
    network.register_buffer('bicubic_skip', torch.tensor(network.scale) if skip == 'bicubic' else None)
    network.enlargement = None
    if skip == 'wiener':
        network.enlargement = WienerUpsampler(network.scale, network.compress.in_features)
        for parameter in network.last_conv.parameters():  # training starts from the filters' output
            nn.init.zeros_(parameter)
    return None if skip == 'none' else upsample_input


def upsample_input(network: DASR, x: Tensor, representation: Tensor) -> Tensor:
    """Upsamples images (B, 3, h, w) to (B, 3, h * scale, w * scale), in their value range, for a skip connection.

    Representations have shape (B, D) or (1, D).
    """
    if network.enlargement is None:
        return upsample_bicubic(x, network.scale)
    out: Tensor = network.enlargement(x, representation)
    return out
