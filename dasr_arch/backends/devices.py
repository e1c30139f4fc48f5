"""Devices to compute on, and their free memory."""

import ctypes
import os
import sys
from pathlib import Path

import torch

from dasr_arch._errors import InputError

_CGROUP = Path('/sys/fs/cgroup')
_MEMINFO = Path('/proc/meminfo')
_MPS_SINCE = (2, 8)  # version of torch; earlier ones lack bicubic upsampling on Apple's GPUs


def choose_device(name: str | torch.device = 'auto') -> torch.device:
    """The device of a name: 'auto', or torch's own names such as 'cpu', 'cuda:1' or 'mps'.

    'auto' is the GPU that torch finds, NVIDIA's (or AMD's) before Apple's, else the CPU. Raises InputError if there is
    no such device here, or one of another kind.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'mps' if has_mps() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device '{name}' does not exist here; use auto, cpu, cuda or mps (see `dasr doctor`)"
        ) from error
    if device.type not in ('cpu', 'cuda', 'mps'):
        raise InputError(f"device '{name}' is not supported; use auto, cpu, cuda or mps")
    return device


def has_mps() -> bool:
    """True if PyTorch supports the Apple GPU of this machine with all operations that are needed."""
    version = tuple(int(part) for part in torch.__version__.split('.')[:2])
    return torch.backends.mps.is_available() and version >= _MPS_SINCE


def available_memory(device: torch.device) -> int:
    """Free memory of a device in bytes.

    On a GPU that of the driver and of torch's caching allocator, on Apple's the recommended maximum; on a CPU the
    system's available memory, or the container's limit if that is lower; on macOS, which reports none, half of all.
    """
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == 'mps':
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    limits = [limit for limit in (_read_available(_MEMINFO), _read_container(_CGROUP)) if limit is not None]
    if limits:
        return min(limits)
    if sys.platform == 'win32':
        return _read_windows()
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of Windows."""

    _fields_ = (
        ('length', ctypes.c_uint32),
        ('load', ctypes.c_uint32),
        ('total_physical', ctypes.c_uint64),
        ('available_physical', ctypes.c_uint64),
        ('page_files_and_virtual', 5 * ctypes.c_uint64),  # not used here
    )


def _read_windows() -> int:
    """Physical memory that Windows calls available, in bytes."""
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    getattr(ctypes, 'windll').kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # noqa: B009  (not there elsewhere)
    return int(status.available_physical)


def _read_available(path: Path) -> int | None:
    """Linux's own estimate, in bytes; None where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith('MemAvailable:')]
    return int(found[0][1]) * 1024 if found else None


def _read_container(folder: Path) -> int | None:
    """Free memory of a container in bytes, including reclaimable file cache; None without a limit."""
    for limit, used, kept in (
        ('memory.max', 'memory.current', 'memory.stat'),
        ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes', 'memory/memory.stat'),
    ):
        try:
            most = int((folder / limit).read_text())
            free = most - int((folder / used).read_text()) + _read_cached(folder / kept)
        except (OSError, ValueError):  # no such version of control groups, or 'max'
            continue
        return min(max(0, free), most)
    return None


def _read_cached(path: Path) -> int:
    """Bytes of files in a control group's memory; 0 where it does not say."""
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
        found = {name: int(value) for name, value in pairs}
    except (OSError, ValueError):
        return 0
    prefix = 'total_' if 'total_inactive_file' in found else ''  # version 1, with the groups below it
    return found.get(f'{prefix}inactive_file', 0) + found.get(f'{prefix}active_file', 0)
