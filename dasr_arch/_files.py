"""Atomic file writes, checks of paths, locks."""

import errno
import os
import secrets
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dasr_arch._errors import InputError

_LOSS = {errno.EDQUOT, errno.EIO, errno.ENOSPC}
"""Errors after which the content may be lost; file systems without modes or synchronisation, such as SMB, FUSE and
exFAT, give many others."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it to ``path`` if the block raises no exception.

    The content is flushed to the disk before the file is renamed, so that a crash at any moment leaves either the old
    file or the new one. Missing parent folders are made; the temporary path has the same suffix. OSError, which names
    ``path``, if the folder cannot be written or the disk is full; the temporary file is removed. A file that is
    replaced passes its mode on.
    """
    target = Path(path)
    stem = os.fsencode(target.stem)[:100].decode(sys.getfilesystemencoding(), 'ignore')  # names are limited in bytes
    temporary = target.parent / f'.{stem}-{secrets.token_hex(4)}.tmp{target.suffix}'
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(mode=0o600 if target.exists() else 0o666, exist_ok=False)
        mode = (target if target.exists() else temporary).stat().st_mode
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            synchronise(descriptor)
        finally:
            os.close(descriptor)
        with _where_supported():
            temporary.chmod(mode)  # safetensors puts a file of its own there, for its owner alone
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno in _LOSS and error.filename is None:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file by `atomic_write`; text as UTF-8, with its line ends, and undecodable names of files as escapes."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode('utf-8', 'backslashreplace') if isinstance(content, str) else content)


def synchronise(descriptor: int) -> None:
    """Flushes an open file to the disk, where the file system can."""
    with _where_supported():
        os.fsync(descriptor)


def can_synchronise(folder: Path) -> bool:
    """True if the file system of a folder flushes files to the disk."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            return error.errno in _LOSS
    return True


def check_free(path: Path, force: bool, *, folder: bool = False) -> None:
    """Raises InputError if something is at a path that ``force`` does not replace, or a file cannot be made there.

    Only files are replaced; folders, if the result is one.
    """
    if os.path.lexists(path) and not force:
        raise InputError(f'{path}: exists already; choose another name, or replace it with --force')
    if folder:
        check_writable(path)
    else:
        check_replaceable(path)


def check_replaceable(path: Path) -> None:
    """As :func:`check_writable`; also refuses a path at which a folder or a device is."""
    if path.exists() and not path.is_file():
        raise InputError(f'{path}: is {"a folder" if path.is_dir() else "no file"}; choose the name of a file')
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raises InputError if a file cannot be made at a path, before the work for it begins; makes nothing."""
    existing = next(parent for parent in Path(os.path.abspath(path)).parents if parent.exists())
    if not existing.is_dir():
        raise InputError(f'{path}: cannot be written, {existing} is a file; choose another folder')
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f'{path}: cannot be written ({error.strerror}); choose another folder') from error


def lock_file(file: IO[Any]) -> bool:
    """Locks a file open for writing until it is closed, where the system can; False if another process holds it."""
    if sys.platform != 'win32':
        import fcntl  # noqa: PLC0415  (Windows has none)

        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # forked processes do not inherit it, unlike with flock
        except OSError as error:
            return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


@contextmanager
def _where_supported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _LOSS:
            raise


def refuse_originals(targets: Iterable[Path], originals: Iterable[Path]) -> None:
    """Raises InputError if an output path is one of the inputs, also by another name (case, hard link, symlink)."""
    there = {target: target.stat() for target in targets if target.exists()}
    if not there:  # a file that does not exist is no input; a million inputs are not looked at then
        return
    inputs = list(originals)
    resolved = {path.resolve() for path in inputs}
    files = {(one.stat().st_dev, one.stat().st_ino) for one in resolved if one.exists()}
    for target, status in there.items():
        if (status.st_dev, status.st_ino) in files or target.resolve() in resolved:
            raise InputError(f'{target}: is one of the originals, which are never replaced; choose another name')
