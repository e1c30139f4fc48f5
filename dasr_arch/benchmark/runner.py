"""Runs the evaluations of a test that are not stored yet, image by image; resumes after a failure or a kill.

Several processes may work on one folder: each evaluation is claimed by one of them.
"""

import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch.backends.precision import exact_float32
from dasr_arch.benchmark.claims import POLL, Claims
from dasr_arch.benchmark.config import Benchmark, DatasetPlan, NetworkPlan, Suite
from dasr_arch.benchmark.environment import describe_environment, now
from dasr_arch.benchmark.image_metrics import measure_image
from dasr_arch.benchmark.methods import Method, build_method, check_finite
from dasr_arch.benchmark.result_cache import (
    Evaluation,
    EvaluationResult,
    ImageFacts,
    ResultCache,
    Scores,
    SRImageFolder,
    digest_image,
)
from dasr_arch.config.registry_checks import describe_briefly
from dasr_arch.data.image_source import ImageSource, open_source
from dasr_arch.degradations import degrade_image, image_generator
from dasr_arch.degradations.whole_image import crop_to_multiple
from dasr_arch.inference.images.image_modes import to_pixels, to_tensor
from dasr_arch.inference.tile_limits import is_out_of_memory

_LOGGER = logging.getLogger(__name__)


class EvaluationError(Exception):
    """An evaluation failed; the message is one line for the table. Other evaluations continue."""


@dataclass(frozen=True)
class EvaluationOutcome:
    """Outcome of one evaluation."""

    evaluation: Evaluation
    result: EvaluationResult | None  # None if it failed
    reason: str = ''  # of the failure, one line


def inspect_dataset(
    plan: DatasetPlan, scale: int, smallest: int
) -> tuple[tuple[ImageFacts, ...], list[tuple[str, str]]]:
    """Reads every image of a data set once: the images to evaluate, and name and reason of those that are too small.

    Sides, after the crop to a multiple of the scale, are at least ``smallest`` pixels. Raises InputError if an image is
    unreadable or none is large enough.
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
    """State of one evaluation."""

    evaluation: Evaluation
    sr_images: SRImageFolder
    wanted: Collection[str]  # names of the images whose SR images are written
    remaining: list[ImageFacts] = field(default_factory=list)
    stored: EvaluationResult | None = None  # its result if it is cached; only SR images can be missing then
    known: dict[str, tuple[Scores, float]] = field(default_factory=dict)  # scores and seconds of the finished images
    outcome: EvaluationOutcome | None = None


class Runner:
    """Runs the evaluations of one test.

    Results are cached in ``cells/`` of the folder, SR images go to ``visualization/``. Degradations always run on the
    CPU, so that LR images never depend on the device of the networks.
    The images to evaluate are by name of the data set, the digests of the weights by label of the network.
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
        self._cache = ResultCache(folder / 'cells')
        self._claims = Claims(folder / 'cells')
        self._image_root = folder / 'visualization'
        self._environment = describe_environment(device)
        self._sources: dict[str, ImageSource] = {}
        self._method: Method | None = None  # of the last evaluation

    def run(self) -> list[EvaluationOutcome]:
        """Runs every evaluation that is not cached; outcomes are in the order networks, data sets, degradations.

        Those that other processes have claimed are left to them, and waited for. Raises OSError if results cannot be
        written; finished results stay.
        """
        works = [self._plan(plan, suite) for plan in self._benchmark.networks for suite in self._benchmark.suites(plan)]
        total = sum(len(work.remaining) for work in works)
        bar = progress_bar(total=total, desc=self._benchmark.name, unit='image', disable=total == 0)
        with bar, exact_float32():
            while waiting := [work for work in works if work.outcome is None]:
                if not any(self._try(work, bar) for work in waiting):  # up to the first that is free
                    bar.set_postfix_str('waiting for other processes')
                    time.sleep(POLL)
        return [work.outcome for work in works if work.outcome is not None]

    def _plan(self, plan: NetworkPlan, suite: Suite) -> _Work:
        benchmark, images = self._benchmark, tuple(self._images[suite.dataset.name])
        digest = self._digests[plan.label]
        evaluation = Evaluation(plan, digest, suite, images, benchmark.metrics, benchmark.seed)
        names = [image.name for image in images]
        wanted = set(names if benchmark.save_img else benchmark.shown.get(suite.dataset.name, ()))
        work = _Work(evaluation, SRImageFolder(self._image_root, evaluation), wanted)
        self._look_up(work)
        return work

    def _look_up(self, work: _Work) -> None:
        """Finds what is stored of an evaluation."""
        work.stored = self._cache.read(work.evaluation)
        if work.stored is not None:
            work.known = {name: (scores, 0.0) for name, scores in work.stored.scores.items()}
        else:
            work.known = self._cache.read_partial(work.evaluation)
        work.remaining = [
            image
            for image in work.evaluation.images
            if image.name not in work.known or (image.name in work.wanted and not work.sr_images.holds(image.name))
        ]
        if work.stored is not None and not work.remaining:
            work.outcome = EvaluationOutcome(work.evaluation, work.stored)

    def _try(self, work: _Work, bar: 'tqdm[Any]') -> bool:
        """Runs an evaluation and returns True, unless another process has claimed it."""
        with self._claims.claim(work.evaluation.fingerprint) as claimed:
            before = len(work.remaining)
            self._look_up(work)
            bar.update(before - len(work.remaining))  # by other processes
            if claimed and work.outcome is None:
                work.outcome = self._run_evaluation(work, bar)
            return work.outcome is not None

    def _build(self, plan: NetworkPlan) -> Method:
        """The method of a network, which replaces the one in memory; EvaluationError if it cannot be built."""
        if self._method is None or self._method.plan is not plan:
            self._method = None
            try:
                method = build_method(plan, self._benchmark.scale)
                if method.digest != self._digests[plan.label]:
                    raise EvaluationError(f'{plan.weights} has changed since the test began; run the test again')
                self._method = method.to(self._device)
            except (InputError, RuntimeError) as error:
                raise EvaluationError(str(error).splitlines()[0]) from error
        return self._method

    def _run_evaluation(self, work: _Work, bar: 'tqdm[Any]') -> EvaluationOutcome:
        network, suite = work.evaluation.network, work.evaluation.suite
        where = f'{network.label} on {suite.dataset.name}, {suite.degradation.label}'
        bar.set_postfix_str(where)
        for done, facts in enumerate(work.remaining):
            try:
                sr, scores, seconds = self._evaluate(work.evaluation, facts, self._build(network))
            except EvaluationError as error:
                bar.update(len(work.remaining) - done)
                _LOGGER.warning('%s: failed: %s', where, error)
                return EvaluationOutcome(work.evaluation, None, str(error))
            if facts.name in work.wanted:
                work.sr_images.write(facts.name, sr)
            if work.stored is None:
                seconds = math.nan if self._claims.has_others() else seconds  # they may slow this process down
                work.known[facts.name] = (scores, seconds)
                self._cache.append_partial(work.evaluation, facts.name, scores, seconds)
            bar.update()
        return EvaluationOutcome(work.evaluation, work.stored or self._finish(work))

    def _finish(self, work: _Work) -> EvaluationResult:
        ordered = {image.name: work.known[image.name] for image in work.evaluation.images}
        scores = {name: one for name, (one, _) in ordered.items()}
        spent = sum(one for _, one in ordered.values())
        seconds = None if math.isnan(spent) else spent
        result = EvaluationResult(work.evaluation.fingerprint, scores, now(), seconds, self._environment)
        self._cache.write(work.evaluation, result)
        return result

    def _evaluate(
        self, evaluation: Evaluation, facts: ImageFacts, method: Method
    ) -> tuple[NDArray[np.uint8], Scores, float]:
        """SR image (H, W, 3), scores and seconds of one image; every failure becomes an EvaluationError."""
        try:
            hr = self._read(evaluation.suite.dataset, facts)
            degradation = evaluation.suite.degradation
            lq = degrade_image(degradation, hr, evaluation.seed, facts.name)
            generator = image_generator(evaluation.seed, facts.name)  # repeats the draws of the degradation
            draws = degradation.draw(generator, lq.shape[:2]) if method.needs else {}
            generator = image_generator(evaluation.seed, facts.name)
            started = time.perf_counter()
            restored = method.restore(to_tensor(lq, self._device), draws, self._benchmark.scale, generator)
            check_finite(restored)
            sr = to_pixels(restored[0], np.dtype(np.uint8), 3)
            seconds = time.perf_counter() - started
            scores = {metric.label: measure_image(metric, sr, hr) for metric in evaluation.metrics}
        except EvaluationError:
            raise
        except Exception as error:  # a failure of one network or image must not stop the other evaluations
            _LOGGER.debug('%s on %s', evaluation.network.label, facts.name, exc_info=True)
            raise EvaluationError(f'{facts.name}: {self._explain(error, facts, method)}') from error
        undefined = [label for label, value in scores.items() if np.isnan(value)]
        if undefined:
            raise EvaluationError(f'{facts.name}: {undefined[0]} is not a number')
        return sr, scores, seconds

    def _explain(self, error: Exception, facts: ImageFacts, method: Method) -> str:
        """The reason of a failure in one line, with a remedy if memory was too small."""
        if not is_out_of_memory(error):
            return describe_briefly(error)
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()
        scale = self._benchmark.scale
        size = f'{facts.width // scale} x {facts.height // scale} LR pixels'
        if method.adapter is not None:
            return f'not enough memory for {size}; it trains on the whole image, so run it on another device'
        tile = 256 if method.plan.tile is None else max(1, method.plan.tile // 2)
        return f'not enough memory for {size}; give the network `tile: {tile}`, or run on another device'

    def _read(self, dataset: DatasetPlan, facts: ImageFacts) -> NDArray[np.uint8]:
        if dataset.name not in self._sources:
            self._sources[dataset.name] = open_source(dataset.root)
        source = self._sources[dataset.name]
        image = source.read(source.names.index(facts.name))
        if digest_image(image) != facts.digest:
            raise EvaluationError(
                f'{facts.name} of {dataset.name} has changed since the test began; run the test again'
            )
        return crop_to_multiple(image, self._benchmark.scale)
