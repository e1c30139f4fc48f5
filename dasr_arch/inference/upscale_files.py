"""Upscaling of image files. Results are written atomically; a bad file does not stop the others."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch.data.image_io import FailedImage, read_bytes
from dasr_arch.data.input_lists import WHOLE, Manifest, Shard
from dasr_arch.inference.images.encode import encode_image_file
from dasr_arch.inference.images.image_modes import decompose
from dasr_arch.inference.images.io import Frame, ImageFile, OutputSettings, check_output, read_image_file, size_of
from dasr_arch.inference.model_pool import ModelPool
from dasr_arch.inference.output_paths import PathSettings, UpscaleJob, UpscalePlan, format_for, plan_files
from dasr_arch.inference.target_size import TargetSize
from dasr_arch.inference.tile_limits import is_out_of_memory
from dasr_arch.inference.tiling import Progress
from dasr_arch.inference.upscaler import AdaptationOptions, Upscaler, count_clean_pixels

Notify = Callable[[str], None]

MAX_ENCODED_FRAMES = 16
"""Largest number of frames of an animation whose representations are averaged."""


@dataclass(frozen=True)
class FileSettings:
    """Options of a run over image files."""

    adaptation: AdaptationOptions = field(default_factory=AdaptationOptions)
    output: OutputSettings = field(default_factory=OutputSettings)
    force: bool = False  # replace existing files
    resume: bool = False  # skip images whose result exists
    recursive: bool = False  # include subfolders
    size: TargetSize | None = None  # of the results; None is the scale of the network
    mask: Frame | None = None  # image where the network's result is used, see Upscaler
    progress: bool = True  # show a progress bar on stderr
    shard: Shard = WHOLE  # of the inputs


class UpscaleReport(NamedTuple):
    """Results of a run."""

    made: list[Path]  # the new files
    done: list[Path]  # results of an earlier run, which were kept
    failed: list[FailedImage]  # images without a result
    left_out: list[Path]  # files that are no images, and results of this command among the inputs


def upscale_files(
    upscaler: Upscaler | ModelPool,
    sources: Sequence[str] | Manifest,
    target: str | None = None,
    settings: FileSettings | None = None,
) -> UpscaleReport:
    """Upscales image files, the images of folders, files that match patterns such as 'photos/*.jpg', or a manifest's.

    The target is a file or folder; None writes photo_x4.png next to photo.png, and the images of a folder to folder_x4.
    Raises InputError if there are no images or an output path cannot be used, OSError if the target cannot be written.
    """
    return run_plan(upscaler, plan_upscaling(upscaler, sources, target, settings), settings)


def plan_upscaling(
    upscaler: Upscaler | ModelPool | int,
    sources: Sequence[str] | Manifest,
    target: str | None,
    settings: FileSettings | None,
) -> UpscalePlan:
    """Finds the images and chooses the output paths for ``upscale_files``, without loading a network.

    A number in place of an upscaler is its scale.
    """
    settings = settings or FileSettings()
    scale = upscaler if isinstance(upscaler, int) else upscaler.scale
    rules = PathSettings(
        settings.size or scale,
        settings.output.format,
        settings.force,
        settings.resume,
        settings.recursive,
        upscaler.list_factors() if isinstance(upscaler, ModelPool) else [scale],
        None if settings.mask is None else size_of(settings.mask),
        settings.shard,
    )
    plan = plan_files(sources, target, rules)
    for job in plan.jobs:
        format_for(job.target, settings.output.format)
    return plan


def run_plan(upscaler: Upscaler | ModelPool, plan: UpscalePlan, settings: FileSettings | None = None) -> UpscaleReport:
    """Upscales the images of a plan that was made with the same settings.

    Raises OSError if a result cannot be written; earlier results are kept.
    """
    settings = settings or FileSettings()
    made: list[Path] = []
    failed = list(plan.failed)
    if isinstance(upscaler, ModelPool):
        upscaler.prepare([job.header[1:3] for job in plan.jobs if job.header], settings.size)
    total = sum(estimate_work(job, settings.adaptation) for job in plan.jobs)
    with progress_bar(total=total, unit='px', unit_scale=True, disable=not settings.progress) as bar:
        for job in plan.jobs:
            bar.set_description(job.source.name, refresh=True)
            started, expected = bar.n, bar.total or 0
            try:
                result = _upscale_job(upscaler, job, settings, bar)
            except InputError as error:
                failed.append(FailedImage.from_error(job.source, error))
                bar.total = expected - estimate_work(job, settings.adaptation) + bar.n - started
                continue
            write_whole(job.target, result)
            made.append(job.target)
    return UpscaleReport(made, plan.done, failed, plan.left_out)


def upscale_bytes(
    upscaler: Upscaler | ModelPool,
    data: bytes,
    name: str,
    settings: FileSettings | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> bytes:
    """Upscales the content of an image file; returns that of a file of the same format, or of the one in the settings.

    ``name`` is that of the image in error messages. Raises InputError if it is no image that can be upscaled.
    """
    settings = settings or FileSettings()
    file = read_image_file(data, name, settings.size or upscaler.scale, kind=settings.output.format)
    return upscale_image(upscaler, file, name, settings, progress, notify)


def upscale_image(
    upscaler: Upscaler | ModelPool,
    file: ImageFile,
    name: str,
    settings: FileSettings,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> bytes:
    """Upscales a file that ``read_image_file`` has decoded for the result's size; returns as ``upscale_bytes``.

    ``notify`` receives, before the work, the model that a ModelPool chose for this image, and a line for everything
    that the result will lack. Raises InputError if the result does not fit in memory, or the format cannot hold it.
    """
    try:
        notes = check_output(file, settings.output, settings.size or upscaler.scale)
        if isinstance(upscaler, ModelPool):
            upscaler, line = upscaler.choose(map(size_of, file.frames), settings.size, file)
            notes = [line, *notes] if line else notes
        for note in notes:
            if notify is not None:
                notify(note)
        frames = _upscale_frames(upscaler, file, settings, progress)
        return encode_image_file(frames, file, settings.output)
    except InputError as error:
        raise InputError(f'{name}: {error}') from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f'{name}: not enough memory; close other programs or cut the image') from error


def count_work(file: ImageFile, adaptation: AdaptationOptions | None = None) -> int:
    """Total number of LR pixels that ``progress`` receives for a file."""
    plain = sum(Upscaler.work(frame) for frame in file.frames)
    encoded = _sample(file.frames) if file.animated else file.frames
    return plain + sum(count_clean_pixels(*size_of(frame), adaptation or AdaptationOptions()) for frame in encoded)


def estimate_work(job: UpscaleJob, adaptation: AdaptationOptions) -> int:
    """Estimate of ``count_work`` from the header; alpha and CMYK are more work than a header says."""
    assert job.header is not None
    _, width, height, frames = job.header
    clean = count_clean_pixels(height, width, adaptation)
    return height * width * frames + clean * min(frames, MAX_ENCODED_FRAMES)


def _sample(frames: Sequence[Frame]) -> Sequence[Frame]:
    """At most MAX_ENCODED_FRAMES frames of an animation, evenly spaced."""
    return frames[:: -(-len(frames) // MAX_ENCODED_FRAMES)]


def _upscale_job(upscaler: Upscaler | ModelPool, job: UpscaleJob, settings: FileSettings, bar: 'tqdm[Any]') -> bytes:
    name = str(job.source)
    kind = format_for(job.target, settings.output.format)
    file = read_image_file(read_bytes(job.source), name, settings.size or upscaler.scale, kind=kind)
    estimate = estimate_work(job, settings.adaptation)
    bar.total = (bar.total or 0) - estimate + count_work(file, settings.adaptation)
    chosen = replace(settings, output=replace(settings.output, format=kind))

    def notify(text: str) -> None:
        bar.write(f'dasr: {name}: {text}', file=sys.stderr)

    return upscale_image(upscaler, file, name, chosen, bar.update, notify)


def _upscale_frames(
    upscaler: Upscaler, file: ImageFile, settings: FileSettings, progress: Progress | None
) -> Iterator[Frame]:
    """Upscales pages one by one, and the frames of an animation with one representation to prevent flicker."""
    adaptation = settings.adaptation
    upscaler.plan_output(decompose(file.frames[0]), settings.size, settings.mask)  # raises before the work
    if file.animated:
        shared = upscaler.represent(_sample(file.frames), adaptation, progress)
    for frame in file.frames:
        image = decompose(frame)
        output = upscaler.plan_output(image, settings.size, settings.mask)
        representations = shared if file.animated else upscaler.represent([frame], adaptation, progress)
        yield upscaler.upscale_decomposed(image, representations, progress, output).assemble()
