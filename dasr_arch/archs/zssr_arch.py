"""ZSSR's network: eight convolutions without biases, meant to be trained on the test image alone.

Shocher, Cohen, Irani: Zero-Shot Super-Resolution using Deep Internal Learning, CVPR 2018, arXiv 1712.06087. Facts from
the paper and the authors' code, whose licence is non-commercial: nothing is taken from it.
"""

import math

import torch
from torch import nn

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.layers.residual_cnn import ResidualRestorer

_GAIN = 0.1  # of the initial weights, small on purpose: the image starts as the enlarged one


@ARCH_REGISTRY.register()
class ZSSR(ResidualRestorer):
    """The network of zero-shot super-resolution; untrained, it gives about the bicubically enlarged image.

    It has no weights of its own to publish: they are made for each image, from the image itself, never from its
    ground truth.

    Args:
        scale: up-sampling factor, 1 or more.
        num_feat: channels between.
        num_layers: number of convolutions.

    Raises:
        ValueError: if an argument has no such choice.

    Source:
        Shocher et al., CVPR 2018.
    """

    trains_per_image = True

    def __init__(self, scale: int = 2, num_feat: int = 64, num_layers: int = 8) -> None:
        super().__init__(scale, num_feat, num_layers, bias=False)
        self.draw_weights()

    def draw_weights(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights anew, as the training on every image starts.

        Args:
            generator: CPU generator; torch's global one by default.
        """
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                std = math.sqrt(_GAIN / (9 * layer.in_channels))
                with torch.no_grad():
                    layer.weight.copy_(
                        torch.empty_like(layer.weight, device='cpu').normal_(0, std, generator=generator)
                    )
