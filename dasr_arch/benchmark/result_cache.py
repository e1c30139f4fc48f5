"""Cache of results: one JSON file per evaluation (method, data set, degradation), named by a hash of all its inputs.

The hash covers weights, images, degradation, metrics and seed, but no labels. During an evaluation the scores of each
image are appended to a second file, so that a killed run loses at most one image. SR images are tagged with the hash.
"""

import hashlib
import json
import logging
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from basicsr.utils.registry import ARCH_REGISTRY, METRIC_REGISTRY
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch._files import write_whole
from dasr_arch.benchmark.config import MetricPlan, NetworkPlan, PartPlan, Suite, folder_name
from dasr_arch.data.image_io import write_image
from dasr_arch.degradations import Degradation, degrade_image, image_generator

PROTOCOL_VERSION = 2
"""Increased whenever the same inputs would give other numbers; cached results of older versions are then not used."""

Scores = dict[str, float]

_CHECK_SIDE = 16  # LR pixels
_MARKER = 'cell.txt'

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFacts:
    """Name, size in pixels and hash of an HR image."""

    name: str  # key in its data set
    height: int
    width: int
    digest: str  # SHA-256 of size and pixels, hexadecimal


@dataclass(frozen=True)
class Evaluation:
    """One method on one data set with one degradation."""

    network: NetworkPlan
    weights_digest: str  # SHA-256 of the weights of all its networks; empty if it has none
    suite: Suite
    images: tuple[ImageFacts, ...]
    metrics: tuple[MetricPlan, ...]
    seed: int  # of the draws of the degradation

    def describe(self) -> dict[str, object]:
        """Everything that determines the numbers, ready for JSON; no paths and no labels of networks and sets."""
        return {
            'protocol': PROTOCOL_VERSION,
            'scale': self.suite.degradation.scale,
            'network': describe_network(self.network, self.weights_digest),
            'degradation': self.suite.degradation.specification(),
            'degradation_check': digest_degradation(self.suite.degradation, self.seed),
            **digest_code(type(self.suite.degradation), 'degradation_code'),
            'seed': self.seed,
            'metrics': {metric.label: describe_metric(metric) for metric in self.metrics},
            'pictures': {image.name: image.digest for image in self.images},
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the description, 64 hexadecimal digits."""
        text = json.dumps(self.describe(), sort_keys=True, separators=(',', ':'), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EvaluationResult:
    """The numbers of a finished evaluation."""

    fingerprint: str
    scores: Mapping[str, Scores]  # values of the metrics by image
    date: str  # time of its end, ISO 8601 with time zone
    seconds: float | None  # in the networks, over all images; None if other processes of the test ran beside this one
    environment: Mapping[str, object]  # versions and hardware

    def means(self) -> Scores:
        """Arithmetic mean of each metric over the images."""
        labels = next(iter(self.scores.values())).keys()
        return {label: float(np.mean([scores[label] for scores in self.scores.values()])) for label in labels}


class ResultCache:
    """The folder of cached results, created with the first one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged: set[Path] = set()

    def path(self, fingerprint: str) -> Path:
        """File of a finished evaluation."""
        return self.folder / f'{fingerprint}.json'

    def read(self, evaluation: Evaluation) -> EvaluationResult | None:
        """The cached result of an evaluation; None if there is no valid one."""
        fingerprint = evaluation.fingerprint
        path = self.path(fingerprint)
        try:
            record = json.loads(path.read_text(encoding='utf-8'))
            scores = {name: _decode_scores(values) for name, values in record['pictures'].items()}
            result = EvaluationResult(fingerprint, scores, record['date'], record['seconds'], record['environment'])
            complete = list(scores) == [image.name for image in evaluation.images]
            if record['fingerprint'] != fingerprint or not complete or not _cover(scores.values(), evaluation):
                raise ValueError('its content does not belong to its name')
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if path not in self._damaged:
                _LOGGER.warning('%s: the stored result cannot be used (%s); it is computed again', path, error)
            self._damaged.add(path)
            return None
        return result

    def write(self, evaluation: Evaluation, result: EvaluationResult) -> None:
        """Stores a finished evaluation and removes its partial results."""
        record = {
            'fingerprint': result.fingerprint,
            'network': evaluation.network.label,
            'dataset': evaluation.suite.dataset.name,
            'label': evaluation.suite.degradation.label,
            'date': result.date,
            'seconds': result.seconds,
            'environment': dict(result.environment),
            'inputs': evaluation.describe(),
            'pictures': {name: encode_scores(scores) for name, scores in result.scores.items()},
        }
        write_whole(self.path(result.fingerprint), json.dumps(record, indent=1, allow_nan=False) + '\n')
        self._partial_path(result.fingerprint).unlink(missing_ok=True)

    def read_partial(self, evaluation: Evaluation) -> dict[str, tuple[Scores, float]]:
        """Scores and seconds of the images that are finished; a torn line is left out."""
        try:
            text = self._partial_path(evaluation.fingerprint).read_text(encoding='utf-8', errors='replace')
        except FileNotFoundError:
            return {}
        wanted = {image.name for image in evaluation.images}
        found: dict[str, tuple[Scores, float]] = {}
        for line in text.splitlines():
            try:
                record = json.loads(line)
                name, scores, seconds = record['name'], _decode_scores(record['scores']), float(record['seconds'])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if name in wanted and _cover([scores], evaluation):
                found[name] = (scores, seconds)
        return found

    def append_partial(self, evaluation: Evaluation, name: str, scores: Scores, seconds: float) -> None:
        """Stores the scores of one image until the evaluation is finished."""
        path = self._partial_path(evaluation.fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({'name': name, 'scores': encode_scores(scores), 'seconds': seconds})
        with path.open('a', encoding='utf-8') as file:
            file.write(f'\n{line}\n')  # never continues a torn line

    def _partial_path(self, fingerprint: str) -> Path:
        return self.folder / f'{fingerprint}.images.jsonl'


class SRImageFolder:
    """SR images of one evaluation, ``<root>/<network>/<dataset>/<degradation>/<image>.png``.

    A file beside them holds the fingerprint of the evaluation, so that images of older weights are never reused.
    """

    def __init__(self, root: Path, evaluation: Evaluation) -> None:
        labels = (evaluation.network.label, evaluation.suite.dataset.name, evaluation.suite.degradation.label)
        self.folder = root.joinpath(*map(folder_name, labels))
        self._fingerprint = evaluation.fingerprint

    def holds(self, name: str) -> bool:
        """True if this evaluation has already written the image."""
        return self._is_ours() and (self.folder / self.file_name(name)).is_file()

    def write(self, name: str, image: NDArray[np.uint8]) -> None:
        """Writes an RGB image (H, W, 3); the first one removes the images of another evaluation."""
        if not self._is_ours():
            for stale in self.folder.glob('*.png'):
                stale.unlink()
            write_whole(self.folder / _MARKER, f'{self._fingerprint}\n')
        write_image(self.folder / self.file_name(name), image)

    def _is_ours(self) -> bool:
        try:
            return (self.folder / _MARKER).read_text(encoding='ascii').strip() == self._fingerprint
        except (FileNotFoundError, UnicodeDecodeError):
            return False

    @staticmethod
    def file_name(name: str) -> str:
        """The file name of an image, always inside the folder."""
        return f'{name if Path(name).name == name else folder_name(name)}.png'


def describe_network(plan: NetworkPlan, weights_digest: str) -> dict[str, object]:
    """Everything of a method that determines its images, ready for JSON; no paths and no label."""
    described: dict[str, object] = {
        'type': plan.type,
        'arguments': dict(plan.arguments),
        'weights': weights_digest,
        'kernel': plan.kernel,
        'noise_level': plan.noise_level,
        **digest_code(ARCH_REGISTRY.get(plan.type)),
    }
    for name in ('predictor', 'denoiser'):
        part: PartPlan | None = getattr(plan, name)
        if part is not None:
            code = digest_code(ARCH_REGISTRY.get(part.type))
            described[name] = {'type': part.type, 'arguments': dict(part.arguments), **code}
    if plan.adapt:
        described['adapt'] = dict(plan.adapt)
    if plan.tile is not None:
        described['tile'] = plan.tile
    return described


def describe_metric(metric: MetricPlan) -> dict[str, object]:
    """Type and arguments of a metric; the file of LPIPS is replaced by the hash of its content."""
    described = {'type': metric.type, **metric.arguments, **digest_code(METRIC_REGISTRY.get(metric.type))}
    if 'backbone_path' in described:
        path = Path(str(described['backbone_path'])).expanduser()
        described['backbone_path'] = _digest_file(path, path.stat().st_mtime_ns)
    return described


@lru_cache(maxsize=8)
def _digest_file(path: Path, changed: int) -> str:
    """SHA-256 of a file, read again only after it was changed."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def digest_image(image: NDArray[np.uint8]) -> str:
    """SHA-256 of an image's shape and pixels, independent of the file format that held it."""
    content = hashlib.sha256(repr(image.shape).encode())
    content.update(np.ascontiguousarray(image).data)
    return content.hexdigest()


def digest_code(entry: Callable[..., object], key: str = 'code') -> dict[str, str]:
    """Under a key, SHA-256 of the file of a class or function that is neither BasicSR's nor this package's."""
    if entry.__module__.split('.')[0] in {'dasr_arch', 'basicsr'}:
        return {}
    try:  # not by inspect.getfile, which takes the file of a decorator
        return {key: hashlib.sha256(Path(str(sys.modules[entry.__module__].__file__)).read_bytes()).hexdigest()}
    except (AttributeError, KeyError, OSError):  # it was typed into a notebook
        return {}


@lru_cache(maxsize=256)
def digest_degradation(degradation: Degradation, seed: int) -> str:
    """SHA-256 of a small fixed image after the degradation, so that changed code changes the fingerprint."""
    side = _CHECK_SIDE * degradation.scale
    image = torch.randint(0, 256, (side, side, 3), generator=image_generator(0, ''), dtype=torch.uint8)
    return digest_image(degrade_image(degradation, image.numpy(), seed, ''))


def digest_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, types, shapes and values of weights, independent of the file that held them."""
    content = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        content.update(f'{name}|{tensor.dtype}|{tuple(tensor.shape)}|'.encode())
        content.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


def _cover(records: Iterable[Scores], evaluation: Evaluation) -> bool:
    labels = {metric.label for metric in evaluation.metrics}
    return all(scores.keys() == labels for scores in records)


def encode_scores(scores: Scores) -> dict[str, float | str]:
    """Scores as JSON can hold them; infinity (the PSNR of equal images) becomes 'inf'."""
    return {label: value if math.isfinite(value) else str(value) for label, value in scores.items()}


def _decode_scores(values: Mapping[str, float | str]) -> Scores:
    return {label: float(value) for label, value in values.items()}
