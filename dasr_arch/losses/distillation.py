"""Distillation of the degradation encoder from a teacher that also sees the HR patch; training only.

After Xia et al., Knowledge Distillation based Degradation Estimation for Blind Super-Resolution (KDSR), ICLR 2023. Not
part of DASR's paper. The teacher has the layers of DASR's encoder, unlike KDSR's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch.archs.dasr_arch import DegradationEncoder


class DistillationTeacher(nn.Module):
    """Encoder of LR-HR pairs, with the distillation loss of a student that encodes the LR patch alone.

    Args:
        scale: ratio of HR size to LR size.
        num_feat: channels of the first convolutions.
        representation_dim: length D of representations.
        temperature: softmax temperature of the distillation loss; 0.15 in KDSR.

    Source:
        Xia et al., ICLR 2023: input is LR with pixel-unshuffled HR; KL divergence of softmax with a temperature.
    """

    def __init__(
        self, scale: int, num_feat: int = 64, representation_dim: int = 256, temperature: float = 0.15
    ) -> None:
        super().__init__()
        self.scale = scale
        self.temperature = temperature
        self.encoder = DegradationEncoder(num_feat, representation_dim, num_in_ch=3 * (1 + scale**2))

    def forward(self, lq: Tensor, gt: Tensor) -> Tensor:
        """Encodes LR-HR pairs.

        Args:
            lq: LR patches, RGB of shape (B, 3, h, w) in [0, 1].
            gt: their HR patches, RGB of shape (B, 3, h * scale, w * scale) in [0, 1].

        Returns:
            Representations of shape (B, D).
        """
        pair = torch.cat([lq, functional.pixel_unshuffle(gt, self.scale)], 1) * 255
        out: Tensor = self.encoder(pair)
        return out

    def distillation_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Kullback-Leibler divergence from the teacher's distribution to the student's.

        Args:
            student: representations of the encoder, shape (B, D), with gradient.
            teacher: representations of the teacher, shape (B, D).

        Returns:
            Mean over the batch, float32; 0 for equal distributions.
        """
        with torch.autocast(student.device.type, enabled=False):
            log_student = functional.log_softmax(student.float() / self.temperature, 1)
            log_teacher = functional.log_softmax(teacher.float() / self.temperature, 1)
            return functional.kl_div(log_student, log_teacher, reduction='batchmean', log_target=True)
