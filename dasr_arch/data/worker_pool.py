"""Ordered map over worker processes with bounded memory; workers end with this process."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from dasr_arch._errors import InputError

Task = TypeVar('Task')
Result = TypeVar('Result')

_IN_FLIGHT = 2  # tasks for each worker, so that none waits while a slow one is at the head of the queue
_PARENT_CHECK_SECONDS = 0.5


def count_cores() -> int:
    """Number of cores that this process may use; in a container it can be smaller than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def map_in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Generator[Result, None, None]:
    """Results of a function in the order of the tasks, computed by several processes.

    Tasks are taken as results are, so memory holds a few of each, however many there are. The workers end with the
    iterator, and also when this process is killed; Ctrl-C reaches this process alone. The function is importable by
    name and independent of state of this process, the tasks can be pickled; with 1 worker this process does the work
    itself. InputError if a worker is killed from outside, mostly for lack of memory.
    """
    if workers == 1:
        yield from map(function, tasks)
        return
    # A fork starts at once, while every other way imports the package, and with it torch, again in every worker.
    method = 'fork' if sys.platform == 'linux' else 'spawn'
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context(method), initializer=_start_worker, initargs=(os.getpid(),)
    )
    pending: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            with _signals_deferred():  # submitting may fork
                pending.append(executor.submit(function, task))
            if len(pending) >= _IN_FLIGHT * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            'a worker process was killed, probably for lack of memory; run the same command with fewer --workers'
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Delays what Python does on a signal to the end of the block, unless this is another thread.

    During a fork Python only prints the exceptions of handlers, so that Ctrl-C would have no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own, received = os.getpid(), list[int]()
    before = {int(number): signal.getsignal(number) for number in signal.valid_signals()}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}

    def defer(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            received.append(number)
        else:  # a worker, which keeps the handlers of the fork
            handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, defer)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in received:
            signal.raise_signal(late)


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the work, the worker ends what it has in hand
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """Ends a worker whose parent has died; its siblings keep the queue open, so it would wait for ever."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(1)
