"""Supervised training of any registered network on our data sets.

Beyond BasicSR's SRModel: degradation on the training device, bfloat16, gradient accumulation, EMA of parameters and
buffers, distributed training on CPUs, atomic writes.

An iteration is ``feed_data``, then ``optimize_parameters``: ``start_stage`` (at the first iteration of a stage),
``before_step``, ``split_batch``, ``compute_losses`` for each part, ``step_optimizer``, ``after_step`` and
``follow_average``. Subclasses override these.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from msgspec.structs import asdict
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dasr_arch._errors import InputError
from dasr_arch._registration import MODEL_REGISTRY
from dasr_arch.archs.contract import facts_of
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.layers.image_ops import rgb_to_y
from dasr_arch.backends.choose import explain_choice
from dasr_arch.backends.precision import choose_precision
from dasr_arch.checkpoints.io import choose_part, load_fitting, load_strictly, read_weights
from dasr_arch.checkpoints.rcan_edsr_keys import find_released_names
from dasr_arch.config.fit_checks import check_fit
from dasr_arch.config.train_schema import TRAIN_OPTIONS, TrainOptions, find_own_model
from dasr_arch.config.typed import convert
from dasr_arch.data.degradation_dataset import degrade_batch
from dasr_arch.degradations import build_degradation
from dasr_arch.models.lr_schedule import Schedule
from dasr_arch.models.synced_batch_norm import synchronise_batch_norm
from dasr_arch.models.training_state import collect_training_state, restore_training_state, save_atomically

# Newer versions of torch have renamed the argument and warn about the old name.
_RENAMED = 'forward_sync_buffers' in signature(DistributedDataParallel).parameters
WITHOUT_BUFFERS: dict[str, Any] = {'forward_sync_buffers' if _RENAMED else 'broadcast_buffers': False}
_EMA_RISE = 9  # the decay is done / (9 + done), 0.5 after 9 iterations
Part = dict[str, Tensor]  # of a batch: arguments of the losses


@MODEL_REGISTRY.register()
class SupervisedModel(SRModel):
    """Trains a network to restore HR patches from degraded ones.

    Args:
        opt: BasicSR's option dictionary. Its section 'train' is read as the structure that TRAIN_OPTIONS names for the
            model, :class:`~dasr_arch.config.train_schema.SupervisedTrainOptions` here.

    Attributes:
        settings: that structure, defaults included; set where there is a section 'train'.

    Raises:
        InputError: if an option is wrong or weights do not fit.
    """

    settings: TrainOptions
    net_g: Any  # the network to train, built by SRModel
    log_dict: OrderedDict[str, Tensor]
    ema_decay: float = 0

    def __init__(self, opt: dict[str, Any]) -> None:
        self.precision = 'fp32'
        if opt.get('train'):
            self.settings = self._read_settings(opt['train'])
            self.precision = self.settings.precision
        self.dtype = choose_precision(
            'fp32' if self.precision == 'tf32' else self.precision,
            torch.device('cuda' if opt['num_gpu'] != 0 else 'cpu'),
        )
        super().__init__(opt)

    def _read_settings(self, train: dict[str, Any]) -> TrainOptions:
        """The section 'train'; BasicSR's own loop, which has no option for the precision, computes in float32."""
        kind = TRAIN_OPTIONS[find_own_model(type(self))]
        # BasicSR's loop reads keys of its own from the section as well.
        return convert({'precision': 'fp32', **train}, kind, 'options', 'train', foreign=True)

    # --- set-up ---

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Moves a network to the device; the process group is joined when training starts."""
        return net.to(self.device)

    def print_network(self, net: nn.Module) -> None:
        """Logs a network's class and number of parameters."""
        count = sum(parameter.numel() for parameter in net.parameters())
        get_root_logger().info(f'Network {type(net).__name__}: {count:,d} parameters, {self.dtype} on {self.device}')

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = None) -> None:
        """Loads weights; without ``strict`` those whose names and shapes fit, and logs the others.

        ``param_key`` is ignored, since SRModel always passes 'params'; the option 'path.param_key_g' applies, by
        default averaged weights come first. InputError if the file cannot be read, or does not fit and strict is set.
        """
        del param_key
        state = read_weights(load_path, self.opt['path'].get('param_key_g'))
        self._load_state(choose_part(net, state), state, f"weights file '{load_path}'", strict)

    def init_training_settings(self) -> None:
        """Builds everything that only training needs."""
        settings = self.settings
        has_weights = bool(self.opt['path'].get('pretrain_network_g'))
        check_fit(self.net_g, settings, 'options', has_weights=has_weights)
        data = self.opt['datasets'].get('train', {})
        self.degradation = build_degradation(data['degradation'], self.opt['scale']) if 'degradation' in data else None
        self.schedule = Schedule(settings.stages)
        self.ema_decay = settings.ema_decay
        # Keys that some models lack.
        self.accumulate: int = getattr(settings, 'accumulate', 1)
        self.multi_stage: bool = getattr(settings, 'multi_stage', False)
        self.on_luma: bool = getattr(settings, 'loss_on', 'rgb') == 'luma'
        self.compiled: bool = getattr(settings, 'compile', False)
        shares_batch = 'cpu_processes' in self.opt
        self.sync_batchnorm: bool = self.opt['dist'] and (shares_batch or getattr(settings, 'sync_batchnorm', False))
        self.net_g.train()
        if self.sync_batchnorm:
            synchronise_batch_norm(self.net_g, self.device)
        if self.ema_decay > 0:
            self.net_g_ema = deepcopy(self.net_g).eval().requires_grad_(False)
        self.cri_pix = build_loss(settings.pixel_opt).to(self.device) if settings.pixel_opt else None
        self.training_network = self.build_training_network()
        self.wrapped: Any = None  # in DistributedDataParallel, built for each stage
        self.forward_pass: Any = None  # the wrapped module, compiled with 'compile'
        self.stage = 0
        self.setup_optimizers()
        self.log_dict = OrderedDict()
        backend = ''
        if isinstance(self.net_g, DASR):
            compiled = self.compiled and self.net_g.implementation != 'reference'
            backend = ', compiled' if compiled else f', backend {explain_choice(self.net_g, self.device)}'
        get_root_logger().info(f'Training in {str(self.dtype).removeprefix("torch.")} on {self.device}{backend}')

    def build_training_network(self) -> nn.Module:
        """Module whose forward is the training step; its parameters are optimised."""
        network: nn.Module = self.net_g
        return network

    def setup_optimizers(self) -> None:
        """One optimiser over all trainable parameters, kept through all stages."""
        options = asdict(self.settings.optim_g)
        optimiser = getattr(torch.optim, options.pop('type'))
        as_released = self.precision in ('fp32', 'tf32')  # rounds as the authors' training
        if self.device.type == 'cuda' or not as_released:
            options['fused'] = True  # one pass over all parameters instead of ten
        groups = group_parameters(self.training_network, getattr(self.settings, 'lr_factors', {}))
        self.optimizer_g = optimiser(groups, lr=self.schedule.learning_rate(1), **options)
        self.optimizers.append(self.optimizer_g)

    def setup_schedulers(self) -> None:
        """No schedulers: the learning rate is a function of the iteration."""

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Sets the learning rate of an iteration, counted from 1."""
        rate = self.schedule.learning_rate(current_iter)
        for group in self.optimizer_g.param_groups:
            group['lr'] = rate * group.get('factor', 1.0)

    def start_stage(self, stage: int) -> None:
        """Hook before the first iteration of a stage, also after a resume."""
        if self.opt['dist']:
            ids = [self.device.index or torch.cuda.current_device()] if self.device.type == 'cuda' else None
            # Buffers are averaged after each step instead, so that they are equal in all processes.
            self.wrapped = DistributedDataParallel(self.training_network, device_ids=ids, **WITHOUT_BUFFERS)
        else:
            self.wrapped = self.training_network
        self.forward_pass = torch.compile(self.wrapped) if self.compiled else self.wrapped

    # --- one iteration ---

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Takes a batch: raw patches, which are degraded here, or LR-HR pairs."""
        self._take_conditions(data)
        if 'hr' in data:
            self.lq = self._degrade(data)[:, 0]
            return
        self.lq = data['lq'].to(self.device, non_blocking=True)
        self._take_truth(data)

    def optimize_parameters(self, current_iter: int) -> None:
        """Runs one iteration, in ``accumulate`` parts of the batch with separate batch statistics."""
        stage = self.schedule.locate(current_iter)[0]
        if stage != self.stage:
            self.start_stage(stage)
            self.stage = stage
        self.before_step()
        self.log_dict = OrderedDict(self.take_step(self.split_batch(), self.compute_losses))
        self.after_step()
        if self.opt['dist'] and not self.sync_batchnorm:
            statistics = ('running_mean', 'running_var')
            named = self.training_network.named_buffers()
            average_over_processes([buffer for name, buffer in named if name.endswith(statistics)])
        self.follow_average(current_iter)

    def take_step(self, parts: Sequence[Part], compute: Callable[[Part], dict[str, Tensor]]) -> dict[str, Tensor]:
        """One step of the optimiser on losses, averaged over the parts of a batch and over processes; returns them.

        Parameters without a gradient and their moments are unchanged.
        """
        self.optimizer_g.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        for number, part in enumerate(parts, 1):
            exchange_later = number < len(parts) and isinstance(self.wrapped, DistributedDataParallel)
            with self.wrapped.no_sync() if exchange_later else nullcontext():
                losses = compute(part)
                (sum(losses.values(), torch.zeros((), device=self.device)) / len(parts)).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach() / len(parts)
        self.step_optimizer()
        return totals

    def step_optimizer(self) -> None:
        """Steps the optimiser; averages gradients over processes where DistributedDataParallel has not done so."""
        if not isinstance(self.wrapped, DistributedDataParallel):
            parameters = self.training_network.parameters()
            average_over_processes([parameter.grad for parameter in parameters if parameter.grad is not None])
        self.optimizer_g.step()

    def before_step(self) -> None:
        """Hook before the first part of a batch."""

    def after_step(self) -> None:
        """Hook after the optimiser step."""

    def split_batch(self) -> list[Part]:
        """The batch in ``accumulate`` parts, as arguments of compute_losses."""
        return self._split({'lq': self.lq, 'gt': self.gt, **self.conditions})

    def compute_losses(self, part: Part) -> dict[str, Tensor]:
        """Weighted losses of one part of the batch, by name."""
        assert self.cri_pix is not None
        conditions = {key: part[key] for key in self.conditions}
        with self.autocast():
            if self.multi_stage:
                images = self.forward_pass(part['lq'], return_stages=True, **conditions).stages
            else:
                images = (self.forward_pass(part['lq'], **conditions),)
        convert = rgb_to_y if self.on_luma else nn.Identity()
        truth = convert(part['gt'])
        return {'l_pix': sum(self.cri_pix(convert(image.float()), truth) for image in images)}

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of the forward passes: bfloat16 with that precision, else no effect."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def get_current_log(self) -> OrderedDict[str, float]:
        """Losses of the last iteration, averaged over processes; synchronises with the device."""
        names = list(self.log_dict)
        if not names:
            return OrderedDict()
        values = torch.stack([self.log_dict[name].float() for name in names])
        if self.opt['dist']:
            torch.distributed.all_reduce(values)
            values /= self.opt['world_size']
        return OrderedDict(zip(names, values.tolist(), strict=True))

    def follow_average(self, current_iter: int) -> None:
        """Updates the averaged network, if there is one, after an iteration, counted from 1.

        The decay rises to the value of the option file in every stage. With a constant 0.999, the initial random
        weights would still make up 37 % of the average after 1,000 iterations.
        """
        if self.ema_decay > 0:
            done = self.schedule.locate(current_iter)[1]
            self.model_ema(min(self.ema_decay, done / (_EMA_RISE + done)))

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Updates the averaged network: parameters with ``decay``, buffers (batch statistics) copied."""
        source, target = self.get_bare_model(self.net_g), self.net_g_ema
        own, new = list(target.parameters()), list(source.parameters())
        torch._foreach_lerp_(own, new, 1 - decay)
        for old, buffer in zip(target.buffers(), source.buffers(), strict=True):
            old.copy_(buffer)

    # --- testing and files ---

    @property
    def evaluated_network(self) -> Any:
        """The averaged network if there is one, else the trained network without its distributed wrapper."""
        return self.net_g_ema if self.ema_decay > 0 else self.get_bare_model(self.net_g)

    @property
    def validates_a_part(self) -> bool:
        """True if validation measures a part of the network only; its result is then never the best one."""
        return False

    @torch.no_grad()
    def test(self) -> None:
        """Super-resolves ``self.lq`` with :attr:`evaluated_network`."""
        net = self.evaluated_network
        was_training = net.training
        net.eval()
        with self.autocast():
            self.output = net(self.lq, **self.conditions).float()
        net.train(was_training)

    def save(self, epoch: int, current_iter: int) -> None:
        """Writes weights and training state, for BasicSR's own training loop."""
        self.save_weights('latest' if current_iter == -1 else str(current_iter))
        if current_iter != -1 and self.opt['rank'] == 0:
            folder = Path(self.opt['path']['training_states'])
            save_atomically(collect_training_state(self, epoch, current_iter), folder / f'{current_iter}.state')

    def save_weights(self, label: str) -> Path | None:
        """Writes ``net_g_<label>.pth``, label such as 'best' or '5000'; returns its path, in the first process alone.

        OSError if it cannot be written; no partial file is left.
        """
        if self.opt['rank'] != 0:
            return None
        path = Path(self.opt['path']['models']) / f'net_g_{label}.pth'
        save_atomically(self.collect_weights(), path)
        return path

    def collect_weights(self) -> dict[str, Any]:
        """Content of a weights file, on the CPU."""
        out = {'params': cpu_state(self.get_bare_model(self.net_g))}
        if self.ema_decay > 0:
            out['params_ema'] = cpu_state(self.net_g_ema)
        return out

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Restores networks and optimisers."""
        restore_training_state(self, resume_state)

    # --- helpers ---

    def _degrade(self, data: Mapping[str, Any]) -> Tensor:
        """LR patches (B, P, 3, h, w) of a batch of raw patches; takes the first HR patch of each image."""
        if self.degradation is None:
            raise InputError('datasets.train needs a degradation')
        lq, gt = degrade_batch(self.degradation, data, self.device)
        self.gt = gt[:, 0]
        return lq

    def _take_truth(self, data: Mapping[str, Any]) -> None:
        """Takes a batch's HR images, or removes those of the previous batch."""
        if hasattr(self, 'gt'):
            del self.gt
        if 'gt' in data:
            self.gt = data['gt'].to(self.device, non_blocking=True)

    def _take_conditions(self, data: Mapping[str, Any]) -> None:
        """Takes the inputs of the network beside the image, as far as the batch has them."""
        needs = facts_of(self.get_bare_model(self.net_g)).needs
        self.conditions = {key: data[key].to(self.device, non_blocking=True) for key in needs if key in data}

    def _split(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        size = len(next(iter(batch.values())))
        if size % self.accumulate:
            raise InputError(f'a batch of {size} cannot be split into train.accumulate = {self.accumulate} equal parts')
        chunks = {key: value.chunk(self.accumulate) for key, value in batch.items()}
        return [{key: value[index] for key, value in chunks.items()} for index in range(self.accumulate)]

    def _load_state(self, net: nn.Module, state: Mapping[str, Tensor], name: str, strict: bool) -> None:
        logger = get_root_logger()
        mean: Any = net.mean if find_released_names(net) is not None else None  # of BasicSR's RCAN and EDSR
        if strict:
            load_strictly(net, state, name)
            logger.info(f'Loaded {type(net).__name__} from {name}')
        else:
            loaded, left = load_fitting(net, state)
            kept = left or 'none'
            logger.info(f'Loaded {loaded} tensors of {type(net).__name__} from {name}; left as they were: {kept}')
        now: Any = net.mean if mean is not None else None
        if mean is not None and not torch.allclose(mean, now.to(mean), atol=1e-4):
            found = ', '.join(f'{value:.6f}' for value in now.flatten().tolist())
            raise InputError(
                f'{name} subtracts another mean colour, which no weights file of {type(net).__name__} holds; write '
                f'network_g.rgb_mean: [{found}], here and in tests of what is trained'
            )


def group_parameters(net: nn.Module, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """Trainable parameters in groups by 'factor' of the learning rate; those without a factor come first.

    Factors are given by prefix of parameter names, such as 'conv3'.
    """
    groups: dict[str, list[nn.Parameter]] = {'': []}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            found = next((words for words in factors if name == words or name.startswith(f'{words}.')), '')
            groups.setdefault(found, []).append(parameter)
    return [
        {'params': parameters, 'factor': factors.get(words, 1.0)} for words, parameters in groups.items() if parameters
    ]


def cpu_state(net: nn.Module) -> dict[str, Tensor]:
    """A network's state dict on the CPU."""
    return {key: value.detach().cpu() for key, value in net.state_dict().items()}


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
