"""What to compute on, and how much memory is left there."""

import os
from pathlib import Path

import torch

from dasr_arch._errors import InputError

_CGROUP = Path('/sys/fs/cgroup')
_MEMINFO = Path('/proc/meminfo')


def choose_device(name: str | torch.device = 'auto') -> torch.device:
    """The device that a name stands for.

    Args:
        name: 'auto' for the GPU that torch finds, else the CPU; or torch's own names, such as 'cpu' or 'cuda:1'.

    Raises:
        InputError: if there is no such device here.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device '{name}' does not exist here; use auto, cpu or cuda (see `dasr doctor`)") from error
    if device.type not in ('cpu', 'cuda'):
        raise InputError(f"device '{name}' is not supported; use auto, cpu or cuda")
    return device


def available_memory(device: torch.device) -> int:
    """Bytes that a computation on a device may take now without pushing anything else out.

    Args:
        device: a CPU or GPU.

    Returns:
        On a GPU what the driver and torch's own store hold free; on a CPU what the system calls available, less where
        a container allows less.
    """
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limits = [limit for limit in (_read_available(_MEMINFO), _read_container(_CGROUP)) if limit is not None]
    return min(limits) if limits else os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2


def _read_available(path: Path) -> int | None:
    """Linux's own estimate, in bytes; None where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith('MemAvailable:')]
    return int(found[0][1]) * 1024 if found else None


def _read_container(folder: Path) -> int | None:
    """What a container may still take, in bytes; None without a limit."""
    for limit, used in (
        ('memory.max', 'memory.current'),
        ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes'),
    ):
        try:
            return max(0, int((folder / limit).read_text()) - int((folder / used).read_text()))
        except (OSError, ValueError):  # no such version of control groups, or 'max'
            continue
    return None
