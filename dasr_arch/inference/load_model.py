"""Model arguments of commands and of the upscaler.

A model is a setting ('general', 'iso'), a name of installed weights, a weights file, or a network. Wrong ones raise
InputError: no such weights are installed, they are damaged, not finite, or of another scale; the network is non-blind.
"""

import copy
import os
from pathlib import Path

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.io import check_finite, load_network
from dasr_arch.checkpoints.packaged import check_packaged, find_packaged, read_manifest

_WEIGHTS_SUFFIXES = ('.pth', '.pt', '.safetensors')


def load_model(model: str | os.PathLike[str] | DASR, scale: int) -> DASR:
    """Loads a network from installed weights or a weights file, or copies a network; its factor must be ``scale``."""
    if not isinstance(model, DASR):
        if not isinstance(model, str | os.PathLike):
            raise InputError(f'expected weights or a DASR, got {type(model).__name__}')
        return load_named(model, scale)[0]
    if model.scale != scale:
        raise InputError(f'the network is for x{model.scale}, not for x{scale}; choose the scale to fit')
    check_finite(model.state_dict(), 'the network')
    return _check_blind(copy.deepcopy(model))  # the caller may go on training it


def load_named(model: str | os.PathLike[str], scale: int | None = None) -> tuple[DASR, str]:
    """Network of a model argument on the CPU in evaluation mode, and the name of the weights or of the file.

    Without ``scale``, the factor is that of the named weights or of the file, and 4 for a setting.
    """
    path = locate_weights(model, scale)
    return _check_blind(load_network(path, scale)), path.stem


def locate_weights(model: str | os.PathLike[str], scale: int | None) -> Path:
    """Weights file of a model argument; the checksum of installed weights is checked."""
    if names_file(model):
        return Path(model)
    return check_packaged(find_packaged(str(model), find_scale(model, scale)))


def find_scale(model: str | os.PathLike[str], scale: int | None = None) -> int:
    """The given factor, else that of the named weights or of the file, else 4."""
    if scale is not None:
        return scale
    if names_file(model):
        return load_network(Path(model)).scale
    return next((entry.scale for entry in read_manifest().files if entry.name == model), 4)


def names_file(model: str | os.PathLike[str]) -> bool:
    """True if a model argument is a weights file, existing or not; False for names of installed weights."""
    path = Path(model)
    return isinstance(model, os.PathLike) or path.is_file() or path.is_fifo() or path.suffix in _WEIGHTS_SUFFIXES


def _check_blind(network: DASR) -> DASR:
    if not network.blind:
        raise InputError('the network is non-blind and needs the blur kernel; choose a blind model')
    return network
