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
    """Logits and keys of one batch.

    Attributes:
        logits: shape (B, 1 + queue_length), the positive first, divided by the temperature.
        keys: L2-normalised projections of the key patches, shape (B, D), to be enqueued.
    """

    logits: Tensor
    keys: Tensor


class TrainingOutput(NamedTuple):
    """Outputs and losses of one batch; None for what is not trained.

    Attributes:
        sr: the super-resolved queries, shape (B, 3, h * scale, w * scale); None in the encoder stage.
        contrast: logits and keys of the contrastive loss.
        regression_loss: see :class:`DegradationRegression`.
        distillation_loss: see :class:`DistillationTeacher`.
        filter_loss: see :class:`WienerFilterLoss`, decibels.
    """

    sr: Tensor | None
    contrast: ContrastOutput | None
    regression_loss: Tensor | None = None
    distillation_loss: Tensor | None = None
    filter_loss: Tensor | None = None


class MomentumContrast(nn.Module):
    """Projection heads, key encoder and queue.

    The queue has shape (D, queue_length), a key in each column. It starts with random unit vectors, all of which are
    negatives from the first iteration.

    Args:
        encoder: the trained encoder; the key encoder starts as its copy.
        representation_dim: length D of representations and projections.
        queue_length: number of past keys, the negatives.
        momentum: decay of the key encoder.
        temperature: divisor of the logits.
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
        """Similarities of queries with their keys and with the queue; does not update the queue.

        Args:
            representation: of the queries, shape (B, D), with gradient.
            key: key patches in the encoder's value range, shape (B, 3, h, w).

        Returns:
            Logits and keys.
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
        """Momentum update of key encoder and key projection; batch statistics are not updated.

        Args:
            encoder: the trained encoder.
        """
        for query_side, key_side in ((encoder, self.encoder_k), (self.projection, self.projection_k)):
            old: list[Tensor] = list(key_side.parameters())
            new: list[Tensor] = list(query_side.parameters())
            # The order of rounding is that of the released code.
            torch._foreach_mul_(old, self.momentum)
            torch._foreach_add_(old, list(torch._foreach_mul(new, 1 - self.momentum)))

    @torch.no_grad()
    def copy_to_key_encoder(self, encoder: nn.Module) -> None:
        """Copies encoder and projection to the key side, including batch statistics.

        Args:
            encoder: the trained encoder.
        """
        self.encoder_k.load_state_dict(encoder.state_dict())
        self.projection_k.load_state_dict(self.projection.state_dict())

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replaces the oldest keys of the queue, wrapping at its end, by the keys of all processes.

        Args:
            keys: shape (B, D) with B at most the queue's length, the same B in every process.
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

    Args:
        network: the network to train.
        contrast: contrastive part; None trains with the reconstruction loss alone (the paper's Model 1).
        regression: auxiliary loss on the representation, or None.
        teacher: teacher of the encoder, or None.
        filter_loss: loss of the predicted linear filter, or None.

    Attributes:
        uses_teacher: whether the network is conditioned on the teacher's representation, which trains the teacher,
            while the encoder is frozen; set by the stage.
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
        """Runs one batch.

        Args:
            query: patches to super-resolve, shape (B, 3, h, w) in [0, 1].
            key: other patches with the same degradations, shape (B, 3, h, w) in [0, 1].
            super_resolve: False in the encoder stage.
            kernel: true blur kernels, for non-blind networks.
            gt: HR patches of the queries, for the teacher.
            regression_target: :meth:`DegradationRegression.target` of the queries.
            filter_target: :meth:`WienerFilterLoss.target` of the queries.
        """
        if self.teacher is not None and gt is not None and self.uses_teacher:
            return TrainingOutput(self.network(query, representation=self.teacher(query, gt)), None)
        representation = self.network.encode(query, kernel=kernel)
        sr = self.network(query, representation=representation) if super_resolve else None
        contrast = regression_loss = distillation_loss = filter_loss = None
        if self.contrast is not None and key is not None:
            contrast = self.contrast(representation, key * self.network.img_range)
        if self.regression is not None and regression_target is not None:
            regression_loss = self.regression(representation, regression_target)
        if self.teacher is not None and gt is not None:
            with torch.no_grad():
                of_teacher = self.teacher(query, gt)
            distillation_loss = self.teacher.distillation_loss(representation, of_teacher)
        if self.filter_loss is not None and filter_target is not None and self.network.enlargement is not None:
            with torch.autocast(query.device.type, enabled=False):
                filters = self.network.enlargement.predict_filters(representation)
                filter_loss = self.filter_loss(filters, filter_target)
        return TrainingOutput(sr, contrast, regression_loss, distillation_loss, filter_loss)
