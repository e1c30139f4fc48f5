"""Input files and output paths of an upscaling run, checked before the work begins."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from dasr_arch._errors import InputError
from dasr_arch._files import check_writable, refuse_originals
from dasr_arch.data.image_io import FailedImage, is_image_name
from dasr_arch.data.input_lists import WHOLE, Manifest, ManifestRow, Shard
from dasr_arch.inference.images.io import ENDINGS, SUFFIXES, Header, read_header
from dasr_arch.inference.target_size import Scale, check_mask, choose_factor, label_scale, read_label, resize
from dasr_arch.inference.video.reader import CONTAINERS, VIDEO_SUFFIXES

_NO_TARGET = 'is a link that leads nowhere; give the image itself'
_is_readable = partial(is_image_name, suffixes=tuple(SUFFIXES))


class UpscaleJob(NamedTuple):
    """One input file and the file to write."""

    source: Path
    target: Path
    header: Header | None = None  # None for a video, which is opened when its turn comes


class UpscalePlan(NamedTuple):
    """Work of one run."""

    jobs: list[UpscaleJob]
    done: list[Path]  # results of an earlier run, which are kept
    failed: list[FailedImage]  # images that cannot be read
    left_out: list[Path]  # files that are no images, and results of this command among the inputs


@dataclass(frozen=True)
class PathSettings:
    """Rules for output paths."""

    scale: Scale  # size of the results, part of the names
    format: str | None = None  # of the results, one of FORMATS; None keeps that of each image; ignored for videos
    force: bool = False  # replace existing files
    resume: bool = False  # skip images whose result exists
    recursive: bool = False  # include subfolders; ignored for videos
    factors: Sequence[int] = ()  # of the networks that there are; empty leaves the scale unchecked; ignored for videos
    mask: tuple[int, int] | None = None  # width and height of the mask; ignored for videos
    shard: Shard = WHOLE  # of the inputs


class _Found(NamedTuple):
    """An input, and the folder argument below which it was found, if any."""

    path: Path
    root: Path | None = None
    base: Path | None = None  # the folder that a pattern or folder argument searches
    out: str | None = None  # in a manifest the output path it gives, '' for none


def plan_files(sources: Sequence[str] | Manifest, target: str | None, settings: PathSettings) -> UpscalePlan:
    """Finds the images in files, folders and patterns such as 'photos/*.jpg', and chooses the output paths.

    The target is a file or folder; None writes photo_x4.png next to photo.png, and the images of a folder to folder_x4.
    Of a manifest it is a folder, and missing files are failed images. Raises InputError if there are no images, or an
    output path cannot be used.
    """
    failed: list[FailedImage] = []
    left_out: list[Path] = []
    if isinstance(sources, Manifest):
        found = _find_listed(sources, target, settings, failed)
        originals = (Path(row.path) for row in sources)
    else:
        every = [one for source in sources for one in _find(source, settings, failed, left_out)]
        found = list({(os.path.abspath(one.path), one.out): one for one in every}.values())  # each once
        if not found and not failed:
            raise InputError(f'{sources[0]}: holds no images ({", ".join(sorted(SUFFIXES))}); check the path')
        found = _without_results(found, target, settings, left_out)
        originals = (one.path for one in found)
        failed = [image for image in failed if settings.shard.holds(image.path)]
        left_out = [path for path in left_out if settings.shard.holds(path)]
    single = target is not None and _is_file_name(target, sources, found)
    jobs: list[UpscaleJob] = []
    done: list[Path] = []
    for one, header, path in _choose_paths(found, target, single, settings, failed):
        try:
            finished = is_finished(path, settings)
        except OSError as error:  # such as a name that became too long
            failed.append(FailedImage(one.path, f'its result cannot be written ({error.strerror}); shorten its name'))
            continue
        if not finished:
            jobs.append(UpscaleJob(one.path, path, header))
            if settings.mask is not None:
                size = (header.width, header.height)
                check_mask(settings.mask, size, resize(settings.scale, *size), f'{one.path}: ')
        elif is_upscaled(path, header, settings.scale):
            done.append(path)
        else:
            reason = f'{path} exists but is not {label_scale(settings.scale)} of it; replace it with --force'
            failed.append(FailedImage(one.path, reason))
    refuse_originals([job.target for job in jobs], originals)
    check_folders(jobs)
    return UpscalePlan(jobs, done, failed, left_out)


def check_folders(jobs: Iterable[UpscaleJob]) -> None:
    """Raises InputError before the work if a result cannot be written."""
    for target in {job.target.parent: job.target for job in jobs}.values():
        check_writable(target)


def is_video(source: str) -> bool:
    """True for file names and patterns with a video ending."""
    return Path(source).suffix.lower() in VIDEO_SUFFIXES


def plan_videos(sources: Sequence[str] | Manifest, target: str | None, settings: PathSettings) -> UpscalePlan:
    """Chooses the output paths of files and patterns such as 'clips/*.mp4'; no file is opened.

    The target is a file or folder; None writes clip_x4.mp4 next to clip.mp4. Formats that are only read become .mkv.
    Raises InputError if a pattern matches nothing, or an output path cannot be used.
    """
    failed: list[FailedImage] = []
    left_out: list[Path] = []
    if isinstance(sources, Manifest):
        found = _find_listed(sources, target, settings, failed, videos=True)
        originals = (Path(row.path) for row in sources)
    else:
        given = [one for source in sources for one in _find_videos(source)]
        names = {(one.path.parent, one.path.stem) for one in given}
        labels = [(one.path, read_label(one.path.stem)) for one in given]
        left_out = [path for path, label in labels if label and (path.parent, label[0]) in names]  # earlier results
        found = [one for one in given if one.path not in left_out]
        originals = (one.path for one in found)
    folder = target is not None and (Path(target).is_dir() or target.endswith(('/', os.sep)))
    if target is not None and (len(found) > 1 or isinstance(sources, Manifest)) and not folder:
        raise InputError(f'{target}: expected a folder for several videos; make it, or end its name with /')
    results: dict[Path, _Found] = {}
    for one in found:
        result = _choose_video_path(one, target, folder, settings)
        if result in results:
            raise InputError(f'{result}: two videos would get this name; give them one by one')
        results[result] = one
    refuse_originals(results, originals)
    jobs: list[UpscaleJob] = []
    done: list[Path] = []
    for result, one in results.items():
        if not _is_own(one, target, settings.shard):
            continue
        if is_finished(result, settings):
            done.append(result)
        else:
            jobs.append(UpscaleJob(one.path, result))
    check_folders(jobs)
    return UpscalePlan(jobs, done, failed, left_out)


def split_paths(paths: Sequence[str], out: str | None, scale: Scale) -> tuple[list[str], str | None]:
    """Separates the inputs of a command from the output path, which is ``out``, the last of the paths, or None.

    A shell expands a pattern, so the last argument may be one more input. It is the output path only if it does not
    exist, is a folder after several images, or is the result of an earlier run. Raises InputError if the last of two
    paths is an input.
    """
    if out is not None or len(paths) == 1:
        return list(paths), out
    last = Path(paths[-1])
    if len(paths) > 2:
        is_output = last.is_dir() or paths[-1].endswith(('/', os.sep)) or paths[-1] == '-'
        return (list(paths[:-1]), paths[-1]) if is_output else (list(paths), None)
    if paths[0] != '-' and last.is_file() and not _is_result(Path(paths[0]), last, scale):
        raise InputError(f'{last}: is there already; to replace it write -o {last} --force, to upscale both -o FOLDER')
    return [paths[0]], paths[1]


def format_for(target: Path, wanted: str | None) -> str | None:
    """Image format of a file name's ending; InputError if it is unknown or contradicts the wanted format."""
    kind = SUFFIXES.get(target.suffix.lower())
    if kind is None:
        raise InputError(f"{target}: unknown image ending '{target.suffix}'; use one of {', '.join(sorted(SUFFIXES))}")
    if wanted is not None and wanted != kind:
        raise InputError(f'{target}: its ending says {kind}, --format says {wanted}; leave one of them out')
    return kind


def is_finished(path: Path, settings: PathSettings) -> bool:
    """True if an output path exists and is to be kept; InputError if it may be neither kept nor replaced."""
    if path.is_dir():
        raise InputError(f'{path}: is a folder, expected room for a file; choose another name')
    if not os.path.lexists(path) or settings.force:
        return False
    if not settings.resume:
        raise InputError(f'{path}: exists already; --resume leaves it out, --force replaces it')
    return True


def _find(source: str, settings: PathSettings, failed: list[FailedImage], left_out: list[Path]) -> Iterable[_Found]:
    path = Path(source)
    if not source:
        raise InputError('an empty path was given; is a variable of the script unset?')
    if path.is_dir():
        return _find_inside(path, settings, failed, left_out)
    if path.is_symlink() and not path.exists():
        failed.append(FailedImage(path, _NO_TARGET))
        return []
    if os.path.lexists(path):
        return [_Found(path)]
    if glob.has_magic(source):
        return _find_matches(source, _is_readable, 'image')
    raise InputError(f'{source}: expected an image or a folder, found nothing there; check the path')


def _find_matches(source: str, is_wanted: Callable[[str], bool], kind: str) -> list[_Found]:
    """Files that match a pattern such as 'photos/*.jpg', sorted; InputError if there are none.

    ``is_wanted`` takes names without folder; ``kind``, 'image' or 'video', is for the message.
    """
    matches = sorted(Path(match) for match in glob.glob(source, recursive=True))
    files = [match for match in matches if match.is_file() and is_wanted(match.name)]
    if not files:
        raise InputError(f"'{source}' matches no {kind}; check the pattern")
    base = next(parent for parent in Path(source).parents if not glob.has_magic(str(parent)))
    return [_Found(file, None, base) for file in files]


def _find_videos(source: str) -> list[_Found]:
    is_pattern = glob.has_magic(source) and not os.path.lexists(source)
    return _find_matches(source, is_video, 'video') if is_pattern else [_Found(Path(source))]


def _find_listed(
    manifest: Manifest, target: str | None, settings: PathSettings, failed: list[FailedImage], videos: bool = False
) -> list[_Found]:
    """The files of a manifest's rows in a shard; those that are missing are failed images."""
    folder = os.path.abspath(target or '.')
    here = os.getcwd()
    label = label_scale(settings.scale)

    def name_result(row: ManifestRow) -> str:
        stem, ending = os.path.splitext(row.path)
        if videos:
            ending = _choose_video_ending(ending)
        elif settings.format is not None:
            ending = _choose_ending(ending, settings.format)
        if target is not None and not row.out:
            return os.path.basename(stem) + ending
        path = os.path.normpath(os.path.join(here, row.out or f'{stem}_{label}{ending}'))
        if path.startswith(folder + os.sep):
            return path[len(folder) + 1 :]
        return f'./{path[len(here) + 1 :]}' if path.startswith(here + os.sep) else path  # the same on every machine

    rows, missing = manifest.find_files(settings.shard, name_result)
    failed += missing
    for row in rows:
        if is_video(row.path) != videos:
            raise InputError(f'{manifest.path}, line {row.line}: images and videos need a manifest each')
    return [_Found(Path(row.path), out=row.out) for row in rows]


def _is_own(one: _Found, target: str | None, shard: Shard) -> bool:
    """True if a file belongs to a shard, by its path below the folder that is searched.

    With an output folder, the name of a single file decides, which is that of its result.
    """
    if one.out is not None:  # a manifest's files are those of the shard
        return True
    base = one.root or (one.base if target is None else one.path.parent)
    return shard.holds(one.path if base is None else one.path.relative_to(base))


def _find_inside(root: Path, settings: PathSettings, failed: list[FailedImage], left_out: list[Path]) -> list[_Found]:
    found, real = [], root.resolve()

    def report(error: OSError) -> None:
        failed.append(FailedImage(Path(error.filename), f'cannot be listed ({error.strerror}); check its permissions'))

    for folder, inner, names in os.walk(root, onerror=report):  # links to folders are not followed
        inner[:] = sorted(name for name in inner if not name.startswith('.')) if settings.recursive else []
        for name in sorted(names):
            path = Path(folder, name)
            if not _is_readable(name):
                left_out += [] if name.startswith('.') else [path]
            elif path.is_symlink() and not path.exists():
                failed.append(FailedImage(path, _NO_TARGET))
            elif path.is_symlink() and not path.resolve().is_relative_to(real):
                failed.append(FailedImage(path, 'is a link that leads out of the folder; give the image itself'))
            else:
                found.append(_Found(path, root, root))
    return found


def _without_results(
    found: list[_Found], target: str | None, settings: PathSettings, left_out: list[Path]
) -> list[_Found]:
    """The images without those that this command made or would make of the others."""
    folder = Path(target).resolve() if target is not None else None
    resolve = cache(Path.resolve)  # of folders, which hold many files
    originals: dict[tuple[Path, str], list[Path]] = {}
    for one in found:
        originals.setdefault((one.path.parent, one.path.stem), []).append(one.path)
    made: set[Path] = set()
    results: set[Path] = set()
    for one in sorted(found, key=lambda one: len(one.path.name)):  # a result has a longer name
        real = one.path.resolve() if one.path.is_symlink() else resolve(one.path.parent) / one.path.name
        base = resolve(one.base) if one.base is not None else None
        below = base is not None and folder is not None and folder != base and folder.is_relative_to(base)
        inside = below and folder is not None and real.is_relative_to(folder)
        if inside or real in made or _is_earlier_result(one.path, originals):
            results.add(one.path)
        elif target is None or folder == real.parent:
            ending = real.suffix if settings.format is None else ENDINGS[settings.format]
            made.add(real.with_name(f'{real.stem}_{label_scale(settings.scale)}{ending}'))
    left_out += sorted(results)
    return [one for one in found if one.path not in results]


def _choose_paths(
    found: list[_Found], target: str | None, single: bool, settings: PathSettings, failed: list[FailedImage]
) -> Iterator[tuple[_Found, Header, Path]]:
    """Output paths of the shard's files; those that cannot be upscaled become failed images."""
    taken: set[Path] = set()

    @cache
    def list_names() -> set[Path]:  # of all shards, whose headers are not read, so that the endings are unknown
        return {_choose_path(one, target, '.*', settings) for one in found} if settings.shard.total > 1 else set()

    wanted: list[tuple[_Found, Header, Path]] = []
    for one in found:
        if not _is_own(one, target, settings.shard):
            continue
        try:
            header = read_header(one.path, str(one.path))
            if settings.factors:
                choose_factor(settings.scale, header.width, header.height, settings.factors)
        except InputError as error:
            failed.append(FailedImage.from_error(one.path, error))
            continue
        ending = _choose_ending(one.path.suffix, settings.format or header.format)
        path = Path(str(target)) if single else Path(one.out or _choose_path(one, target, ending, settings))
        wanted.append((one, header, path))
    counts = Counter(path for _, _, path in wanted if settings.resume)
    for one, header, path in wanted:
        if one.out is None and counts[path] > 1:
            reason = f'its result would be {path}, that of another image too, which --resume cannot tell apart'
            failed.append(FailedImage(one.path, f'{reason}; give them output folders of their own'))
            continue
        if one.out is not None and path in taken:
            failed.append(FailedImage(one.path, f'{path} is the result of another line; name it in the column out'))
            continue
        unique = _make_unique(path, taken, list_names)
        taken.add(unique)
        yield one, header, unique


def _is_earlier_result(path: Path, originals: Mapping[tuple[Path, str], Sequence[Path]]) -> bool:
    """True for the result of one of the images at any scale and in any format: it has its name and a size that fits.

    ``originals`` are the images by folder and name.
    """
    label = read_label(path.stem)
    if label is None:
        return False
    return any(_is_result(original, path, label[1]) for original in originals.get((path.parent, label[0]), ()))


def _is_file_name(target: str, sources: Sequence[str] | Manifest, found: Sequence[_Found]) -> bool:
    """True if the target is the file of a single image, False if a folder; InputError for a file and several images."""
    path = Path(target)
    if path.is_dir() or target.endswith(('/', os.sep)):
        return False
    several = (
        isinstance(sources, Manifest)
        or len({os.path.abspath(source) for source in sources}) > 1
        or len(found) > 1
        or any(Path(source).is_dir() for source in sources)
    )
    if several and (path.exists() or path.suffix.lower() in SUFFIXES):
        raise InputError(f'{target}: expected a folder for several images; choose another name, or end it with /')
    return not several and bool(path.suffix)


def _choose_ending(ending: str, kind: str) -> str:
    """Ending of a result of a format: that of its image if it is of the same format."""
    return ending if SUFFIXES.get(ending.lower()) == kind else ENDINGS[kind]


def _choose_path(one: _Found, target: str | None, ending: str, settings: PathSettings) -> Path:
    """Output path of a file; _x4 is appended to its name beside it, and in a folder only if it is in the same one."""
    inside = one.path.parent.relative_to(one.root) if one.root is not None else Path()
    labelled = f'{one.path.stem}_{label_scale(settings.scale)}{ending}'
    if target is not None:
        folder = Path(target) / inside
    elif one.root is not None:
        root = one.root if one.root.name not in ('', '..') else one.root.resolve()
        folder = root.with_name(f'{root.name}_{label_scale(settings.scale)}') / inside
    else:
        return one.path.with_name(labelled)
    same = folder.exists() and folder.resolve() == one.path.parent.resolve()
    return folder / (labelled if same else f'{one.path.stem}{ending}')


def _make_unique(path: Path, taken: set[Path], list_names: Callable[[], set[Path]]) -> Path:
    """Appends a number if another image has this output path, such as a.png next to a PNG called a.jpg.

    ``list_names`` gives further paths, with the ending .*, that a numbered one must not have.
    """
    free, number = path, 2
    while free in taken or (free != path and free.with_suffix('.*') in list_names()):
        free, number = path.with_stem(f'{path.stem}-{number}'), number + 1
    return free


def is_upscaled(path: Path, header: Header, scale: Scale) -> bool:
    """True if a file is an image of ``scale`` times the size in a header, perhaps rotated."""
    try:
        there = read_header(path, str(path), limited=False)
    except InputError:
        return False
    return {there.width, there.height} == set(resize(scale, header.width, header.height))


def _is_result(source: Path, path: Path, scale: Scale) -> bool:
    try:
        return source.is_file() and is_upscaled(path, read_header(source, str(source)), scale)
    except InputError:
        return False


def _choose_video_path(one: _Found, target: str | None, folder: bool, settings: PathSettings) -> Path:
    named = one.out or (None if folder else target)
    if named is None:
        return _choose_path(one, target, _choose_video_ending(one.path.suffix), settings)
    if Path(named).suffix.lower() not in CONTAINERS:
        known = ', '.join(CONTAINERS)
        raise InputError(f"{named}: videos are not written as '{Path(named).suffix}'; use one of {known}")
    return Path(named)


def _choose_video_ending(ending: str) -> str:
    return ending if ending.lower() in CONTAINERS else '.mkv'
