"""Long lists of inputs: shards, which split one among processes, and manifests, which are files of paths."""

import csv
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import NamedTuple, Self

from dasr_arch._errors import InputError
from dasr_arch._extras import import_extra
from dasr_arch.data.image_io import FailedImage


class Shard(NamedTuple):
    """One of several parts of a list of files; each file belongs to exactly one.

    A hash of its name alone decides which, so files that are added move no other file to another shard.
    """

    number: int  # 1 to total
    total: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard of a text such as '3/16'; InputError if it is another text or the number is out of range."""
        found = re.fullmatch(r'([0-9]{1,9})/([0-9]{1,9})', text)
        if found is None:
            raise InputError(f"shard must be N/M, such as 3/16, got '{text}'; is a variable of the script unset?")
        number, total = map(int, found.groups())
        if not 1 <= number <= total:
            raise InputError(f'shard {text}: N of N/M must be 1 to M; the first shard is 1/{max(total, 1)}')
        return cls(number, total)

    def __str__(self) -> str:
        return f'{self.number}/{self.total}'

    @property
    def label(self) -> str:
        """Beginning of a message about the shard, 'shard 3/16: '; '' for a list that is not split."""
        return f'shard {self}: ' if self.total > 1 else ''

    def holds(self, name: str | Path) -> bool:
        """True if the file of a name belongs to this shard; the ending has no effect.

        Files whose results may get one name must have one name here, without endings: a.png and a.jpg.
        """
        if self.total == 1:
            return True
        digest = hashlib.blake2b(os.fsencode(os.path.splitext(name)[0]), digest_size=8).digest()
        return int.from_bytes(digest, 'big') % self.total == self.number - 1


WHOLE = Shard(1, 1)
"""The only shard of a list that is not split."""


class ManifestRow(NamedTuple):
    """One input of a manifest."""

    line: int  # number of its line in the file, or of its row in a Parquet file, from 1
    path: str
    out: str  # path of the result; '' lets the command choose it


class Manifest:
    """File that lists input files: text, one path a line, or CSV or Parquet (by its ending) with a column ``path``.

    The column ``out``, which may be missing or empty, names results. Paths are relative to the current folder.
    Iterating reads the file anew, and raises InputError at a row that is wrong.

    Args:
        path: the file.
        with_results: False refuses names of results.

    Raises:
        InputError: if it is no file, lists nothing, or has no column ``path``.
    """

    def __init__(self, path: str, with_results: bool = True) -> None:
        self._with_results = with_results
        if not os.path.isfile(path):
            raise InputError(f'{path}: expected a manifest, a file that lists inputs; check the path')
        self.path = path
        first = next(iter(self), None)
        if first is None:
            raise InputError(f'{path}: lists no inputs, expected one path a line')
        self.first = first.path

    def __iter__(self) -> Iterator[ManifestRow]:
        """Reads the rows; empty lines are left out."""
        read = {'.csv': _read_csv, '.parquet': _read_parquet}.get(Path(self.path).suffix.lower(), _read_text)
        for line, path, out in read(self.path):
            if not path or '\0' in path + out:
                found = 'no text' if path else 'an empty path'
                raise InputError(f'{self.path}, line {line}: holds {found}, expected the path of a file')
            if out and not self._with_results:
                raise InputError(f'{self.path}, line {line}: only `dasr upscale` takes the column out; remove it')
            yield ManifestRow(line, path, out)

    def list_paths(self) -> list[Path]:
        """All paths; InputError if there is nothing at one of them."""
        for row in self:
            if not os.path.exists(row.path):
                raise InputError(f'{self.path}, line {row.line}: found nothing at {row.path}; check the path')
        return [Path(row.path) for row in self]

    def find_files(
        self, shard: Shard, name_result: Callable[[ManifestRow], str]
    ) -> tuple[list[ManifestRow], list[FailedImage]]:
        """The rows of a shard whose files exist, and the shard's other rows as failures.

        ``name_result`` gives the path of a row's result below the output folder. InputError if two rows, of whatever
        shard, have one result.
        """
        rows: list[ManifestRow] = []
        failed: list[FailedImage] = []
        results: set[int] = set()  # hashes need less memory than a million paths
        for row in self:
            result = name_result(row)
            digest = hash(result)
            if digest in results:
                raise InputError(
                    f'{self.path}, line {row.line}: {result} is the result of an earlier line, too; '
                    'remove one, or name results in the column out'
                )
            results.add(digest)
            if not shard.holds(result):
                continue
            if os.path.isfile(row.path):
                rows.append(row)
            else:
                reason = f'expected a file, found {"a folder" if os.path.isdir(row.path) else "nothing there"}'
                failed.append(FailedImage(Path(row.path), f'{reason}; line {row.line} of {self.path}'))
        return rows, failed


def _read_text(path: str) -> Iterator[tuple[int, str, str]]:
    with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
        for number, line in enumerate(file, start=1):
            if line := line.rstrip('\n'):
                yield number, line, ''


def _read_csv(path: str) -> Iterator[tuple[int, str, str]]:
    with open(path, encoding='utf-8-sig', errors='surrogateescape', newline='') as file:
        reader = csv.reader(file, strict=True)
        try:
            columns = next(reader, [])
            _check_columns(path, columns)
            chosen = [columns.index(name) if name in columns else len(columns) for name in ('path', 'out')]
            for row in reader:
                if row:
                    cells = [*row, *[''] * (len(columns) + 1 - len(row))]
                    yield reader.line_num, cells[chosen[0]], cells[chosen[1]]
        except csv.Error as error:
            raise InputError(f'{path}, line {reader.line_num}: is no CSV ({error})') from error


def _read_parquet(path: str) -> Iterator[tuple[int, str, str]]:
    parquet = import_extra('pyarrow.parquet', 'parquet')
    with open(path, 'rb') as file:
        try:
            table = parquet.ParquetFile(file)
        except ValueError as error:  # pyarrow's own errors are derived from it
            raise InputError(f'{path}: is no Parquet file ({error})') from error
        columns = table.schema_arrow.names
        _check_columns(path, columns)
        chosen = ['path', *(['out'] if 'out' in columns else [])]
        number = 0
        for batch in table.iter_batches(columns=chosen):
            paths = batch.column('path').to_pylist()
            outs = batch.column('out').to_pylist() if 'out' in columns else repeat('')
            for name, out in zip(paths, outs, strict=False):
                number += 1
                yield number, str(name or ''), str(out or '')


def _check_columns(path: str, columns: Sequence[str]) -> None:
    if 'path' not in columns:
        named = f'{",".join(columns)!r:.80}'
        raise InputError(f"{path}: has no column 'path' but {named}; rename one, or list one path a line in a .txt")
