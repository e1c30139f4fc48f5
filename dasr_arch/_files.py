"""Atomic file writes."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it to ``path`` if the block raises no exception.

    The content is flushed to the disk before the file is renamed, so that a crash at any moment leaves either the old
    file or the new one. Missing parent folders are made; the temporary path has the same suffix. OSError if the folder
    cannot be written or the disk is full; the temporary file is removed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    stem = os.fsencode(target.stem)[:100].decode('utf-8', 'ignore')  # names are limited in bytes
    handle, name = tempfile.mkstemp(prefix=f'.{stem}-', suffix=f'.tmp{target.suffix}', dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
