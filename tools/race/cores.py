"""Processor cores: which may be used, how they are shared, and processes bound to them."""

import os
from collections.abc import Iterable, Sequence

from dasr_arch._errors import InputError


def share_cores(cores: Sequence[int], jobs: int, planned: int | None = None) -> list[list[int]]:
    """The cores of each of several processes that run at once: equal numbers, the rest stays free.

    Args:
        cores: numbers of the cores of this machine.
        jobs: number of processes.
        planned: number of cores of the machine that the numbers of cores for each are made for; this machine, if None.

    Returns:
        The cores of each process; fewer than ``jobs`` where this machine has fewer cores than the planned one.

    Raises:
        InputError: if there are more processes than cores, or not enough cores for one process.
    """
    count = len(cores) if planned is None else planned
    if not 1 <= jobs <= count:
        whose = 'this machine' if planned is None else 'the plan'
        raise InputError(f'jobs must be from 1 to {count}, the cores of {whose}, got {jobs}')
    each = count // jobs
    if len(cores) < each:
        raise InputError(
            f'the plan gives every training {each} cores, but {len(cores)} of this machine may be used; plan on this '
            'machine, or give more --jobs'
        )
    return [list(cores[index * each : (index + 1) * each]) for index in range(min(jobs, len(cores) // each))]


def list_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(process: int, cores: Iterable[int]) -> bool:
    """Binds a process to cores.

    Args:
        process: its ID.
        cores: numbers of the cores.

    Returns:
        True if it is bound; False where the system cannot do so, or after the process has ended.
    """
    if not hasattr(os, 'sched_setaffinity'):
        return False
    try:
        os.sched_setaffinity(process, set(cores))
    except OSError:
        return False
    return True


def thread_environment(threads: int) -> dict[str, str]:
    """The environment of a process with a number of threads, which sleep while they wait."""
    return {
        **os.environ,
        'OMP_NUM_THREADS': str(threads),
        'MKL_NUM_THREADS': str(threads),
        'OMP_WAIT_POLICY': 'passive',
    }
