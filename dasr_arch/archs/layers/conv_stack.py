"""A chain of 3 x 3 convolutions with ReLU between: all of SRMD, DnCNN, ZSSR and MZSR but what they are fed."""

from torch import Tensor, nn

from dasr_arch.archs.layers.image_ops import output_conv


class PlainConvolutions(nn.Sequential):
    """Convolution and ReLU, again and again, and a last convolution; zero-padded.

    Args:
        in_channels: channels of the input.
        num_feat: channels between.
        out_channels: channels of the output.
        num_layers: number of convolutions, 2 or more.
        bias: whether the convolutions have biases.
        batch_norm: whether all convolutions but the first and the last are followed by batch normalisation, with the
            constants of the public DnCNN.

    Raises:
        ValueError: if there are fewer than two convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        num_feat: int,
        out_channels: int,
        num_layers: int,
        bias: bool = True,
        batch_norm: bool = False,
    ) -> None:
        if num_layers < 2:
            raise ValueError(f'num_layers must be at least 2, got {num_layers}')
        layers: list[nn.Module] = [nn.Conv2d(in_channels, num_feat, 3, padding=1, bias=bias), nn.ReLU()]
        for _ in range(num_layers - 2):
            layers.append(nn.Conv2d(num_feat, num_feat, 3, padding=1, bias=bias))
            if batch_norm:
                layers.append(nn.BatchNorm2d(num_feat, eps=1e-4, momentum=0.9))
            layers.append(nn.ReLU())
        layers.append(nn.Conv2d(num_feat, out_channels, 3, padding=1, bias=bias))
        super().__init__(*layers)

    def keep_variance(self) -> None:
        """Draws weights anew so that values stay as large from layer to layer, and sets biases to zero.

        With PyTorch's own, values shrink to a sixth of their variance in every layer. A deep chain then gives a
        constant at first, and learns colours long after shapes.

        Source:
            He et al., ICCV 2015, for the convolutions before ReLU.
        """
        convolutions = [layer for layer in self if isinstance(layer, nn.Conv2d)]
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, nonlinearity='linear' if layer is convolutions[-1] else 'relu')
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Computes all layers.

        Args:
            x: shape (B, in_channels, H, W).

        Returns:
            Shape (B, out_channels, H, W), in the type of the weights.
        """
        *layers, last = self
        for layer in layers:
            x = layer(x)
        return output_conv(last, x)
