"""SAN: channel attention from second-order statistics, and non-local attention within quarters of the image.

Dai, Cai, Zhang, Xia, Zhang: Second-Order Attention Network for Single Image Super-Resolution, CVPR 2019. Checked
against outputs of the authors' code, whose weights load as they are. What this code saves but never computes with is
left out.
"""

import torch
from torch import Tensor, nn

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.blocks import PixelShuffleUpsampler
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.archs.dasr_arch import DIV2K_MEAN
from dasr_arch.archs.key_map import KeyMap
from dasr_arch.archs.layers.argument_checks import check_choice, check_counts
from dasr_arch.archs.layers.image_ops import output_conv
from dasr_arch.archs.layers.second_order import RegionNonLocal, SecondOrderAttention


@ARCH_REGISTRY.register()
class SAN(SRNetwork):
    """Super-resolution for bicubic down-sampling; it is told nothing about the degradation.

    Args:
        scale: up-sampling factor, 2, 3 or 4.
        num_feat: channels.
        num_groups: number of groups.
        num_blocks: residual blocks in each group.
        reduction: divisor of the hidden width of the channel attention.
        img_range: maximum of the pixel values inside the network; the released weights need 255.

    Raises:
        ValueError: if an argument has no such choice.

    Source:
        Dai et al., CVPR 2019; facts from the authors' code, which carries no licence.
    """

    released_names = KeyMap(
        'head.0.weight',
        {
            r'gamma': 'source_weight',
            r'(sub_mean|add_mean)\.(weight|bias)': r'\1.\2',
            r'head\.0\.(weight|bias)': r'head.\1',
            r'RG\.(\d+)\.rcab\.(\d+)\.conv_first\.([02])\.(weight|bias)': r'groups.\1.blocks.\2.body.\3.\4',
            r'RG\.(\d+)\.soca\.conv_du\.([02])\.(weight|bias)': r'groups.\1.attention.gate.\2.\3',
            r'RG\.(\d+)\.conv_last\.(weight|bias)': r'groups.\1.conv.\2',
            r'non_local\.non_local\.theta\.(weight|bias)': r'non_local.query.\1',
            r'non_local\.non_local\.phi\.0\.(weight|bias)': r'non_local.key.\1',
            r'non_local\.non_local\.g\.0\.(weight|bias)': r'non_local.value.\1',
            r'non_local\.non_local\.W\.(weight|bias)': r'non_local.out.\1',
            r'tail\.0\.([02])\.(weight|bias)': r'upsampler.\1.\2',
            r'tail\.1\.(weight|bias)': r'last_conv.\1',
        },
        unused=(r'RG\.\d+\.gamma', r'conv_last\.(weight|bias)', r'non_local\.soca\..*'),
    )

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_groups: int = 20,
        num_blocks: int = 10,
        reduction: int = 16,
        img_range: float = 255.0,
    ) -> None:
        super().__init__()
        check_choice('scale', scale, (2, 3, 4), 'SAN')
        check_counts('SAN', num_feat=num_feat, num_groups=num_groups, num_blocks=num_blocks, reduction=reduction)
        if num_feat < max(reduction, 8):
            raise ValueError(f'num_feat must be at least 8 and reduction for SAN, got {num_feat} and {reduction}')
        if not img_range > 0:
            raise ValueError(f'img_range must be positive for SAN, got {img_range}')
        self.scale = scale
        self.img_range = img_range
        mean = torch.tensor(DIV2K_MEAN) * img_range
        self.sub_mean = MeanShift(-mean)
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.non_local = RegionNonLocal(num_feat)
        self.groups = nn.ModuleList(SecondOrderGroup(num_feat, num_blocks, reduction) for _ in range(num_groups))
        self.source_weight = nn.Parameter(torch.zeros(1))
        self.upsampler = PixelShuffleUpsampler(scale, num_feat)
        self.last_conv = nn.Conv2d(num_feat, 3, 3, padding=1)
        self.add_mean = MeanShift(mean)

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolves images.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1], any size from one pixel up.

        Returns:
            RGB of shape (B, 3, h * scale, w * scale), around [0, 1], not clamped.
        """
        shallow = self.head(self.sub_mean(lq * self.img_range))
        source = self.non_local(shallow)
        features = source
        for group in self.groups:
            features = group(features) + self.source_weight * source
        features = self.non_local(features) + shallow  # the same weights again
        sr: Tensor = self.add_mean(output_conv(self.last_conv, self.upsampler(features)))
        return sr / self.img_range


class SecondOrderGroup(nn.Module):
    """Residual blocks, second-order attention and a convolution, with a residual.

    Args:
        num_feat: channels.
        num_blocks: number of blocks.
        reduction: see SecondOrderAttention.
    """

    def __init__(self, num_feat: int, num_blocks: int, reduction: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_ResidualBlock(num_feat) for _ in range(num_blocks))
        self.attention = SecondOrderAttention(num_feat, reduction)
        self.conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Turns features of shape (B, num_feat, h, w) into others."""
        out: Tensor = x
        for block in self.blocks:
            out = block(out)
        out = self.conv(self.attention(out)) + x
        return out


class MeanShift(nn.Module):
    """A shift of the colours, in the authors' files a convolution that training may have moved off the identity.

    Args:
        shift: what is added, shape (3,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer('weight', torch.eye(3).reshape(3, 3, 1, 1))
        self.register_buffer('bias', shift.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Shifts images of shape (B, 3, h, w), also under autocast without rounding them."""
        with torch.autocast(x.device.type, enabled=False):
            return nn.functional.conv2d(x, self.weight, self.bias)


class _ResidualBlock(nn.Module):
    """Two convolutions, with a residual."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, padding=1), nn.ReLU(), nn.Conv2d(num_feat, num_feat, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + x
        return out
