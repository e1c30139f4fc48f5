"""MZSR: meta-learned initial weights, so that a few gradient steps on the test image suffice.

Soh, Cho, Cho: Meta-Transfer Learning for Zero-Shot Super-Resolution, CVPR 2020, arXiv 2002.12213. Facts from the paper
and the authors' code, which carries no licence; no code is taken from it.
"""

import math

from torch import nn

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.layers.residual_cnn import ResidualCNN

_CUT = 2.0  # standard deviations, where the normal distribution of the initial weights is truncated


@ARCH_REGISTRY.register()
class MZSR(ResidualCNN):
    """Network of meta-transfer zero-shot super-resolution: ZSSR's with biases.

    It is twice differentiable, and runs through ``torch.func.functional_call`` with the weights of an inner step.

    Args:
        scale: upsampling factor, 1 or more.
        num_feat: channels of the hidden layers.
        num_layers: number of convolutions.

    Raises:
        ValueError: if an argument is out of range.

    Source:
        Soh et al., CVPR 2020.
    """

    def __init__(self, scale: int = 2, num_feat: int = 64, num_layers: int = 8) -> None:
        super().__init__(scale, num_feat, num_layers, bias=True)
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                std = math.sqrt(1 / (9 * layer.in_channels))
                nn.init.trunc_normal_(layer.weight, std=std, a=-_CUT * std, b=_CUT * std)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
