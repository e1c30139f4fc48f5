"""Everything that a model has learned and remembers, in one dictionary, for any of BasicSR's models."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write


def collect_training_state(model: Any, epoch: int, iteration: int) -> dict[str, Any]:
    """A training state in BasicSR's format, with the networks in it.

    Args:
        model: any of BasicSR's models or ours.
        epoch: number of the epoch.
        iteration: number of finished iterations.

    Returns:
        'epoch', 'iter', 'optimizers', 'schedulers' as BasicSR's own states; 'networks', every network by its
        attribute name.
    """
    return {
        'epoch': epoch,
        'iter': iteration,
        'optimizers': [optimizer.state_dict() for optimizer in model.optimizers],
        'schedulers': [scheduler.state_dict() for scheduler in model.schedulers],
        'networks': {name: network.state_dict() for name, network in find_networks(model).items()},
    }


def restore_training_state(model: Any, state: Mapping[str, Any]) -> None:
    """Puts a training state back.

    Args:
        model: the model, built from the same options.
        state: what :func:`collect_training_state` gave.

    Raises:
        InputError: if the state belongs to another model.
    """
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
            optimizer.load_state_dict(content)
        for scheduler, content in zip(model.schedulers, state['schedulers'], strict=True):
            scheduler.load_state_dict(content)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f'the training state does not fit the options ({reason}); resume with those that the run was started with'
        ) from error
    get_root_logger().info(f'Restored iteration {state["iter"]}')


def find_networks(model: Any) -> dict[str, nn.Module]:
    """The networks of a model without distributed wrappers, by attribute name; losses are left out.

    Args:
        model: any of BasicSR's models or ours.

    Returns:
        Modules, in the order in which they were made.
    """
    out: dict[str, nn.Module] = {}
    for name, value in vars(model).items():
        if not name.startswith('net_') or not isinstance(value, nn.Module):
            continue
        out[name] = value.module if isinstance(value, DataParallel | DistributedDataParallel) else value
    return out


def save_atomically(content: object, path: str | os.PathLike[str]) -> None:
    """Writes a file that is whole or not there.

    Args:
        content: what torch.save takes.
        path: the file.

    Raises:
        OSError: if it cannot be written, for example because the disk is full; what was there before stays.
    """
    with atomic_write(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's own way of reporting a failed write
            raise OSError(f"cannot write '{path}' ({str(error).splitlines()[0]}); free some disk space") from error
