"""ZSSR: bicubic upsampling and a residual CNN, trained on the test image alone.

Shocher, Cohen, Irani: Zero-Shot Super-Resolution using Deep Internal Learning, CVPR 2018, arXiv 1712.06087. Facts from
the paper and the authors' code, whose licence is non-commercial; no code is taken from it. The training is in
:mod:`dasr_arch.zero_shot.zssr`.
"""

import math

import torch
from torch import Tensor, nn

from dasr_arch._errors import check_counts
from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.archs.layers.conv_stack import ConvReLUStack
from dasr_arch.archs.layers.image_ops import upsample_bicubic_symmetric

_GAIN = 0.1  # of the initial weights, small so that training starts near bicubic upsampling


class ResidualCNN(SRNetwork):
    """Adds the output of a stack of convolutions to the bicubically upsampled image, in ZSSR and MZSR.

    The scale is 1 or more, the number of convolutions 2 or more; else ValueError.
    """

    adapts_to = ('kernel',)

    def __init__(self, scale: int, num_feat: int, num_layers: int, bias: bool) -> None:
        super().__init__()
        check_counts(type(self).__name__, scale=scale, num_feat=num_feat, num_layers=num_layers)
        self.scale = scale
        self.body = ConvReLUStack(3, num_feat, 3, num_layers, bias=bias)

    def forward(self, lq: Tensor, *, is_upsampled: bool = False) -> Tensor:
        """Super-resolves RGB (B, 3, h, w) in [0, 1] to (B, 3, h * scale, w * scale), around [0, 1], not clamped.

        With ``is_upsampled`` they are upsampled already, by any factor, and keep their size.
        """
        x = lq if is_upsampled else upsample_bicubic_symmetric(lq, self.scale)
        out: Tensor = x + self.body(x)
        return out

    def list_convolutions(self) -> list[nn.Conv2d]:
        """All convolutions, in the order of computation."""
        return [layer for layer in self.body if isinstance(layer, nn.Conv2d)]


@ARCH_REGISTRY.register()
class ZSSR(ResidualCNN):
    """Network of zero-shot super-resolution, without biases; untrained, its output is close to bicubic upsampling.

    There are no weights files: it is trained for each image, on the image itself.

    Args:
        scale: upsampling factor, 1 or more.
        num_feat: channels of the hidden layers.
        num_layers: number of convolutions.

    Raises:
        ValueError: if an argument is out of range.

    Source:
        Shocher et al., CVPR 2018.
    """

    trains_per_image = True

    def __init__(self, scale: int = 2, num_feat: int = 64, num_layers: int = 8) -> None:
        super().__init__(scale, num_feat, num_layers, bias=False)
        self.draw_weights()

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights anew, for the training on one image; the CPU generator is torch's global one by default."""
        for layer in self.list_convolutions():
            std = math.sqrt(_GAIN / (9 * layer.in_channels))
            drawn = torch.empty_like(layer.weight, device='cpu').normal_(0, std, generator=generator)
            layer.weight.copy_(drawn)
