"""LR images from image files, with a JSON specification that reproduces them."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError, naming
from dasr_arch._files import check_free, check_writable, refuse_originals
from dasr_arch.data.image_io import (
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    FailedImage,
    is_image_name,
    list_images,
    read_image,
    write_image,
)
from dasr_arch.data.input_lists import WHOLE, Manifest, ManifestRow, Shard
from dasr_arch.data.prepare_sources import name_apart
from dasr_arch.degradations import Degradation, build_degradation, degrade_image, image_generator
from dasr_arch.version import __version__

RECORD_NAME = 'degradation.json'
"""Name of the specification in a folder of LR images; beside a single image it has the image's name.

That of shard 3/16 is degradation-3-of-16.json.
"""


@dataclass(frozen=True)
class DegradeSettings:
    """Settings for writing LR images."""

    seed: int = 0  # of the noise; with an image's name it determines the image's draws
    force: bool = False  # replace files that exist
    progress: bool = True  # show a progress bar on stderr
    shard: Shard = WHOLE  # of the images


class DegradeReport(NamedTuple):
    """Result of degrading files."""

    images: list[Path]  # the LR images
    record: Path  # the JSON file, which a shard without images does not write
    failed: list[FailedImage]  # images left out


class DegradationRecord(NamedTuple):
    """Content of a specification: ``degrade_image(degradation, image, seed, name)`` reproduces the LR images."""

    degradation: Degradation  # of all images
    seed: int  # of the draws
    names: dict[str, str]  # for each name, the file that holds the LR image


class _Job(NamedTuple):
    """One image: source path, name for its random draws, and file name of the LR image."""

    source: Path
    name: str
    file: str


class _Plan(NamedTuple):
    """All images to degrade; file names are relative to the folder."""

    folder: Path
    record: str
    jobs: list[_Job]
    failed: Sequence[FailedImage] = ()  # files of a manifest that are missing


def degrade_files(
    source: str | os.PathLike[str] | Manifest,
    target: str | os.PathLike[str],
    degradation: Degradation,
    settings: DegradeSettings | None = None,
) -> DegradeReport:
    """Degrades an image file, every image directly inside a folder, or the images of a manifest.

    All files are written to a hidden folder and moved at the end, so that an interrupted run leaves no files.
    Unreadable images are left out; originals are never replaced.

    For a folder and a manifest, ``target`` is the folder of the LR images, which become PNG; for a file, a file without
    loss (PNG, BMP, TIFF, WebP) or a folder; for a pipe, a file. InputError if the source holds no images, something is
    in the way, or no image could be used; OSError if the target cannot be written.
    """
    settings = settings or DegradeSettings()
    plan = _make_plan(source, Path(target), settings.shard)
    if settings.shard.total > 1 and not plan.jobs:
        return DegradeReport([], plan.folder / plan.record, list(plan.failed))
    _check_free(plan, settings.force)
    check_writable(plan.folder / plan.record)
    parent = plan.folder if plan.folder.is_dir() else plan.folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.degrade-', dir=parent, ignore_cleanup_errors=True) as hidden:
        staging = Path(hidden)
        made, failed = _degrade_all(plan, staging, degradation, settings)
        if not made:
            raise InputError(f'{failed[0].path}: {failed[0].reason}; no LR image was made')
        record = {
            'dasr': __version__,
            'scale': degradation.scale,
            'seed': settings.seed,
            'label': degradation.label,
            'specification': degradation.specification(),
            'pictures': made,
        }
        (staging / plan.record).write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
        files = [job.file for job in plan.jobs if job.name in made]
        plan.folder.mkdir(parents=True, exist_ok=True)
        for name in (*files, plan.record):
            os.replace(staging / name, plan.folder / name)
    return DegradeReport([plan.folder / name for name in files], plan.folder / plan.record, failed)


def read_degradation_record(path: str | os.PathLike[str]) -> DegradationRecord:
    """Reads the JSON that ``degrade_files`` wrote; InputError if it is missing or no such file."""
    try:
        record: Any = json.loads(Path(path).read_text(encoding='utf-8'))
        scale, seed, specification = record['scale'], record['seed'], record['specification']
        names = {name: entry['file'] for name, entry in record['pictures'].items()}
    except FileNotFoundError as error:
        raise InputError(f'{path}: no such file; expected the {RECORD_NAME} beside LR images') from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f'{path}: is no specification of a degradation; dasr degrade writes them') from error
    if not isinstance(seed, int):
        raise InputError(f'{path}: seed must be a whole number, got {seed!r}')
    with naming(path):
        return DegradationRecord(build_degradation(specification, scale), seed, names)


def _make_plan(given: str | os.PathLike[str] | Manifest, target: Path, shard: Shard) -> _Plan:
    if isinstance(given, Manifest):
        _check_folder(target, given.path)
        rows, failed = given.find_files(shard, _name_result)
        jobs = [_Job(Path(row.path), Path(row.path).stem, _name_result(row)) for row in rows]
        return _Plan(target, _name_record(shard), jobs, failed)
    plan = _plan_paths(Path(given), target, shard)
    return plan._replace(jobs=[job for job in plan.jobs if shard.holds(job.source.name)])


def _name_result(row: ManifestRow) -> str:
    return f'{Path(row.path).stem}.png'


def _name_record(shard: Shard) -> str:
    return f'degradation-{shard.number}-of-{shard.total}.json' if shard.total > 1 else RECORD_NAME


def _check_folder(target: Path, source: str) -> None:
    """Raises InputError unless the results of several images can be put into a folder of this name."""
    if target.exists() and not target.is_dir():
        raise InputError(f'{target}: is a file, expected a folder for the images of {source}; choose another name')
    if target.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f'{target}: looks like an image, expected a folder for the images of {source}')


def _plan_paths(source: Path, target: Path, shard: Shard) -> _Plan:
    if source.is_dir():
        _check_folder(target, str(source))
        paths = list_images(source)
        if not paths:
            raise InputError(f'{source}: holds no images (PNG, JPEG, BMP, TIFF, WebP); check the path')
        names = name_apart([path.stem for path in paths])
        jobs = [_Job(path, name, f'{name}.png') for path, name in zip(paths, names, strict=True)]
        return _Plan(target, _name_record(shard), jobs)
    if source.is_fifo():
        if target.is_dir() or not target.suffix:
            raise InputError(f'{source}: is a pipe, which has no name for its result; give an output file')
    elif not source.is_file():
        raise InputError(f'{source}: expected an image or a folder of images, found nothing there; check the path')
    elif not is_image_name(source.name):
        raise InputError(f'{source}: expected an image (PNG, JPEG, BMP, TIFF, WebP) or a folder; check the path')
    if target.is_dir() or not target.suffix:
        return _Plan(target, f'{source.stem}.json', [_Job(source, source.stem, f'{source.stem}.png')])
    if target.suffix.lower() in JPEG_SUFFIXES:
        raise InputError(
            f'{target}: a JPEG file would alter the LR image; use {target.with_suffix(".png").name}, '
            'and --jpeg for compression as a part of the degradation'
        )
    if target.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"{target}: unknown image ending '{target.suffix}'; use .png, .bmp, .tiff or .webp")
    name = target.stem if source.is_fifo() else source.stem
    return _Plan(target.parent, f'{target.stem}.json', [_Job(source, name, target.name)])


def _check_free(plan: _Plan, force: bool) -> None:
    paths = [plan.folder / name for name in (*(job.file for job in plan.jobs), plan.record)]
    refuse_originals(paths, (job.source for job in plan.jobs))
    for path in paths:
        if path.is_dir():
            raise InputError(f'{path}: is a folder, expected room for a file; choose another name')
        check_free(path, force)


def _degrade_all(
    plan: _Plan, staging: Path, degradation: Degradation, settings: DegradeSettings
) -> tuple[dict[str, dict[str, object]], list[FailedImage]]:
    """Writes the LR images; returns the entries of the JSON file by name, and the failed images.

    The entries depend only on images, degradation and seed.
    """
    made: dict[str, dict[str, object]] = {}
    failed = list(plan.failed)
    label = f'degrading, {degradation.label}'
    for job in progress_bar(plan.jobs, desc=label, unit='image', disable=not settings.progress):
        try:
            lq = degrade_image(degradation, read_image(job.source), settings.seed, job.name)
        except InputError as error:
            failed.append(FailedImage.from_error(job.source, error))
            continue
        write_image(staging / job.file, lq)
        generator = image_generator(settings.seed, job.name)
        draws = degradation.draw(generator, (1, 1))  # parameters are drawn before the noise, so the size has no effect
        made[job.name] = {
            'source': job.source.name,
            'file': job.file,
            'height': lq.shape[0],
            'width': lq.shape[1],
            'generator_seed': generator.initial_seed(),
            **degradation.describe(draws),
        }
    return made, failed
