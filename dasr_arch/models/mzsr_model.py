"""MZSR's meta-training: weights from which a few gradient steps on a test image go a long way.

Soh, Cho, Cho: Meta-Transfer Learning for Zero-Shot Super-Resolution, CVPR 2020, section 3.3; the large-scale training
before it is an ordinary supervised one. Finn et al., Model-Agnostic Meta-Learning, ICML 2017.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dasr_arch._errors import InputError
from dasr_arch._registration import MODEL_REGISTRY
from dasr_arch.archs.layers.image_ops import enlarge
from dasr_arch.archs.layers.residual_cnn import ResidualRestorer
from dasr_arch.models.distributed import average_gradients
from dasr_arch.models.supervised_model import SupervisedModel
from dasr_arch.zero_shot.adaptation import MZSROptions, adapt_mzsr

FLOOR = 0.03  # share of an equal weight that a step before the last one keeps


@MODEL_REGISTRY.register()
class MZSRModel(SupervisedModel):
    """Meta-trains :class:`~dasr_arch.archs.mzsr_arch.MZSR`.

    A batch is cut into tasks of ``support + query`` images. All images of a task are degraded with the kernel that
    was drawn for its first one. From the trained weights, the inner loop takes plain gradient steps on the support; the
    outer loss is that of the query after every inner step, weighted.

    Validation does with every image what a test does: it adapts with the image's true kernel, then restores.

    Args:
        opt: BasicSR's option dictionary. Of its section 'train': 'schedule' (see Stage), 'optim_g', 'pixel_opt', the
            loss of both loops; optional 'meta_opt' with 'support' (8) and 'query' (8), images; 'inner_steps' (5);
            'inner_lr' (0.01); 'second_order' (true: gradients through the inner steps; false: as if these were
            constants); 'loss_weights' ('anneal', or 'uniform'); 'anneal_iter' (3333); 'adaptation', see MZSROptions;
            'ema_decay'.

    Raises:
        InputError: if an option is wrong or weights do not fit.
    """

    def build_training_network(self) -> nn.Module:
        """The network itself."""
        if not isinstance(self.net_g, ResidualRestorer):
            raise InputError(f'MZSRModel trains MZSR, got {type(self.net_g).__name__}; use model_type: SupervisedModel')
        meta = self.opt['train'].get('meta_opt') or {}
        self.support: int = meta.get('support', 8)
        self.query: int = meta.get('query', 8)
        self.inner_steps: int = meta.get('inner_steps', 5)
        self.inner_lr: float = meta.get('inner_lr', 0.01)
        self.second_order: bool = meta.get('second_order', True)
        self.loss_weights: Literal['anneal', 'uniform'] = meta.get('loss_weights', 'anneal')
        self.anneal_iter: int = meta.get('anneal_iter', 3333)
        self.adaptation = self._read_adaptation()
        return self.net_g

    def _read_adaptation(self) -> MZSROptions:
        """How validation adapts; sons are made as the images of the training are."""
        given = self.opt['train'].get('adaptation') or {}
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
        if self.degradation is not None:
            values.setdefault('downsample', 'direct' if self.degradation.downsample == 's_fold' else 'bicubic')
        return MZSROptions(**values)

    def start_stage(self, stage: int) -> None:
        """Nothing is wrapped: gradients of several processes are averaged after the outer loss."""
        del stage
        self.wrapped = self.net_g

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Takes raw patches, or for validation images with their true kernels."""
        self.kernel: Tensor | None = data['kernel'].to(self.device, non_blocking=True) if 'kernel' in data else None
        if 'hr' in data:
            size = self.support + self.query
            if len(data['hr']) % size:
                raise InputError(
                    f'a batch of {len(data["hr"])} cannot be cut into tasks of support + query = {size} images'
                )
            data = {**data, 'kernel': data['kernel'][::size].repeat_interleave(size, 0)}  # one in each task
        super().feed_data(data)
        self.conditions = {}

    def optimize_parameters(self, current_iter: int) -> None:
        """Runs one iteration: the inner loop of every task, then one step of the optimiser."""
        self.start_stage(1)
        self.optimizer_g.zero_grad(set_to_none=True)
        weights = weigh_steps(current_iter, self.inner_steps, self.loss_weights, self.anneal_iter)
        size = self.support + self.query
        tasks = list(zip(enlarge(self.lq, self.net_g.scale).split(size), self.gt.split(size), strict=True))
        totals = torch.zeros(self.inner_steps, device=self.device)
        for enlarged, gt in tasks:
            losses = torch.stack(self._run_task(enlarged, gt))
            (losses @ losses.new_tensor(weights) / len(tasks)).backward()
            totals += losses.detach() / len(tasks)
        average_gradients(self.net_g.parameters())
        self.optimizer_g.step()
        self.follow_average(current_iter)
        self.log_dict = OrderedDict(l_query_first=totals[0], l_query_last=totals[-1])

    def _run_task(self, enlarged: Tensor, gt: Tensor) -> list[Tensor]:
        """The query's loss after every inner step, as a function of the weights that the task starts from."""
        parameters: dict[str, Tensor] = dict(self.net_g.named_parameters())
        losses = []
        for _ in range(self.inner_steps):
            loss = self._loss(parameters, enlarged[: self.support], gt[: self.support])
            gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=self.second_order)
            parameters = {
                name: value - self.inner_lr * gradient
                for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
            }
            losses.append(self._loss(parameters, enlarged[self.support :], gt[self.support :]))
        return losses

    def _loss(self, parameters: dict[str, Tensor], enlarged: Tensor, gt: Tensor) -> Tensor:
        assert self.cri_pix is not None
        loss: Tensor = self.cri_pix(functional_call(self.net_g, parameters, (enlarged,), {'enlarged': True}), gt)
        return loss

    def test(self) -> None:
        """Adapts to ``self.lq`` and restores it; the trained network stays as it is."""
        self.output = adapt_mzsr(self.evaluated_network, self.lq, self.adaptation, self.kernel).sr


def weigh_steps(iteration: int, steps: int, method: Literal['anneal', 'uniform'], anneal_iter: int) -> list[float]:
    """Weights of the losses after every inner step.

    Args:
        iteration: of the outer loop, counted from 1.
        steps: number of inner steps.
        method: 'uniform' weighs all alike for ever, as the released script does unless it is resumed, because its
            counter stands still; 'anneal' moves the weight to the last step, as the paper says.
        anneal_iter: iterations in which a weight before the last would fall to zero; it stops a little above.

    Returns:
        Weights with sum 1.
    """
    equal = 1 / steps
    if method == 'uniform' or steps == 1:
        return [equal] * steps
    early = max(equal * (1 - (iteration - 1) / anneal_iter), FLOOR * equal)
    return [early] * (steps - 1) + [1 - early * (steps - 1)]
