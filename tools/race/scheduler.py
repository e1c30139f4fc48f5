"""Scheduler of a race: trainings as processes, one after the other or several at once; resumes after a stop.

Every training is a process of its own, `dasr train --auto_resume`, so that a failure does not affect the others. The
status of each is kept in ``state.json``. Trainings inherit the lock of the race, because they may outlive it.
"""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import torch

from dasr_arch._errors import InputError
from dasr_arch.benchmark.environment import name_device, now, read_commit
from dasr_cli.main import INTERRUPTED_CODE
from race.cores import pin, share_cores, thread_environment
from race.options import Race, Training
from race.plan import PRECISION_KEY, Plan, digest_options, list_overrides
from race.state import LOCK_NAME, STATE_NAME, State, check_plan, lock_race, open_state, write_state_file

LOGS_NAME = 'logs'
POLL = 0.2  # seconds
TRAIN = (sys.executable, '-m', 'dasr_cli', 'train')

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """A slot for one of the trainings that run at once.

    Attributes:
        cores: that its process may use.
        threads: of its process.
        place: name of the processor or GPU that trains.
    """

    cores: Sequence[int]
    threads: int
    place: str


@dataclass
class _Running:
    training: Training
    process: 'subprocess.Popen[bytes]'
    worker: Worker
    log: Path
    began: float


def run_trainings(
    race: Race, plan: Plan, jobs: int, cores: Sequence[int], command: Sequence[str] = TRAIN, *, gpu_jobs: int = 0
) -> State:
    """Runs the trainings that are not done yet; a failure does not stop the others.

    SIGINT and SIGTERM are passed on: the trainings finish an iteration, write their states and end. The same call
    resumes them.

    Args:
        race: the race.
        plan: its plan.
        jobs: trainings at once; each has its share of the cores.
        cores: cores of this machine; where these are fewer than the plan's, fewer than ``jobs`` run at once.
        command: the training command; takes ``-opt FILE --auto_resume --set KEY=VALUE``.
        gpu_jobs: 0, or the number of trainings at once on one GPU, with the iterations that the plan gives to the
            cores.

    Returns:
        The state of the race.

    Raises:
        InputError: if plan and race differ, an earlier run followed another plan or other option files, one is still
            running, there are too few cores, or a folder of experiments belongs to something else.
        KeyboardInterrupt: after an interrupt, when all trainings have ended.
        OSError: if the folder cannot be written.
    """
    check_plan(race, plan, jobs)
    if gpu_jobs:
        workers = share_gpu(cores, gpu_jobs)
    else:
        processor = name_device(torch.device('cpu'))
        workers = [Worker(own, len(own), processor) for own in share_cores(cores, jobs, plan.cores)]
    precision = plan.about.get(PRECISION_KEY)
    overrides = {
        one.name: list_overrides(
            race,
            one,
            plan.iterations[one.name][jobs],
            None if precision is None else str(precision),
            on_gpu=gpu_jobs > 0,
        )
        for one in race.trainings
    }
    race.folder.mkdir(parents=True, exist_ok=True)
    with lock_race(race.folder / LOCK_NAME) as lock:
        state = open_state(race, plan, jobs)
        with _interrupts() as signals:
            Scheduler(race, state, overrides, command, lock).run(workers, signals)
        if signals:
            raise KeyboardInterrupt
        return state


class Scheduler:
    """Starts trainings on free workers and records how they end.

    Args:
        race: the race.
        state: its state; kept up to date here and in ``state.json``.
        overrides: `key=value` by training, laid over its option file.
        command: the training command.
        lock: the lock of the race, which trainings inherit; None where the system has no such locks.
    """

    def __init__(
        self,
        race: Race,
        state: State,
        overrides: Mapping[str, Sequence[str]],
        command: Sequence[str],
        lock: IO[str] | None,
    ) -> None:
        self.race, self.state, self.overrides = race, state, overrides
        self.command, self.lock = command, lock
        self.running: list[_Running] = []

    def run(self, workers: Sequence[Worker], signals: Sequence[int]) -> None:
        """Runs until every training has ended, or until all were stopped after a signal.

        Args:
            workers: as many trainings run at once.
            signals: received so far; grows while this runs. Each is passed on as SIGTERM, and no training starts
                after the first.
        """
        free, passed_on = list(workers), 0
        while True:
            while not signals and free and (training := self.choose()) is not None:
                self.start(training, free.pop(0))
            if not self.running:
                return
            time.sleep(POLL)
            if len(signals) > passed_on:
                passed_on = len(signals)
                for one in self.running:
                    one.process.send_signal(signal.SIGTERM)
            for one in [one for one in self.running if one.process.poll() is not None]:
                self.finish(one, stopped=bool(signals))
                free.append(one.worker)

    def choose(self) -> Training | None:
        """Returns the next training whose predecessor is done; after a failed predecessor a training fails, too."""
        for training in self.race.trainings:
            progress = self.state.trainings[training.name]
            if progress.status != 'waiting':
                continue
            before = self.state.trainings[training.after].status if training.after else 'done'
            if before == 'done':
                return training
            if before == 'failed':
                progress.status, progress.reason = 'failed', f'{training.after}, which it starts from, failed'
                _LOGGER.warning('%s: %s', training.name, progress.reason)
                self.save()
        return None

    def start(self, training: Training, worker: Worker) -> None:
        """Starts a training on a worker."""
        progress = self.state.trainings[training.name]
        log = self.race.folder / LOGS_NAME / f'{training.name}.txt'
        log.parent.mkdir(exist_ok=True)
        process = self.launch(training, worker, log)
        self.running.append(_Running(training, process, worker, log, time.monotonic()))
        progress.status, progress.attempts = 'running', progress.attempts + 1
        progress.options = digest_options(training)
        progress.commits.append(read_commit())
        progress.places.append(worker.place)
        _LOGGER.info('%s: started, %d threads, %s, log in %s', training.name, worker.threads, worker.place, log)
        self.save()

    def launch(self, training: Training, worker: Worker, log: Path) -> 'subprocess.Popen[bytes]':
        """Starts the process of a training; its output goes to the log."""
        line = [*self.command, '-opt', str(training.options), '--auto_resume']
        line += [part for override in self.overrides[training.name] for part in ('--set', override)]
        with log.open('ab') as file:
            process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=thread_environment(worker.threads),
                start_new_session=True,  # Ctrl-C reaches it once, from here
                pass_fds=() if self.lock is None else (self.lock.fileno(),),
            )
        pin(process.pid, worker.cores)
        return process

    def finish(self, one: _Running, stopped: bool) -> None:
        """Records how a training has ended.

        Args:
            one: the training, whose process has ended.
            stopped: whether the race was interrupted.
        """
        self.running.remove(one)
        progress, code = self.state.trainings[one.training.name], one.process.returncode
        progress.seconds += time.monotonic() - one.began
        progress.finished = now()
        progress.reason = ''
        if code == 0:
            progress.status = 'done'
        elif stopped and code in {INTERRUPTED_CODE, -signal.SIGTERM, -signal.SIGINT}:
            progress.status = 'stopped'
        else:
            progress.status, progress.reason = 'failed', describe_end(code, one.log)
        message = f'{progress.status}, {progress.reason}' if progress.reason else progress.status
        _LOGGER.info('%s: %s after %.1f min', one.training.name, message, progress.seconds / 60)
        self.save()

    def save(self) -> None:
        """Writes the state."""
        write_state_file(self.race.folder / STATE_NAME, self.state)


def share_gpu(cores: Sequence[int], jobs: int) -> list[Worker]:
    """Workers that share one GPU and all cores.

    Args:
        cores: numbers of the cores.
        jobs: trainings at once.

    Returns:
        ``jobs`` workers.

    Raises:
        InputError: if there is no GPU.
    """
    if not torch.cuda.is_available():
        raise InputError('there is no GPU here; leave --gpu out, and the cores train')
    return [Worker(cores, max(1, len(cores) // jobs), name_device(torch.device('cuda')))] * jobs


def describe_end(code: int, log: Path) -> str:
    """The reason why a process ended: its signal, or the last line that it printed."""
    if code < 0:
        return f'ended by signal {-code}'
    try:
        lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
    except OSError:
        lines = []
    return f'exit code {code}: {lines[-1][:300] if lines else "it printed nothing"}'


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collects the signals that would end the race, instead of ending it."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, 'SIGHUP') else [])]
    try:
        previous = {number: signal.signal(number, handle) for number in numbers}
    except ValueError:  # not in the main thread
        previous = {}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
