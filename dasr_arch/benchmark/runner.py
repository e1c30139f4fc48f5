"""The cell engine: computes what is not stored yet, one image at a time, and goes on after a failure or a kill."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch.backends.precision import exact_float32
from dasr_arch.benchmark.build import check_finite, first_line
from dasr_arch.benchmark.config import Benchmark, DatasetPlan, NetworkPlan, Suite
from dasr_arch.benchmark.environment import describe_environment, now
from dasr_arch.benchmark.image_metrics import measure_image
from dasr_arch.benchmark.methods import System, build_system
from dasr_arch.benchmark.result_cache import Cell, CellResult, CellStore, ImageFacts, Scores, digest_image
from dasr_arch.benchmark.sr_images import SRImageFolder
from dasr_arch.data.image_source import ImageSource, open_source
from dasr_arch.degradations import degrade_image, image_generator
from dasr_arch.degradations.whole_image import crop_to_multiple
from dasr_arch.inference.tile_memory import is_out_of_memory

_LOGGER = logging.getLogger(__name__)
_LEVELS = 255


class CellError(Exception):
    """A cell cannot be computed; the message is one line for the table. Other cells go on."""


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: the cell.
        result: its numbers, None if it failed.
        reason: why it failed, one line; empty if it did not.
    """

    cell: Cell
    result: CellResult | None
    reason: str = ''


def inspect_dataset(
    plan: DatasetPlan, scale: int, smallest: int
) -> tuple[tuple[ImageFacts, ...], list[tuple[str, str]]]:
    """Reads every image of a data set once.

    Args:
        plan: the data set.
        scale: images are cropped to a multiple of it.
        smallest: shortest side, in pixels after that crop, that the metrics can measure.

    Returns:
        The images that count, and name and reason of those that are too small.

    Raises:
        InputError: if an image is unreadable or none is large enough.
    """
    source = open_source(plan.root)
    usable, skipped = [], []
    for index, name in enumerate(progress_bar(source.names, desc=f'checking {plan.name}', unit='image', leave=False)):
        image = source.read(index)
        height, width = image.shape[:2]
        if min(height // scale, width // scale) * scale < smallest:
            reason = f'{width} x {height} pixels, but the metrics need {smallest} on each side at scale {scale}'
            skipped.append((name, reason))
        else:
            usable.append(ImageFacts(name, height, width, digest_image(image)))
    if not usable:
        raise InputError(f'{plan.root}: no image of {plan.name} is large enough; sides need at least {smallest} pixels')
    return tuple(usable), skipped


@dataclass
class _Work:
    """What is known of a cell, and what is left to do.

    Attributes:
        cell: the cell.
        stored: its result, if it was finished before; then only images can be missing.
        known: scores and seconds of the images that are finished.
        sr_images: where SR images go.
        wanted: names of the images whose SR images are written.
        remaining: the images that are left.
    """

    cell: Cell
    stored: CellResult | None
    known: dict[str, tuple[Scores, float]]
    sr_images: SRImageFolder
    wanted: Collection[str]
    remaining: list[ImageFacts]


class Runner:
    """Computes the cells of one benchmark.

    Args:
        benchmark: what to compute.
        images: for each data set's name, the images that count.
        digests: for each network's label, the digest of its weights.
        folder: the results' folder; cells go to ``cells/``, SR images to ``visualization/``.
        device: where networks run. Degradations always run on the CPU, so that LR images never depend on it.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        images: Mapping[str, Sequence[ImageFacts]],
        digests: Mapping[str, str],
        folder: Path,
        device: torch.device,
    ) -> None:
        self._benchmark = benchmark
        self._images = images
        self._digests = digests
        self._device = device
        self._store = CellStore(folder / 'cells')
        self._image_root = folder / 'visualization'
        self._environment = describe_environment(device)
        self._sources: dict[str, tuple[ImageSource, dict[str, int]]] = {}

    def run(self) -> list[Outcome]:
        """Computes every cell that is not stored; a progress bar counts images.

        Returns:
            One outcome per cell, in the order networks, data sets, degradations.

        Raises:
            OSError: if results cannot be written. What is finished stays.
        """
        plans = self._benchmark.networks
        works = {
            plan.label: [self._look_up(self._cell(plan, suite)) for suite in self._benchmark.suites(plan)]
            for plan in plans
        }
        total = sum(len(work.remaining) for group in works.values() for work in group)
        outcomes: list[Outcome] = []
        with _progress(total, self._benchmark.name) as bar, exact_float32():
            for plan in plans:
                outcomes += self._run_network(plan, works[plan.label], bar)
        return outcomes

    def _cell(self, plan: NetworkPlan, suite: Suite) -> Cell:
        images = tuple(self._images[suite.dataset.name])
        return Cell(plan, self._digests[plan.label], suite, images, self._benchmark.metrics, self._benchmark.seed)

    def _look_up(self, cell: Cell) -> _Work:
        stored = self._store.read(cell)
        if stored is not None:
            known = {name: (scores, 0.0) for name, scores in stored.scores.items()}
        else:
            known = self._store.read_partial(cell)
        names = [image.name for image in cell.images]
        wanted = set(names if self._benchmark.save_img else self._benchmark.shown.get(cell.suite.dataset.name, ()))
        sr_images = SRImageFolder(self._image_root, cell)
        remaining = [
            image
            for image in cell.images
            if image.name not in known or (image.name in wanted and not sr_images.holds(image.name))
        ]
        return _Work(cell, stored, known, sr_images, wanted, remaining)

    def _run_network(self, plan: NetworkPlan, works: list[_Work], bar: 'tqdm[NoReturn]') -> list[Outcome]:
        system: System | None = None
        reason = ''
        if any(work.remaining for work in works):
            try:
                system = self._build(plan)
            except (InputError, CellError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
        outcomes = []
        for work in works:
            outcome = self._run_cell(work, system, reason, bar)
            if outcome.reason:
                suite = outcome.cell.suite
                _LOGGER.warning(
                    '%s on %s, %s: failed: %s', plan.label, suite.dataset.name, suite.degradation.label, outcome.reason
                )
            outcomes.append(outcome)
        return outcomes

    def _build(self, plan: NetworkPlan) -> System:
        system = build_system(plan, self._benchmark.scale)
        if system.digest != self._digests[plan.label]:
            raise CellError(f'{plan.weights} has changed since the test began; run the test again')
        return system.to(self._device)

    def _run_cell(self, work: _Work, system: System | None, reason: str, bar: 'tqdm[NoReturn]') -> Outcome:
        bar.set_postfix_str(
            f'{work.cell.network.label}, {work.cell.suite.dataset.name}, {work.cell.suite.degradation.label}'
        )
        for done, facts in enumerate(work.remaining):
            try:
                if system is None:
                    raise CellError(reason)
                sr, scores, seconds = self._evaluate(work.cell, facts, system)
            except CellError as error:
                bar.update(len(work.remaining) - done)
                return Outcome(work.cell, None, str(error))
            if facts.name in work.wanted:
                work.sr_images.write(facts.name, sr)
            if work.stored is None:
                work.known[facts.name] = (scores, seconds)
                self._store.append_partial(work.cell, facts.name, scores, seconds)
            bar.update()
        return Outcome(work.cell, work.stored or self._finish(work))

    def _finish(self, work: _Work) -> CellResult:
        ordered = {image.name: work.known[image.name] for image in work.cell.images}
        result = CellResult(
            work.cell.fingerprint,
            {name: scores for name, (scores, _) in ordered.items()},
            now(),
            sum(seconds for _, seconds in ordered.values()),
            self._environment,
        )
        self._store.write(work.cell, result)
        return result

    def _evaluate(self, cell: Cell, facts: ImageFacts, system: System) -> tuple[NDArray[np.uint8], Scores, float]:
        """SR image (H, W, 3), scores and seconds of restoring one image; whatever goes wrong is a CellError."""
        try:
            hr = self._read(cell.suite.dataset, facts)
            lq, draws = self._degrade(cell, facts, system, hr)
            generator = image_generator(cell.seed, facts.name)
            started = time.perf_counter()
            sr = _to_pixels(system.restore(lq, draws, cell.suite.scale, generator))
            seconds = time.perf_counter() - started
            scores = {metric.label: measure_image(metric, sr, hr) for metric in cell.metrics}
        except CellError:
            raise
        except Exception as error:  # a fault of one network or image must not end the other cells
            _LOGGER.debug('%s on %s', cell.network.label, facts.name, exc_info=True)
            raise CellError(f'{facts.name}: {self._explain(error, facts, system)}') from error
        undefined = [label for label, value in scores.items() if np.isnan(value)]
        if undefined:
            raise CellError(f'{facts.name}: {undefined[0]} is not a number')
        return sr, scores, seconds

    def _explain(self, error: Exception, facts: ImageFacts, system: System) -> str:
        """The reason of a failure in one line, with the way out where the memory was too small."""
        if not is_out_of_memory(error):
            return first_line(error)
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()
        scale = self._benchmark.scale
        size = f'{facts.width // scale} x {facts.height // scale} LR pixels'
        if system.adapter is not None:
            return f'not enough memory for {size}; it trains on the whole image, so run it on another device'
        tile = 256 if system.plan.tile is None else max(1, system.plan.tile // 2)
        return f'not enough memory for {size}; give the network `tile: {tile}`, or run on another device'

    def _read(self, dataset: DatasetPlan, facts: ImageFacts) -> NDArray[np.uint8]:
        if dataset.name not in self._sources:
            source = open_source(dataset.root)
            self._sources[dataset.name] = source, {name: index for index, name in enumerate(source.names)}
        source, index = self._sources[dataset.name]
        image = source.read(index[facts.name])
        if digest_image(image) != facts.digest:
            raise CellError(f'{facts.name} of {dataset.name} has changed since the test began; run the test again')
        return crop_to_multiple(image, self._benchmark.scale)

    def _degrade(
        self, cell: Cell, facts: ImageFacts, system: System, hr: NDArray[np.uint8]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """LR image (1, 3, h, w) in [0, 1] of an HR image (H, W, 3), and the truth about it if any of it is told."""
        degradation, seed = cell.suite.degradation, cell.seed
        small = degrade_image(degradation, hr, seed, facts.name)
        lq = torch.from_numpy(small).to(self._device).permute(2, 0, 1).unsqueeze(0).float() / _LEVELS
        # The same generator gives the draws that the image was degraded with.
        draws = degradation.draw(image_generator(seed, facts.name), small.shape[:2]) if system.needs else {}
        return lq, draws


def _to_pixels(sr: Tensor) -> NDArray[np.uint8]:
    """SR image (H, W, 3), RGB, rounded as the protocol says."""
    check_finite(sr)
    levels = (sr[0].float() * _LEVELS).round().clamp(0, _LEVELS).to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()


def _progress(total: int, name: str) -> 'tqdm[NoReturn]':
    return progress_bar(total=total, desc=name, unit='image', disable=total == 0)
