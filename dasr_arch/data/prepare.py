"""Preparation of an LMDB of sub-images in BasicSR's layout from folders of images.

While it runs, everything lies in a hidden folder beside the result:

    .name.lmdb.partial/
        plan.json       settings and images; a later run with the same plan continues this one
        lock            held by the run in progress
        store.lmdb/     becomes name.lmdb by one rename at the end
        replaced.lmdb/  the LMDB that --force replaces, for the moment between two renames
"""

import heapq
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write, check_free, lock_file, write_whole
from dasr_arch.data.image_io import FailedImage
from dasr_arch.data.input_lists import WHOLE, Manifest, Shard
from dasr_arch.data.lmdb_store import (
    DATA_NAME,
    META_NAME,
    LmdbWriter,
    Piece,
    format_meta_line,
    open_entry,
    read_meta_info,
)
from dasr_arch.data.prepare_sources import SourceImage, collect_sources
from dasr_arch.data.sub_images import CutTask, Cutting, cut_image, piece_keys
from dasr_arch.data.worker_pool import count_cores, map_in_order

REPORT_NAME = 'prepare.json'
_BATCH_BYTES = 16 << 20
_PLAN, _STORE, _REPLACED = 'plan.json', 'store.lmdb', 'replaced.lmdb'


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run that do not affect how images are stored; InputError if a number is out of range."""

    workers: int | None = None  # number of processes; all cores if None
    min_images: int = 1  # smallest number of usable images for which an LMDB is made; ignored for a shard
    recursive: bool = False  # search folders inside the input folders, too
    force: bool = False  # replace an LMDB, once the new one is complete; discard an unfinished one of other settings
    progress: bool = True  # show a progress bar on stderr
    shard: Shard = WHOLE  # of the images; ``merge`` joins the LMDBs of all

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f'workers must be at least 1, got {self.workers}')
        if self.min_images < 1:
            raise InputError(f'min-images must be at least 1, got {self.min_images}')


class PrepareReport(NamedTuple):
    """Result of a preparation."""

    output: Path  # the LMDB folder
    images: int  # number of images in it
    sub_images: int  # number of its entries
    skipped: list[FailedImage]  # the images left out
    renamed: dict[str, Path]  # key of each image whose key is not its file name, with its path
    continued: int  # number of images that an interrupted run had processed before


def prepare(
    inputs: Sequence[str | os.PathLike[str]] | Manifest,
    output: str | os.PathLike[str],
    cutting: Cutting | None = None,
    settings: RunSettings | None = None,
) -> PrepareReport:
    """Makes an LMDB of sub-images from folders of images and single images.

    The result depends on the images, ``cutting`` and the shard alone, not on the number of workers or on interruptions.
    A run that was interrupted in any way is continued by the same call. The LMDB, whose name ends in .lmdb, appears
    under it when it is complete. A shard without images is an LMDB without entries.

    InputError if an input is missing, the output exists, an unfinished run of other settings or a running one is in the
    way, or too few images can be used. OSError if the output cannot be written; the next run continues then.
    """
    cutting = cutting or Cutting()
    settings = settings or RunSettings()
    target = _check_name(output)
    paths = inputs.list_paths() if isinstance(inputs, Manifest) else [Path(given) for given in inputs]
    sources = collect_sources(paths, settings.recursive, settings.shard)
    plan = _describe_plan(sources, cutting, settings.shard)
    return _make(target, plan, settings, lambda store: _fill_store(store, sources, cutting, settings))


def merge(
    parts: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str], settings: RunSettings | None = None
) -> PrepareReport:
    """Merges LMDBs of ``prepare`` into one; all shards of a list become the LMDB that one run would have made.

    The merged LMDB has the same entries, the same meta_info.txt and the same report as that one, and appears when it is
    complete. A call that was interrupted is repeated from the beginning.

    InputError if a part is no such LMDB or was made with other settings than the others, two of them hold an image of
    one key, a shard is missing, or as for ``prepare``.
    """
    settings = settings or RunSettings()
    target = _check_name(output)
    roots = [Path(part) for part in parts]
    reports = [_read_part(root, target) for root in roots]
    _check_parts(roots, reports)
    status = [(root / DATA_NAME).stat() for root in roots]
    files = [[os.path.abspath(root), one.st_size, one.st_mtime_ns] for root, one in zip(roots, status, strict=True)]
    return _make(target, json.dumps({'parts': files}), settings, lambda store: _merge_parts(store, roots, reports))


def _check_name(output: str | os.PathLike[str]) -> Path:
    target = Path(output)
    if target.suffix != '.lmdb':
        raise InputError(f'{target}: the name of an LMDB folder must end in .lmdb; use {target}.lmdb')
    return target


def _make(target: Path, plan: str, settings: RunSettings, fill: Callable[[Path], int]) -> PrepareReport:
    """Makes an LMDB in the workspace and moves it to its place; ``fill`` returns the images done before."""
    workspace = target.parent / f'.{target.name}.partial'
    with _lock(workspace):
        if (workspace / _REPLACED).exists() and not os.path.lexists(target):
            (workspace / _REPLACED).rename(target)
        _check_target(target, settings.force)
        _enter_plan(workspace, plan, settings.force)
        continued = fill(workspace / _STORE)
        report = _read_report(target, workspace / _STORE, continued)
        if report.images < settings.min_images and settings.shard.total == 1:
            shutil.rmtree(workspace)
            raise InputError(_describe_shortage(report, settings.min_images))
        _publish(workspace, target)
    return report


@contextmanager
def _lock(workspace: Path) -> Iterator[None]:
    """Locks the workspace against a second run."""
    workspace.mkdir(parents=True, exist_ok=True)
    with (workspace / 'lock').open('w') as lock:
        if not lock_file(lock):
            raise InputError(f'{workspace}: another run is writing there; wait until it has ended')
        try:
            yield
        finally:
            if not (workspace / _PLAN).exists() and not (workspace / _REPLACED).exists():
                shutil.rmtree(workspace, ignore_errors=True)


def _check_target(target: Path, force: bool) -> None:
    check_free(target, force, folder=True)
    if os.path.lexists(target) and not (target / DATA_NAME).is_file():
        raise InputError(f'{target}: is no LMDB folder, so --force does not replace it; choose another name')


def _describe_plan(sources: Sequence[SourceImage], cutting: Cutting, shard: Shard) -> str:
    """Settings, paths, sizes and times of the images, as text: everything that the result depends on."""
    images = []
    for path, key in sources:
        status = path.stat()
        images.append([os.path.abspath(path), key, status.st_size, status.st_mtime_ns])
    return json.dumps({'cutting': asdict(cutting), 'pictures': images, **_name_shard(shard)})


def _name_shard(shard: Shard) -> dict[str, str]:
    """Entry of the plan and of the report; none for a list that is not split."""
    return {'shard': str(shard)} if shard.total > 1 else {}


def _enter_plan(workspace: Path, plan: str, force: bool) -> None:
    """Continues the unfinished run of the same plan, or begins a new one."""
    if (workspace / _PLAN).exists():
        if (workspace / _PLAN).read_text(encoding='ascii') == plan:
            return
        if not force:
            raise InputError(
                f'{workspace}: holds an unfinished run of other settings or images; '
                'give the same ones to continue it, or discard it with --force'
            )
    if (workspace / _STORE).exists():
        shutil.rmtree(workspace / _STORE)
    write_whole(workspace / _PLAN, plan)


def _fill_store(store: Path, sources: Sequence[SourceImage], cutting: Cutting, settings: RunSettings) -> int:
    """Completes the store; returns the number of images that were already processed."""
    with closing(LmdbWriter(store)) as writer:
        journal = writer.read_journal()
        continued = len(journal)
        if not journal and (store / REPORT_NAME).exists():  # interrupted between the journal's end and the renaming
            continued = len(sources)
        else:
            _cut_all(writer, journal, sources, cutting, settings)
            _write_descriptions(store, journal, sources, cutting, settings.shard)
        writer.drop_journal()
    return continued


def _cut_all(
    writer: LmdbWriter, journal: dict[int, str], sources: Sequence[SourceImage], cutting: Cutting, settings: RunSettings
) -> None:
    """Cuts the images that are not in the journal yet and adds them, batch by batch."""
    missing = [number for number in range(len(sources)) if number not in journal]
    tasks = (CutTask(str(sources[number].path), sources[number].key, cutting) for number in missing)
    workers = min(settings.workers or count_cores(), max(len(missing), 1))
    pieces: list[Piece] = []
    records: dict[int, str] = {}
    with (
        closing(map_in_order(cut_image, tasks, workers)) as results,
        progress_bar(total=len(sources), initial=len(journal), unit='image', disable=not settings.progress) as bar,
    ):
        for number, result in zip(missing, results, strict=True):
            pieces.extend(result.pieces)
            sizes = [(piece.height, piece.width) for piece in result.pieces]
            records[number] = json.dumps({'sizes': sizes, 'reason': result.reason})
            if number == missing[-1] or sum(len(piece.data) for piece in pieces) >= _BATCH_BYTES:
                writer.put(pieces, records)
                journal.update(records)
                pieces.clear()
                records.clear()
            bar.update()


def _write_descriptions(
    store: Path, journal: dict[int, str], sources: Sequence[SourceImage], cutting: Cutting, shard: Shard
) -> None:
    """Writes meta_info.txt and the report, both of which depend on the journal alone."""
    lines: list[str] = []
    skipped: list[dict[str, str]] = []
    renamed: dict[str, str] = {}
    for number, (path, key) in enumerate(sources):
        record = json.loads(journal[number])
        if record['reason'] is not None:
            skipped.append({'file': str(path), 'reason': record['reason'], **({'key': key} if shard.total > 1 else {})})
            continue
        if key != path.stem:
            renamed[key] = str(path)
        keys = piece_keys(key, len(record['sizes']), cutting.whole)
        for name, (height, width) in zip(keys, record['sizes'], strict=True):
            lines.append(format_meta_line(name, height, width, cutting.compress_level) + '\n')
    report = {
        'parameters': asdict(cutting),
        'pictures': len(sources) - len(skipped),
        'sub_images': len(lines),
        'skipped': skipped,
        'renamed': renamed,
        **_name_shard(shard),
    }
    _write_texts(store, lines, report)


def _write_texts(store: Path, lines: Iterable[str], report: dict[str, Any]) -> None:
    with atomic_write(store / META_NAME) as temporary, temporary.open('w', encoding='ascii') as file:
        file.writelines(lines)
    write_whole(store / REPORT_NAME, json.dumps(report, indent=2) + '\n')


def _read_part(root: Path, target: Path) -> dict[str, Any]:
    """The report of an LMDB that is to be merged; InputError if it is no complete one of ``prepare``."""
    if root.resolve() == target.resolve():
        raise InputError(f'{root}: is an input and the output; choose another name for one of them')
    if not root.is_dir():
        raise InputError(f'{root}: no such LMDB folder')
    try:
        report: dict[str, Any] = json.loads((root / REPORT_NAME).read_text(encoding='ascii'))
        expected = report['sub_images']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{root}: holds no {REPORT_NAME} of `dasr prepare`, which is needed to merge it') from error
    found = len(read_meta_info(root)) if expected else 0
    if found != expected:
        raise InputError(f'{root}: {META_NAME} lists {found} of {expected} images; prepare the LMDB again')
    return report


def _check_parts(roots: Sequence[Path], reports: Sequence[dict[str, Any]]) -> None:
    """Raises InputError unless the parts fit together."""
    places: dict[str, Path] = {}
    total = max(Shard.parse(report.get('shard', '1/1')).total for report in reports)
    for root, report in zip(roots, reports, strict=True):
        if report['parameters'] != reports[0]['parameters']:
            raise InputError(f'{root}: was prepared with other settings than {roots[0]}; see {REPORT_NAME} in both')
        shard = report.get('shard', '')
        if total > 1 and not shard.endswith(f'/{total}'):
            raise InputError(f'{root}: is {shard or "no shard"}, expected one of {total} as the others are')
        if total > 1 and places.setdefault(shard, root) is not root:
            raise InputError(f'{root}: is shard {shard}, as {places[shard]} is; leave one out')
    if total > 1 and len(places) < total:
        missing = next(number for number in range(1, total + 1) if f'{number}/{total}' not in places)
        raise InputError(f'shard {missing}/{total} is missing, {len(places)} of {total} are given; prepare it first')
    for _ in _merge_lines(roots, reports[0]['parameters']['whole']):
        pass


def _merge_lines(roots: Sequence[Path], whole: bool) -> Iterator[str]:
    """The lines of meta_info.txt in the order of the images' keys; InputError if two parts hold one key."""

    def read(number: int, root: Path) -> Iterator[tuple[str, int, str]]:
        with (root / META_NAME).open(encoding='ascii') as file:
            for line in file:
                key = line.partition('.png ')[0]
                yield (key if whole else re.sub(r'_s\d+$', '', key)), number, line

    last: tuple[str, int] = ('', -1)
    for key, number, line in heapq.merge(*map(read, range(len(roots)), roots), key=itemgetter(0)):
        if key == last[0] and number != last[1]:
            raise InputError(f"{roots[number]}: holds an image '{key}', as {roots[last[1]]} does; rename one of them")
        last = (key, number)
        yield line


def _merge_parts(store: Path, roots: Sequence[Path], reports: Sequence[dict[str, Any]]) -> int:
    """Writes the parts into one store, from the beginning unless it is complete; returns 0."""
    if (store / REPORT_NAME).exists():
        return 0
    shutil.rmtree(store, ignore_errors=True)
    pieces: list[Piece] = []
    filled = 0
    with closing(LmdbWriter(store)) as writer:
        for root, report in zip(roots, reports, strict=True):
            for key, size in (read_meta_info(root) if report['sub_images'] else {}).items():
                with open_entry(root, key) as data:
                    pieces.append(Piece(key, *size, bytes(data)))
                filled += len(pieces[-1].data)
                if filled >= _BATCH_BYTES:
                    writer.put(pieces, {})
                    pieces.clear()
                    filled = 0
        writer.put(pieces, {})
        writer.drop_journal()
    skipped = [entry for report in reports for entry in report['skipped']]
    skipped.sort(key=lambda entry: entry.pop('key', Path(entry['file']).stem))  # only shards know the keys
    report = {
        'parameters': reports[0]['parameters'],
        'pictures': sum(report['pictures'] for report in reports),
        'sub_images': sum(report['sub_images'] for report in reports),
        'skipped': skipped,
        'renamed': dict(sorted(item for report in reports for item in report['renamed'].items())),
    }
    _write_texts(store, _merge_lines(roots, report['parameters']['whole']), report)
    return 0


def _read_report(target: Path, store: Path, continued: int) -> PrepareReport:
    report = json.loads((store / REPORT_NAME).read_text(encoding='ascii'))
    return PrepareReport(
        target,
        report['pictures'],
        report['sub_images'],
        [FailedImage(Path(entry['file']), entry['reason']) for entry in report['skipped']],
        {key: Path(path) for key, path in report['renamed'].items()},
        continued,
    )


def _describe_shortage(report: PrepareReport, expected: int) -> str:
    total = report.images + len(report.skipped)
    message = f'{report.output}: {report.images} of {total} images can be used, expected at least {expected}'
    if report.skipped:
        message += f'; the first one left out: {report.skipped[0].path}: {report.skipped[0].reason}'
    return message


def _publish(workspace: Path, target: Path) -> None:
    if os.path.lexists(target):
        target.rename(workspace / _REPLACED)
    (workspace / _STORE).rename(target)
    shutil.rmtree(workspace, ignore_errors=True)
