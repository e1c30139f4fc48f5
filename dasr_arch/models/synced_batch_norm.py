"""Batch normalisation with the statistics of all processes, on CPUs as well, where torch's SyncBatchNorm needs GPUs."""

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> None:
    """Makes the layers of batch normalisation below a module use the statistics of all processes, in place."""
    if device.type == 'cuda':
        nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return
    for layer in module.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SyncedBatchNorm2d  # which has no attributes of its own


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the mean and variance of all processes, whose batches are equally large."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised features (B, C, h, w); in evaluation, and in a single process, those of BatchNorm2d."""
        if not self.training or not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
            return super().forward(x)
        processes = torch.distributed.get_world_size()
        statistics = torch.batch_norm_update_stats(x.detach().float(), None, None, 0)
        centre, spread = (value.double() for value in statistics)  # double, since the difference of squares cancels
        mean, square = _sum_over_processes(torch.stack([centre, spread + centre.square()])) / processes
        variance = square - mean.square()
        self._follow(mean, variance, x.numel() // x.shape[1] * processes)
        moments = torch.stack([mean, variance]).float()
        normalised: Tensor = _Normalisation.apply(x, self.weight, self.bias, moments, self.eps)
        return normalised

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Updates the running statistics from those of ``count`` values a channel."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_((variance * (count / (count - 1))).to(self.running_var), momentum)


class _Normalisation(torch.autograd.Function):
    """Normalisation by given statistics, whose gradient takes into account that all processes' features make them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, moments: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, moments)
        ctx.eps = eps
        mean, variance = moments
        return functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, (mean, variance) = ctx.saved_tensors
        change, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = _sum_over_processes(torch.stack([of_bias, of_weight]))
        of_mean, of_spread = sums / (x.numel() // x.shape[1] * torch.distributed.get_world_size())
        inverse = (variance + ctx.eps).rsqrt()
        slope = weight * inverse.square() * of_spread
        offset = weight * inverse * of_mean - slope * mean
        change -= torch.addcmul(offset.to(x.dtype).view(1, -1, 1, 1), x, slope.to(x.dtype).view(1, -1, 1, 1))
        return change, of_weight, of_bias, None, None


def _sum_over_processes(x: Tensor) -> Tensor:
    """Sum of a small tensor, which is gathered, because gloo's all_reduce of it takes twice as long."""
    gathered = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, x)
    return torch.stack(gathered).sum(0)
