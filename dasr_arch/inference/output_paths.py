"""Which files are upscaled, and what the results are called, found out before the work begins."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dasr_arch._errors import InputError
from dasr_arch.inference.images.io import ENDINGS, SUFFIXES, Header, read_header


class FailedImage(NamedTuple):
    """An image that could not be upscaled, and why."""

    path: Path
    reason: str


class Job(NamedTuple):
    """One image: where it is, what it becomes, and its height, width and number of frames as its header says."""

    source: Path
    target: Path
    height: int
    width: int
    frames: int


@dataclass(frozen=True)
class Naming:
    """How results are named.

    Attributes:
        scale: up-sampling factor, part of the names.
        format: of the results, one of FORMATS; None is that of each image.
        force: replace files that exist.
        resume: leave out what is done.
        recursive: look into folders inside the folders, too.
    """

    scale: int
    format: str | None = None
    force: bool = False
    resume: bool = False
    recursive: bool = False


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
        jobs: one for each image.
        done: results of an earlier run that are left alone.
        failed: images that were refused already.
    """

    jobs: list[Job]
    done: list[Path]
    failed: list[FailedImage]


class _Found(NamedTuple):
    """An image, and the folder below which it was found, if it was."""

    path: Path
    root: Path | None


def plan_files(sources: Sequence[str], target: str | None, naming: Naming) -> Plan:
    """Finds the images and names the results.

    Args:
        sources: files, folders, and patterns such as 'photos/*.jpg'.
        target: a file or folder; None puts photo_x4.png beside photo.png and the images of a folder into folder_x4.
        naming: how results are named.

    Raises:
        InputError: if there is nothing to do, or something is in the way.
    """
    failed: list[FailedImage] = []
    found = [one for source in sources for one in _find(source, naming.recursive, failed)]
    if not found and not failed:
        raise InputError(f'{sources[0]}: holds no images ({", ".join(sorted(SUFFIXES))}); check the path')
    single = target is not None and _is_file_name(target, sources, found)
    jobs: list[Job] = []
    done: list[Path] = []
    taken: set[Path] = set()
    for one in found:
        header = _read_header(one.path, failed)
        if header is None:
            continue
        path = Path(str(target)) if single else _name(one, target, header, naming)
        path = path if single else _make_unique(path, taken)
        taken.add(path)
        if _is_done(path, one.path, header, naming, failed):
            done.append(path)
        else:
            jobs.append(Job(one.path, path, header.height, header.width, header.frames))
    kept = {job.source for job in jobs} - {failure.path for failure in failed}
    jobs = [job for job in jobs if job.source in kept]
    _refuse_originals(jobs, found)
    return Plan(jobs, done, failed)


def split_paths(paths: Sequence[str], out: str | None, scale: int) -> tuple[list[str], str | None]:
    """Tells images from the place for results among the arguments of a command.

    A shell puts every name that a pattern matches into the command, so that the last may be one more image. It is the
    place for results only where it cannot be: it does not exist, is a folder behind several images, or is the result
    of an earlier run.

    Args:
        paths: images, and perhaps a place behind them.
        out: the place, if it was named as such.
        scale: up-sampling factor.

    Raises:
        InputError: if the last of two is an image.
    """
    if out is not None or len(paths) == 1:
        return list(paths), out
    last = Path(paths[-1])
    if len(paths) > 2:
        place = last.is_dir() or paths[-1].endswith(('/', os.sep)) or paths[-1] == '-'
        return (list(paths[:-1]), paths[-1]) if place else (list(paths), None)
    if paths[0] != '-' and last.is_file() and not _is_result(Path(paths[0]), last, scale):
        raise InputError(f'{last}: is there already; to replace it write -o {last} --force, to upscale both -o FOLDER')
    return [paths[0]], paths[1]


def format_for(target: Path, wanted: str | None) -> str | None:
    """The format that the ending of a file asks for.

    Raises:
        InputError: if it is unknown, or contradicts the format that was wanted.
    """
    kind = SUFFIXES.get(target.suffix.lower())
    if kind is None:
        raise InputError(f"{target}: unknown image ending '{target.suffix}'; use one of {', '.join(sorted(SUFFIXES))}")
    if wanted is not None and wanted != kind:
        raise InputError(f'{target}: its ending says {kind}, --format says {wanted}; leave one of them out')
    return kind


def is_image_name(name: str) -> bool:
    """Whether a file name has an image's ending and is not hidden."""
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith('.')


def _find(source: str, recursive: bool, failed: list[FailedImage]) -> Iterable[_Found]:
    path = Path(source)
    if path.is_dir():
        return _find_inside(path, recursive, failed)
    if os.path.lexists(path):
        return [_Found(path, None)]
    if glob.has_magic(source):
        matches = sorted(Path(match) for match in glob.glob(source, recursive=True))
        images = [match for match in matches if match.is_file() and is_image_name(match.name)]
        if images:
            return [_Found(match, None) for match in images]
        raise InputError(f"'{source}' matches no image; check the pattern")
    raise InputError(f'{source}: expected an image or a folder, found nothing there; check the path')


def _find_inside(root: Path, recursive: bool, failed: list[FailedImage]) -> list[_Found]:
    found, real = [], root.resolve()
    for folder, inner, names in os.walk(root):  # links to folders are not followed
        inner[:] = sorted(name for name in inner if not name.startswith('.')) if recursive else []
        for name in sorted(names):
            path = Path(folder, name)
            if not is_image_name(name):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(real):
                failed.append(FailedImage(path, 'is a link that leads out of the folder; give the image itself'))
            else:
                found.append(_Found(path, root))
    return found


def _is_file_name(target: str, sources: Sequence[str], found: Sequence[_Found]) -> bool:
    """Whether the target names the one image, not a folder."""
    path = Path(target)
    if path.is_dir() or target.endswith(('/', os.sep)):
        return False
    several = len(sources) > 1 or len(found) > 1 or any(Path(source).is_dir() for source in sources)
    if several and (path.exists() or path.suffix.lower() in SUFFIXES):
        raise InputError(f'{target}: expected a folder for several images; choose another name, or end it with /')
    return not several and bool(path.suffix)


def _read_header(path: Path, failed: list[FailedImage]) -> Header | None:
    try:
        return read_header(path, str(path))
    except InputError as error:
        failed.append(FailedImage(path, str(error).removeprefix(f'{path}: ')))
        return None


def _name(one: _Found, target: str | None, header: Header, naming: Naming) -> Path:
    kind = naming.format or header.format
    keeps = SUFFIXES.get(one.path.suffix.lower()) == kind
    ending = one.path.suffix if keeps else ENDINGS[kind]
    inside = one.path.parent.relative_to(one.root) if one.root is not None else Path()
    if target is not None:
        folder = Path(target) / inside
    elif one.root is not None:
        root = one.root if one.root.name not in ('', '..') else one.root.resolve()
        folder = root.with_name(f'{root.name}_x{naming.scale}') / inside
    else:
        return one.path.with_name(f'{one.path.stem}_x{naming.scale}{ending}')
    path = folder / f'{one.path.stem}{ending}'
    same = folder.exists() and folder.resolve() == one.path.parent.resolve()
    return path.with_stem(f'{path.stem}_x{naming.scale}') if same else path


def _make_unique(path: Path, taken: set[Path]) -> Path:
    """Another name where two images would become one file, such as a.png beside a PNG called a.jpg."""
    free, number = path, 2
    while free in taken:
        free, number = path.with_stem(f'{path.stem}-{number}'), number + 1
    return free


def _is_done(path: Path, source: Path, header: Header, naming: Naming, failed: list[FailedImage]) -> bool:
    """Whether the result of an image is there already; what is in the way of it is an error."""
    if path.is_dir():
        raise InputError(f'{path}: is a folder, expected room for a file; choose another name')
    if not os.path.lexists(path) or naming.force:
        return False
    if not naming.resume:
        raise InputError(f'{path}: exists already; --resume leaves it out, --force replaces it')
    if _fits(path, header, naming.scale):
        return True
    failed.append(FailedImage(source, f'{path} exists but is not x{naming.scale} of it; replace it with --force'))
    return False


def _fits(path: Path, header: Header, scale: int) -> bool:
    """Whether a file is an image of the size that enlarging another gives; it may have been turned."""
    try:
        there = read_header(path, str(path), limited=False)
    except InputError:
        return False
    return {there.width, there.height} == {header.width * scale, header.height * scale}


def _is_result(source: Path, path: Path, scale: int) -> bool:
    if not source.is_file():
        return False
    try:
        return _fits(path, read_header(source, str(source)), scale)
    except InputError:
        return False


def _refuse_originals(jobs: Sequence[Job], found: Sequence[_Found]) -> None:
    originals = {one.path.resolve() for one in found}
    files = {(one.stat().st_dev, one.stat().st_ino) for one in originals if one.exists()}
    for job in jobs:
        there = job.target.stat() if job.target.exists() else None
        same = there is not None and (there.st_dev, there.st_ino) in files  # by another name: case, hard link
        if same or job.target.resolve() in originals:
            raise InputError(f'{job.target}: is one of the originals, which are never replaced; choose another name')
