"""Model arguments of commands and of the upscaler: names of installed weights, weights files, networks."""

import copy
import os
from pathlib import Path

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.io import load_network
from dasr_arch.checkpoints.packaged import check_packaged, find_packaged, read_manifest

_WEIGHTS_SUFFIXES = ('.pth', '.pt', '.safetensors')


def load_model(model: str | os.PathLike[str] | DASR, scale: int) -> DASR:
    """Loads a network from installed weights or a weights file, or copies a network.

    Args:
        model: a setting ('general', 'iso'), a name of installed weights, a file, or a network.
        scale: up-sampling factor that it must have.

    Raises:
        InputError: if there are no such weights, they are damaged or of another scale, or the network is non-blind.
    """
    if not isinstance(model, DASR):
        return load_named(model, scale)[0]
    if model.scale != scale:
        raise InputError(f'the network is for x{model.scale}, not for x{scale}; choose the scale to fit')
    return _check_blind(copy.deepcopy(model))  # the caller may go on training it


def load_named(model: str | os.PathLike[str], scale: int | None = None) -> tuple[DASR, str]:
    """Loads a network from installed weights or a weights file.

    Args:
        model: a setting, a name of installed weights, or a file.
        scale: up-sampling factor; None is that of the named weights or of the file, and 4 for a setting.

    Returns:
        The network on the CPU in evaluation mode, and the name of the installed weights or of the file without suffix.

    Raises:
        InputError: as :func:`load_model`.
    """
    path = locate_weights(model, scale)
    return _check_blind(load_network(path, scale)), path.stem


def locate_weights(model: str | os.PathLike[str], scale: int | None) -> Path:
    """Finds the weights file of a model argument.

    Args:
        model: a setting, a name of installed weights, or a file.
        scale: up-sampling factor; None is that of the named weights, and 4 for a setting.

    Returns:
        The file; that of installed weights after a check of its checksum.

    Raises:
        InputError: if no such weights are installed, or they are damaged.
    """
    if names_file(model):
        return Path(model)
    return check_packaged(find_packaged(str(model), find_scale(model, scale)))


def find_scale(model: str | os.PathLike[str], scale: int | None = None) -> int:
    """Resolves the up-sampling factor of a command.

    Args:
        model: a setting, a name of installed weights, or a file.
        scale: the factor that was given, if any.

    Returns:
        ``scale``, else that of the named weights or of the file, else 4.

    Raises:
        InputError: if the file cannot be read.
    """
    if scale is not None:
        return scale
    if names_file(model):
        return load_network(Path(model)).scale
    return next((entry.scale for entry in read_manifest().files if entry.name == model), 4)


def names_file(model: str | os.PathLike[str]) -> bool:
    """True if a model argument is a weights file, existing or not; False for names of installed weights."""
    return isinstance(model, os.PathLike) or Path(model).is_file() or Path(model).suffix in _WEIGHTS_SUFFIXES


def _check_blind(network: DASR) -> DASR:
    if not network.blind:
        raise InputError('the network is non-blind and needs the blur kernel; choose a blind model')
    return network
