"""MZSR: meta-learned initial weights, so that a few gradient steps on the test image suffice.

Soh, Cho, Cho: Meta-Transfer Learning for Zero-Shot Super-Resolution, CVPR 2020, arXiv 2002.12213. Facts from the paper
and the authors' code, which carries no licence; no code is taken from it. The adaptation is in
:mod:`dasr_arch.zero_shot.adaptation`.
"""

import math

from torch import nn

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.zssr_arch import ResidualCNN

_CUT = 2.0  # standard deviations, where the normal distribution of the initial weights is truncated


@ARCH_REGISTRY.register()
class MZSR(ResidualCNN):
    """Network of meta-transfer zero-shot super-resolution: ZSSR's with biases, and with meta-learned initial weights.

    It is twice differentiable, and runs through ``torch.func.functional_call`` with the weights of an inner step.
    Arguments and errors are those of :class:`ZSSR`.

    Source:
        Soh et al., CVPR 2020.
    """

    def __init__(self, scale: int = 2, num_feat: int = 64, num_layers: int = 8) -> None:
        super().__init__(scale, num_feat, num_layers, bias=True)
        for layer in self.list_convolutions():
            std = math.sqrt(1 / (9 * layer.in_channels))
            nn.init.trunc_normal_(layer.weight, std=std, a=-_CUT * std, b=_CUT * std)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
