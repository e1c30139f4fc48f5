"""SRCNN: three convolutions on the bicubically upsampled image.

Dong, Loy, He, Tang: Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2016, arXiv 1501.00092. Layers and
names are those of the public PyTorch versions, whose weights load unchanged.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import check_choice, check_counts, check_kernel_size
from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.archs.layers.image_ops import output_conv, rgb_to_y, upsample_bicubic_symmetric

_LUMA_SPAN = 219.0
_PAPER_STD = 0.001  # of the initial weights


@ARCH_REGISTRY.register()
class SRCNN(SRNetwork):
    """Super-resolution for bicubic downsampling.

    Args:
        scale: upsampling factor, 1 or more.
        num_in_ch: 3 restores RGB; 1 restores luma as in the paper, with the colours of the upsampled image.
        num_feat: channels of the first convolution.
        num_map: channels of the second convolution.
        middle_kernel: kernel size of the second convolution; 5 is the paper's final network, 1 its basic one.
        padding_mode: padding of the convolutions. The paper trains without padding; public versions use 'zeros'.
        upsampler: 'matlab' as in the paper; 'torch' is the cubic with a = -0.75, which some public weights need.
        init: 'default' is torch's; 'paper' has a standard deviation of 0.001 and zero biases, and trains slowly at
            first.

    Raises:
        ValueError: if an argument is out of range.

    Source:
        Dong et al., TPAMI 2016: network 9-5-5.
    """

    def __init__(
        self,
        scale: int = 4,
        num_in_ch: int = 3,
        num_feat: int = 64,
        num_map: int = 32,
        middle_kernel: int = 5,
        padding_mode: Literal['zeros', 'replicate'] = 'zeros',
        upsampler: Literal['matlab', 'torch'] = 'matlab',
        init: Literal['default', 'paper'] = 'default',
    ) -> None:
        super().__init__()
        check_counts('SRCNN', scale=scale, num_feat=num_feat, num_map=num_map)
        check_choice('num_in_ch', num_in_ch, (1, 3), 'SRCNN')
        check_kernel_size('SRCNN', middle_kernel=middle_kernel)
        check_choice('padding_mode', padding_mode, ('zeros', 'replicate'), 'SRCNN')
        check_choice('upsampler', upsampler, ('matlab', 'torch'), 'SRCNN')
        check_choice('init', init, ('default', 'paper'), 'SRCNN')
        self.scale = scale
        self.upsampler = upsampler
        self.conv1 = nn.Conv2d(num_in_ch, num_feat, 9, padding=4, padding_mode=padding_mode)
        self.conv2 = nn.Conv2d(num_feat, num_map, middle_kernel, padding=middle_kernel // 2, padding_mode=padding_mode)
        self.conv3 = nn.Conv2d(num_map, num_in_ch, 5, padding=2, padding_mode=padding_mode)
        if init == 'paper':
            for layer in (self.conv1, self.conv2, self.conv3):
                nn.init.normal_(layer.weight, std=_PAPER_STD)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolves RGB (B, 3, h, w) in [0, 1] to (B, 3, h * scale, w * scale), around [0, 1], not clamped."""
        upsampled = self._upsample(lq)
        if self.conv1.in_channels == 3:
            return self._restore(upsampled)
        luma = rgb_to_y(upsampled)
        # An equal change of R, G and B changes luma and neither colour difference.
        return upsampled + (self._restore(luma) - luma) * (255 / _LUMA_SPAN)

    def _upsample(self, lq: Tensor) -> Tensor:
        if self.upsampler == 'matlab' or self.scale == 1:
            return upsample_bicubic_symmetric(lq, self.scale)
        precise = lq.to(torch.promote_types(lq.dtype, torch.float32))
        out = functional.interpolate(precise, scale_factor=self.scale, mode='bicubic', align_corners=False)
        return out.to(lq.dtype)

    def _restore(self, x: Tensor) -> Tensor:
        features = functional.relu(self.conv1(x))
        return output_conv(self.conv3, functional.relu(self.conv2(features)))
