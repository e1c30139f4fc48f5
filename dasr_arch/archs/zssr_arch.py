"""ZSSR: eight convolutions without biases, trained on the test image alone.

Shocher, Cohen, Irani: Zero-Shot Super-Resolution using Deep Internal Learning, CVPR 2018, arXiv 1712.06087. Facts from
the paper and the authors' code, whose licence is non-commercial; no code is taken from it.
"""

import math

import torch
from torch import nn

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.layers.residual_cnn import ResidualCNN

_GAIN = 0.1  # of the initial weights, small so that training starts near bicubic upsampling


@ARCH_REGISTRY.register()
class ZSSR(ResidualCNN):
    """Network of zero-shot super-resolution; untrained, its output is close to bicubic upsampling.

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

    def draw_weights(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights anew, for the training on one image; the CPU generator is torch's global one by default."""
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                std = math.sqrt(_GAIN / (9 * layer.in_channels))
                with torch.no_grad():
                    layer.weight.copy_(
                        torch.empty_like(layer.weight, device='cpu').normal_(0, std, generator=generator)
                    )
