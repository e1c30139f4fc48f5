"""DASR: blind super-resolution that adapts to a degradation representation of the image.

Wang, Wang, Dong, Xu, Yang, An, Guo: Unsupervised Degradation Representation Learning for Blind Super-Resolution,
CVPR 2021, arXiv 2104.00416. Checked against outputs of the authors' released code. Contrastive learning of the encoder
is in ``losses/contrastive.py``, faster computation of the same network in ``backends/``.

Shapes: B images, C = num_feat channels, D = representation_dim, h x w LR pixels, s = scale.
"""

from importlib import import_module
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.backends.channels_last import Conv3x3, depthwise_conv_leaky
from dasr_arch.backends.choose import AcceleratedNetwork, Implementation

SLOPE = 0.1  # of every LeakyReLU
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB, in [0, 1]
RELEASED_RANGE = 255.0
DAConvKind = Literal['full', 'kernel', 'concat']
Skip = Literal['none', 'bicubic', 'wiener']


class DegradationEncoder(nn.Module):
    """Degradation encoder (section 3.1): six 3 x 3 convolutions and global average pooling.

    Args:
        num_feat: channels of the first two convolutions; they double at the first stride.
        representation_dim: length D of the representation, the channels of the last two convolutions.
        num_in_ch: channels of the images.
    """

    def __init__(self, num_feat: int = 64, representation_dim: int = 256, num_in_ch: int = 3) -> None:
        super().__init__()
        channels = [num_in_ch, num_feat, num_feat, 2 * num_feat, 2 * num_feat, representation_dim, representation_dim]
        layers: list[nn.Module] = []
        for (before, after), stride in zip(pairwise(channels), [1, 1, 2, 1, 2, 1], strict=True):
            conv = Conv3x3(before, after) if stride == 1 else nn.Conv2d(before, after, 3, stride, 1)
            layers += [conv, nn.BatchNorm2d(after), nn.LeakyReLU(SLOPE, inplace=True)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Representations (B, D) of RGB images (B, 3, h, w) in [0, 255], averaged in float32 or better."""
        features = self.extract(x)
        return features.to(torch.promote_types(features.dtype, torch.float32)).mean((-2, -1))

    def extract(self, x: Tensor) -> Tensor:
        """The feature map before pooling, (B, D, ceil(h / 4), ceil(w / 4)); large images are encoded in tiles of it."""
        for layer in self.body:
            if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm) and x.dtype == torch.bfloat16 != layer.weight.dtype:
                x = layer(x.float()).to(x.dtype)  # under autocast: batch statistics suffer from rounding
            else:
                x = layer(x)
        return x


class DAConv(nn.Module):
    """Degradation-aware convolution (section 3.2): predicted depth-wise kernels, and predicted channel modulation.

    Args:
        num_feat: number of channels C.
        reduction: divisor of the hidden width of the channel modulation.
        modulate: False leaves the channel modulation out, the paper's Model 3.
    """

    def __init__(self, num_feat: int, reduction: int = 8, modulate: bool = True) -> None:
        super().__init__()
        self.num_feat = num_feat
        self.kernel = nn.Sequential(
            nn.Linear(num_feat, num_feat, bias=False),
            nn.LeakyReLU(SLOPE),
            nn.Linear(num_feat, num_feat * 9, bias=False),
        )
        self.pointwise = nn.Conv2d(num_feat, num_feat, 1)
        self.modulation = None
        if modulate:
            self.modulation = nn.Sequential(
                nn.Linear(num_feat, num_feat // reduction, bias=False),
                nn.LeakyReLU(SLOPE),
                nn.Linear(num_feat // reduction, num_feat, bias=False),
            )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Adapts features (B, C, h, w) to a degradation, whose compressed representation (B, C) is the embedding."""
        kernel = self.kernel(embedding).reshape(-1, self.num_feat, 3, 3)  # (B, C, 3, 3)
        out: Tensor = self.pointwise(depthwise_conv_leaky(x, kernel, SLOPE))  # (B, C, h, w)
        if self.modulation is None:
            return out
        factors = torch.sigmoid(self.modulation(embedding))[..., None, None]  # (B, C, 1, 1), in (0, 1)
        return torch.addcmul(out, x, factors)  # out + x * factors


class DABlock(nn.Module):
    """Degradation-aware block (DAB): twice a degradation-aware and a 3 x 3 convolution, with a residual connection."""

    def __init__(self, num_feat: int, reduction: int, da_conv: DAConvKind) -> None:
        super().__init__()
        self.da_conv1 = _make_da_conv(num_feat, reduction, da_conv)
        self.conv1 = Conv3x3(num_feat, num_feat)
        self.da_conv2 = _make_da_conv(num_feat, reduction, da_conv)
        self.conv2 = Conv3x3(num_feat, num_feat)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """As :meth:`DAConv.forward`."""
        out: Tensor = F.leaky_relu(self.da_conv1(x, embedding), SLOPE, inplace=True)
        out = F.leaky_relu(self.conv1(out), SLOPE, inplace=True)
        out = F.leaky_relu(self.da_conv2(out, embedding), SLOPE, inplace=True)
        out = self.conv2(out) + x
        return out


class DAGroup(nn.Module):
    """Degradation-aware group (DAG): blocks and a 3 x 3 convolution, with a residual connection; see DABlock."""

    def __init__(self, num_feat: int, num_blocks: int, reduction: int, da_conv: DAConvKind) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DABlock(num_feat, reduction, da_conv) for _ in range(num_blocks))
        self.conv = Conv3x3(num_feat, num_feat)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """As :meth:`DAConv.forward`."""
        out: Tensor = x
        for block in self.blocks:
            out = block(out, embedding)
        out = self.conv(out) + x
        return out


class PixelShuffleUpsampler(nn.Sequential):
    """A 3 x 3 convolution and a pixel shuffle: once for x2 and x3, twice for x4, three times for x8, none for x1."""

    def __init__(self, scale: int, num_feat: int) -> None:
        layers: list[nn.Module] = []
        for factor in {1: [], 2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[scale]:
            layers += [Conv3x3(num_feat, factor**2 * num_feat), nn.PixelShuffle(factor)]
        super().__init__(*layers)


class DASROutput(NamedTuple):
    """An image, and the representation that the network adapted to."""

    sr: Tensor  # RGB (B, 3, h * s, w * s), around [0, 1]
    representation: Tensor  # (B, D)


@ARCH_REGISTRY.register()
class DASR(AcceleratedNetwork, SRNetwork):
    """Degradation-aware blind super-resolution network (figure 2): encoder and degradation-aware SR network.

    Args:
        scale: upsampling factor s: 1, 2, 3, 4 or 8; the paper has 2, 3 and 4.
        num_feat: channels C of the SR network.
        num_groups: number of degradation-aware groups.
        num_blocks: blocks in each group.
        representation_dim: length D of the degradation representation.
        encoder_feat: channels of the encoder's first convolutions.
        reduction: divisor of the hidden width of the channel modulation.
        img_range: maximum of the pixel values inside the network; the released weights need 255.
        upsampler: 'direct' is one convolution and a pixel shuffle. Like the next four: ``archs/dasr_variants.py``.
        skip: what is added to the output: nothing, bicubic upsampling, or a Wiener filter for the degradation.
        da_conv: 'kernel' has no channel modulation (Model 3), 'concat' is a plain convolution (Model 2).
        condition: source of the representation: the encoder, or the true blur kernel (Model 5).
        kernel_size: side of the blur kernel for condition 'kernel', in pixels.
        implementation: backend, all of one result up to rounding. See :meth:`set_implementation`.

    Raises:
        ValueError: if an argument has no such choice, or its package is not installed.
    """

    encoder: DegradationEncoder
    mean: Tensor
    bicubic_skip: Tensor | None
    enlargement: Any  # WienerUpsampler or None

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_groups: int = 5,
        num_blocks: int = 5,
        representation_dim: int = 256,
        encoder_feat: int = 64,
        reduction: int = 8,
        img_range: float = RELEASED_RANGE,
        upsampler: Literal['pixelshuffle', 'direct'] = 'pixelshuffle',
        skip: Skip = 'none',
        da_conv: DAConvKind = 'full',
        condition: Literal['encoder', 'kernel'] = 'encoder',
        kernel_size: int = 21,
        implementation: Implementation = 'auto',
    ) -> None:
        super().__init__()
        _variants().check_arguments(locals())
        self.scale = scale
        self.img_range = img_range
        self.blind = condition == 'encoder'
        self.needs = () if self.blind else ('kernel',)
        if self.blind:
            self.encoder = DegradationEncoder(encoder_feat, representation_dim)
        else:
            self.kernel_encoder = _variants().KernelEncoder(kernel_size, representation_dim)
        self.compress = nn.Linear(representation_dim, num_feat, bias=False)
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.groups = nn.ModuleList(DAGroup(num_feat, num_blocks, reduction, da_conv) for _ in range(num_groups))
        self.body_conv = Conv3x3(num_feat, num_feat)
        direct = upsampler == 'direct'
        self.upsampler = nn.Sequential() if direct else PixelShuffleUpsampler(scale, num_feat)
        self.last_conv = Conv3x3(num_feat, 3 * scale**2 if direct else 3)
        self.shuffle = nn.PixelShuffle(scale) if direct else nn.Identity()
        self.register_buffer('mean', torch.tensor(DIV2K_MEAN).reshape(1, 3, 1, 1) * img_range, persistent=False)
        self.register_buffer('pixel_range', torch.tensor(float(img_range)) if img_range != RELEASED_RANGE else None)
        self.upsample_input = _variants().add_skip(self, skip)  # None in the paper
        self.set_implementation(implementation)

    def forward(
        self,
        lq: Tensor,
        *,
        representation: Tensor | None = None,
        kernel: Tensor | None = None,
        return_representation: bool = False,
    ) -> Tensor | DASROutput:
        """Super-resolves images.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1], any size from one pixel up.
            representation: degradation to adapt to, shape (B, D) or (1, D); by default the encoder's for ``lq``.
            kernel: true blur kernels of shape (B, k, k), for networks with condition 'kernel' only.
            return_representation: return a DASROutput.

        Returns:
            RGB of shape (B, 3, h * s, w * s), around [0, 1], not clamped; with return_representation a DASROutput.

        Raises:
            ValueError: if a network with condition 'kernel' gets neither kernel nor representation.
        """
        if representation is None:
            representation = self.encode(lq, kernel=kernel)  # (B, D)
        backend, x = self.prepare(lq * self.img_range)  # (B, 3, h, w)
        given = representation.to(self.compress.weight.dtype)
        embedding = F.leaky_relu(self.compress(given), SLOPE).expand(x.shape[0], -1)  # (B, C)
        features = backend.extract_features(self, x - self.mean, embedding)  # (B, C, h, w)
        sr = backend.upsample(self, features)  # (B, 3, h * s, w * s)
        with torch.autocast(x.device.type, enabled=False):
            base = self.mean if self.upsample_input is None else self.upsample_input(self, x, given)
            sr = (sr + base) / self.img_range
        return DASROutput(sr, representation) if return_representation else sr

    def encode(self, lq: Tensor, *, kernel: Tensor | None = None) -> Tensor:
        """Degradation representations (B, D) of images, not normalised; arguments and errors as :meth:`forward`."""
        if not self.blind:
            out: Tensor = _variants().encode_kernel(self, kernel)
            return out
        backend, x = self.prepare(lq * self.img_range)
        return backend.encode(self, x)

    def extract_features(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features (B, C, h, w) of RGB (B, 3, h, w) in 0..img_range minus DIV2K's mean; embedding as in DAConv."""
        features = self.head(x)
        out = features
        for group in self.groups:
            out = group(out, embedding)
        result: Tensor = self.body_conv(out) + features
        return result

    def upsample(self, features: Tensor) -> Tensor:
        """Upsampler and last convolution: (B, C, h, w) to (B, 3, h * s, w * s), never rounded to half precision."""
        out = self.upsampler(features)
        with torch.autocast(out.device.type, enabled=False):
            sr: Tensor = self.shuffle(self.last_conv(out))
        return sr


def _make_da_conv(num_feat: int, reduction: int, kind: DAConvKind) -> nn.Module:
    concat = kind == 'concat'
    conv: nn.Module = _variants().ConcatConv(num_feat) if concat else DAConv(num_feat, reduction, kind == 'full')
    return conv


def _variants() -> Any:
    """The module of everything beside the paper's network; imported late, because it imports this one."""
    return import_module('dasr_arch.archs.dasr_variants')
