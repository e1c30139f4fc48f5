"""Parts of DASR's super-resolution network: convolutions, blocks and groups that adapt to a degradation.

Wang et al., Unsupervised Degradation Representation Learning for Blind Super-Resolution, CVPR 2021, section 3.2.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch.backends.reference import Depthwise, convolve_grouped
from dasr_arch.backends.winograd_wgrad import Conv3x3

SLOPE = 0.1  # of every LeakyReLU
DAConvKind = Literal['full', 'kernel', 'concat']


class DAConv(nn.Module):
    """Degradation-aware convolution: a predicted depth-wise kernel, plus a predicted factor for every channel.

    Args:
        num_feat: number of channels C.
        reduction: divisor of the hidden width of the channel modulation.
        modulate: False leaves the channel modulation out, the paper's Model 3.
    """

    def __init__(self, num_feat: int, reduction: int = 8, modulate: bool = True) -> None:
        super().__init__()
        hidden = num_feat // reduction
        self.kernel = nn.Sequential(
            nn.Linear(num_feat, num_feat, bias=False),
            nn.LeakyReLU(SLOPE),
            nn.Linear(num_feat, num_feat * 9, bias=False),
        )
        self.pointwise = nn.Conv2d(num_feat, num_feat, 1)
        self.modulation = (
            nn.Sequential(
                nn.Linear(num_feat, hidden, bias=False), nn.LeakyReLU(SLOPE), nn.Linear(hidden, num_feat, bias=False)
            )
            if modulate
            else None
        )

    def forward(self, x: Tensor, code: Tensor, depthwise: Depthwise = convolve_grouped) -> Tensor:
        """Adapts features to a degradation.

        Args:
            x: features of shape (B, C, H, W).
            code: compressed representation of shape (B, C).
            depthwise: how predicted kernels are applied: the reference, or another with the same result.

        Returns:
            Features of shape (B, C, H, W).
        """
        kernel = self.kernel(code).reshape(*x.shape[:2], 3, 3)
        fresh = depthwise is not convolve_grouped  # which gives a view, costly for autograd to change in place
        out: Tensor = self.pointwise(functional.leaky_relu(depthwise(x, kernel), SLOPE, inplace=fresh))
        if self.modulation is None:
            return out
        return torch.addcmul(out, x, torch.sigmoid(self.modulation(code))[..., None, None])


class ConcatConv(nn.Module):
    """The paper's Model 2: a plain 3 x 3 convolution that sees the code as constant feature maps beside the features.

    Args:
        num_feat: number of channels C.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv = Conv3x3(2 * num_feat, num_feat)

    def forward(self, x: Tensor, code: Tensor, depthwise: Depthwise = convolve_grouped) -> Tensor:
        """As :meth:`DAConv.forward`."""
        stretched = code[..., None, None].expand(-1, -1, *x.shape[-2:])
        out: Tensor = self.conv(torch.cat([x, stretched], 1))
        return out


class DABlock(nn.Module):
    """Degradation-aware block: two pairs of a degradation-aware and a plain convolution, with a residual.

    Args:
        num_feat: number of channels C.
        reduction: see DAConv.
        da_conv: 'full', 'kernel' (without channel modulation) or 'concat' (see ConcatConv).
    """

    def __init__(self, num_feat: int, reduction: int, da_conv: DAConvKind) -> None:
        super().__init__()
        self.da_conv1 = _make_da_conv(num_feat, reduction, da_conv)
        self.conv1 = Conv3x3(num_feat, num_feat)
        self.da_conv2 = _make_da_conv(num_feat, reduction, da_conv)
        self.conv2 = Conv3x3(num_feat, num_feat)

    def forward(self, x: Tensor, code: Tensor, depthwise: Depthwise = convolve_grouped) -> Tensor:
        """As :meth:`DAConv.forward`."""
        out: Tensor = functional.leaky_relu_(self.da_conv1(x, code, depthwise), SLOPE)
        out = functional.leaky_relu_(self.conv1(out), SLOPE)
        out = functional.leaky_relu_(self.da_conv2(out, code, depthwise), SLOPE)
        out = self.conv2(out) + x
        return out


class DAGroup(nn.Module):
    """Degradation-aware group: blocks and a convolution, with a residual.

    Args:
        num_feat: number of channels C.
        num_blocks: number of blocks.
        reduction: see DAConv.
        da_conv: see DABlock.
    """

    def __init__(self, num_feat: int, num_blocks: int, reduction: int, da_conv: DAConvKind) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DABlock(num_feat, reduction, da_conv) for _ in range(num_blocks))
        self.conv = Conv3x3(num_feat, num_feat)

    def forward(self, x: Tensor, code: Tensor, depthwise: Depthwise = convolve_grouped) -> Tensor:
        """As :meth:`DAConv.forward`."""
        out: Tensor = x
        for block in self.blocks:
            out = block(out, code, depthwise)
        out = self.conv(out) + x
        return out


class PixelShuffleUpsampler(nn.Sequential):
    """The usual tail: a convolution and a pixel shuffle, twice for x4.

    Args:
        scale: 1, 2, 3, 4 or 8.
        num_feat: number of channels C.
    """

    def __init__(self, scale: int, num_feat: int) -> None:
        steps = {1: [], 2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[scale]
        layers: list[nn.Module] = []
        for factor in steps:
            layers += [Conv3x3(num_feat, factor**2 * num_feat), nn.PixelShuffle(factor)]
        super().__init__(*layers)


def _make_da_conv(num_feat: int, reduction: int, kind: DAConvKind) -> nn.Module:
    if kind == 'concat':
        return ConcatConv(num_feat)
    return DAConv(num_feat, reduction, modulate=kind == 'full')
