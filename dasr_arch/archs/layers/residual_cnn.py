"""Bicubic upsampling and a residual CNN, the network of ZSSR and MZSR.

Its test-time adaptation is in :mod:`dasr_arch.zero_shot.adaptation`, which upsamples images itself (``is_upsampled``).
"""

from torch import Tensor

from dasr_arch.archs.contract import SRNetwork
from dasr_arch.archs.layers.argument_checks import check_counts
from dasr_arch.archs.layers.conv_stack import ConvReLUStack
from dasr_arch.archs.layers.image_ops import upsample_bicubic_symmetric


class ResidualCNN(SRNetwork):
    """Adds the output of a stack of convolutions to the bicubically upsampled image.

    The scale is 1 or more, the number of convolutions 2 or more; else ValueError.
    """

    adapts_to = ('kernel',)

    def __init__(self, scale: int, num_feat: int, num_layers: int, bias: bool) -> None:
        super().__init__()
        check_counts(type(self).__name__, scale=scale, num_feat=num_feat, num_layers=num_layers)
        self.scale = scale
        self.num_feat = num_feat
        self.num_layers = num_layers
        self.body = ConvReLUStack(3, num_feat, 3, num_layers, bias=bias)

    def forward(self, lq: Tensor, *, is_upsampled: bool = False) -> Tensor:
        """Super-resolves images.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1].
            is_upsampled: whether ``lq`` is upsampled already, by any factor.

        Returns:
            RGB of shape (B, 3, h * scale, w * scale), or (B, 3, h, w) with is_upsampled; around [0, 1], not clamped.
        """
        x = lq if is_upsampled else upsample_bicubic_symmetric(lq, self.scale)
        out: Tensor = x + self.body(x)
        return out
