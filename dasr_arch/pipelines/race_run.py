"""Runs the trainings of a race one after the other, or several at once, and goes on where it was stopped.

Every training is a process of its own, `dasr train --auto_resume`, so that one that fails leaves the others alone. What
became of each is kept in ``state.json``. The lock of a race is shared with its trainings, which may outlive it.
"""

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Literal

import torch

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write
from dasr_arch.benchmark.environment import name_device, now, read_commit
from dasr_arch.pipelines.checkpoints import list_states
from dasr_arch.pipelines.exit_codes import INTERRUPTED_CODE
from dasr_arch.pipelines.race_options import Race, Training
from dasr_arch.pipelines.race_plan import PRECISION_KEY, Plan, digest_options, list_overrides
from dasr_arch.pipelines.race_steps import pin, thread_environment

STATE_NAME, LOCK_NAME, LOGS_NAME = 'state.json', 'race.lock', 'logs'
POLL = 0.2  # seconds
TRAIN = (sys.executable, '-m', 'dasr_cli', 'train')

_LOGGER = logging.getLogger(__name__)

Status = Literal['waiting', 'running', 'done', 'failed', 'stopped']


@dataclass
class Progress:
    """What became of one training.

    Attributes:
        status: 'stopped' was interrupted with the race and goes on with it.
        attempts: how often it was started.
        seconds: of its processes, all attempts that ended under the race's eyes.
        reason: why it failed.
        finished: when, ISO 8601.
        options: digest of its option file when it was last started.
        commits: of the project, one for each start.
        places: processor or GPU that trained, one for each start.
    """

    status: Status = 'waiting'
    attempts: int = 0
    seconds: float = 0.0
    reason: str = ''
    finished: str = ''
    options: str = ''
    commits: list[str | None] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


@dataclass
class State:
    """What became of a race.

    Attributes:
        plan: digest of the plan that it follows.
        jobs: trainings at once.
        trainings: by name.
    """

    plan: str
    jobs: int
    trainings: dict[str, Progress] = field(default_factory=dict)


@dataclass(frozen=True)
class Lane:
    """Where one of the trainings that run at once is carried out.

    Attributes:
        cores: that it may use.
        threads: of its own.
        place: name of the processor or GPU that trains.
    """

    cores: Sequence[int]
    threads: int
    place: str


@dataclass
class _Running:
    training: Training
    process: 'subprocess.Popen[bytes]'
    lane: Lane
    log: Path
    began: float


Launch = Callable[[Training, Sequence[str], Lane, Path], 'subprocess.Popen[bytes]']
"""Starts a training with overrides in a lane, with a file for what it prints."""


def run_trainings(
    race: Race, plan: Plan, jobs: int, cores: Sequence[int], command: Sequence[str] = TRAIN, *, gpu_jobs: int = 0
) -> State:
    """Runs what is not done yet; a training that fails does not stop the others.

    Ctrl-C and a polite kill are passed on: the trainings finish an iteration, write their states and end. The same call
    goes on from there.

    Args:
        race: the race.
        plan: its plan.
        jobs: trainings at once; each has its share of the cores.
        cores: what the machine offers; where these are fewer than the plan's, fewer than ``jobs`` run at once.
        command: what trains; takes ``-opt FILE --auto_resume --set KEY=VALUE``.
        gpu_jobs: 0, or the number of trainings at once that one GPU carries out, with the iterations that the plan
            gives to the cores.

    Returns:
        What became of all.

    Raises:
        InputError: if plan and race differ, an earlier run followed another plan or other option files, one is still
            running, there are too few cores, or a folder of experiments belongs to something else.
        KeyboardInterrupt: after an interrupt, when all trainings have ended.
        OSError: if the folder cannot be written.
    """
    check_plan(race, plan, jobs)
    if gpu_jobs:
        lanes = share_gpu(cores, gpu_jobs)
    else:
        processor = name_device(torch.device('cpu'))
        lanes = [Lane(own, len(own), processor) for own in share_lanes(cores, plan.cores, jobs)]
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
        state = _open_state(race, plan, jobs)

        def launch(training: Training, given: Sequence[str], lane: Lane, log: Path) -> 'subprocess.Popen[bytes]':
            line = [*command, '-opt', str(training.options), '--auto_resume']
            line += [part for override in given for part in ('--set', override)]
            with log.open('ab') as file:
                process = subprocess.Popen(
                    line,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=thread_environment(lane.threads),
                    start_new_session=True,  # Ctrl-C reaches it once, from here
                    pass_fds=() if lock is None else (lock.fileno(),),
                )
            pin(process.pid, lane.cores)
            return process

        with _interrupts() as signals:
            _Course(race, state, overrides, lanes, launch, signals).run()
        if signals:
            raise KeyboardInterrupt
        return state


class _Course:
    """The loop of a race."""

    def __init__(
        self,
        race: Race,
        state: State,
        overrides: Mapping[str, Sequence[str]],
        lanes: Sequence[Lane],
        launch: Launch,
        signals: list[int],
    ) -> None:
        self.race, self.state, self.overrides = race, state, overrides
        self.free = list(lanes)
        self.launch = launch
        self.signals = signals
        self.passed_on = 0
        self.running: list[_Running] = []

    def run(self) -> None:
        """Starts and watches, until nothing is left or all have been stopped."""
        while True:
            while not self.signals and self.free and (training := self.choose()) is not None:
                self.start(training)
            if not self.running:
                return
            time.sleep(POLL)
            if len(self.signals) > self.passed_on:
                self.passed_on = len(self.signals)
                for one in self.running:
                    one.process.send_signal(signal.SIGTERM)
            for one in [one for one in self.running if one.process.poll() is not None]:
                self.finish(one)

    def choose(self) -> Training | None:
        """The next training whose predecessor is done; those whose predecessor failed fail, too."""
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

    def start(self, training: Training) -> None:
        """Starts a training in the first free lane."""
        progress = self.state.trainings[training.name]
        log = self.race.folder / LOGS_NAME / f'{training.name}.txt'
        log.parent.mkdir(exist_ok=True)
        lane = self.free.pop(0)
        process = self.launch(training, self.overrides[training.name], lane, log)
        self.running.append(_Running(training, process, lane, log, time.monotonic()))
        progress.status, progress.attempts = 'running', progress.attempts + 1
        progress.options = digest_options(training)
        progress.commits.append(read_commit())
        progress.places.append(lane.place)
        _LOGGER.info('%s: started, %d threads, %s, log in %s', training.name, lane.threads, lane.place, log)
        self.save()

    def finish(self, one: _Running) -> None:
        """Notes what became of a training that has ended."""
        self.running.remove(one)
        self.free.append(one.lane)
        progress, code = self.state.trainings[one.training.name], one.process.returncode
        progress.seconds += time.monotonic() - one.began
        progress.finished = now()
        progress.reason = ''
        if code == 0:
            progress.status = 'done'
        elif self.signals and code in {INTERRUPTED_CODE, -signal.SIGTERM, -signal.SIGINT}:
            progress.status = 'stopped'
        else:
            progress.status, progress.reason = 'failed', describe_end(code, one.log)
        message = f'{progress.status}, {progress.reason}' if progress.reason else progress.status
        _LOGGER.info('%s: %s after %.1f min', one.training.name, message, progress.seconds / 60)
        self.save()

    def save(self) -> None:
        """Writes the state."""
        write_state_file(self.race.folder / STATE_NAME, self.state)


def share_lanes(cores: Sequence[int], planned: int, jobs: int) -> list[list[int]]:
    """The cores of each of the trainings that run at once, as many for each as the plan gave it.

    Args:
        cores: numbers of the cores that are there.
        planned: cores that the plan was made for.
        jobs: trainings at once, in the plan.

    Returns:
        At most ``jobs`` lists.

    Raises:
        InputError: if there are not enough cores for one training.
    """
    if not 1 <= jobs <= planned:
        raise InputError(f'jobs must be from 1 to {planned}, the cores of the plan, got {jobs}')
    each = planned // jobs
    if len(cores) < each:
        raise InputError(
            f'the plan gives every training {each} cores, but {len(cores)} of this machine may be used; plan on this '
            'machine, or give more --jobs'
        )
    return [list(cores[index * each : (index + 1) * each]) for index in range(min(jobs, len(cores) // each))]


def share_gpu(cores: Sequence[int], jobs: int) -> list[Lane]:
    """Lanes of trainings that one GPU carries out, which share all cores.

    Args:
        cores: numbers of the cores that are there.
        jobs: trainings at once.

    Returns:
        ``jobs`` lanes.

    Raises:
        InputError: if there is no GPU.
    """
    if not torch.cuda.is_available():
        raise InputError('there is no GPU here; leave --gpu out, and the cores train')
    return [Lane(cores, max(1, len(cores) // jobs), name_device(torch.device('cuda')))] * jobs


def has_learned(race: Race, name: str, progress: Progress) -> bool:
    """Whether a training has left something that a change of plan or options would spoil."""
    states = list_states(race.experiment_folder(name) / 'training_states')
    return progress.status == 'done' or (progress.attempts > 0 and bool(states))


def check_plan(race: Race, plan: Plan, jobs: int) -> None:
    """Whether a plan is of a race.

    Raises:
        InputError: if it is of another, lacks a training, or was not measured with so many trainings at once.
    """
    again = 'make it anew with tools/race.py plan'
    if plan.race != race.name:
        raise InputError(f"the plan is of the race '{plan.race}', not of '{race.name}'; {again}")
    for training in race.trainings:
        by_jobs = plan.iterations.get(training.name)
        if by_jobs is None:
            raise InputError(f"the plan knows no training '{training.name}'; {again}")
        if jobs not in by_jobs:
            known = ', '.join(map(str, sorted(by_jobs)))
            raise InputError(f'the plan is measured for {known} at once, not for {jobs}; use that, or {again}')


def describe_end(code: int, log: Path) -> str:
    """Why a process ended: the last line that it printed, or the signal."""
    if code < 0:
        return f'ended by signal {-code}'
    try:
        lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
    except OSError:
        lines = []
    return f'exit code {code}: {lines[-1][:300] if lines else "it printed nothing"}'


def read_state(path: Path) -> State | None:
    """Reads what an earlier run left.

    Returns:
        The state, None if there is none.

    Raises:
        InputError: if the file is no such state.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        trainings = {name: Progress(**entry) for name, entry in content['trainings'].items()}
        return State(content['plan'], int(content['jobs']), trainings)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"'{path}' is no state of a race; put a copy of it back, or move it and the experiments away"
        ) from error


def write_state_file(path: Path, state: State) -> None:
    """Writes a state, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(asdict(state), indent=1) + '\n', encoding='utf-8')


@contextmanager
def lock_race(path: Path) -> Iterator[IO[str] | None]:
    """Keeps a second race of the same name away, also while trainings of a killed one are still running.

    Args:
        path: the lock's file.

    Yields:
        The open file, for the trainings to inherit; None where the system has no such locks.

    Raises:
        InputError: if the lock is held.
    """
    try:
        import fcntl  # noqa: PLC0415 (not on Windows)
    except ImportError:
        yield None
        return
    with path.open('a', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f'{path.parent}: a race of this name, or a training that it started, is still running; wait for it'
            ) from error
        yield file


def _open_state(race: Race, plan: Plan, jobs: int) -> State:
    """The state to go on from: what is done stays done, everything else waits."""
    path = race.folder / STATE_NAME
    state = read_state(path)
    if state is None:
        state = State(plan.digest, jobs)
    elif (state.plan, state.jobs) != (plan.digest, jobs) and any(one.attempts for one in state.trainings.values()):
        what = 'another plan' if state.plan != plan.digest else f'{state.jobs} trainings at once'
        raise InputError(f'{race.folder}: its trainings were begun with {what}; go on with that, or give a new --name')
    state.plan, state.jobs = plan.digest, jobs
    for training in race.trainings:
        progress = state.trainings.setdefault(training.name, Progress())
        place = race.experiment_folder(training.name)
        if progress.attempts == 0 and list_states(place / 'training_states'):
            raise InputError(f'{place}: is of something else than this race; move it away, or give a new --name')
        if (
            progress.options
            and has_learned(race, training.name, progress)
            and progress.options != digest_options(training)
        ):
            raise InputError(
                f'{training.options}: changed since {training.name} was begun; go on with the old file, or move '
                f'{place} and the entry of {path} away'
            )
        if progress.status != 'done' or not race.weights(training.name).is_file():
            progress.status, progress.reason = 'waiting', ''
    return state


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collects the signals that would end the race."""
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
