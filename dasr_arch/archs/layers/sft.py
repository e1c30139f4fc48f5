"""Parts of IKC's super-resolution network: features that are scaled and shifted by what the network is told.

Gu et al., Blind Super-Resolution with Iterative Kernel Correction, CVPR 2019, section 3.2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2  # of every LeakyReLU in IKC's networks
_HIDDEN = 32  # channels between the two convolutions of a gain or shift


class FeatureTransform(nn.Module):
    """Scales and shifts features by what they and the coefficients tell.

    Args:
        num_feat: channels of the features.
        code_length: number of coefficients.
    """

    def __init__(self, num_feat: int, code_length: int) -> None:
        super().__init__()
        self.gain = _make_pair(num_feat, code_length)
        self.shift = _make_pair(num_feat, code_length)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Transforms features.

        Args:
            x: shape (B, num_feat, h, w).
            told: coefficients as maps of shape (B, code_length, h, w).

        Returns:
            Features of the shape of ``x``.
        """
        both = torch.cat([x, told.to(x.dtype)], 1)
        out: Tensor = x * self.gain(both).sigmoid() + self.shift(both)
        return out


class TransformBlock(nn.Module):
    """Two feature transforms and two convolutions in turn, with a residual.

    Args:
        num_feat: channels of the features.
        code_length: number of coefficients.
    """

    def __init__(self, num_feat: int, code_length: int) -> None:
        super().__init__()
        self.sft1 = FeatureTransform(num_feat, code_length)
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.sft2 = FeatureTransform(num_feat, code_length)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """As :meth:`FeatureTransform.forward`."""
        out: Tensor = self.conv1(functional.relu(self.sft1(x, told)))
        out = self.conv2(functional.relu(self.sft2(out, told))) + x
        return out


def _make_pair(num_feat: int, code_length: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(num_feat + code_length, _HIDDEN, 3, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(_HIDDEN, num_feat, 3, padding=1),
    )
