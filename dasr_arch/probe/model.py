"""A linear probe: names the known degradation that a representation is most similar to, and how sure that is.

An encoder may be trained without labels. If it has learned degradations all the same, one linear layer, fitted on
images whose degradation is known, reads width, axes and noise level out of its representation.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write
from dasr_arch.archs.dasr_arch import DASR

PROBE_SUFFIX = '.probe.safetensors'
"""What the name of a probe's file has in place of .safetensors or .pth of the weights'."""

Quantity = Literal['kernel', 'noise']
_FORMAT = '1'


class Guess(NamedTuple):
    """One known degradation.

    Attributes:
        label: such as 'width 1.4', 'axes 3 x 1.4 at 45' or 'noise 10'.
        values: its parameters, such as {'sigma': 1.4} or {'noise': 10}; lengths in HR pixels, angles in degrees.
        confidence: the probability that the probe gives it, in [0, 1]; those of one quantity add up to 1.
    """

    label: str
    values: dict[str, float]
    confidence: float


class ProbeClass(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A degradation that a probe knows.

    Attributes:
        label: its name.
        values: its parameters, as in :class:`Guess`.
    """

    label: str
    values: dict[str, float]


@dataclass(frozen=True)
class LinearClassifier:
    """What a probe reads one quantity with.

    Attributes:
        classes: the known degradations, C of them.
        weight: shape (C, representation_dim), for representations that were normalised.
        bias: shape (C,).
        accuracy: share of the test images whose degradation came first, in [0, 1].
    """

    classes: Sequence[ProbeClass]
    weight: Tensor
    bias: Tensor
    accuracy: float


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
        encoder: :func:`identify_encoder` of the encoder that it was fitted to; it fits no other.
        mean, spread: of the representations that it was fitted to, shape (representation_dim,).
        readings: by quantity, 'kernel' and, if the network knows noise, 'noise'.
        tested_on: the images that the accuracies come from.
    """

    encoder: str
    mean: Tensor
    spread: Tensor
    readings: dict[Quantity, LinearClassifier]
    tested_on: str

    def read(self, representation: Tensor) -> dict[Quantity, list[Guess]]:
        """Every known degradation, the most similar first.

        Args:
            representation: of one image, shape (1, representation_dim) or (representation_dim,).

        Returns:
            By quantity; all classes.
        """
        normalised = (representation.detach().cpu().float().reshape(-1) - self.mean) / self.spread
        out: dict[Quantity, list[Guess]] = {}
        for quantity, reading in self.readings.items():
            shares = (reading.weight @ normalised + reading.bias).softmax(0).tolist()
            pairs = zip(reading.classes, shares, strict=True)
            guesses = [Guess(one.label, dict(one.values), share) for one, share in pairs]
            out[quantity] = sorted(guesses, key=lambda guess: -guess.confidence)
        return out


def identify_encoder(network: DASR) -> str:
    """A checksum of the encoder that is the same whether its file holds 32-bit or 16-bit floats."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.encoder.state_dict().items()):
        if tensor.is_floating_point():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().half().numpy().tobytes())
    return digest.hexdigest()


def write_probe(path: str | os.PathLike[str], probe: Probe) -> None:
    """Saves a probe.

    Raises:
        OSError: if the file cannot be written.
    """
    tensors = {'mean': probe.mean, 'spread': probe.spread}
    about: dict[str, object] = {}
    for quantity, reading in probe.readings.items():
        tensors[f'{quantity}.weight'], tensors[f'{quantity}.bias'] = reading.weight, reading.bias
        about[quantity] = {'classes': msgspec.to_builtins(reading.classes), 'accuracy': reading.accuracy}
    texts = {'probe': _FORMAT, 'encoder': probe.encoder, 'tested_on': probe.tested_on, 'readings': json.dumps(about)}
    with atomic_write(path) as temporary:
        save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, temporary, texts)


def read_probe(path: str | os.PathLike[str], network: DASR) -> Probe:
    """Reads a probe for a network.

    Args:
        path: file that ``dasr probe`` wrote.
        network: the network whose representations will be read.

    Raises:
        InputError: if the file is missing, is no probe, or belongs to another encoder.
    """
    try:
        with safe_open(path, 'pt') as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if texts.get('probe') != _FORMAT:
            raise InputError(f'{path}: is no probe of this version; fit one with `dasr probe`')
        probe = _build(texts, tensors)
    except FileNotFoundError as error:
        raise InputError(f'{path}: there is no probe for these weights; fit one with `dasr probe`') from error
    except (OSError, SafetensorError) as error:
        raise InputError(f'{path}: cannot be read as a probe ({error})') from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f'{path}: is a damaged probe ({error}); fit it again with `dasr probe`') from error
    if probe.encoder != identify_encoder(network):
        raise InputError(f'{path}: was fitted to another encoder; fit one to these weights with `dasr probe`')
    return probe


def probe_path(weights: str | os.PathLike[str]) -> Path:
    """Where the probe of a weights file lies: beside it."""
    path = Path(weights)
    return path.with_name(path.name.removesuffix(path.suffix) + PROBE_SUFFIX)


def _build(texts: dict[str, str], tensors: dict[str, Tensor]) -> Probe:
    """The probe of a file; KeyError, TypeError or ValueError if it does not hold together."""
    mean, spread = tensors['mean'], tensors['spread']
    readings: dict[Quantity, LinearClassifier] = {}
    for quantity in ('kernel', 'noise'):
        about = json.loads(texts['readings']).get(quantity)
        if about is None:
            continue
        classes = msgspec.convert(about['classes'], list[ProbeClass])
        weight, bias = tensors[f'{quantity}.weight'], tensors[f'{quantity}.bias']
        if weight.shape != (len(classes), len(mean)) or bias.shape != (len(classes),) or spread.shape != mean.shape:
            raise ValueError(f'the shapes of {quantity} do not fit together')
        readings[quantity] = LinearClassifier(classes, weight, bias, float(about['accuracy']))
    return Probe(texts['encoder'], mean, spread, readings, texts['tested_on'])
