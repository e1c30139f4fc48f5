"""DASR without branches on sizes, devices or number formats, for exporters."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR, SLOPE
from dasr_arch.degradations.resize import upsample_bicubic
from dasr_arch.degradations.wiener import apply_filters

_RADIUS = 2  # LR pixels that cubic interpolation needs on each side


class PlainDASR(nn.Module):
    """A blind DASR in evaluation mode for one image, encoder included, in the formulation of the authors.

    Optimisations are left to the runtimes. The parameters are shared with the network. Raises InputError if the network
    is not blind.
    """

    def __init__(self, network: DASR) -> None:
        super().__init__()
        if not network.blind:
            raise InputError('a non-blind network cannot be exported; choose a blind model')
        self.network = network.eval()
        skip = network.bicubic_skip is not None and network.scale > 1
        self.register_buffer('taps', _bicubic_taps(network.scale) if skip else None)
        self.taps: Tensor | None

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolves one RGB image of shape (1, 3, h, w) in [0, 1].

        Returns shape (1, 3, h * scale, w * scale), around [0, 1], not clamped.
        """
        network = self.network
        x = lq * network.img_range
        representation = network.encoder(x)
        embedding = functional.leaky_relu(network.compress(representation), SLOPE)
        features = network.extract_features(x - network.mean, embedding)
        sr: Tensor = network.shuffle(network.last_conv(network.upsampler(features)))
        return (sr + self._base(x, representation)) / network.img_range

    def _base(self, x: Tensor, representation: Tensor) -> Tensor:
        """The base of the network's output: the upsampled image, or the mean colour."""
        if self.network.upsample_input is None:
            return self.network.mean
        if self.taps is not None:
            return apply_filters(x, self.taps)
        upsampled: Tensor = self.network.upsample_input(self.network, x, representation)
        return upsampled


def _bicubic_taps(scale: int) -> Tensor:
    """Bicubic upsampling as a convolution, computed from its response to an impulse.

    Torch's own operation would fix the size of the image at export. The shape is (1, scale**2, 5, 5), for
    :func:`apply_filters`.
    """
    side = 2 * _RADIUS + 1
    impulse = torch.zeros(1, 1, side, side, dtype=torch.float64)
    impulse[..., _RADIUS, _RADIUS] = 1
    response = functional.pixel_unshuffle(upsample_bicubic(impulse, scale), scale)  # (1, scale**2, 5, 5)
    return response.flip((-2, -1)).float()
