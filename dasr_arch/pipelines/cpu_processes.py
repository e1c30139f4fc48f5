"""Training on all cores of a CPU: processes of one thread that share each batch and average gradients over gloo.

The threads of one process wait for each other at every layer, and one thread reads the images. Processes meet once a
step, and for the encoder's batch statistics. With as many pairs, losses are those of one process up to rounding.
"""

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
import torch
import torch.distributed
from basicsr.utils.registry import DATASET_REGISTRY

from dasr_arch._errors import InputError
from dasr_arch.config.registry_checks import import_modules
from dasr_arch.data.sampling import SampledDataset
from dasr_arch.pipelines.dataloaders import leave_signals

_SHORTEST = 20  # iterations that are worth the start of processes
_LIMIT = timedelta(days=1)  # that a process waits for the others, which may validate
_TERMINATION = 5  # seconds that a process has for its end
Options = dict[str, Any]


class Choice(NamedTuple):
    """How many processes train, of how many threads each, and why."""

    processes: int
    threads: int  # of each process
    reason: str

    @property
    def line(self) -> str:
        """The choice for the log."""
        threads = f'{self.threads} thread{"s" if self.threads > 1 else ""}'
        if self.processes == 1:
            return f'One process of {threads}: {self.reason}'
        return f'{self.processes} processes of {threads} share each batch: {self.reason}'


def choose_processes(options: Mapping[str, Any]) -> Choice:
    """Number of processes for checked options of a training in one process on a CPU.

    The largest divisor of the batch that gives each process a core; one where that is slower, or gives other losses.
    """
    threads = torch.get_num_threads()
    train, data = options['train'], options['datasets']['train']
    batch = data['batch_size_per_gpu']
    contrast = train.get('contrast_opt') or {}
    obstacles = {
        'torch uses one thread (OMP_NUM_THREADS)': threads == 1,
        'processes are for Linux': sys.platform != 'linux',
        f'processes are for DASRModel, not {options["model_type"]}': options['model_type'] != 'DASRModel',
        'the training is short': train['total_iter'] < _SHORTEST,
        f'{data["type"]} draws from global generators': not issubclass(
            DATASET_REGISTRY.get(data['type']), SampledDataset
        ),
        'the batch is split by train.accumulate': train.get('accumulate', 1) > 1,
        'train.compile': bool(train.get('compile')),
        'contrast_opt.positives: other exchanges patches of the batch': contrast.get('positives') == 'other',
    }
    found = next((reason for reason, applies in obstacles.items() if applies), None)
    if found is not None:
        return Choice(1, threads, found)
    count = max(count for count in range(1, threads + 1) if batch % count == 0)
    if count == 1:
        return Choice(1, threads, f'a batch of {batch} has no divisor up to {threads}, the number of cores')
    return Choice(count, threads // count, 'faster than threads; --launcher none trains in one process')


def take_share(options: Mapping[str, Any], rank: int, choice: Choice) -> Options:
    """Options of one of the processes: its part of the batch, of the loader processes, and its place."""
    data = options['datasets']['train']
    share = {
        **data,
        'batch_size_per_gpu': data['batch_size_per_gpu'] // choice.processes,
        'num_worker_per_gpu': -(-data.get('num_worker_per_gpu', 0) // choice.processes),
    }
    return {
        **options,
        'datasets': {**options['datasets'], 'train': share},
        'dist': True,
        'rank': rank,
        'world_size': choice.processes,
        'cpu_processes': choice.processes,
    }


@contextmanager
def joined_processes(work: Callable[[Options], None], options: Mapping[str, Any], choice: Choice) -> Iterator[Options]:
    """Starts the other processes, which run ``work`` with their options, and yields those of this one, the first.

    ``work`` is a function of a module. Within the block, all are one process group. InputError with the message of a
    process that has refused its data, ChildProcessError if one was killed, RuntimeError with its traceback after a bug.
    No process is left.
    """
    threads = torch.get_num_threads(), cv2.getNumThreads()
    others: dict[Connection, BaseProcess] = {}
    with TemporaryDirectory() as folder:
        place = str(Path(folder, 'group'))
        try:
            for rank in range(1, choice.processes):
                connection, process = _start(work, take_share(options, rank, choice), place, choice.threads)
                others[connection] = process
            for connection in others:
                connection.recv()  # it is ready; EOFError if it has ended
            own = take_share(options, 0, choice)
            _join(own, place, choice.threads)
            yield own
        except (RuntimeError, EOFError) as error:  # gloo's, if a process has ended
            reason = _find_reason(others)
            if reason is None:
                raise
            raise reason from error
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            for process in others.values():
                _end(process)
            torch.set_num_threads(threads[0])
            cv2.setNumThreads(threads[1])


def agree(options: Mapping[str, Any], stops: bool) -> bool:
    """True in all processes if one of them stops; each must call it."""
    if 'cpu_processes' not in options:
        return stops
    flag = torch.tensor(float(stops))
    torch.distributed.all_reduce(flag)
    return bool(flag)


@contextmanager
def all_cores(options: Mapping[str, Any]) -> Iterator[None]:
    """Gives this process the threads of all within the block, in which the others wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads * options.get('cpu_processes', 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _start(
    work: Callable[[Options], None], options: Options, place: str, threads: int
) -> tuple[Connection, BaseProcess]:
    """Starts a process that Ctrl-C does not reach, and returns the connection that it reports to."""
    context = multiprocessing.get_context('spawn')
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, options, place, threads, there))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _environment('OMP_NUM_THREADS', str(threads)):  # read when a library is loaded
            process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    there.close()
    return here, process


def _run(work: Callable[[Options], None], options: Options, place: str, threads: int, connection: Connection) -> None:
    """The other processes: trains, and reports an error, of which the first process tells the user."""
    leave_signals()
    try:
        import_modules(options, 'options')
        connection.send(None)
        _join(options, place, threads)
        work(options)
    except KeyboardInterrupt:
        pass
    except Exception as error:  # noqa: BLE001 (the first process raises it)
        known = isinstance(error, InputError | OSError)
        with suppress(BrokenPipeError):  # a second Ctrl-C has ended the first process
            connection.send((known, str(error) if known else traceback.format_exc()))
        sys.exit(1)


def _join(options: Mapping[str, Any], place: str, threads: int) -> None:
    """Joins the process group over the loopback interface."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    with _environment('GLOO_SOCKET_IFNAME', 'lo'):
        torch.distributed.init_process_group(
            'gloo', f'file://{place}', _LIMIT, rank=options['rank'], world_size=options['world_size']
        )


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable within the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _find_reason(others: Mapping[Connection, BaseProcess]) -> Exception | None:
    """Why one of the other processes has ended; None if all go on."""
    for connection, process in others.items():
        process.join(1)
        try:
            message = connection.recv() if connection.poll() else None
        except EOFError:
            message = None
        if message is not None:
            known, text = message
            return InputError(text) if known else RuntimeError(f'in another process of the training:\n{text}')
        if process.exitcode is not None and process.exitcode < 0:
            return ChildProcessError(
                f'a process of the training was killed (signal {-process.exitcode}), perhaps for want of memory; '
                'continue with --auto_resume, or train in one process with --launcher none'
            )
    return None


def _end(process: BaseProcess) -> None:
    """Waits for the end of a process, whose process group has been left, and ends it by force if it goes on."""
    process.join(_TERMINATION)
    for end in (process.terminate, process.kill):
        if process.is_alive():
            end()
            process.join(_TERMINATION)
