"""Upscaling image files: each result is there as a whole or not at all, and a bad file does not stop the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write
from dasr_arch.data.image_io import read_bytes
from dasr_arch.inference.images.image_modes import decompose
from dasr_arch.inference.images.io import (
    Frame,
    ImageFile,
    OutputSettings,
    check_output,
    encode_image_file,
    read_image_file,
)
from dasr_arch.inference.output_paths import FailedImage, Job, Naming, Plan, format_for, plan_files
from dasr_arch.inference.tiling import is_out_of_memory
from dasr_arch.inference.upscaler import Look, Upscaler, count_clean_pixels

_SAMPLED = 16  # frames of an animation whose representations are averaged


@dataclass(frozen=True)
class FileSettings:
    """How files are dealt with.

    Attributes:
        look: what to adapt to.
        output: format and quality.
        force: replace files that exist.
        resume: leave out images whose result is there.
        recursive: look into folders inside the folders, too.
        progress: show a progress bar on stderr.
    """

    look: Look = field(default_factory=Look)
    output: OutputSettings = field(default_factory=OutputSettings)
    force: bool = False
    resume: bool = False
    recursive: bool = False
    progress: bool = True


class UpscaleReport(NamedTuple):
    """What was made.

    Attributes:
        made: the new files.
        done: files of an earlier run that were left alone.
        failed: images without a result.
    """

    made: list[Path]
    done: list[Path]
    failed: list[FailedImage]


def upscale_files(
    upscaler: Upscaler, sources: Sequence[str], target: str | None = None, settings: FileSettings | None = None
) -> UpscaleReport:
    """Upscales files, the images of folders, and what patterns match.

    Args:
        upscaler: does the work.
        sources: files, folders, and patterns such as 'photos/*.jpg'.
        target: a file or folder; None puts photo_x4.png beside photo.png and the images of a folder into folder_x4.
        settings: how to deal with files; ``FileSettings()`` if None.

    Raises:
        InputError: if there is nothing to do, or something is in the way.
        OSError: if the target cannot be written.
    """
    return run_plan(upscaler, plan_upscaling(upscaler.scale, sources, target, settings), settings)


def plan_upscaling(scale: int, sources: Sequence[str], target: str | None, settings: FileSettings | None) -> Plan:
    """What ``upscale_files`` would do, without loading a network.

    Raises:
        InputError: as ``upscale_files``.
    """
    settings = settings or FileSettings()
    naming = Naming(scale, settings.output.format, settings.force, settings.resume, settings.recursive)
    plan = plan_files(sources, target, naming)
    for job in plan.jobs:
        format_for(job.target, settings.output.format)
    return plan


def run_plan(upscaler: Upscaler, plan: Plan, settings: FileSettings | None = None) -> UpscaleReport:
    """Does what was planned.

    Args:
        upscaler: does the work.
        plan: what ``plan_upscaling`` gave.
        settings: as for the plan.

    Raises:
        OSError: if a result cannot be written; those before it are there.
    """
    settings = settings or FileSettings()
    made: list[Path] = []
    failed = list(plan.failed)
    total = sum(_estimate_work(job, settings.look) for job in plan.jobs)
    with progress_bar(total=total, unit='px', unit_scale=True, disable=not settings.progress) as bar:
        for job in plan.jobs:
            bar.set_description(job.source.name, refresh=True)
            started, expected = bar.n, bar.total or 0
            try:
                result = _upscale_job(upscaler, job, settings, bar)
            except InputError as error:
                failed.append(FailedImage(job.source, str(error).removeprefix(f'{job.source}: ')))
                bar.total = expected - _estimate_work(job, settings.look) + bar.n - started
                continue
            with atomic_write(job.target) as temporary:
                temporary.write_bytes(result)
            made.append(job.target)
    return UpscaleReport(made, plan.done, failed)


def upscale_bytes(
    upscaler: Upscaler,
    data: bytes,
    name: str,
    settings: FileSettings | None = None,
    progress: Callable[[int], object] | None = None,
) -> bytes:
    """Upscales the content of an image file.

    Args:
        upscaler: does the work.
        data: the content.
        name: what an error message calls it.
        settings: what to adapt to, and how to write; ``FileSettings()`` if None.
        progress: called with the number of LR pixels that were finished.

    Returns:
        The content of a file of the same format, or the one that the settings ask for.

    Raises:
        InputError: if it is no image that can be upscaled.
    """
    settings = settings or FileSettings()
    return upscale_image(upscaler, read_image_file(data, name, upscaler.scale), name, settings, progress)


def upscale_image(
    upscaler: Upscaler,
    file: ImageFile,
    name: str,
    settings: FileSettings,
    progress: Callable[[int], object] | None = None,
) -> bytes:
    """Upscales an image file that was read.

    Args:
        upscaler: does the work.
        file: what ``read_image_file`` gave for the upscaler's scale.
        name: what an error message calls it.
        settings: what to adapt to, and how to write.
        progress: called with the number of LR pixels that were finished.

    Returns:
        As ``upscale_bytes``.

    Raises:
        InputError: if it cannot be upscaled, or its result not be written in the format.
    """
    try:
        check_output(file, settings.output, upscaler.scale)
        frames = _upscale_frames(upscaler, file, settings.look, progress)
        return encode_image_file(frames, file, settings.output)
    except InputError as error:
        raise InputError(f'{name}: {error}') from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f'{name}: not enough memory; close other programs or cut the image') from error


def count_work(file: ImageFile, look: Look | None = None) -> int:
    """LR pixels that a file will be told of as progress.

    Args:
        file: the images.
        look: what to adapt to.
    """
    plain = sum(Upscaler.work(frame) for frame in file.frames)
    seen = _sample(file.frames) if file.animated else file.frames
    return plain + sum(Upscaler.work(frame, look) - Upscaler.work(frame) for frame in seen)


def _estimate_work(job: Job, look: Look) -> int:
    """What ``count_work`` will say, as far as a header tells."""
    clean = count_clean_pixels(job.height, job.width, look)
    return job.height * job.width * job.frames + clean * min(job.frames, _SAMPLED)


def _sample(frames: Sequence[Frame]) -> Sequence[Frame]:
    """Frames of an animation that stand for all."""
    return frames[:: -(-len(frames) // _SAMPLED)]


def _upscale_job(upscaler: Upscaler, job: Job, settings: FileSettings, bar: 'tqdm[Any]') -> bytes:
    name = str(job.source)
    file = read_image_file(read_bytes(job.source), name, upscaler.scale)
    # transparency and inks are more than the header says
    bar.total = (bar.total or 0) - _estimate_work(job, settings.look) + count_work(file, settings.look)
    kind = format_for(job.target, settings.output.format)
    chosen = replace(settings, output=replace(settings.output, format=kind))
    return upscale_image(upscaler, file, name, chosen, bar.update)


def _upscale_frames(
    upscaler: Upscaler, file: ImageFile, look: Look, progress: Callable[[int], object] | None
) -> list[Frame]:
    """Pages one by one; the frames of an animation with one representation, so that nothing flickers."""
    if file.animated:
        shared = upscaler.represent(_sample(file.frames), look, progress)
    frames = []
    for frame in file.frames:
        codes = shared if file.animated else upscaler.represent([frame], look, progress)
        frames.append(upscaler.upscale_layered(decompose(frame), codes, progress).assemble())
    return frames
