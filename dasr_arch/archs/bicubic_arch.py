"""Bicubic interpolation as a network: the baseline row of every table.

The cubic of MATLAB's ``imresize`` (a = -0.5), as the authors' test code applies it to the rounded LR image.
"""

from torch import Tensor

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.degradations.resize import upsample_bicubic

_LEVELS = 255


@ARCH_REGISTRY.register()
class Bicubic(SRNetwork):
    """Enlarges by bicubic interpolation; it has no weights and learns nothing.

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
        if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
            raise ValueError(f'scale must be a whole number of at least 1 for Bicubic, got {scale!r}')
        self.scale = scale

    def forward(self, lq: Tensor) -> Tensor:
        """Enlarge images.

        Args:
            lq: images of shape (B, C, h, w), in [0, 1], any floating type.

        Returns:
            Images of shape (B, C, h * scale, w * scale) in [0, 1], on the 1/255 grid up to the type's precision.
        """
        enlarged = upsample_bicubic(lq.float(), self.scale)
        return ((enlarged * _LEVELS).round().clamp(0, _LEVELS) / _LEVELS).to(lq.dtype)
