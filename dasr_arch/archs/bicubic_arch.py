"""Bicubic interpolation as a network, the baseline of every table.

The kernel is that of MATLAB's ``imresize`` (a = -0.5), applied to the rounded LR image as in the authors' test code.
"""

from torch import Tensor

from dasr_arch._errors import check_counts
from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.degradations.noise_compression import quantise
from dasr_arch.degradations.resize import upsample_bicubic


@ARCH_REGISTRY.register()
class Bicubic(SRNetwork):
    """Bicubic upsampling; no weights.

    Args:
        scale: upsampling factor, 1 or more.

    Raises:
        ValueError: if scale is not a positive whole number.

    Source:
        Test protocol of Wang et al., CVPR 2021, released code.
    """

    blind = True

    def __init__(self, scale: int) -> None:
        super().__init__()
        check_counts('Bicubic', scale=scale)
        self.scale = scale

    def forward(self, lq: Tensor) -> Tensor:
        """Upsamples images (B, C, h, w) in [0, 1], of any floating type, to (B, C, h * scale, w * scale) in [0, 1].

        The values are on the 1/255 grid, up to the precision of the type.
        """
        upsampled = upsample_bicubic(lq.float(), self.scale)
        return quantise(upsampled).to(lq.dtype)
