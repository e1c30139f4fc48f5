"""Averages over processes, for gradients of several optimiser steps in an iteration and for batch statistics."""

from collections.abc import Sequence

import torch
import torch.distributed
from torch import Tensor


@torch.no_grad()
def average_over_processes(tensors: Sequence[Tensor]) -> None:
    """Averages tensors in place in one exchange; does nothing in a single process.

    They come in the same order in every process.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for tensor, value in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(value.reshape(tensor.shape))
