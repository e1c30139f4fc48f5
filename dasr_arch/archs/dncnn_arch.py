"""DnCNN: blind Gaussian denoising, the step before networks that handle blur alone.

Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising, TIP 2017,
arXiv 1608.03981. Checked against outputs of the authors' public PyTorch code (KAIR), whose weights load unchanged.
"""

from torch import Tensor

from dasr_arch._errors import check_counts
from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import KeyMap, SRNetwork
from dasr_arch.archs.layers.conv_stack import ConvReLUStack


@ARCH_REGISTRY.register()
class DnCNN(SRNetwork):
    """Predicts the noise of an image and subtracts it.

    The defaults are the blind colour network, whose size DASR's comparison states.

    Args:
        scale: 1, the network does not upsample.
        num_in_ch: channels of the images, 3 for RGB or 1 for grey.
        num_feat: channels of the hidden layers.
        num_layers: number of convolutions: 20 in the blind networks, 17 in those for one noise level.
        batch_norm: whether the network has batch normalisation; the published files have it merged into the
            convolutions.

    Raises:
        ValueError: if an argument is out of range.

    Source:
        Zhang et al., TIP 2017; public code in KAIR (MIT).
    """

    blind = True
    released_names = KeyMap('model.0.weight', {r'model\.(\d+)\.(\w+)': r'body.\1.\2'})

    def __init__(
        self, scale: int = 1, num_in_ch: int = 3, num_feat: int = 64, num_layers: int = 20, batch_norm: bool = False
    ) -> None:
        super().__init__()
        if scale != 1:
            raise ValueError(f'scale must be 1 for DnCNN, which does not upsample, got {scale!r}')
        check_counts('DnCNN', num_in_ch=num_in_ch, num_feat=num_feat, num_layers=num_layers)
        self.scale = scale
        self.body = ConvReLUStack(num_in_ch, num_feat, num_in_ch, num_layers, batch_norm=batch_norm)

    def forward(self, lq: Tensor) -> Tensor:
        """Denoises images (B, C, h, w) in [0, 1]; the result is around [0, 1], not clamped."""
        noise: Tensor = self.body(lq)
        return lq - noise
