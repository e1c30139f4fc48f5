"""Settings of glibc's allocator: freed blocks are kept for the next layer and not returned to the system.

Each layer of a network takes a block of some megabytes and frees the one before. glibc maps blocks of this size and
unmaps them when they are freed, so that the system clears every page of every layer anew: a DASR forward pass of
512 x 512 LR pixels then takes half as long again (docs/performance.md).
"""

import ctypes
import functools
import os
from collections.abc import Callable

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h of glibc
_LARGEST_BLOCK = 1 << 30
_NEVER = (1 << 31) - 1
_USERS_OWN = ('MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_MAX_')


@functools.cache
def keep_freed_memory() -> bool:
    """Lets this process keep freed blocks of up to 1 GiB, once; returns True if the setting applies.

    It applies only with glibc, and not if the user has set one of its variables (``MALLOC_MMAP_MAX_``,
    ``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_``, or ``GLIBC_TUNABLES`` for malloc).
    """
    if any(name in os.environ for name in _USERS_OWN) or 'glibc.malloc' in os.environ.get('GLIBC_TUNABLES', ''):
        return False
    mallopt = _find('mallopt', ctypes.c_int, ctypes.c_int)
    if mallopt is None or not mallopt(_TRIM_THRESHOLD, _NEVER):
        return False
    return bool(
        mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) or mallopt(_MMAP_MAX, 0)
    )  # old ones refuse so large a threshold


def return_freed_memory() -> None:
    """Returns the kept memory to the system; does nothing if ``keep_freed_memory`` does not apply."""
    if keep_freed_memory():
        trim = _find('malloc_trim', ctypes.c_size_t)
        if trim is not None:
            trim(0)


def _find(name: str, *arguments: type) -> Callable[..., int] | None:
    """A function of glibc; None with other C libraries (musl, macOS, Windows)."""
    if os.name != 'posix':
        return None
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - raises where the C library is another one
        function = getattr(library, name)
    except (OSError, AttributeError):
        return None
    function.argtypes = list(arguments)
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]
