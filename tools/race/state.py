"""State of a race: the status of every training, kept in ``state.json``, and the lock of the race's folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Literal

from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch.pipelines.checkpoints import list_states
from race.options import Race
from race.plan import Plan, digest_options

STATE_NAME, LOCK_NAME = 'state.json', 'race.lock'

Status = Literal['waiting', 'running', 'done', 'failed', 'stopped']


@dataclass
class Progress:
    """Status of one training.

    Attributes:
        status: 'stopped' means interrupted with the race; the next run resumes it.
        attempts: number of starts.
        seconds: wall time of its processes, over all attempts whose end was seen.
        reason: of a failure.
        finished: time of the last end, ISO 8601.
        options: digest of its option file at the last start.
        commits: commit of the project at each start.
        places: processor or GPU that trained, for each start.
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
    """Status of a race.

    Attributes:
        plan: digest of the plan that it follows.
        jobs: trainings at once.
        trainings: by name.
    """

    plan: str
    jobs: int
    trainings: dict[str, Progress] = field(default_factory=dict)


def read_state(path: Path) -> State | None:
    """Reads the state of an earlier run.

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
    write_whole(path, json.dumps(asdict(state), indent=1) + '\n')


def open_state(race: Race, plan: Plan, jobs: int) -> State:
    """The state to resume from: what is done stays done, everything else waits."""
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


def has_learned(race: Race, name: str, progress: Progress) -> bool:
    """True if a training has left states or weights, which a change of plan or options would invalidate."""
    states = list_states(race.experiment_folder(name) / 'training_states')
    return progress.status == 'done' or (progress.attempts > 0 and bool(states))


def check_plan(race: Race, plan: Plan, jobs: int) -> None:
    """Checks that a plan belongs to a race.

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


@contextmanager
def lock_race(path: Path) -> Iterator[IO[str] | None]:
    """Locks a race; trainings that outlive a killed race keep the lock.

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
