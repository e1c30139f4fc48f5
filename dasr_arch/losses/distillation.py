"""A teacher for the degradation encoder: it sees the HR patch beside the LR patch, in training alone.

After Xia et al., Knowledge Distillation based Degradation Estimation for Blind Super-Resolution (KDSR), ICLR 2023. Not
part of DASR's paper. KDSR's encoders are other networks; here the teacher has the layers of DASR's encoder.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch.archs.encoder import DegradationEncoder


class Teacher(nn.Module):
    """Encodes pairs of patches, and says how far a representation of the LR patch alone is from that.

    Args:
        scale: HR pixels for one LR pixel.
        num_feat: channels of its first convolutions.
        representation_dim: length D of representations.
        temperature: both representations are divided by it before they become distributions; KDSR has 0.15.

    Source:
        Xia et al., ICLR 2023: HR, unshuffled to LR size, beside LR; divergence of softmax at a temperature.
    """

    def __init__(
        self, scale: int, num_feat: int = 64, representation_dim: int = 256, temperature: float = 0.15
    ) -> None:
        super().__init__()
        self.scale = scale
        self.temperature = temperature
        self.encoder = DegradationEncoder(num_feat, representation_dim, num_in_ch=3 * (1 + scale**2))

    def forward(self, lq: Tensor, gt: Tensor) -> Tensor:
        """Encodes.

        Args:
            lq: LR patches, RGB of shape (B, 3, h, w) in [0, 1].
            gt: their HR patches, RGB of shape (B, 3, h * scale, w * scale) in [0, 1].

        Returns:
            Representations of shape (B, D).
        """
        pair = torch.cat([lq, functional.pixel_unshuffle(gt, self.scale)], 1) * 255
        out: Tensor = self.encoder(pair)
        return out

    def compare(self, representation: Tensor, taught: Tensor) -> Tensor:
        """How far the encoder is from its teacher.

        Args:
            representation: of the encoder, shape (B, D), with gradient.
            taught: of the teacher, shape (B, D).

        Returns:
            The Kullback-Leibler divergence from the teacher's distribution to the encoder's, mean over the batch, in
            float32; 0 where they agree.
        """
        with torch.autocast(representation.device.type, enabled=False):
            own = functional.log_softmax(representation.float() / self.temperature, 1)
            wanted = functional.log_softmax(taught.float() / self.temperature, 1)
            return functional.kl_div(own, wanted, reduction='batchmean', log_target=True)
