"""SAN: second-order channel attention and region-level non-local attention.

Dai, Cai, Zhang, Xia, Zhang: Second-Order Attention Network for Single Image Super-Resolution, CVPR 2019. Checked
against outputs of the authors' code, whose weights load unchanged. Their unused tensors are left out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import check_choice, check_counts
from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import KeyMap, SRNetwork
from dasr_arch.archs.dasr_arch import DIV2K_MEAN, PixelShuffleUpsampler
from dasr_arch.archs.layers.conv_stack import chain_convs
from dasr_arch.archs.layers.image_ops import output_conv

_LARGEST_SIDE = 1000  # pixels; the statistics of larger features come from their centre
_ITERATIONS = 5  # Newton-Schulz; the weights rely on a root that has not fully converged
_TINY = 1e-8  # against division by zero for constant features
_POOL = 2  # pooling of keys and values


@ARCH_REGISTRY.register()
class SAN(SRNetwork):
    """Super-resolution for bicubic downsampling.

    Args:
        scale: upsampling factor, 2, 3 or 4.
        num_feat: channels.
        num_groups: number of groups.
        num_blocks: residual blocks in each group.
        reduction: divisor of the hidden width of the channel attention.
        img_range: maximum of the pixel values inside the network; the released weights need 255.

    Raises:
        ValueError: if an argument is out of range.

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
        """Super-resolves RGB (B, 3, h, w) in [0, 1] to (B, 3, h * scale, w * scale), around [0, 1], not clamped.

        Any size from one pixel up will do.
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
    """Residual blocks, second-order attention and a convolution, with a residual."""

    def __init__(self, num_feat: int, num_blocks: int, reduction: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_ResidualBlock(num_feat) for _ in range(num_blocks)))
        self.attention = SecondOrderAttention(num_feat, reduction)
        self.conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, num_feat, h, w) of the same shape."""
        out: Tensor = self.conv(self.attention(self.blocks(x))) + x
        return out


class SecondOrderAttention(nn.Module):
    """Channel attention from the square root of the channels' covariance (SOCA), section 3.2 of the paper."""

    def __init__(self, num_feat: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = num_feat // reduction
        self.gate = nn.Sequential(nn.Conv2d(num_feat, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, num_feat, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Weights features of shape (B, C, h, w)."""
        with torch.autocast(x.device.type, enabled=False):  # the iteration needs float32
            root = covariance_root(_crop_middle(x).to(torch.promote_types(x.dtype, torch.float32)))
        statistics = root.mean(1)[..., None, None].to(self.gate[0].weight.dtype)  # type: ignore[arg-type]
        out: Tensor = x * self.gate(statistics).sigmoid()
        return out


def covariance_root(x: Tensor) -> Tensor:
    """Square root (B, C, C) of the channels' covariance, by five Newton-Schulz iterations.

    Features have shape (B, C, h, w), float32 or float64; constant ones are allowed. Small eigenvalues are
    underestimated after five iterations.
    """
    rows = x.flatten(2)
    rows = rows - rows.mean(2, keepdim=True)
    covariance = rows @ rows.transpose(1, 2) / rows.shape[2]
    trace = covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + _TINY
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    root, inverse = covariance / trace, identity.expand_as(covariance)
    for _ in range(_ITERATIONS):
        step = (3 * identity - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse  # the last inverse is unused
    return root * trace.sqrt()


class RegionNonLocal(nn.Module):
    """Non-local attention within each quarter of the image (RL-NL), section 3.3; initialised to the identity.

    As in the released code, keys and values are max-pooled over 2 x 2 pixels, which the paper does not mention. Sides
    below four pixels are not split, below two not pooled. ``reduction`` divides the channels of queries, keys and
    values.
    """

    def __init__(self, num_feat: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = num_feat // reduction
        self.query = nn.Conv2d(num_feat, hidden, 1)
        self.key = nn.Conv2d(num_feat, hidden, 1)
        self.value = nn.Conv2d(num_feat, hidden, 1)
        self.out = nn.Conv2d(hidden, num_feat, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the attention of each region to features (B, C, h, w), of any size from one pixel up."""
        rows = [torch.cat([self._attend(part) for part in _halve(row, 3)], 3) for row in _halve(x, 2)]
        return torch.cat(rows, 2)

    def _attend(self, x: Tensor) -> Tensor:
        """Attention within one region."""
        pool = [min(_POOL, side) for side in x.shape[-2:]]
        key, value = (functional.max_pool2d(layer(x), pool) for layer in (self.key, self.value))
        query, key, value = (part.flatten(2).transpose(1, 2).unsqueeze(1) for part in (self.query(x), key, value))
        found = functional.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, 1, h * w, hidden)
        found = found.squeeze(1).transpose(1, 2).reshape(x.shape[0], -1, *x.shape[-2:])
        out: Tensor = self.out(found) + x
        return out


class MeanShift(nn.Module):
    """Colour shift by (3,) as a 1 x 1 convolution, which training may have changed in the authors' files."""

    weight: Tensor
    bias: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer('weight', torch.eye(3).reshape(3, 3, 1, 1))
        self.register_buffer('bias', shift.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Shifts images of shape (B, 3, h, w), without autocast."""
        with torch.autocast(x.device.type, enabled=False):
            return nn.functional.conv2d(x, self.weight, self.bias)


class _ResidualBlock(nn.Module):
    """Two convolutions, with a residual."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.body = chain_convs(num_feat, num_feat, num_feat)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + x
        return out


def _halve(x: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Two halves along an axis, the second with the odd pixel; one part if a half is too small for the pooling."""
    half = x.shape[axis] // 2
    return x.split([half, x.shape[axis] - half], axis) if half >= _POOL else (x,)


def _crop_middle(x: Tensor) -> Tensor:
    """Centre crop of at most 1000 x 1000 pixels."""
    height, width = (min(side, _LARGEST_SIDE) for side in x.shape[-2:])
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]
