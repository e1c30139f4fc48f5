"""Folder with the rows of an upscaling job: one for each image, in Parquet files, so that the job can be continued."""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dasr_arch._errors import InputError
from dasr_arch._extras import import_extra
from dasr_arch._files import check_writable, write_whole

ROWS = 'rows.parquet'
"""File with one row for each image, written at the end of every run."""

_JOB, _PARTS = 'job.json', 'parts'
_PART_ROWS, _PART_SECONDS = 1000, 30.0  # a part is written when it has so many rows, or is so old


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def identify(path: Path, job: str) -> str:
    """Id of an image in a job: a hash of its path, size, modification time and the job's digest.

    An image that is not there has an id, too.
    """
    try:
        status = path.stat()
        state = f'{status.st_size} {status.st_mtime_ns}'
    except OSError:
        state = 'missing'
    text = f'{job} {state} '.encode() + os.fsencode(path)
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def row_schema() -> Any:
    """Pyarrow schema of the rows; ``sha256``, ``size`` (bytes) and ``seconds`` are empty if there is no result.

    ``seconds`` and ``model`` are empty as well for a result that an earlier run has made.
    """
    arrow = import_extra('pyarrow', 'ray')
    text = arrow.string()
    return arrow.schema(
        [
            ('id', text),
            ('path', text),
            ('out', text),
            ('sha256', text),
            ('size', arrow.int64()),
            ('seconds', arrow.float64()),
            ('model', text),
            ('notes', arrow.list_(text)),
            ('error', text),
        ]
    )


class ResultsFolder:
    """Rows of a job: those of earlier runs, and new ones, which are written every 30 s and merged at the end.

    ``job`` is what all results depend on; another job needs another folder. ``anew`` forgets earlier rows. InputError
    if the folder cannot be written, holds other files, or belongs to another job.
    """

    def __init__(self, path: Path, job: Mapping[str, object], anew: bool = False) -> None:
        self.path = path
        self._file = path / _JOB
        self._new: list[dict[str, Any]] = []
        self._written = time.monotonic()
        content = json.dumps(job, indent=2, sort_keys=True) + '\n'
        self.job = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
        check_writable(self._file)
        if self._file.is_file():
            self._refuse_other(job)
        elif path.is_dir() and any(path.iterdir()):
            raise InputError(f'{path}: holds files, but no results of a job; choose another folder for --results')
        self._anew = anew
        self._content = content

    @property
    def started(self) -> int:
        """Time in ns at which the job was begun, by the clock of the folder's file system."""
        return self._file.stat().st_mtime_ns

    def made_since_start(self, time_ns: int, other_ns: int) -> bool:
        """True if a time is not before another one nor before the start of the job; False of a new job."""
        return self._file.is_file() and time_ns >= max(self.started, other_ns)

    def __enter__(self) -> Self:
        """Begins the job if it is new, and returns the folder."""
        if self._anew or not self._file.is_file():
            write_whole(self._file, self._content)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes what is left, and merges the rows unless the run was interrupted."""
        self._write_part()
        if kind is None:
            self._merge()

    def read(self, columns: Sequence[str] = ('id', 'out', 'size', 'error')) -> list[dict[str, Any]]:
        """Some columns of the newest row of each image, of earlier runs."""
        return [] if self._anew else _newest(self._tables()).select(list(columns)).to_pylist()

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows with the columns of ``row_schema``; those that are missing are empty."""
        self._new += rows
        if len(self._new) >= _PART_ROWS or time.monotonic() - self._written >= _PART_SECONDS:
            self._write_part()

    def _refuse_other(self, job: Mapping[str, object]) -> None:
        try:
            known = json.loads(self._file.read_text(encoding='utf-8'))
            different = sorted(name for name in {*known, *job} if known.get(name) != job.get(name))
        except (ValueError, TypeError) as error:
            raise InputError(f'{self._file}: cannot be read ({error}); choose another folder for --results') from error
        if different:
            raise InputError(
                f'{self.path}: holds the results of another job, with other {", ".join(different)}; '
                'choose another folder for --results'
            )

    def _tables(self) -> list[Any]:
        """Tables of the earlier rows, the oldest first; those that were merged may be there twice after a crash."""
        parquet = import_extra('pyarrow.parquet', 'ray')
        paths = [self.path / ROWS, *sorted((self.path / _PARTS).glob('*.parquet'))]
        tables = [row_schema().empty_table()]
        for path in paths if not self._anew else paths[1:]:
            if path.is_file():
                try:
                    tables.append(parquet.read_table(path, schema=row_schema()))
                except (OSError, ValueError) as error:
                    raise InputError(f'{path}: cannot be read ({error}); remove it') from error
        return tables

    def _write_part(self) -> None:
        if self._new:
            name = f'{time.time_ns():020d}-{secrets.token_hex(4)}.parquet'
            table = import_extra('pyarrow', 'ray').Table.from_pylist(self._new, schema=row_schema())
            self._write(self.path / _PARTS / name, table)
            self._new = []
        self._written = time.monotonic()

    def _merge(self) -> None:
        parts = sorted((self.path / _PARTS).glob('*.parquet'))
        self._write(self.path / ROWS, _newest(self._tables()))
        for path in parts:
            path.unlink()

    def _write(self, path: Path, table: Any) -> None:
        arrow, parquet = import_extra('pyarrow', 'ray'), import_extra('pyarrow.parquet', 'ray')
        sink = arrow.BufferOutputStream()
        parquet.write_table(table, sink, compression='zstd')
        write_whole(path, sink.getvalue().to_pybytes())


def _newest(tables: Sequence[Any]) -> Any:
    """The last row of each result, and of each image that has failed before there was one."""
    arrow = import_extra('pyarrow', 'ray')
    table = arrow.concat_tables(tables)
    places: dict[str, dict[str, int]] = {}  # of the rows of each image, by their results
    owners: dict[str, str] = {}  # image of each result
    for place, (path, out) in enumerate(zip(table['path'].to_pylist(), table['out'].to_pylist(), strict=True)):
        if out:
            places.get(owners.get(out, ''), {}).pop(out, None)
            places.setdefault(path, {}).pop('', None)
            places[path][out] = place
            owners[out] = path
        else:
            places[path] = {'': place}
    chosen = sorted(place for rows in places.values() for place in rows.values())
    return table.take(arrow.array(chosen, arrow.int64()))
