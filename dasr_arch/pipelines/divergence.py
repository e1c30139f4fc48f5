"""Detection of trainings that have diverged, before anything that is not finite is saved or scored."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from dasr_arch._errors import DivergedError
from dasr_arch.checkpoints.io import find_not_finite
from dasr_arch.models.training_state import find_networks
from dasr_arch.pipelines.checkpoints import list_states


def check_finite(model: Any, options: Mapping[str, Any], iteration: int) -> None:
    """Raises DivergedError if losses or weights are not finite after an iteration; every process must call it.

    The message names the learning rate that is to be lowered and the state to continue from.
    """
    losses = model.get_current_log()
    loss = next((f'{name} is {value}' for name, value in losses.items() if not math.isfinite(value)), None)
    broken = {name: find_not_finite(network.state_dict()) for name, network in find_networks(model).items()}
    weights = next((f"'{tensor}' of {name} is not finite" for name, tensor in broken.items() if tensor), None)
    found = share(loss or weights, model, options)
    if found is not None:
        raise DivergedError(f'iteration {iteration}: {found}, the training has diverged; {_advise(model, options)}')


def share(found: str | None, model: Any, options: Mapping[str, Any]) -> str | None:
    """What a process has found, or that another one has found something; waits until every process calls it."""
    if options['dist']:
        diverged = torch.tensor(float(found is not None), device=model.device)
        torch.distributed.all_reduce(diverged)
        if diverged and found is None:
            return 'another process has numbers that are not finite'
    return found


def _advise(model: Any, options: Mapping[str, Any]) -> str:
    train = options['train']
    section = 'schedule' if 'schedule' in train else f'stage_{getattr(model, "stage", 0)}'
    key = f'{section}.lr' if section in train else 'optim_g.lr'
    precision = '' if train.get('precision', 'fp32') == 'fp32' else ', or write train.precision: fp32'
    saved = list_states(Path(options['path']['training_states']))
    again = f'continue with --auto_resume after iteration {saved[0].stem}' if saved else 'start again'
    return f'lower train.{key}, now {model.get_current_learning_rate()[0]:.3g}{precision}, and {again}'
