"""Conversion of weights files: ours or the authors', .pth or .safetensors, 32-bit or 16-bit floats."""

import os
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._files import check_free, write_whole
from dasr_arch.checkpoints.io import load_network

_HALF_LIMIT = torch.finfo(torch.float16).max


class ConvertReport(NamedTuple):
    """Result of a conversion."""

    path: Path
    scale: int  # upsampling factor
    parameters: int  # number of learned parameters
    size: int  # of the file in bytes
    largest_change: float  # largest difference between a weight before and after, 0 without ``half``


def convert_weights(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    scale: int | None = None,
    half: bool = False,
    encoder: bool = False,
    force: bool = False,
) -> ConvertReport:
    """Writes the network of a weights file, under our names, without the tensors of training.

    The source is a file of ours or of the authors; of BasicSR's dictionaries 'params_ema' is used, else 'params'. The
    target is .safetensors, or .pth with BasicSR's key 'params'. ``scale`` is the expected factor, None for any.
    ``half`` stores 16-bit floats, except for the statistics of the normalisation and for tensors beyond their range.
    ``encoder`` writes the degradation encoder alone, which a training takes as `path.pretrain_network_encoder`.
    ``force`` replaces an existing file.

    Raises InputError if the source is no DASR, has another scale or no encoder to write, or the target exists or has
    another suffix, and OSError if it cannot be written.
    """
    target = Path(target)
    if target.suffix not in ('.pth', '.safetensors'):
        raise InputError(f"{target}: unknown ending '{target.suffix}'; use .pth or .safetensors")
    check_free(target, force)
    network = load_network(source, scale)
    state = network.state_dict()
    learned = dict(network.named_parameters())
    if encoder:
        if not network.blind:
            raise InputError(f"weights file '{source}': its network is non-blind and has no degradation encoder")
        state, learned = ({k: v for k, v in part.items() if k.startswith('encoder.')} for part in (state, learned))
    stored = {key: _to_half(key, tensor) if half else tensor.contiguous() for key, tensor in state.items()}
    if target.suffix == '.safetensors':
        write_whole(target, save(stored, {'format': 'pt'}))
    else:
        content = BytesIO()
        torch.save({'params': stored}, content)
        write_whole(target, content.getvalue())
    parameters = sum(parameter.numel() for parameter in learned.values())
    change = max(float((state[key].double() - stored[key].double()).abs().max()) for key in state)
    return ConvertReport(target, network.scale, parameters, target.stat().st_size, change)


def _to_half(key: str, tensor: Tensor) -> Tensor:
    fits = tensor.is_floating_point() and bool(tensor.abs().max() <= _HALF_LIMIT)
    keeps = key.endswith(('running_mean', 'running_var'))
    return tensor.half().contiguous() if fits and not keeps else tensor.contiguous()
