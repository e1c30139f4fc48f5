"""MZSR's meta-training: initial weights for test-time adaptation in a few gradient steps.

Soh, Cho, Cho: Meta-Transfer Learning for Zero-Shot Super-Resolution, CVPR 2020, section 3.3; the large-scale training
before it is supervised. Finn et al., Model-Agnostic Meta-Learning, ICML 2017.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import torch
from msgspec.structs import asdict
from torch import Tensor, nn
from torch.func import functional_call

from dasr_arch._errors import InputError
from dasr_arch._registration import MODEL_REGISTRY
from dasr_arch.archs.layers.image_ops import upsample_bicubic_symmetric
from dasr_arch.config.train_schema import MZSRTrainOptions
from dasr_arch.config.zero_shot_schema import MZSROptions
from dasr_arch.models.supervised_model import SupervisedModel
from dasr_arch.zero_shot.adaptation import adapt_mzsr

FLOOR = 0.03  # least weight of a step before the last one, relative to equal weights


@MODEL_REGISTRY.register()
class MZSRModel(SupervisedModel):
    """Meta-trains :class:`~dasr_arch.archs.mzsr_arch.MZSR`.

    A batch is split into tasks of ``support + query`` images, with one kernel per task, that of its first image. The
    inner loop takes plain gradient steps on the support set; the outer loss is the weighted sum of the losses of the
    query set after every inner step.

    Validation adapts to every image with its true kernel, as a test does.

    Args:
        opt: BasicSR's option dictionary; its section 'train' is a
            :class:`~dasr_arch.config.train_schema.MZSRTrainOptions`. 'pixel_opt' is the loss of both loops.

    Raises:
        InputError: if an option is wrong or weights do not fit.
    """

    settings: MZSRTrainOptions

    def build_training_network(self) -> nn.Module:
        """The network itself."""
        self.meta = self.settings.meta_opt
        self.task_size = self.meta.support + self.meta.query
        direct = self.degradation is not None and self.degradation.downsample == 's_fold'
        # Validation has the downsampling of the training.
        self.adaptation = MZSROptions(**asdict(self.settings.adaptation), downsample='direct' if direct else 'bicubic')
        return super().build_training_network()

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Takes raw patches, or for validation images with their true kernels."""
        self.kernel: Tensor | None = data['kernel'].to(self.device, non_blocking=True) if 'kernel' in data else None
        if 'hr' in data:
            size = self.task_size
            if len(data['hr']) % size:
                raise InputError(
                    f'a batch of {len(data["hr"])} cannot be split into tasks of support + query = {size} images'
                )
            data = {**data, 'kernel': data['kernel'][::size].repeat_interleave(size, 0)}  # one per task
        super().feed_data(data)

    def optimize_parameters(self, current_iter: int) -> None:
        """Runs one iteration: the inner loop of every task, then one step of the optimiser."""
        self.optimizer_g.zero_grad(set_to_none=True)
        weights = weigh_steps(current_iter, self.meta.inner_steps, self.meta.loss_weights, self.meta.anneal_iter)
        size = self.task_size
        upsampled = upsample_bicubic_symmetric(self.lq, self.net_g.scale)
        tasks = list(zip(upsampled.split(size), self.gt.split(size), strict=True))
        totals = torch.zeros(self.meta.inner_steps, device=self.device)
        for lq_up, gt in tasks:
            losses = torch.stack(self._run_task(lq_up, gt))
            (losses @ losses.new_tensor(weights) / len(tasks)).backward()
            totals += losses.detach() / len(tasks)
        self.step_optimizer()
        self.follow_average(current_iter)
        self.log_dict = OrderedDict(l_query_first=totals[0], l_query_last=totals[-1])

    def _run_task(self, upsampled: Tensor, gt: Tensor) -> list[Tensor]:
        """Losses of the query set after every inner step, differentiable in the initial weights."""
        parameters: dict[str, Tensor] = dict(self.net_g.named_parameters())
        losses = []
        for _ in range(self.meta.inner_steps):
            loss = self._loss(parameters, upsampled[: self.meta.support], gt[: self.meta.support])
            gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=self.meta.second_order)
            parameters = {
                name: value - self.meta.inner_lr * gradient
                for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
            }
            losses.append(self._loss(parameters, upsampled[self.meta.support :], gt[self.meta.support :]))
        return losses

    def _loss(self, parameters: dict[str, Tensor], upsampled: Tensor, gt: Tensor) -> Tensor:
        assert self.cri_pix is not None
        loss: Tensor = self.cri_pix(functional_call(self.net_g, parameters, (upsampled,), {'is_upsampled': True}), gt)
        return loss

    def test(self) -> None:
        """Adapts a copy of the network to ``self.lq`` and super-resolves it."""
        self.output = adapt_mzsr(self.evaluated_network, self.lq, self.adaptation, self.kernel).sr


def weigh_steps(iteration: int, steps: int, method: Literal['anneal', 'uniform'], anneal_iter: int) -> list[float]:
    """Weights, with sum 1, of the outer losses after every inner step; outer iterations count from 1.

    'uniform' gives equal weights, as the released script does unless it is resumed, because its counter is not
    advanced. 'anneal' moves the weight to the last step, as in the paper: within ``anneal_iter`` iterations the weights
    of earlier steps fall linearly, down to FLOOR.
    """
    equal = 1 / steps
    if method == 'uniform' or steps == 1:
        return [equal] * steps
    early = max(equal * (1 - (iteration - 1) / anneal_iter), FLOOR * equal)
    return [early] * (steps - 1) + [1 - early * (steps - 1)]
