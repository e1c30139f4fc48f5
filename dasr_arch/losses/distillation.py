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

    As in KDSR, the input is LR with pixel-unshuffled HR, and the loss the KL divergence of softmax with a temperature,
    0.15 there.
    """

    def __init__(
        self, scale: int, num_feat: int = 64, representation_dim: int = 256, temperature: float = 0.15
    ) -> None:
        super().__init__()
        self.scale = scale
        self.temperature = temperature
        self.encoder = DegradationEncoder(num_feat, representation_dim, num_in_ch=3 * (1 + scale**2))

    def forward(self, lq: Tensor, gt: Tensor) -> Tensor:
        """Representations (B, D) of RGB patches in [0, 1]: LR (B, 3, h, w) and HR (B, 3, h * scale, w * scale)."""
        pair = torch.cat([lq, functional.pixel_unshuffle(gt, self.scale)], 1) * 255
        out: Tensor = self.encoder(pair)
        return out

    def distillation_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Kullback-Leibler divergence from teacher's to student's distribution: batch mean, float32, 0 if equal.

        Representations have shape (B, D), the student's with gradient.
        """
        with torch.autocast(student.device.type, enabled=False):
            log_student = functional.log_softmax(student.float() / self.temperature, 1)
            log_teacher = functional.log_softmax(teacher.float() / self.temperature, 1)
            return functional.kl_div(log_student, log_teacher, reduction='batchmean', log_target=True)
