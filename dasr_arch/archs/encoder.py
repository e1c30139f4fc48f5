"""The degradation encoder and the known-kernel code that replaces it in the paper's Model 5.

Wang et al., Unsupervised Degradation Representation Learning for Blind Super-Resolution, CVPR 2021, section 3.1.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from dasr_arch.archs.blocks import SLOPE
from dasr_arch.backends.winograd_wgrad import Conv3x3


class DegradationEncoder(nn.Module):
    """Six convolutions and a global average: image to degradation representation.

    Args:
        num_feat: channels of the first convolutions; they double at each of the two strides.
        representation_dim: length of the representation, the channels of the last two convolutions.
        num_in_ch: channels of the images.
    """

    def __init__(self, num_feat: int = 64, representation_dim: int = 256, num_in_ch: int = 3) -> None:
        super().__init__()
        widths = [num_in_ch, num_feat, num_feat, 2 * num_feat, 2 * num_feat, representation_dim, representation_dim]
        strides = [1, 1, 2, 1, 2, 1]
        layers: list[nn.Module] = []
        for (before, after), stride in zip(pairwise(widths), strides, strict=True):
            convolution = Conv3x3(before, after) if stride == 1 else nn.Conv2d(before, after, 3, stride, 1)
            layers += [convolution, nn.BatchNorm2d(after), nn.LeakyReLU(SLOPE, inplace=True)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Encodes images.

        Args:
            x: RGB of shape (B, 3, h, w) in [0, 255], any size from one pixel up.

        Returns:
            Representations of shape (B, representation_dim), averaged in float32 or better, not normalised.
        """
        features = self.extract(x)
        return features.to(torch.promote_types(features.dtype, torch.float32)).mean((-2, -1))

    def extract(self, x: Tensor) -> Tensor:
        """The feature map whose average is the representation; it lets a large image be encoded in parts.

        Args:
            x: RGB of shape (B, 3, h, w) in [0, 255].

        Returns:
            Features of shape (B, representation_dim, ceil(h / 4), ceil(w / 4)).
        """
        features = x
        for layer in self.body:
            if (
                isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm)
                and features.dtype == torch.bfloat16 != layer.weight.dtype
            ):
                features = features.float()  # under autocast: statistics suffer from rounding
            features = layer(features)
        return features


class KernelEncoder(nn.Sequential):
    """Five fully connected layers that turn the true blur kernel into a representation: the paper's Model 5.

    The paper does not give their widths; here the first goes from the flattened kernel to the representation's length,
    the others keep it, with LeakyReLU between.

    Args:
        kernel_size: side of the kernel in pixels.
        representation_dim: length of the representation.
    """

    def __init__(self, kernel_size: int = 21, representation_dim: int = 256) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise([kernel_size**2, *([representation_dim] * 5)]):
            layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers[:-1])
