"""Jobs that take seconds to minutes: a bounded queue, worker threads, and results that expire."""

import logging
import math
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dasr_arch._errors import InputError
from dasr_arch.web.problems import ProblemError
from dasr_arch.web.settings import Limits

State = Literal['queued', 'running', 'done', 'failed']
Kind = Literal['upscale', 'playground']
Clock = Callable[[], float]

_LOGGER = logging.getLogger(__name__)
_PREFIX = 'dasr-serve-'
_RETRY = 10  # seconds for Retry-After if no running job has an estimate
_ESTIMATED = 0.02  # progress from which the remaining time is estimated


class JobCancelledError(Exception):
    """Raised inside the thread of a job that was cancelled."""


class StoredFile(NamedTuple):
    """A file of a job."""

    path: Path  # its last part is chosen by the server
    media_type: str  # such as 'image/png'
    name: str  # file name of the download


class Outcome(NamedTuple):
    """Result of a job: content of its status, and its files by name."""

    facts: Any
    files: dict[str, StoredFile]


@dataclass(eq=False, repr=False)
class Job:
    """A job; any thread may read its attributes."""

    kind: Kind
    name: str
    folder: Path
    _task: 'Task | None'
    _clock: Clock
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))  # last part of its address
    state: State = 'queued'
    phase: str = 'waiting'  # the current step, one word
    error: ProblemError | None = None
    outcome: Outcome | None = None
    stored: int = 0  # bytes of its files
    finished_at: float = math.inf
    _total: float = 0.0
    _done: float = 0.0
    _started: float = math.inf
    _begun: float = math.inf
    _cancelled: ProblemError | None = None
    ended: Future[None] = field(default_factory=Future)  # done when it has ended; never to be cancelled

    @property
    def progress(self) -> float:
        """Share of the work that is done, 0 to 1; 1 only with the result."""
        if self.state == 'done':
            return 1.0
        return min(0.99, self._done / self._total) if self._total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the end, None while unknown."""
        if self.state != 'running' or self.progress < _ESTIMATED:
            return None
        return (self._clock() - self._begun) * (1 - self.progress) / self.progress

    @property
    def seconds(self) -> float:
        """Seconds since it started to run."""
        return self._clock() - self._started

    def expect(self, total: float) -> None:
        """Sets the amount of work, in the unit of ``advance``."""
        self._total = total
        self._begun = self._clock()

    def advance(self, amount: float) -> None:
        """Adds finished work. Raises JobCancelledError if the job was cancelled."""
        if self._cancelled is not None:
            raise JobCancelledError
        self._done += amount

    def enter(self, phase: str) -> None:
        """Sets the current step; raises JobCancelledError as ``advance``."""
        self.advance(0)
        self.phase = phase

    def cancel(self, reason: ProblemError) -> None:
        """Stops its thread at the next block of the network; the reason becomes its error."""
        self._cancelled = self._cancelled or reason

    def wait(self, timeout: float) -> bool:
        """Waits up to ``timeout`` seconds; returns whether the job has ended."""
        return bool(wait([self.ended], timeout).done)

    def store(self, name: str, data: bytes, media_type: str, download_name: str) -> StoredFile:
        """Writes a file into the job's folder; ``name`` is chosen by the server."""
        path = self.folder / name
        part = path.with_name(f'{name}.part')
        part.write_bytes(data)
        part.replace(path)  # atomic: no client gets a partial file
        self.stored += len(data)
        return StoredFile(path, media_type, download_name)

    def run(self) -> None:
        """Runs the task in the calling thread; an exception becomes the error of the job."""
        self.state = 'running'
        self._started = self._clock()
        task, self._task = self._task, None  # it holds the upload
        assert task is not None
        error: ProblemError | None = None
        try:
            self.enter('reading')
            outcome = task(self)
            self.advance(0)
            self.outcome = outcome
        except JobCancelledError:
            error = self._cancelled
        except ProblemError as problem:
            error = problem
        except InputError as problem:
            error = ProblemError(422, str(problem))
        except OSError as problem:
            error = ProblemError(507, f'the server cannot write its files ({problem.strerror})')
        except Exception:  # a bug must not end the worker thread
            _LOGGER.exception('a job failed')
            error = ProblemError(500, 'the server made a mistake; its log says more')
        self.end(error)

    def end(self, error: ProblemError | None) -> None:
        """Sets the final state, failed if there is an error, and completes ``ended``."""
        self.error = error
        self._task = None
        if error is not None:  # its files would keep a full disk full
            shutil.rmtree(self.folder, ignore_errors=True)
            self.stored = 0
        self.finished_at = self._clock()
        self.state = 'done' if error is None else 'failed'
        self.ended.set_result(None)


Task = Callable[[Job], Outcome]


class JobQueue:
    """A bounded queue of jobs, which run in order; their results expire. The clock returns seconds."""

    def __init__(self, limits: Limits, clock: Clock = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._root = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._unfinished: dict[Job, Future[None]] = {}  # in order of arrival; also running jobs that were removed
        self._closed = False
        self._pool = ThreadPoolExecutor(limits.jobs, 'dasr-job')

    def check_room(self) -> None:
        """Raises ProblemError 503 with a Retry-After if the queue is full."""
        if self._closed:
            raise ProblemError(503, 'the server is stopping')
        with self._lock:
            running, waiting = self.counts()
            left = [job.seconds_left for job in self._unfinished]
        if running + waiting >= self._limits.queue + self._limits.jobs:
            known = [seconds for seconds in left if seconds is not None]
            retry = math.ceil(min(known)) + 1 if known else _RETRY
            raise ProblemError(503, f'{running} running and {waiting} waiting are all jobs that fit', retry)

    def submit(self, kind: Kind, name: str, task: Task) -> Job:
        """Adds a job; the task takes the job and reports its progress to it.

        Raises ProblemError 503 if the queue is full.
        """
        self.sweep()
        with self._lock:
            self.check_room()
            job = Job(kind, name, self._make_folder(), task, self._clock)
            self._jobs[job.id] = job
            self._unfinished[job] = self._pool.submit(self._run, job)
            return job

    def _make_folder(self) -> Path:
        """A folder for a job, in a new one of the server if something that tidies up has removed the old one."""
        try:
            if not self._root.is_dir():
                self._root = Path(tempfile.mkdtemp(prefix=_PREFIX))
            return Path(tempfile.mkdtemp(dir=self._root))
        except OSError as problem:
            raise ProblemError(507, f'the server cannot write its files ({problem.strerror})') from problem

    def get(self, identifier: str) -> Job:
        """The job with an identifier. Raises ProblemError 404 if there is none, or it was deleted."""
        self.sweep()
        job = self._jobs.get(identifier)
        if job is None:
            raise ProblemError(404, 'there is no such job; it was cancelled, or its result has expired')
        return job

    def ahead(self, job: Job) -> int:
        """Number of jobs before a waiting one, running ones included."""
        with self._lock:
            return list(self._unfinished).index(job) if job in self._unfinished and job.state == 'queued' else 0

    def expires_in(self, job: Job) -> float | None:
        """Seconds until a finished job is deleted, None for any other job."""
        if not math.isfinite(job.finished_at):
            return None
        return max(0.0, job.finished_at + 60 * self._limits.keep_minutes - self._clock())

    def counts(self) -> tuple[int, int]:
        """Numbers of running and of waiting jobs."""
        with self._lock:
            waiting = sum(job.state == 'queued' for job in self._unfinished)
            return len(self._unfinished) - waiting, waiting

    def remove(self, job: Job, reason: ProblemError | None = None) -> None:
        """Deletes a job and its files; one that has not ended is cancelled, with ``reason`` as its error."""
        reason = reason or ProblemError(410, 'the job was cancelled')
        job.cancel(reason)
        with self._lock:
            self._jobs.pop(job.id, None)
            waiting = job in self._unfinished and self._unfinished[job].cancel()
            if waiting:
                del self._unfinished[job]
        if waiting:
            job.end(reason)
        if job.state in ('done', 'failed'):
            shutil.rmtree(job.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Deletes expired results, and the oldest ones if all together are too large."""
        with self._lock:
            ended = [job for job in self._jobs.values() if math.isfinite(job.finished_at)]
        ended.sort(key=lambda job: job.finished_at)
        size = sum(job.stored for job in ended)
        for job in ended:
            too_large = size > self._limits.kept_megabytes * 1e6 and job is not ended[-1]
            if too_large or self.expires_in(job) == 0:
                size -= job.stored
                self.remove(job)

    def cancel_all(self) -> None:
        """Closes the queue and cancels all jobs."""
        with self._lock:
            self._closed = True
            jobs = list(self._unfinished)
        for job in jobs:
            self.remove(job, ProblemError(503, 'the server is stopping'))

    def close(self) -> None:
        """Cancels all jobs, waits for the threads and removes all files."""
        self.cancel_all()
        self._pool.shutdown()
        shutil.rmtree(self._root, ignore_errors=True)

    def _run(self, job: Job) -> None:
        job.run()
        with self._lock:
            del self._unfinished[job]
            forgotten = job.id not in self._jobs
        if forgotten:
            shutil.rmtree(job.folder, ignore_errors=True)
