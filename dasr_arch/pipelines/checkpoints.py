"""Training states on the disk: atomic writing, search, restoring and removal of old ones."""

import json
import pickle
import random
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from basicsr.utils import get_root_logger

from dasr_arch._errors import InputError
from dasr_arch._files import lock_file, write_whole
from dasr_arch.checkpoints.io import DAMAGE, find_not_finite
from dasr_arch.degradations import build_degradation
from dasr_arch.models.training_state import collect_training_state, restore_training_state, save_atomically

_LOCK = '.lock'  # file of an experiment that the process holds which trains in it


def list_states(folder: Path) -> list[Path]:
    """The training states of a folder, newest first; other files are ignored."""
    states = [path for path in folder.glob('*.state') if path.stem.isdigit()]
    return sorted(states, key=lambda path: int(path.stem), reverse=True)


def find_state(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The training state that a run continues from; None for a new run.

    'auto_resume' searches the experiment's own folder, where a damaged file is named in a warning and the one before it
    is taken; else 'path.resume_state' names a file. InputError if there are states but none can be read, or the named
    one cannot.
    """
    named = options['path'].get('resume_state')
    if options.get('auto_resume'):
        candidates = list_states(Path(options['path']['training_states']))
        for path in candidates:
            try:
                return read_state(path)
            except InputError as error:
                get_root_logger().warning(f'{error}; trying the state before it')
        if candidates:
            raise InputError(
                f"no training state in '{candidates[0].parent}' can be read; remove the folder's states, or start "
                'without --auto_resume'
            )
    return read_state(Path(named)) if named else None


def read_state(path: Path) -> dict[str, Any]:
    """Reads a training state on the CPU; code in it is refused, never run.

    InputError if the file is missing, truncated, no training state, or of a training that has diverged.
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"training state '{path}' does not exist; check path.resume_state") from error
    except (*DAMAGE, pickle.UnpicklingError) as error:
        raise InputError(f"training state '{path}' is damaged or truncated") from error
    if not isinstance(state, dict) or not {'iter', 'optimizers'} <= set(state):
        raise InputError(f"'{path}' is no training state; weights go to path.pretrain_network_g")
    for network in state.get('networks', {}).values():
        if find_not_finite(network) is not None:
            raise InputError(f"training state '{path}' holds numbers that are not finite; take an earlier one")
    return state


def write_state(model: Any, options: Mapping[str, Any], iteration: int, extra: Mapping[str, Any]) -> None:
    """Writes everything that a run needs to continue as if it had not been interrupted.

    ``iteration`` iterations are finished; ``extra`` are plain values to keep. OSError if it cannot be written.
    """
    state = collect_training_state(model, 0, iteration)
    state |= {'random': collect_random_state(), 'extra': dict(extra)}
    save_atomically(state, Path(options['path']['training_states']) / f'{iteration}.state')


def restore_state(model: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Restores the state of a model of the same options and returns its extra values; InputError if it is another's."""
    restore_training_state(model, state)
    if 'random' in state:
        restore_random_state(state['random'])
    extra: dict[str, Any] = state.get('extra', {})
    return extra


def prune(options: Mapping[str, Any], keep: int) -> None:
    """Removes all but the ``keep`` newest numbered states and weights; 0 keeps all."""
    if keep == 0:
        return
    weights: dict[int, list[Path]] = {}
    for path in Path(options['path']['models']).glob('*.pth'):
        match = re.fullmatch(r'.*_(\d+)', path.stem)
        if match:
            weights.setdefault(int(match[1]), []).append(path)
    for iteration in sorted(weights, reverse=True)[keep:]:
        for path in weights[iteration]:
            path.unlink()
    for path in list_states(Path(options['path']['training_states']))[keep:]:
        path.unlink()


def prepare_folders(options: Mapping[str, Any], resuming: bool) -> IO[str]:
    """Makes the experiment's folders; unless resuming, an earlier experiment of the name is renamed.

    Returns an open file, which locks the experiment until it is closed. InputError if another process trains in it.
    """
    paths = options['path']
    experiment = Path(paths['experiments_root'])
    if (experiment / _LOCK).exists():
        _lock(experiment).close()
    for folder in (experiment, Path(options['root_path']) / 'tb_logger' / options['name']):
        if not resuming and folder.is_dir() and any(folder.iterdir()):
            archived = folder.with_name(f'{folder.name}_archived_{time.strftime("%Y%m%d_%H%M%S")}')
            folder.rename(archived)
            get_root_logger().info(f'Earlier {folder} is now {archived.name}')
    for key in ('experiments_root', 'models', 'training_states', 'visualization'):
        Path(paths[key]).mkdir(parents=True, exist_ok=True)
    write_degradations(options, experiment / 'degradations.json')
    lock = _lock(experiment)
    for leftover in experiment.glob('*/.*.tmp*'):  # of a process that was killed while it wrote
        leftover.unlink()
    return lock


def _lock(experiment: Path) -> IO[str]:
    lock = (experiment / _LOCK).open('w', encoding='utf-8')
    if not lock_file(lock):
        lock.close()
        reason = 'another process is training there; wait for it, or choose another name (--set name=NAME)'
        raise InputError(f'{experiment}: {reason}')
    return lock


def write_degradations(options: Mapping[str, Any], path: Path) -> None:
    """Writes the degradations of a run's data sets as JSON, defaults filled in, so that they can be reproduced."""
    described = {}
    for phase, data in options['datasets'].items():
        given = data.get('degradation')
        if given is None:
            continue
        specifications = given if isinstance(given, list) else [given]
        built = [build_degradation(specification, options['scale']).specification() for specification in specifications]
        described[phase] = {'name': data['name'], 'seed': data.get('seed', 0), 'degradation': built}
    write_whole(path, json.dumps({'scale': options['scale'], 'datasets': described}, indent=2) + '\n')


def collect_random_state() -> dict[str, Any]:
    """The states of all global generators, as tensors and plain numbers."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (foreign data sets use it)
    state: dict[str, Any] = {
        'torch': torch.get_rng_state(),
        'python': [version, list(numbers), gauss],
        'numpy': [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), has_gauss, cached],
    }
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Sets all global generators to what :func:`collect_random_state` gave."""
    torch.set_rng_state(state['torch'])
    version, numbers, gauss = state['python']
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state['numpy']
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])
