"""Momentum contrast: the loss that teaches the degradation encoder without labels.

Two patches of one image share their degradation and are positives; the keys of past batches are negatives.
He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020; as used by DASR, CVPR 2021.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch.archs.blocks import SLOPE
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.losses.degradation_regression import CodeTarget
from dasr_arch.losses.distillation import Teacher
from dasr_arch.losses.wiener_filter import FilterTarget


class ContrastOutput(NamedTuple):
    """What one batch gives.

    Attributes:
        logits: shape (B, 1 + queue_length), the positive first, divided by the temperature.
        keys: L2-normalised projections of the key patches, shape (B, D), to be enqueued.
    """

    logits: Tensor
    keys: Tensor


class TrainingOutput(NamedTuple):
    """What the training network gives for a batch.

    Attributes:
        sr: the super-resolved queries, shape (B, 3, h * scale, w * scale), or None in the encoder stage.
        contrast: logits and keys, or None for a network that does not learn by contrast.
        code: error of the known degradation that is predicted from the representation, or None.
        distance: of the representation from the teacher's, or None.
        filters: what the chosen linear filter loses against the best one, in decibels, or None.
    """

    sr: Tensor | None
    contrast: ContrastOutput | None
    code: Tensor | None = None
    distance: Tensor | None = None
    filters: Tensor | None = None


class MomentumContrast(nn.Module):
    """Projection heads, key encoder and queue.

    The queue has shape (D, queue_length), a key in each column. There is no warm-up: the queue starts with random unit
    vectors and all of it counts from the first iteration.

    Args:
        encoder: the encoder that is trained; the key encoder starts as its copy.
        representation_dim: length D of representations and projections.
        queue_length: number of past keys that serve as negatives.
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
        """Compares queries with their keys and with the queue; changes neither.

        Args:
            representation: of the queries, shape (B, D), with gradient.
            key: key patches in the encoder's value range, shape (B, 3, h, w).

        Returns:
            Logits and keys.
        """
        with torch.no_grad():
            keys = self.encoder_k(key)
        with torch.autocast(key.device.type, enabled=False):  # small, and sensitive to rounding
            query = functional.normalize(self.projection(representation.float()), dim=1)
            with torch.no_grad():
                keys = functional.normalize(self.projection_k(keys.float()), dim=1)
            positive = torch.einsum('bd,bd->b', query, keys).unsqueeze(1)
            negative = query @ self.queue.clone()
            return ContrastOutput(torch.cat([positive, negative], 1) / self.temperature, keys)

    @torch.no_grad()
    def update_key_encoder(self, encoder: nn.Module) -> None:
        """Moves the parameters of the key side towards the query side; batch statistics are left alone.

        Args:
            encoder: the trained encoder.
        """
        for query_side, key_side in ((encoder, self.encoder_k), (self.projection, self.projection_k)):
            old: list[Tensor] = list(key_side.parameters())
            new: list[Tensor] = list(query_side.parameters())
            # Two products and a sum, each rounded, as the released code has it.
            torch._foreach_mul_(old, self.momentum)
            torch._foreach_add_(old, list(torch._foreach_mul(new, 1 - self.momentum)))

    @torch.no_grad()
    def copy_to_key_encoder(self, encoder: nn.Module) -> None:
        """Makes the key side a copy of the query side, batch statistics included.

        Args:
            encoder: the trained encoder.
        """
        self.encoder_k.load_state_dict(encoder.state_dict())
        self.projection_k.load_state_dict(self.projection.state_dict())

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replaces the oldest keys of the queue, wrapping at its end; in a process group with the keys of all.

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
    """The network that is trained: DASR and its contrastive part behind one ``forward``.

    One module, because DistributedDataParallel sees nothing but ``forward``.

    Args:
        network: the network to train.
        contrast: its contrastive part, or None to train with the reconstruction loss alone (the paper's Model 1).
        code: what predicts the known degradation, or None.
        teacher: what the encoder copies, or None.
        filters: what the network's linear filter is held against, or None.

    Attributes:
        teaching: whether the network is adapted to the teacher's representation, which learns by that, while the
            encoder rests; a stage sets it.
    """

    def __init__(
        self,
        network: DASR,
        contrast: MomentumContrast | None,
        code: CodeTarget | None = None,
        teacher: Teacher | None = None,
        filters: FilterTarget | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.contrast = contrast
        self.code = code
        self.teacher = teacher
        self.filters = filters
        self.teaching = False

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        *,
        super_resolve: bool = True,
        kernel: Tensor | None = None,
        code: Tensor | None = None,
        gt: Tensor | None = None,
        filters: Tensor | None = None,
    ) -> TrainingOutput:
        """Runs one batch.

        Args:
            query: the patches to super-resolve, shape (B, 3, h, w) in [0, 1].
            key: other patches with the same degradations, shape (B, 3, h, w) in [0, 1].
            super_resolve: False in the encoder stage.
            kernel: true blur kernels, for networks that are told them.
            code: what :meth:`CodeTarget.target` gives for the queries.
            gt: the queries' HR patches, for the teacher.
            filters: what :meth:`FilterTarget.target` gives for the queries.

        Returns:
            The super-resolved queries and the contrastive part, as far as they are asked for.
        """
        if self.teacher is not None and gt is not None and self.teaching:
            return TrainingOutput(self.network(query, representation=self.teacher(query, gt)), None)
        representation = self.network.encode(query, kernel=kernel)
        sr = self.network(query, representation=representation) if super_resolve else None
        contrast = None
        if self.contrast is not None and key is not None:
            contrast = self.contrast(representation, key * self.network.img_range)
        error = self.code(representation, code) if self.code is not None and code is not None else None
        distance = None
        if self.teacher is not None and gt is not None:
            with torch.no_grad():
                taught = self.teacher(query, gt)
            distance = self.teacher.compare(representation, taught)
        lost = None
        if self.filters is not None and filters is not None and self.network.enlargement is not None:
            with torch.autocast(query.device.type, enabled=False):
                lost = self.filters(self.network.enlargement.choose(representation), filters)
        return TrainingOutput(sr, contrast, error, distance, lost)
