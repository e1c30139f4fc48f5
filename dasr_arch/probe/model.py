"""Linear probe on the degradation representation: classes of blur kernel, noise level and JPEG quality.

A linear classifier, fitted on images of known degradation, shows whether the encoder, trained without labels,
distinguishes degradations.
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
from safetensors.torch import save
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write
from dasr_arch.archs.dasr_arch import DASR

PROBE_SUFFIX = '.probe.safetensors'
"""Suffix of a probe's file; replaces .safetensors or .pth of the weights file."""

Quantity = Literal['kernel', 'noise', 'jpeg']
QUANTITIES: tuple[Quantity, ...] = ('kernel', 'noise', 'jpeg')
_FORMAT = '1'


class Guess(NamedTuple):
    """Confidence of one class."""

    label: str  # such as 'width 1.4', 'axes 3 x 1.4 at 45', 'noise 10' or 'quality 50'
    values: dict[str, float]  # such as {'sigma': 1.4}, {'noise': 10} or {'jpeg': 50}; HR pixels, degrees
    confidence: float  # probability in [0, 1]; the sum over the classes of a quantity is 1


class ProbeClass(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Class of a probe: its name and its parameters, as in :class:`Guess`."""

    label: str
    values: dict[str, float]


@dataclass(frozen=True)
class LinearClassifier:
    """Linear classifier of one quantity with C classes."""

    classes: Sequence[ProbeClass]
    weight: Tensor  # (C, representation_dim), for normalised representations
    bias: Tensor  # (C,)
    accuracy: float  # top-1 accuracy on the test images, in [0, 1]


@dataclass(frozen=True)
class Probe:
    """A fitted probe."""

    encoder: str  # identify_encoder of its encoder; the probe is valid for no other
    mean: Tensor  # mean and deviation of the training representations, (representation_dim,)
    spread: Tensor
    classifiers: dict[Quantity, LinearClassifier]  # 'kernel'; 'noise' and 'jpeg' for networks trained with these
    tested_on: str  # name of the test images

    def read(self, representation: Tensor) -> dict[Quantity, list[Guess]]:
        """All classes by quantity, by falling confidence, for one representation, (1, representation_dim) or flat."""
        normalised = (representation.detach().cpu().float().reshape(-1) - self.mean) / self.spread
        out: dict[Quantity, list[Guess]] = {}
        for quantity, classifier in self.classifiers.items():
            confidences = (classifier.weight @ normalised + classifier.bias).softmax(0).tolist()
            pairs = zip(classifier.classes, confidences, strict=True)
            guesses = [Guess(one.label, dict(one.values), confidence) for one, confidence in pairs]
            out[quantity] = sorted(guesses, key=lambda guess: -guess.confidence)
        return out


def identify_encoder(network: DASR) -> str:
    """Checksum of the encoder, the same for 32-bit and 16-bit weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.encoder.state_dict().items()):
        if tensor.is_floating_point():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().half().numpy().tobytes())
    return digest.hexdigest()


def write_probe(path: str | os.PathLike[str], probe: Probe) -> None:
    """Saves a probe."""
    tensors = {'mean': probe.mean, 'spread': probe.spread}
    about: dict[str, object] = {}
    for quantity, classifier in probe.classifiers.items():
        tensors[f'{quantity}.weight'], tensors[f'{quantity}.bias'] = classifier.weight, classifier.bias
        about[quantity] = {'classes': msgspec.to_builtins(classifier.classes), 'accuracy': classifier.accuracy}
    texts = {'probe': _FORMAT, 'encoder': probe.encoder, 'tested_on': probe.tested_on, 'readings': json.dumps(about)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save({name: tensor.float().contiguous() for name, tensor in tensors.items()}, texts))


def read_probe(path: str | os.PathLike[str], network: DASR) -> Probe:
    """Reads a file of `dasr probe`; InputError if it is missing, no probe, or belongs to another encoder."""
    try:
        with safe_open(path, 'pt') as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if texts.get('probe') != _FORMAT:
            raise InputError(f'{path}: is no probe of this version; fit one with `dasr probe`')
        probe = _build(texts, tensors)
    except FileNotFoundError as error:
        there = sorted(file.name.removesuffix(PROBE_SUFFIX) for file in Path(path).parent.glob(f'*{PROBE_SUFFIX}'))
        others = f', or choose weights with a probe: {", ".join(there)}' if there else ''
        raise InputError(f'{path}: there is no probe for these weights; fit one with `dasr probe`{others}') from error
    except (OSError, SafetensorError) as error:
        raise InputError(f'{path}: cannot be read as a probe ({error})') from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f'{path}: is a damaged probe ({error}); fit it again with `dasr probe`') from error
    if probe.encoder != identify_encoder(network):
        raise InputError(f'{path}: was fitted to another encoder; fit one to these weights with `dasr probe`')
    return probe


def probe_path(weights: str | os.PathLike[str]) -> Path:
    """Path of a weights file's probe, in the same folder."""
    path = Path(weights)
    return path.with_name(path.name.removesuffix(path.suffix) + PROBE_SUFFIX)


def _build(texts: dict[str, str], tensors: dict[str, Tensor]) -> Probe:
    """The probe of a file; KeyError, TypeError or ValueError if its content is inconsistent."""
    mean, spread = tensors['mean'], tensors['spread']
    classifiers: dict[Quantity, LinearClassifier] = {}
    for quantity in QUANTITIES:
        about = json.loads(texts['readings']).get(quantity)
        if about is None:
            continue
        classes = msgspec.convert(about['classes'], list[ProbeClass])
        weight, bias = tensors[f'{quantity}.weight'], tensors[f'{quantity}.bias']
        if weight.shape != (len(classes), len(mean)) or bias.shape != (len(classes),) or spread.shape != mean.shape:
            raise ValueError(f'the shapes of {quantity} do not fit together')
        classifiers[quantity] = LinearClassifier(classes, weight, bias, float(about['accuracy']))
    return Probe(texts['encoder'], mean, spread, classifiers, texts['tested_on'])
