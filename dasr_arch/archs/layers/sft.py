"""Spatial feature transform (SFT) layers of IKC.

Gu et al., Blind Super-Resolution with Iterative Kernel Correction, CVPR 2019, section 3.2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2  # of every LeakyReLU in IKC's networks
_HIDDEN = 32  # channels of the hidden layer of a gain or shift


class SFTLayer(nn.Module):
    """Scales and shifts features, with gain and shift predicted from the features and the kernel code."""

    def __init__(self, num_feat: int, code_length: int) -> None:
        super().__init__()
        self.gain = _make_convs(num_feat, code_length)
        self.shift = _make_convs(num_feat, code_length)

    def forward(self, x: Tensor, code_maps: Tensor) -> Tensor:
        """Transforms features (B, num_feat, h, w), given the kernel code as maps (B, code_length, h, w)."""
        both = torch.cat([x, code_maps.to(x.dtype)], 1)
        out: Tensor = x * self.gain(both).sigmoid() + self.shift(both)
        return out


class SFTResidualBlock(nn.Module):
    """Two SFT layers and two convolutions in turn, with a residual."""

    def __init__(self, num_feat: int, code_length: int) -> None:
        super().__init__()
        self.sft1 = SFTLayer(num_feat, code_length)
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.sft2 = SFTLayer(num_feat, code_length)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor, code_maps: Tensor) -> Tensor:
        """As :meth:`SFTLayer.forward`."""
        out: Tensor = self.conv1(functional.relu(self.sft1(x, code_maps)))
        out = self.conv2(functional.relu(self.sft2(out, code_maps))) + x
        return out


def _make_convs(num_feat: int, code_length: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(num_feat + code_length, _HIDDEN, 3, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(_HIDDEN, num_feat, 3, padding=1),
    )
