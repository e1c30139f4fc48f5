"""DASR-W: DASR-S with a Wiener filter skip connection, predicted from the representation. Ours, not the paper's."""

from typing import Literal

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.dasr_arch import DASR, RELEASED_RANGE, DAConvKind, Skip
from dasr_arch.backends.choose import Implementation


@ARCH_REGISTRY.register()
class DASRW(DASR):
    """DASR with other defaults: the size of DASR-S, one convolution to the HR pixels, a Wiener filter skip connection.

    It has 0.2 % more multiply-adds than DASR-S. The gain is due to its training, see ``options/race/dasr_w_x4.yml``.
    Its weights are weights of :class:`DASR`, and load as such, too.

    Arguments and errors are those of :class:`DASR`.

    Source:
        ``docs/results/race/beyond.md``.
    """

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_groups: int = 3,
        num_blocks: int = 3,
        representation_dim: int = 192,
        encoder_feat: int = 48,
        reduction: int = 8,
        img_range: float = RELEASED_RANGE,
        upsampler: Literal['pixelshuffle', 'direct'] = 'direct',
        skip: Skip = 'wiener',
        da_conv: DAConvKind = 'full',
        implementation: Implementation = 'auto',
    ) -> None:
        sizes = (scale, num_feat, num_groups, num_blocks, representation_dim, encoder_feat, reduction)
        super().__init__(*sizes, img_range, upsampler, skip, da_conv, implementation=implementation)
