"""LMDB folders of images in BasicSR's layout, read and written.

    name.lmdb/
        data.mdb        key -> encoded image, normally PNG
        lock.mdb        made by LMDB, not needed for reading
        meta_info.txt   one line for each image: `key.png (height,width,channels) compression`

LMDB opens a folder once in a process, and not at all in the child of a process that has it open; the environments
are therefore shared by all readers and dropped after a fork.
"""

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb

from dasr_arch._errors import InputError
from dasr_arch._files import can_synchronise

META_NAME = 'meta_info.txt'
DATA_NAME = 'data.mdb'
_META_LINE = re.compile(r'(?P<key>.+)\.png \((?P<height>\d+),(?P<width>\d+),(?P<channels>\d+)\) (?P<level>\d+)')
_SMALLEST_MAP = 1 << 26  # bytes; doubled as needed, because readers map as much as the file says
_LITTLE_ROOM = 64 << 20  # free bytes below which a batch may not fit
_JOURNAL = b'__journal__'  # a table of its own, removed when all is written


class Piece(NamedTuple):
    """One encoded image to be written into an LMDB."""

    key: str
    height: int
    width: int
    data: bytes


def format_meta_line(key: str, height: int, width: int, compress_level: int) -> str:
    """A line of meta_info.txt, without its line break, for an RGB image."""
    return f'{key}.png ({height},{width},3) {compress_level}'


def read_meta_info(root: Path) -> dict[str, tuple[int, int]]:
    """Keys and sizes (height, width) of the images in an LMDB folder, sorted by key.

    InputError if the folder is missing or no LMDB, or meta_info.txt is missing, empty, or has a line of another form or
    a key twice.
    """
    if root.suffix != '.lmdb':
        raise InputError(f'{root}: the name of an LMDB folder must end in .lmdb (BasicSR insists); rename it')
    if not root.is_dir():
        raise InputError(f'{root}: no such LMDB folder; make it with `dasr prepare IMAGES -o {root}`')
    for name in (DATA_NAME, META_NAME):
        if not (root / name).is_file():
            raise InputError(f'{root}: holds no {name}, so it is no complete LMDB; make it again with `dasr prepare`')
    meta = root / META_NAME
    sizes: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(meta.read_text(encoding='utf-8', errors='surrogateescape').splitlines(), start=1):
        found = _META_LINE.fullmatch(line.rstrip())
        if found is None:
            raise InputError(
                f'{meta}, line {number}: expected `key.png (height,width,channels) level`, got {line!r:.80}'
            )
        if found['key'] in sizes:
            raise InputError(f"{meta}, line {number}: key '{found['key']}' stands there twice; prepare the LMDB again")
        sizes[found['key']] = (int(found['height']), int(found['width']))
    if not sizes:
        raise InputError(f'{meta}: lists no images; make the LMDB again with `dasr prepare`')
    return dict(sorted(sizes.items()))


class _Environments:
    """The environments that this process has open for reading, by real path.

    An entry remembers which file it opened: when an LMDB has been replaced meanwhile, the old environment is closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, tuple[tuple[int, int], lmdb.Environment]] = {}

    def get(self, root: Path) -> lmdb.Environment:
        path = os.path.realpath(root)
        try:
            status = os.stat(os.path.join(path, DATA_NAME))
        except FileNotFoundError as error:
            raise InputError(f'{root}: the LMDB has been removed; make it again with `dasr prepare`') from error
        identity = (status.st_dev, status.st_ino)
        with self._lock:
            known = self._open.get(path)
            if known is not None and known[0] == identity:
                return known[1]
            if known is not None:
                del self._open[path]
                known[1].close()
            environment = _open_for_reading(root, path, status.st_size)
            self._open[path] = (identity, environment)
            return environment

    def close_all(self) -> None:
        with self._lock:
            for _, environment in self._open.values():
                environment.close()
            self._open.clear()

    def forget_after_fork(self) -> None:
        self._lock = threading.Lock()  # a thread that held the old one does not exist in the child
        self.close_all()


def _open_for_reading(root: Path, path: str, file_size: int) -> lmdb.Environment:
    try:
        environment = lmdb.open(path, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        if 'already open' in str(error):
            raise InputError(
                f'{root}: is open in this process by another reader (a data set of BasicSR?); '
                'read it through one kind of data set only'
            ) from error
        raise InputError(f'{root}: cannot be opened as an LMDB ({_describe(error)}); prepare it again') from error
    needed = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    if file_size < needed:  # reading past the end of a mapped file would kill the process
        environment.close()
        raise InputError(f'{root}: {DATA_NAME} is truncated ({file_size} of {needed} bytes); prepare the LMDB again')
    return environment


_environments = _Environments()
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_environments.forget_after_fork)


@contextmanager
def open_entry(root: Path, key: str) -> Iterator[memoryview]:
    """The encoded image under a key of ``read_meta_info``, valid inside the block only.

    InputError if the folder cannot be opened, is damaged or holds no such key.
    """
    with _environments.get(root).begin(buffers=True) as transaction:
        try:
            entry = transaction.get(key.encode('utf-8', errors='surrogateescape'))
        except lmdb.Error as error:
            raise InputError(f'{root}: {DATA_NAME} is damaged ({_describe(error)}); prepare the LMDB again') from error
        if entry is None:
            raise InputError(f"{root}: has no entry '{key}', though {META_NAME} lists it; prepare the LMDB again")
        yield entry


def count_entries(root: Path) -> int:
    """Number of entries in an LMDB; InputError if the folder cannot be opened."""
    return int(_environments.get(root).stat()['entries'])


class LmdbWriter:
    """Writer of images and a journal of the written images; each batch is one transaction.

    The folder is made if missing. A writer that opens the folder of an interrupted run finds its journal and the images
    listed there. Every method raises OSError if the folder cannot be written or the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with self._errors_named():
            self._environment = lmdb.open(str(folder), map_size=_SMALLEST_MAP, max_dbs=1, sync=can_synchronise(folder))
            self._journal = self._environment.open_db(_JOURNAL)

    def read_journal(self) -> dict[int, str]:
        """The records of all batches put so far, by their numbers."""
        with self._errors_named(), self._environment.begin(db=self._journal) as transaction:
            return {int(key): bytes(record).decode() for key, record in transaction.cursor()}

    def put(self, pieces: Sequence[Piece], records: Mapping[int, str]) -> None:
        """Adds a batch: images, and the journal's records about them; an OSError leaves nothing of it."""
        self._make_room(sum(len(piece.data) + 8192 for piece in pieces) + sum(map(len, records.values())))
        with self._errors_named(), self._environment.begin(write=True) as transaction:
            for piece in pieces:
                transaction.put(piece.key.encode('ascii'), piece.data)
            for number, record in records.items():
                transaction.put(f'{number:09d}'.encode(), record.encode(), db=self._journal)

    def drop_journal(self) -> None:
        """Removes the journal, which leaves nothing but images."""
        with self._errors_named(), self._environment.begin(write=True) as transaction:
            transaction.drop(self._journal, delete=True)

    def close(self) -> None:
        """Ends writing; a second call does nothing."""
        self._environment.close()

    def _make_room(self, size: int) -> None:
        used = self._environment.info()['last_pgno'] * self._environment.stat()['psize']
        map_size = self._environment.info()['map_size']
        needed = used + 2 * size + (1 << 22)  # branch pages, and copies of the pages that a transaction changes
        if needed > map_size:
            with self._errors_named():
                self._environment.set_mapsize(max(2 * map_size, 1 << needed.bit_length()))

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            # LMDB calls a disk that is full in the middle of a write an input/output error.
            is_full = shutil.disk_usage(self._folder).free < _LITTLE_ROOM
            number, reason = (errno.ENOSPC, 'the disk is full') if is_full else (errno.EIO, _describe(error))
            message = f'LMDB cannot be written ({reason}); mend that and run again to continue'
            raise OSError(number, message, str(self._folder)) from error


def _describe(error: lmdb.Error) -> str:
    return str(error).rsplit(': ', maxsplit=1)[-1]
