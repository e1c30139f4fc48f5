"""Timing of the iterations of a race: medians over interleaved rounds, in processes of their own.

Every round measures all trainings once, so that a drift of the machine affects all of them alike. As many processes run
at once as trainings will, each on its own cores, because they share the memory bandwidth. Seeds of one training, and
trainings with `like` in the race file, take over the time of the measured one.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from basicsr.data import build_dataset
from basicsr.models import build_model

from dasr_arch._errors import InputError
from dasr_arch.config.train_checks import load_training_options
from dasr_arch.data.degradation_dataset import DegradationDataset
from dasr_arch.pipelines.dataloaders import build_training_stream
from dasr_arch.pipelines.training import seed_everything
from race.cores import pin, share_cores, thread_environment
from race.options import Race
from race.plan import StageTime, list_stages

WARM_UP = 2  # iterations before the first that is timed

_LOGGER = logging.getLogger(__name__)

Samples = dict[str, dict[str, list[float]]]
"""Seconds of iterations by training and stage."""


@dataclass(frozen=True)
class MeasureSettings:
    """Settings of the timing.

    Attributes:
        jobs: numbers of trainings at once; each number is measured.
        rounds: number of rounds.
        steps: timed iterations of every stage in every round.
        cores: numbers of the cores of this machine.
    """

    jobs: Sequence[int] = (1,)
    rounds: int = 3
    steps: int = 5
    cores: Sequence[int] = (0,)


def measure_race(
    race: Race, settings: MeasureSettings, measure: 'Callable[[list[_Task], MeasureSettings, int], Samples]'
) -> dict[str, list[StageTime]]:
    """The stages of all trainings with their times.

    Args:
        race: the race.
        settings: of the timing.
        measure: takes tasks, settings and the number of trainings at once; `run_workers`, except in tests.

    Returns:
        Stages by training.

    Raises:
        InputError: if a training file is wrong or a training fails.
    """
    stages = {training.name: list_stages(training) for training in race.trainings}
    tasks = [
        {
            'name': training.name,
            'options': str(training.options),
            'overrides': [*training.overrides, 'num_gpu=0', *(['path.pretrain_network_g=~'] if training.after else [])],
            'stages': {one.name: one.weight for one in stages[training.name]},
        }
        for training in race.trainings
        if training.like is None
    ]
    samples: dict[int, Samples] = {jobs: {} for jobs in settings.jobs}
    for number in range(settings.rounds):
        for jobs in settings.jobs:
            _LOGGER.info('round %d of %d, %d at once', number + 1, settings.rounds, jobs)
            turned = tasks[number % len(tasks) :] + tasks[: number % len(tasks)]
            _add(samples[jobs], measure(turned, settings, jobs))
    return {
        training.name: [
            replace(one, seconds=_find_medians(samples, training.like or training.name, one.name))
            for one in stages[training.name]
        ]
        for training in race.trainings
    }


def run_workers(tasks: 'list[_Task]', settings: MeasureSettings, jobs: int) -> Samples:
    """Measures tasks in ``jobs`` processes at once, each with its share of the cores and its own order.

    Args:
        tasks: one for each training to measure.
        settings: of the timing.
        jobs: number of processes.

    Returns:
        Times of all processes together.

    Raises:
        InputError: if one fails; the message names the training.
    """
    with tempfile.TemporaryDirectory() as name:
        running = []
        for index, cores in enumerate(share_cores(settings.cores, jobs)):
            first = index * len(tasks) // jobs
            order = tasks[first:] + tasks[:first]
            source, target = Path(name) / f'{index}.json', Path(name) / f'{index}.out.json'
            source.write_text(json.dumps({'tasks': order, 'steps': settings.steps}), encoding='utf-8')
            command = [sys.executable, '-m', 'race.timing', str(source), str(target)]
            process = subprocess.Popen(command, env=_environment(len(cores)), stdout=subprocess.DEVNULL)
            pin(process.pid, cores)
            running.append((process, target))
        samples: Samples = {}
        try:
            for process, target in running:
                code = process.wait()
                content = json.loads(target.read_text(encoding='utf-8')) if target.is_file() else {}
                if code or 'samples' not in content:
                    raise InputError(f'measuring failed: {content.get("error", f"its process ended with code {code}")}')
                _add(samples, content['samples'])
        finally:
            for process, _ in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        return samples


def measure_task(task: 'Mapping[str, Any]', steps: int) -> dict[str, list[float]]:
    """Times some iterations of every stage of a training; the weights are discarded.

    Args:
        task: 'options' (a file), 'overrides', 'stages' (iterations by stage, as the file has them).
        steps: timed iterations of each stage.

    Returns:
        Seconds of each iteration by stage: batch, degradation, forward and backward pass, optimiser.

    Raises:
        InputError: if the file or its data are wrong.
    """
    options: dict[str, Any] = load_training_options(task['options'], task['overrides'])
    seed_everything(options['manual_seed'])
    dataset = build_dataset(options['datasets']['train'])
    if isinstance(dataset, DegradationDataset):
        dataset.fill_cache()  # a training decodes its images once, in its first epoch
    stream, _ = build_training_stream(options, 0, dataset)
    model = build_model(options)
    seconds: dict[str, list[float]] = {}
    iteration = 1
    for stage, length in task['stages'].items():
        times = []
        for _ in range(WARM_UP + steps):
            began = time.perf_counter()
            batch = next(stream)
            model.update_learning_rate(iteration, warmup_iter=-1)
            model.feed_data(batch)
            model.optimize_parameters(iteration)
            times.append(time.perf_counter() - began)
        seconds[stage] = times[WARM_UP:]
        iteration += length
    return seconds


def _environment(threads: int) -> dict[str, str]:
    """The environment of a measuring process, which finds this package although it is not installed."""
    environment = thread_environment(threads)
    paths = [str(Path(__file__).parents[1]), environment.get('PYTHONPATH', '')]
    return {**environment, 'PYTHONPATH': os.pathsep.join(filter(None, paths))}


_Task = dict[str, Any]


def _find_medians(samples: Mapping[int, Samples], training: str, stage: str) -> dict[int, float]:
    """Seconds of an iteration by the number of trainings at once."""
    if stage not in samples[next(iter(samples))][training]:
        raise InputError(f'{training} has no train.{stage}; measure what has one by itself, without `like: {training}`')
    return {jobs: median(measured[training][stage]) for jobs, measured in samples.items()}


def _add(samples: Samples, more: Mapping[str, Mapping[str, list[float]]]) -> None:
    for name, stages in more.items():
        for stage, seconds in stages.items():
            samples.setdefault(name, {}).setdefault(stage, []).extend(seconds)


def _work(source: Path, target: Path) -> int:
    """Entry point of a measuring process: reads tasks, writes times."""
    content = json.loads(source.read_text(encoding='utf-8'))
    samples: Samples = {}
    result: dict[str, Any] = {'samples': samples}
    for task in content['tasks']:
        try:
            samples[task['name']] = measure_task(task, content['steps'])
        except (InputError, OSError, RuntimeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            result = {'error': f'{task["name"]}: {lines[0]}'}
            break
        medians = ', '.join(f'{median(seconds):.3f} s' for seconds in samples[task['name']].values())
        sys.stderr.write(f'{task["name"]}: {medians}\n')
    target.write_text(json.dumps(result), encoding='utf-8')
    return 2 if 'error' in result else 0


if __name__ == '__main__':
    sys.exit(_work(Path(sys.argv[1]), Path(sys.argv[2])))
