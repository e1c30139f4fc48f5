"""Gradient all-reduce for models that take several optimiser steps in an iteration."""

from collections.abc import Iterable

import torch
import torch.distributed
from torch import nn


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Averages gradients over all processes in one exchange; does nothing without a process group.

    Parameters come in the same order in every process, with gradients for the same ones.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for gradient, value in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(value.reshape(gradient.shape))
