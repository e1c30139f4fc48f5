"""Training states that include all networks, for any of BasicSR's models."""

import os
from collections.abc import Mapping
from textwrap import shorten
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import nn

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write

_KEPT = ('params', 'lr', 'initial_lr', 'amsgrad', 'centered', 'momentum')  # progress, or what the state depends on


def collect_training_state(model: Any, epoch: int, iteration: int) -> dict[str, Any]:
    """Training state after ``iteration`` iterations, BasicSR's with 'networks', state dicts by attribute name."""
    return {
        'epoch': epoch,
        'iter': iteration,
        'optimizers': [optimizer.state_dict() for optimizer in model.optimizers],
        'schedulers': [scheduler.state_dict() for scheduler in model.schedulers],
        'networks': {name: network.state_dict() for name, network in find_networks(model).items()},
    }


def restore_training_state(model: Any, state: Mapping[str, Any]) -> None:
    """Restores a training state to a model built from the same options; InputError if it belongs to another model."""
    networks = find_networks(model)
    saved = state.get('networks', {})
    if set(saved) != set(networks) and saved:
        raise InputError(
            f'the training state holds {", ".join(sorted(saved))} but the options make {", ".join(sorted(networks))}; '
            'resume with the options that the run was started with'
        )
    try:
        for name, tensors in saved.items():
            networks[name].load_state_dict(tensors)
        for optimizer, content in zip(model.optimizers, state['optimizers'], strict=True):
            groups = [  # with today's options, which may have changed
                {**saved, **{key: value for key, value in own.items() if key not in _KEPT}}
                for saved, own in zip(content['param_groups'], optimizer.param_groups, strict=True)
            ]
            optimizer.load_state_dict({**content, 'param_groups': groups})
        for scheduler, content in zip(model.schedulers, state['schedulers'], strict=True):
            scheduler.load_state_dict(content)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = shorten(str(error), 200)  # torch names tensors from its second line on
        raise InputError(
            f'the training state does not fit the options ({reason}); resume with those that the run was started with'
        ) from error
    get_root_logger().info(f'Restored iteration {state["iter"]}')


def find_networks(model: Any) -> dict[str, nn.Module]:
    """Networks of any BasicSR model by attribute name ``net_*``, in order of creation, without distributed wrappers."""
    networks = {name: value for name, value in vars(model).items() if name.startswith('net_')}
    return {name: model.get_bare_model(net) for name, net in networks.items() if isinstance(net, nn.Module)}


def save_atomically(content: object, path: str | os.PathLike[str]) -> None:
    """Writes any argument of torch.save completely or not at all.

    OSError if it cannot be written, for example because the disk is full; an existing file is kept.
    """
    with atomic_write(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's own way of reporting a failed write
            raise OSError(f"cannot write '{path}' ({str(error).splitlines()[0]}); free some disk space") from error
