"""Claims on parts of a work that several processes or nodes share: lock files, each with a lease, in one folder."""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

LEASE = 60.0  # seconds without renewal, after which a claim is void
POLL = 1.0  # seconds between attempts

_NAMESPACE = Path('/proc/self/ns/pid')
_MACHINE = f'{platform.node()} {_NAMESPACE.readlink()}' if _NAMESPACE.is_symlink() else ''
"""The machine or container where a process ID is valid; empty on systems without /proc."""


class Claims:
    """The claims in a folder.

    A claim is a file ``<name>.<number>.lock``, which only one process can create and whose time of change it renews.
    It is void if its process has ended on this machine, or if that time has stayed the same for LEASE seconds of the
    local clock; the clocks of two machines are never compared. Then the next number is the claim. A process that was
    suspended does not notice that, so both must write the same result, and atomically.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, tuple[int, float]] = {}  # time of change of a lock, and when it was first read

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Yields True if this process has the claim until the end of the block; OSError if it cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        locks = []
        for number in count():
            locks.append(self._folder / f'{name}.{number}.lock')
            try:
                with locks[-1].open('x', encoding='utf-8') as file:
                    file.write(f'{os.getpid()} {_MACHINE}')
                break
            except FileExistsError:
                if self._is_valid(locks[-1]):
                    yield False
                    return
        ended = threading.Event()
        threading.Thread(target=_renew, args=(locks[-1], ended), daemon=True).start()
        try:
            yield True
        finally:
            ended.set()
            for lock in locks:
                with suppress(OSError):
                    lock.unlink()

    @contextmanager
    def wait_for(self, name: str, alone: bool) -> Iterator[None]:
        """Holds a claim as soon as it is free; ``alone`` also waits until no other process has any claim."""
        while True:
            with self.claim(name) as claimed:
                if claimed and not (alone and self.has_others()):
                    yield
                    return
            time.sleep(POLL)

    def has_others(self) -> bool:
        """True if another process has a claim; this one must have one."""
        names = os.listdir(self._folder)  # faster than glob where there are thousands of results
        return sum(self._is_valid(self._folder / name) for name in names if name.endswith('.lock')) > 1

    def _is_valid(self, lock: Path) -> bool:
        now = time.monotonic()
        try:
            with lock.open(encoding='utf-8', errors='replace') as file:  # NFS asks the server for the time of change
                changed, (process, _, machine) = os.fstat(file.fileno()).st_mtime_ns, file.read().partition(' ')
        except OSError:
            return True  # released just now; the next attempt decides
        if machine and machine == _MACHINE and not Path('/proc', process).exists():
            return False
        if self._seen.get(lock, (None, now))[0] != changed:
            self._seen[lock] = changed, now
        return now - self._seen[lock][1] < LEASE


def _renew(lock: Path, ended: threading.Event) -> None:
    while not ended.wait(LEASE / 6):
        with suppress(OSError):  # a server may come back
            os.utime(lock)  # an NFS server sets its own time
