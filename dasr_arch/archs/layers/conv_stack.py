"""Stacks of convolutions: 3 x 3 with ReLU, the body of SRMD, DnCNN, ZSSR and MZSR; short ones for parts of blocks."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from dasr_arch.archs.layers.image_ops import output_conv


def chain_convs(*channels: int, side: int = 3, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Zero-padded convolutions from each number of channels to the next, with an activation between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, side, padding=side // 2), activation()]
    return nn.Sequential(*layers[:-1])


class ConvReLUStack(nn.Sequential):
    """Two or more zero-padded convolutions with ReLU between them; ValueError for fewer.

    Batch normalisation, with the constants of the public DnCNN, follows all convolutions but the first and the last.
    """

    def __init__(
        self,
        in_channels: int,
        num_feat: int,
        out_channels: int,
        num_layers: int,
        bias: bool = True,
        batch_norm: bool = False,
    ) -> None:
        if num_layers < 2:
            raise ValueError(f'num_layers must be at least 2, got {num_layers}')
        layers: list[nn.Module] = [nn.Conv2d(in_channels, num_feat, 3, padding=1, bias=bias), nn.ReLU()]
        for _ in range(num_layers - 2):
            layers.append(nn.Conv2d(num_feat, num_feat, 3, padding=1, bias=bias))
            if batch_norm:
                layers.append(nn.BatchNorm2d(num_feat, eps=1e-4, momentum=0.9))
            layers.append(nn.ReLU())
        layers.append(nn.Conv2d(num_feat, out_channels, 3, padding=1, bias=bias))
        super().__init__(*layers)

    def init_he(self) -> None:
        """He initialisation (He et al., ICCV 2015): activations have the same variance in all layers. Biases are zero.

        PyTorch's default reduces the variance to a sixth in every layer, so that the output of a deep stack is nearly
        constant at first and colours are learned late.
        """
        convolutions = [layer for layer in self if isinstance(layer, nn.Conv2d)]
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, nonlinearity='linear' if layer is convolutions[-1] else 'relu')
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W), in the type of the weights."""
        *layers, last = self
        for layer in layers:
            x = layer(x)
        return output_conv(last, x)
