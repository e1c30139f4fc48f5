"""Output paths of videos, checked before the work begins."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from dasr_arch._errors import InputError
from dasr_arch.inference.output_paths import (
    PathSettings,
    UpscaleJob,
    UpscalePlan,
    expand_pattern,
    is_finished,
    name_inside,
    refuse_originals,
)
from dasr_arch.inference.video.reader import CONTAINERS, VIDEO_SUFFIXES


def is_video(source: str) -> bool:
    """True for file names and patterns with a video ending."""
    return Path(source).suffix.lower() in VIDEO_SUFFIXES


def plan_videos(sources: Sequence[str], target: str | None, settings: PathSettings) -> UpscalePlan:
    """Chooses the output paths of files and patterns such as 'clips/*.mp4'; no file is opened.

    The target is a file or folder; None writes clip_x4.mp4 next to clip.mp4. Formats that are only read become .mkv.
    Raises InputError if a pattern matches nothing, or an output path cannot be used.
    """
    paths = [path for source in sources for path in _find(source)]
    folder = target is not None and (Path(target).is_dir() or target.endswith(('/', os.sep)))
    if target is not None and len(paths) > 1 and not folder:
        raise InputError(f'{target}: expected a folder for several videos; make it, or end its name with /')
    jobs: list[UpscaleJob] = []
    done: list[Path] = []
    for path in paths:
        result = _choose_path(path, target, folder, settings.scale)
        refuse_originals([result], paths)
        if result in [job.target for job in jobs]:
            raise InputError(f'{result}: two videos would get this name; give them one by one')
        if is_finished(result, settings):
            done.append(result)
        else:
            jobs.append(UpscaleJob(path, result))
    return UpscalePlan(jobs, done, [])


def _find(source: str) -> list[Path]:
    if os.path.lexists(source) or not glob.has_magic(source):
        return [Path(source)]
    return expand_pattern(source, is_video, 'video')


def _choose_path(path: Path, target: str | None, folder: bool, scale: int) -> Path:
    ending = path.suffix if path.suffix.lower() in CONTAINERS else '.mkv'
    if target is None:
        return path.with_name(f'{path.stem}_x{scale}{ending}')
    if folder:
        return name_inside(Path(target), path, ending, scale)
    if Path(target).suffix.lower() not in CONTAINERS:
        known = ', '.join(CONTAINERS)
        raise InputError(f"{target}: videos are not written as '{Path(target).suffix}'; use one of {known}")
    return Path(target)
