"""Preparation of an LMDB of sub-images in BasicSR's layout from folders of images.

While it runs, everything lies in a hidden folder beside the result:

    .name.lmdb.partial/
        plan.json       settings and images; a later run with the same plan continues this one
        lock            held by the run in progress
        store.lmdb/     becomes name.lmdb by one rename at the end
        replaced.lmdb/  the LMDB that --force replaces, for the moment between two renames
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write, check_free
from dasr_arch._renamed import find_renamed, rename_fields
from dasr_arch.data.image_io import FailedImage
from dasr_arch.data.lmdb_store import DATA_NAME, META_NAME, LmdbWriter, Piece, format_meta_line
from dasr_arch.data.prepare_sources import SourceImage, collect_sources
from dasr_arch.data.sub_images import CutTask, Cutting, cut_image, piece_keys
from dasr_arch.data.worker_pool import count_cores, map_in_order

REPORT_NAME = 'prepare.json'
_BATCH_BYTES = 16 << 20
_PLAN, _STORE, _REPLACED = 'plan.json', 'store.lmdb', 'replaced.lmdb'

__getattr__ = find_renamed(__name__, {'SkippedImage': 'FailedImage'})


@rename_fields(min_pictures='min_images')
@dataclass(frozen=True)
class RunSettings:
    """Settings of a run that do not affect the stored images; InputError if a number is out of range."""

    workers: int | None = None  # number of processes; all cores if None
    min_images: int = 1  # smallest number of usable images for which an LMDB is made
    recursive: bool = False  # search folders inside the input folders, too
    force: bool = False  # replace an LMDB, once the new one is complete; discard an unfinished one of other settings
    progress: bool = True  # show a progress bar on stderr

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
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    cutting: Cutting | None = None,
    settings: RunSettings | None = None,
) -> PrepareReport:
    """Makes an LMDB of sub-images from folders of images and single images.

    The result depends on the images and on ``cutting`` alone, not on the number of workers or on interruptions. A run
    that was interrupted in any way is continued by the same call. The LMDB, whose name ends in .lmdb, appears under it
    when it is complete.

    InputError if an input is missing, the output exists, an unfinished run of other settings or a running one is in the
    way, or too few images can be used. OSError if the output cannot be written; the next run continues then.
    """
    cutting = cutting or Cutting()
    settings = settings or RunSettings()
    target = Path(output)
    if target.suffix != '.lmdb':
        raise InputError(f'{target}: the name of an LMDB folder must end in .lmdb; use {target}.lmdb')
    sources = collect_sources([Path(given) for given in inputs], settings.recursive)
    workspace = target.parent / f'.{target.name}.partial'
    with _lock(workspace):
        if (workspace / _REPLACED).exists() and not os.path.lexists(target):
            (workspace / _REPLACED).rename(target)
        _check_target(target, settings.force)
        _enter_plan(workspace, _describe_plan(sources, cutting), settings.force)
        continued = _fill_store(workspace / _STORE, sources, cutting, settings)
        report = _read_report(target, workspace / _STORE, continued)
        if report.images < settings.min_images:
            shutil.rmtree(workspace)
            raise InputError(_describe_shortage(report, settings.min_images))
        _publish(workspace, target)
    return report


@contextmanager
def _lock(workspace: Path) -> Iterator[None]:
    """Locks the workspace against a second run; the system releases the lock when a process dies."""
    workspace.mkdir(parents=True, exist_ok=True)
    with (workspace / 'lock').open('w') as lock:
        if sys.platform != 'win32':
            import fcntl  # noqa: PLC0415  (Windows has none)

            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # forked workers do not inherit it, unlike flock
            except BlockingIOError as error:
                raise InputError(f'{workspace}: another run is writing there; wait until it has ended') from error
        try:
            yield
        finally:
            if not (workspace / _PLAN).exists() and not (workspace / _REPLACED).exists():
                shutil.rmtree(workspace, ignore_errors=True)


def _check_target(target: Path, force: bool) -> None:
    check_free(target, force)
    if os.path.lexists(target) and not (target / DATA_NAME).is_file():
        raise InputError(f'{target}: is no LMDB folder, so --force does not replace it; choose another name')


def _describe_plan(sources: Sequence[SourceImage], cutting: Cutting) -> str:
    """Settings, paths, sizes and times of the images, as text: everything that the result depends on."""
    images = []
    for path, key in sources:
        status = path.stat()
        images.append([os.path.abspath(path), key, status.st_size, status.st_mtime_ns])
    return json.dumps({'cutting': asdict(cutting), 'pictures': images})


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
    with atomic_write(workspace / _PLAN) as temporary:
        temporary.write_text(plan, encoding='ascii')


def _fill_store(store: Path, sources: Sequence[SourceImage], cutting: Cutting, settings: RunSettings) -> int:
    """Completes the store; returns the number of images that were already processed."""
    with closing(LmdbWriter(store)) as writer:
        journal = writer.read_journal()
        continued = len(journal)
        if not journal and (store / REPORT_NAME).exists():  # interrupted between the journal's end and the renaming
            continued = len(sources)
        else:
            _cut_all(writer, journal, sources, cutting, settings)
            _write_descriptions(store, journal, sources, cutting)
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


def _write_descriptions(store: Path, journal: dict[int, str], sources: Sequence[SourceImage], cutting: Cutting) -> None:
    """Writes meta_info.txt and the report, both of which depend on the journal alone."""
    lines: list[str] = []
    skipped: list[dict[str, str]] = []
    renamed: dict[str, str] = {}
    for number, (path, key) in enumerate(sources):
        record = json.loads(journal[number])
        if record['reason'] is not None:
            skipped.append({'file': str(path), 'reason': record['reason']})
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
    }
    with atomic_write(store / META_NAME) as temporary:
        temporary.write_text(''.join(lines), encoding='ascii')
    with atomic_write(store / REPORT_NAME) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + '\n', encoding='ascii')


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
