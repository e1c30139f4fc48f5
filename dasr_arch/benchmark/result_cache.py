"""Cells of a benchmark: one network on one suite, stored in one file that is named by what went into it.

A cell's name is the SHA-256 of everything that determines its numbers. A later run that asks for the same finds the
file; a changed weight, image, degradation or metric asks for another file. While a cell is being computed, the result
of each image is appended to a second file, so that a killed run loses one image at most.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch._files import atomic_write
from dasr_arch.benchmark.config import MetricPlan, NetworkPlan, PartPlan, Suite
from dasr_arch.degradations import Degradation, degrade_image, image_generator

PROTOCOL_VERSION = 2
"""Raised whenever the same inputs would give other numbers; stored cells of older versions are then computed again."""

Scores = dict[str, float]

FILE_OPTIONS = frozenset({'backbone_path'})
"""Options of metrics that name a file."""

_CHECK_SIDE = 16  # LR pixels

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFacts:
    """What a cell knows of an HR image without holding it.

    Attributes:
        name: key in its data set.
        height: pixels.
        width: pixels.
        digest: SHA-256 of size and pixels, in hexadecimal.
    """

    name: str
    height: int
    width: int
    digest: str


@dataclass(frozen=True)
class Cell:
    """One network on one suite.

    Attributes:
        network: the network.
        weights_digest: SHA-256 of its weights, those of its parts included; empty if it has none.
        suite: data set, degradation and scale.
        images: the images that count.
        metrics: what is measured.
        seed: seed of the degradation's draws.
    """

    network: NetworkPlan
    weights_digest: str
    suite: Suite
    images: tuple[ImageFacts, ...]
    metrics: tuple[MetricPlan, ...]
    seed: int

    def describe(self) -> dict[str, object]:
        """Everything that determines the numbers, ready for JSON; no paths and no labels of networks and sets."""
        return {
            'protocol': PROTOCOL_VERSION,
            'scale': self.suite.scale,
            'network': describe_network(self.network, self.weights_digest),
            'degradation': self.suite.degradation.specification(),
            'degradation_check': digest_degradation(self.suite.degradation, self.seed),
            'seed': self.seed,
            'metrics': {metric.label: describe_metric(metric) for metric in self.metrics},
            'pictures': {image.name: image.digest for image in self.images},
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the description, 64 hexadecimal digits."""
        return hashlib.sha256(_encode(self.describe()).encode()).hexdigest()


@dataclass(frozen=True)
class CellResult:
    """The numbers of a finished cell.

    Attributes:
        fingerprint: the cell's.
        scores: for each image, the value of each metric.
        date: when the cell was finished, ISO 8601 with time zone.
        seconds: time spent in the network, over all images.
        environment: versions and hardware that computed it.
    """

    fingerprint: str
    scores: Mapping[str, Scores]
    date: str
    seconds: float
    environment: Mapping[str, object]

    def means(self) -> Scores:
        """Arithmetic mean of each metric over the images."""
        labels = next(iter(self.scores.values())).keys()
        return {label: float(np.mean([scores[label] for scores in self.scores.values()])) for label in labels}


class CellStore:
    """The folder of stored cells.

    Args:
        folder: made when the first cell is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, fingerprint: str) -> Path:
        """File of a finished cell."""
        return self.folder / f'{fingerprint}.json'

    def read(self, cell: Cell) -> CellResult | None:
        """The stored result of a cell, None if there is none that can be trusted."""
        fingerprint = cell.fingerprint
        path = self.path(fingerprint)
        try:
            record = json.loads(path.read_text(encoding='utf-8'))
            scores = {name: _decode_scores(values) for name, values in record['pictures'].items()}
            result = CellResult(fingerprint, scores, record['date'], record['seconds'], record['environment'])
            complete = list(scores) == [image.name for image in cell.images]
            if record['fingerprint'] != fingerprint or not complete or not _cover(scores.values(), cell):
                raise ValueError('its content does not belong to its name')
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _LOGGER.warning('%s: the stored cell cannot be used (%s); it is computed again', path, error)
            return None
        return result

    def write(self, cell: Cell, result: CellResult) -> None:
        """Stores a finished cell and forgets its partial results."""
        record = {
            'fingerprint': result.fingerprint,
            'network': cell.network.label,
            'dataset': cell.suite.dataset.name,
            'label': cell.suite.degradation.label,
            'date': result.date,
            'seconds': result.seconds,
            'environment': dict(result.environment),
            'inputs': cell.describe(),
            'pictures': {name: _encode_scores(scores) for name, scores in result.scores.items()},
        }
        with atomic_write(self.path(result.fingerprint)) as temporary:
            temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + '\n', encoding='utf-8')
        self._partial_path(result.fingerprint).unlink(missing_ok=True)

    def read_partial(self, cell: Cell) -> dict[str, tuple[Scores, float]]:
        """Scores and seconds of the images that an interrupted run finished; a torn last line is dropped.

        The file is then written anew without it, so that later lines do not continue it.
        """
        path = self._partial_path(cell.fingerprint)
        if not path.exists():
            return {}
        wanted = {image.name for image in cell.images}
        found: dict[str, tuple[Scores, float]] = {}
        for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                record = json.loads(line)
                name, scores, seconds = record['name'], _decode_scores(record['scores']), float(record['seconds'])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if name in wanted and _cover([scores], cell):
                found[name] = (scores, seconds)
        with atomic_write(path) as temporary:
            lines = [_partial_line(name, scores, seconds) for name, (scores, seconds) in found.items()]
            temporary.write_text(''.join(lines), encoding='utf-8')
        return found

    def append_partial(self, cell: Cell, name: str, scores: Scores, seconds: float) -> None:
        """Keeps the result of one image until the cell is finished."""
        path = self._partial_path(cell.fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('a', encoding='utf-8') as file:
            file.write(_partial_line(name, scores, seconds))

    def _partial_path(self, fingerprint: str) -> Path:
        return self.folder / f'{fingerprint}.images.jsonl'


def describe_network(plan: NetworkPlan, weights_digest: str) -> dict[str, object]:
    """Everything of a system that determines its images, ready for JSON; no paths and no label.

    Args:
        plan: the system.
        weights_digest: digest of all its weights, those of its parts included.
    """
    described: dict[str, object] = {
        'type': plan.type,
        'arguments': dict(plan.arguments),
        'weights': weights_digest,
        'kernel': plan.kernel,
        'noise_level': plan.noise_level,
    }
    for name in ('predictor', 'denoiser'):
        part: PartPlan | None = getattr(plan, name)
        if part is not None:
            described[name] = {'type': part.type, 'arguments': dict(part.arguments)}
    if plan.adapt:
        described['adapt'] = dict(plan.adapt)
    if plan.tile is not None:
        described['tile'] = plan.tile
    return described


def describe_metric(metric: MetricPlan) -> dict[str, object]:
    """Type and options of a metric; a file among them is named by its content."""
    described = {'type': metric.type, **metric.options}
    for key in FILE_OPTIONS & metric.options.keys():
        path = Path(str(metric.options[key])).expanduser()
        described[key] = _digest_file(path, path.stat().st_mtime_ns)
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


@lru_cache(maxsize=256)
def digest_degradation(degradation: Degradation, seed: int) -> str:
    """SHA-256 of what a degradation makes of a small fixed image, so that changed code counts as a change."""
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


def encode_number(value: float) -> float | str:
    """A number as JSON can hold it; infinity (the PSNR of equal images) becomes 'inf'."""
    return value if math.isfinite(value) else str(value)


def _cover(records: Iterable[Scores], cell: Cell) -> bool:
    labels = {metric.label for metric in cell.metrics}
    return all(scores.keys() == labels for scores in records)


def _partial_line(name: str, scores: Scores, seconds: float) -> str:
    return json.dumps({'name': name, 'scores': _encode_scores(scores), 'seconds': seconds}) + '\n'


def _encode_scores(scores: Scores) -> dict[str, float | str]:
    return {label: encode_number(value) for label, value in scores.items()}


def _decode_scores(values: Mapping[str, float | str]) -> Scores:
    return {label: float(value) for label, value in values.items()}


def _encode(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(',', ':'), allow_nan=False)
