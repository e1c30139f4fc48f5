"""What ZSSR and MZSR share: a small network on the enlarged image, which is trained further on the image itself.

That training is :mod:`dasr_arch.zero_shot.adaptation`; it calls the network with images that it
has enlarged by itself and by factors that need not be whole, see ``enlarged``.
"""

from torch import Tensor

from dasr_arch.archs.contract import SRNetwork
from dasr_arch.archs.layers.argument_checks import check_counts
from dasr_arch.archs.layers.conv_stack import PlainConvolutions
from dasr_arch.archs.layers.image_ops import enlarge


class ResidualRestorer(SRNetwork):
    """Adds to the bicubically enlarged image what a chain of convolutions makes of it.

    Args:
        scale: up-sampling factor of images that are not enlarged yet, 1 or more.
        num_feat: channels between.
        num_layers: number of convolutions, 2 or more.
        bias: whether they have biases.

    Raises:
        ValueError: if an argument has no such choice.
    """

    adapts_to = ('kernel',)

    def __init__(self, scale: int, num_feat: int, num_layers: int, bias: bool) -> None:
        super().__init__()
        check_counts(type(self).__name__, scale=scale, num_feat=num_feat, num_layers=num_layers)
        self.scale = scale
        self.num_feat = num_feat
        self.num_layers = num_layers
        self.body = PlainConvolutions(3, num_feat, 3, num_layers, bias=bias)

    def forward(self, lq: Tensor, *, enlarged: bool = False) -> Tensor:
        """Super-resolves images.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1].
            enlarged: whether ``lq`` has the size of the output already, by whatever factor it was enlarged.

        Returns:
            RGB of shape (B, 3, h * scale, w * scale), or (B, 3, h, w) if it was enlarged; around [0, 1], not clamped.
        """
        x = lq if enlarged else enlarge(lq, self.scale)
        out: Tensor = x + self.body(x)
        return out
