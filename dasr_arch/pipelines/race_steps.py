"""Measures the iterations of a race's trainings: in processes of their own, interleaved, and takes medians.

Every round measures all trainings once, so that a machine that grows slower is slower for all of them. As many
processes run at once as trainings would, each on its own cores, because those share the memory. Seeds of one training,
and what a race file calls `like` another, get what was measured for one of them.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from dasr_arch.pipelines.race_options import Race
from dasr_arch.pipelines.race_plan import StageTime, list_stages
from dasr_arch.pipelines.training import seed_everything

WARM_UP = 2  # iterations before the first that counts

_LOGGER = logging.getLogger(__name__)

Samples = dict[str, dict[str, list[float]]]
"""Seconds of iterations by training and stage."""


@dataclass(frozen=True)
class MeasureSettings:
    """How iterations are measured.

    Attributes:
        jobs: numbers of trainings at once, each of which is measured.
        rounds: how often everything is measured.
        steps: iterations that count, of every stage in every round.
        cores: what the machine offers.
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
        settings: how.
        measure: takes tasks, settings and the number of trainings at once; `run_workers`, unless this is a test.

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
        tasks: what to measure.
        settings: number of steps, and the cores.
        jobs: number of processes.

    Returns:
        Times of all processes together.

    Raises:
        InputError: if one fails; names the training.
    """
    with tempfile.TemporaryDirectory() as name:
        running = []
        for index, cores in enumerate(share_cores(settings.cores, jobs)):
            first = index * len(tasks) // jobs
            order = tasks[first:] + tasks[:first]
            source, target = Path(name) / f'{index}.json', Path(name) / f'{index}.out.json'
            source.write_text(json.dumps({'tasks': order, 'steps': settings.steps}), encoding='utf-8')
            command = [sys.executable, '-m', 'dasr_arch.pipelines.race_steps', str(source), str(target)]
            process = subprocess.Popen(command, env=thread_environment(len(cores)), stdout=subprocess.DEVNULL)
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
    """Runs some iterations of every stage of a training and throws what it learned away.

    Args:
        task: 'options' (a file), 'overrides', 'stages' (iterations by stage, as the file has them).
        steps: iterations that count.

    Returns:
        Seconds by stage: batch, degradation, both passes and optimiser.

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


def share_cores(cores: Sequence[int], jobs: int) -> list[list[int]]:
    """The cores of each of several processes: equal numbers, the rest stays free.

    Args:
        cores: numbers of the cores.
        jobs: number of processes.

    Raises:
        InputError: if there are more processes than cores.
    """
    if not 1 <= jobs <= len(cores):
        raise InputError(f'jobs must be from 1 to {len(cores)}, the cores of this machine, got {jobs}')
    each = len(cores) // jobs
    return [list(cores[index * each : (index + 1) * each]) for index in range(jobs)]


def list_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(process: int, cores: Iterable[int]) -> bool:
    """Keeps a process that has just started on its cores.

    Args:
        process: its number.
        cores: where it may run.

    Returns:
        Whether the system can do that; on others, or after the process has ended, nothing happens.
    """
    if not hasattr(os, 'sched_setaffinity'):
        return False
    try:
        os.sched_setaffinity(process, set(cores))
    except OSError:
        return False
    return True


def thread_environment(threads: int) -> dict[str, str]:
    """The environment of a process that computes in so many threads, which sleep when they wait."""
    return {
        **os.environ,
        'OMP_NUM_THREADS': str(threads),
        'MKL_NUM_THREADS': str(threads),
        'OMP_WAIT_POLICY': 'passive',
    }


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
    """The process that measures: reads tasks, writes times."""
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
        told = ', '.join(f'{median(seconds):.3f} s' for seconds in samples[task['name']].values())
        sys.stderr.write(f'{task["name"]}: {told}\n')
    target.write_text(json.dumps(result), encoding='utf-8')
    return 2 if 'error' in result else 0


if __name__ == '__main__':
    sys.exit(_work(Path(sys.argv[1]), Path(sys.argv[2])))
