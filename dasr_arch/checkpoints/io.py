"""Weights files: safe reading, loading into networks, and building a DASR from its state dict."""

import math
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dasr_arch._errors import FOREIGN_ERRORS, InputError
from dasr_arch.archs.contract import SRNetwork, facts_of
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.dasr_keys import is_released, translate
from dasr_arch.checkpoints.rcan_edsr_keys import absorb_mean_shift, find_released_names

PARAMETER_KEYS = ('params_ema', 'params', 'state_dict')  # of BasicSR's and Lightning's files, in order of preference
_WRAPPERS = ('module.', '_orig_mod.')  # of data-parallel training and torch.compile, before every name
_MEMBER = 'net_g.'  # of a Lightning module, among those of its losses
_AVERAGED = 'n_averaged'  # number that torch's AveragedModel stores beside its network, called module
_ANCHOR = 'compress.weight'  # a name that every DASR has once
# Exceptions of torch's and safetensors' readers on corrupted files, as observed.
DAMAGE = (*FOREIGN_ERRORS, EOFError, OSError, SafetensorError, struct.error, zipfile.BadZipFile)


class DASRWeights(NamedTuple):
    """The state dicts of one DASR file under our names."""

    network: dict[str, Tensor]
    contrast: dict[str, Tensor]  # the contrastive part, as far as the file contains it; may be empty


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a .pth, .pt or .safetensors file on the CPU: tensors by name, or BasicSR's dictionary of such dictionaries.

    InputError if the file is missing, truncated, not a weights file, or contains objects other than tensors; pickled
    code is refused.
    """
    path = Path(path)
    if not path.is_file():
        fault = 'is a folder or no regular file' if path.exists() else 'does not exist'
        raise InputError(f"weights file '{path}' {fault}; check the path")
    _refuse_compressed(path)
    try:
        if path.suffix == '.safetensors':
            return dict(load_file(path))
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path) or _starts_as_pickle(path):
            raise InputError(
                f"weights file '{path}' carries something else than weights and was not run; save its state dict alone"
            ) from error
        raise InputError(f"'{path}' is not a weights file, or a damaged one; copy or download it again") from error
    except DAMAGE as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # an error of the system; those of torch for truncated files name no file
        raise InputError(f"weights file '{path}' is damaged or truncated; copy or download it again") from error
    if not isinstance(content, dict) or not content:
        kind = 'an empty one' if content == {} else type(content).__name__
        raise InputError(f"weights file '{path}' holds no dictionary of tensors but {kind}; save a state dict")
    return {str(key): value for key, value in content.items()}


def read_weights(path: str | os.PathLike[str], param_key: str | None = None) -> dict[str, Tensor]:
    """State dict of any network, without the prefixes of data-parallel training, torch.compile and Lightning.

    ``param_key`` chooses a state dict of the file; by default the first of PARAMETER_KEYS. InputError as
    :func:`read_file`, if the key is missing, or if an entry is no tensor or not finite.
    """
    return _pick_state(read_file(path), f"weights file '{path}'", param_key)


def read_dasr_weights(
    source: str | os.PathLike[str] | Mapping[str, Any], param_key: str | None = None, *, whole: bool = True
) -> DASRWeights:
    """Reads DASR weights, ours or the authors', recognised by their tensor names.

    InputError if they are not DASR's, or with ``whole`` of a part of it.
    """
    name = f"weights file '{source}'" if isinstance(source, str | os.PathLike) else 'state dict'
    content = read_file(source) if isinstance(source, str | os.PathLike) else dict(source)
    state = _find_dasr(_pick_state(content, name, param_key))
    projection = content.get('projection')
    contrast: dict[str, Tensor] = {}
    if is_released(state):
        state, contrast, unknown = translate(state)
        if unknown:
            raise InputError(f"{name} holds tensors that no released DASR has, such as '{unknown[0]}'")
    elif isinstance(projection, Mapping):
        contrast = {f'projection.{key}': value for key, value in projection.items() if isinstance(value, Tensor)}
    for key in ('compress.weight', 'body_conv.weight') if whole else ():
        if key not in state:
            raise InputError(f"{name} holds no DASR: '{key}' is missing; it is of another network")
    return DASRWeights(state, contrast)


def load_encoder(network: DASR, source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Loads the degradation encoder of another network, which may have another scale.

    The file is ours, the authors', or of an encoder alone (`dasr convert --encoder`); averaged weights come first.
    Returns the contrastive part of the file under our names, maybe empty. InputError if the file is no DASR with an
    encoder, or that is of another size.
    """
    weights = read_dasr_weights(source, whole=False)
    own = {key.removeprefix('encoder.'): value for key, value in weights.network.items() if key.startswith('encoder.')}
    if not own:
        raise InputError(f"weights file '{source}' holds no degradation encoder; it is of another network")
    load_strictly(network.encoder, own, f"the encoder of '{source}'")
    return dict(weights.contrast)


def load_network(
    source: str | os.PathLike[str] | Mapping[str, Any], scale: int | None = None, device: str | torch.device = 'cpu'
) -> DASR:
    """Builds a DASR from a weights file or state dict, ready for inference.

    Args:
        source: our file, the authors' file, or a state dict of either.
        scale: expected scale; None accepts any.
        device: device of the network.

    Returns:
        The network in evaluation mode; RGB in [0, 1] in and out.

    Raises:
        InputError: if the file is no DASR, is damaged, or has another scale.
    """
    name = f"weights file '{source}'" if isinstance(source, str | os.PathLike) else 'state dict'
    network = build_from_state(read_dasr_weights(source).network, name)
    if scale is not None and network.scale != scale:
        raise InputError(f'{name} is for x{network.scale}, not for x{scale}; choose the scale or the file to fit')
    if torch.device(device).type == 'cuda' and not torch.cuda.is_available():
        raise InputError(f"device '{device}': torch finds no GPU here; use device='cpu'")
    return network.to(device).eval()


def build_from_state(state: Mapping[str, Tensor], name: str = 'state dict') -> DASR:
    """Builds a DASR on the CPU from its state dict alone; names and shapes determine all arguments.

    ``name`` opens messages. InputError if tensors are missing, unexpected, or of the wrong shape.
    """
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's draws do not depend on weights that are replaced here
            network = DASR(**infer_arguments(state)).float()
    except (KeyError, IndexError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(f'{name} is no complete DASR ({error})') from error
    load_strictly(network, state, name)
    return network


def choose_part(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The submodule that weights, ours or the authors', belong to, such as one of IKC's three; else the network."""
    for name in facts_of(network).parts:
        part = network.get_submodule(name)
        if set(_translate_released(part, state)[0]) == set(part.state_dict()):
            return part
    return network


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Loads a state dict, ours or the authors', if it fits completely; else nothing is loaded.

    InputError, opened by ``name``, for the first tensor that is missing, unexpected or of another shape.
    """
    state, unknown = _translate_released(network, state)
    own = network.state_dict()
    kind = type(network).__name__
    if unknown:
        raise InputError(f"{name} holds tensors that no released {kind} has, such as '{unknown[0]}'")
    for key, tensor in own.items():
        if key not in state:
            raise InputError(f"{name} does not fit this {kind}: '{key}' is missing")
        if state[key].shape != tensor.shape:
            raise InputError(
                f"{name} does not fit this {kind}: '{key}' has shape {tuple(state[key].shape)}, "
                f'expected {tuple(tensor.shape)}'
            )
    for key in state:
        if key not in own:
            raise InputError(f"{name} does not fit this {kind}: it holds '{key}', which the network does not have")
    network.load_state_dict(state)


def load_fitting(network: nn.Module, state: Mapping[str, Tensor]) -> tuple[int, list[str]]:
    """Loads tensors whose name, ours or the authors', and shape fit; returns their number and the others' names."""
    state = _translate_released(network, state)[0]
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    network.load_state_dict(fitting, strict=False)
    return len(fitting), [key for key in own if key not in fitting]


def _translate_released(network: nn.Module, state: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], list[str]]:
    """The state dict under our names, and the authors' names that have no equivalent."""
    key_map = find_released_names(network) or facts_of(network).released_names
    if key_map is None or not key_map.is_released(state):
        return state, []
    if find_released_names(network):
        state = absorb_mean_shift(network, state)
    translated, unknown = key_map.translate(state)
    missing = network.missing_in_released() if isinstance(network, SRNetwork) else {}
    return {**missing, **translated}, unknown


def infer_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keyword arguments of the DASR with a state dict; KeyError if a tensor that determines one is missing."""
    num_feat, representation_dim = state['compress.weight'].shape
    indices = [re.match(r'groups\.(\d+)\.blocks\.(\d+)\.', key) for key in state]
    found = [(int(match[1]), int(match[2])) for match in indices if match]
    num_groups = 1 + max((group for group, _ in found), default=0)
    num_blocks = 1 + max((block for _, block in found), default=0)
    if len(set(found)) != num_groups * num_blocks:  # before a wrong index builds a huge network
        raise KeyError('one of groups.*.blocks.*')
    arguments: dict[str, Any] = {
        'scale': _infer_scale(state, num_feat),
        'num_feat': num_feat,
        'num_groups': num_groups,
        'num_blocks': num_blocks,
        'representation_dim': representation_dim,
        'upsampler': 'pixelshuffle' if 'upsampler.0.weight' in state else 'direct',
        'skip': 'bicubic' if 'bicubic_skip' in state else 'wiener' if 'enlargement.filters' in state else 'none',
    }
    if 'pixel_range' in state:
        arguments['img_range'] = float(state['pixel_range'])
    first = 'groups.0.blocks.0.da_conv1'
    if f'{first}.conv.weight' in state:
        arguments['da_conv'] = 'concat'
    elif f'{first}.modulation.0.weight' in state:
        arguments['reduction'] = num_feat // state[f'{first}.modulation.0.weight'].shape[0]
    else:
        arguments['da_conv'] = 'kernel'
    if 'kernel_encoder.1.weight' in state:
        arguments |= {'condition': 'kernel', 'kernel_size': round(state['kernel_encoder.1.weight'].shape[1] ** 0.5)}
    else:
        arguments['encoder_feat'] = state['encoder.body.0.weight'].shape[0]
    return arguments


def _infer_scale(state: Mapping[str, Tensor], num_feat: int) -> int:
    """The scale, from the shapes of upsampler and last convolution."""
    steps = [state[key].shape[0] / num_feat for key in state if re.fullmatch(r'upsampler\.\d+\.weight', key)]
    areas = steps or [state['last_conv.weight'].shape[0] / 3]
    return math.prod(round(math.sqrt(area)) for area in areas)


def _pick_state(content: Mapping[str, Any], name: str, param_key: str | None) -> dict[str, Tensor]:
    """The state dict in the content of a file."""
    nested = {str(key): value for key, value in content.items() if isinstance(value, Mapping)}
    keys = (param_key,) if param_key is not None else PARAMETER_KEYS
    chosen = next((nested[key] for key in keys if key in nested), None)
    if chosen is None and param_key is None and len(nested) == 1:
        (chosen,) = nested.values()
    if chosen is None and nested:
        raise InputError(f'{name} holds no {" or ".join(keys)}; it has {", ".join(sorted(nested))}')
    if chosen is not None and any(isinstance(value, Mapping) for value in chosen.values()):
        return _pick_state(chosen, name, None)
    state = _unwrap({str(key): value for key, value in (chosen or content).items()})
    wrong = next((key for key, value in state.items() if not isinstance(value, Tensor)), None)
    if wrong is not None:
        raise InputError(f"{name} is no state dict: '{wrong}' is no tensor")
    # The storage of an expanded view is smaller than the tensor.
    expanded = next((key for key, value in state.items() if value.nbytes > value.untyped_storage().nbytes()), None)
    if expanded is not None:
        raise InputError(
            f"{name}: '{expanded}' holds fewer numbers than its shape says; save it with contiguous tensors"
        )
    check_finite(state, name)
    return state


def check_finite(state: Mapping[str, Tensor], name: str) -> None:
    """Raises InputError, opened by ``name``, if a tensor holds NaN or infinity."""
    broken = find_not_finite(state)
    if broken is not None:
        raise InputError(f"{name}: '{broken}' is not finite, its training diverged; take an earlier file")


def find_not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity."""
    floating = ((key, value) for key, value in state.items() if value.is_floating_point())
    return next((key for key, value in floating if not torch.isfinite(value).all()), None)


def _unwrap(state: dict[str, Any]) -> dict[str, Any]:
    """Removes wrappers from the names, in any order."""
    while True:
        prefix = next((words for words in _WRAPPERS if any(key.startswith(words) for key in state)), None)
        if prefix is not None:
            state = {key.removeprefix(prefix): value for key, value in state.items() if key != _AVERAGED}
        elif any(key.startswith(_MEMBER) for key in state):
            state = {key.removeprefix(_MEMBER): value for key, value in state.items() if key.startswith(_MEMBER)}
        else:
            return state


def _find_dasr(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The DASR inside a larger module, such as 'model.' or 'ema.module.'; averaged weights come first."""
    places = sorted(key.removesuffix(_ANCHOR) for key in state if key == _ANCHOR or key.endswith(f'.{_ANCHOR}'))
    place = min(places, key=lambda place: (place != '', 'ema' not in place), default='')
    return {key.removeprefix(place): value for key, value in state.items() if key.startswith(place)}


def _refuse_compressed(path: Path) -> None:
    """Raises InputError for a compressed archive; torch's own archives are not compressed."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except DAMAGE as error:
        raise InputError(f"weights file '{path}' is damaged or truncated; copy or download it again") from error
    if unpacked > path.stat().st_size:
        raise InputError(f"'{path}' is a compressed archive, not a weights file; unpack it first")


def _starts_as_pickle(path: Path) -> bool:
    """True for the first byte of Python's pickles, from protocol 2 on."""
    with path.open('rb') as file:
        return file.read(1) == b'\x80'
