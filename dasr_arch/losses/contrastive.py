"""Momentum contrast (MoCo): unsupervised training of the degradation encoder.

Two patches of one image share their degradation and are positives; the keys of past batches are negatives.
He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020; as used by DASR, CVPR 2021.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch.archs.dasr_arch import DASR, SLOPE
from dasr_arch.losses.degradation_regression import DegradationRegression
from dasr_arch.losses.distillation import DistillationTeacher
from dasr_arch.losses.wiener_filter import WienerFilterLoss


class ContrastOutput(NamedTuple):
    """Logits and keys of one batch."""

    logits: Tensor  # (B, 1 + queue_length), the positive first, divided by the temperature
    keys: Tensor  # L2-normalised projections of the key patches, (B, D), to be enqueued


class TrainingOutput(NamedTuple):
    """Outputs and losses of one batch; None for what is not computed."""

    sr: Tensor | None  # the super-resolved queries, (B, 3, h * scale, w * scale); None in the encoder stage
    contrast: ContrastOutput | None
    losses: dict[str, Tensor]  # auxiliary: 'code', 'filter' in decibels and 'teacher', as far as they are trained


class MomentumContrast(nn.Module):
    """Projection heads, key encoder and queue for representations of length D.

    The key encoder starts as a copy of the encoder and follows it with decay ``momentum``. The queue has shape (D,
    queue_length), a key in each column. It starts with random unit vectors, all of which are negatives from the first
    iteration. Logits are divided by the temperature.
    """

    def __init__(
        self,
        encoder: nn.Module,
        representation_dim: int = 256,
        queue_length: int = 8192,
        momentum: float = 0.999,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.projection = nn.Sequential(
            nn.Linear(representation_dim, representation_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(representation_dim, representation_dim),
        )
        self.encoder_k = deepcopy(encoder).requires_grad_(False)
        self.projection_k = deepcopy(self.projection).requires_grad_(False)
        self.register_buffer('queue', functional.normalize(torch.randn(representation_dim, queue_length), dim=0))
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.int64))
        self.queue: Tensor
        self.queue_ptr: Tensor

    def forward(self, representation: Tensor, key: Tensor) -> ContrastOutput:
        """Similarities of queries with their keys and with the queue, which is not updated.

        Representations of the queries have shape (B, D), with gradient; key patches have shape (B, 3, h, w), in the
        encoder's value range.
        """
        with torch.no_grad():
            keys = self.encoder_k(key)
        with torch.autocast(key.device.type, enabled=False):  # cheap, and sensitive to rounding
            query = functional.normalize(self.projection(representation.float()), dim=1)
            with torch.no_grad():
                keys = functional.normalize(self.projection_k(keys.float()), dim=1)
            positive = torch.einsum('bd,bd->b', query, keys).unsqueeze(1)
            negative = query @ self.queue.clone()
            return ContrastOutput(torch.cat([positive, negative], 1) / self.temperature, keys)

    @torch.no_grad()
    def update_key_encoder(self, encoder: nn.Module) -> None:
        """Momentum update of key encoder and key projection; batch statistics are not updated."""
        for query_side, key_side in ((encoder, self.encoder_k), (self.projection, self.projection_k)):
            old: list[Tensor] = list(key_side.parameters())
            new: list[Tensor] = list(query_side.parameters())
            # The order of rounding is that of the released code.
            torch._foreach_mul_(old, self.momentum)
            torch._foreach_add_(old, list(torch._foreach_mul(new, 1 - self.momentum)))

    @torch.no_grad()
    def copy_to_key_encoder(self, encoder: nn.Module) -> None:
        """Copies encoder and projection to the key side, including batch statistics."""
        self.encoder_k.load_state_dict(encoder.state_dict())
        self.projection_k.load_state_dict(self.projection.state_dict())

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replaces the oldest keys of the queue, wrapping at its end, by the keys of all processes.

        Keys have shape (B, D), with B at most the queue's length and the same in every process.
        """
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            gathered = [torch.empty_like(keys) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(gathered, keys.contiguous())
            keys = torch.cat(gathered)
        length = self.queue.shape[1]
        position = (self.queue_ptr + torch.arange(len(keys), device=keys.device)) % length
        self.queue.index_copy_(1, position, keys.t())
        self.queue_ptr.add_(len(keys)).remainder_(length)


class ContrastiveTraining(nn.Module):
    """DASR and the parts that only training needs, behind one ``forward``, as DistributedDataParallel requires.

    Without a contrastive part only the reconstruction loss trains (the paper's Model 1). With ``uses_teacher``, set by
    the stage, the network is conditioned on the teacher's representation, which trains the teacher; the encoder is
    frozen.
    """

    def __init__(
        self,
        network: DASR,
        contrast: MomentumContrast | None,
        regression: DegradationRegression | None = None,
        teacher: DistillationTeacher | None = None,
        filter_loss: WienerFilterLoss | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.contrast = contrast
        self.regression = regression
        self.teacher = teacher
        self.filter_loss = filter_loss
        self.uses_teacher = False

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        *,
        super_resolve: bool = True,
        kernel: Tensor | None = None,
        gt: Tensor | None = None,
        regression_target: Tensor | None = None,
        filter_target: Tensor | None = None,
    ) -> TrainingOutput:
        """Runs one batch of RGB patches in [0, 1].

        Queries are super-resolved, except in the encoder stage; keys are other patches with the same degradations, both
        of shape (B, 3, h, w). Non-blind networks take the true blur kernels, the teacher the HR patches of the queries,
        and the auxiliary losses their ``target`` of the queries.
        """
        if self.teacher is not None and gt is not None and self.uses_teacher:
            return TrainingOutput(self.network(query, representation=self.teacher(query, gt)), None, {})
        representation = self.network.encode(query, kernel=kernel)
        sr = self.network(query, representation=representation) if super_resolve else None
        contrast = None
        if self.contrast is not None and key is not None:
            contrast = self.contrast(representation, key * self.network.img_range)
        losses: dict[str, Tensor] = {}
        if self.regression is not None and regression_target is not None:
            losses['code'] = self.regression(representation, regression_target)
        if self.filter_loss is not None and filter_target is not None and self.network.enlargement is not None:
            with torch.autocast(query.device.type, enabled=False):
                filters = self.network.enlargement.predict_filters(representation)
                losses['filter'] = self.filter_loss(filters, filter_target)
        if self.teacher is not None and gt is not None:
            with torch.no_grad():
                of_teacher = self.teacher(query, gt)
            losses['teacher'] = self.teacher.distillation_loss(representation, of_teacher)
        return TrainingOutput(sr, contrast, losses)
