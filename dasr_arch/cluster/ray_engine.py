"""Upscaling of images on a Ray cluster: each worker holds one network, reads and writes images by their paths.

Ray Data hands out the paths, starts killed workers anew and gives their images out again. Its own checkpoints are not
used: they would hold the ids of the rows a second time, and those of failed images as well.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch._extras import import_extra
from dasr_arch._files import write_whole
from dasr_arch.cluster.pool_options import PoolOptions
from dasr_arch.cluster.results_folder import ROWS, ResultsFolder, hash_file, identify, row_schema
from dasr_arch.data.image_io import FailedImage, read_bytes
from dasr_arch.data.input_lists import Manifest
from dasr_arch.inference.images.io import read_image_file, size_of
from dasr_arch.inference.model_pool import ModelPool
from dasr_arch.inference.output_paths import UpscaleJob, format_for, is_upscaled
from dasr_arch.inference.target_size import Scale, label_scale
from dasr_arch.inference.upscale_files import FileSettings, estimate_work, plan_upscaling, upscale_image
from dasr_arch.version import __version__

_TRIES = 'tries'
_MOST_TRIES = 3  # of an image during whose work the worker is killed
_BLOCK_ROWS, _BLOCK_WORK = 32, 1 << 20  # images, and LR pixels unless it is one image, that a worker gets at a time
_BLOCKS = 8  # at least, for each worker
_STORE_BYTES = 100 << 20  # of a local cluster; only rows pass through its object store


@dataclass(frozen=True)
class Workers:
    """Processes of a cluster that upscale.

    Attributes:
        number: of workers; None is as many as the cluster has cores and GPUs for.
        cpus: cores of each, which is also the number of its threads.
        gpus: GPUs of each, also a part of one; None is 1 if the cluster has GPUs and the device is not the CPU, else 0.

    Raises:
        InputError: if a number is too small.
    """

    number: int | None = None
    cpus: int = 1
    gpus: float | None = None

    def __post_init__(self) -> None:
        if self.number is not None and self.number < 1:
            raise InputError(f'workers must be at least 1, got {self.number}')
        if self.cpus < 1:
            raise InputError(f'cpus of a worker must be at least 1, got {self.cpus}')
        if self.gpus is not None and not 0 <= self.gpus < float('inf'):
            raise InputError(f'gpus of a worker must be 0 or more, got {self.gpus}')


class RayReport(NamedTuple):
    """Results of a run on a cluster."""

    made: int  # images with a new result
    done: int  # images whose results are of an earlier run
    failed: list[FailedImage]  # images without a result
    left_out: list[Path]  # files that are no images, and results of this command among the inputs
    rows: Path  # Parquet file with one row for each image of the job


def upscale_with_ray(
    options: PoolOptions,
    sources: Sequence[str] | Manifest,
    target: str | None,
    results: str | os.PathLike[str],
    settings: FileSettings | None = None,
    workers: Workers | None = None,
) -> RayReport:
    """Upscales images on the Ray cluster that this process is connected to, else that of RAY_ADDRESS or a local one.

    All machines read the images and write the results under the paths of this one. A further run of the same job does
    what is missing: images without a result, with an error, or changed since. Files that are in the place of results
    when a job is begun are refused; ``resume`` of the settings keeps them, ``force`` begins the job anew.

    Args:
        options: the networks.
        sources: images as for ``upscale_files``.
        target: as for ``upscale_files``.
        results: folder of the rows, the same for every run of a job; ``row_schema`` has their columns.
        settings: of the results.
        workers: their number, cores and GPUs.

    Returns:
        What was done. An error of an image is a row, too.

    Raises:
        InputError: if the extra `ray` is missing here or on another machine, the inputs or outputs cannot be used,
            the folder belongs to another job, or there is no such cluster.
    """
    ray = _import_ray()
    settings, workers = settings or FileSettings(), workers or Workers()
    options = options.with_absolute_path()
    pool = options.make_pool()
    plan = plan_upscaling(pool, sources, target, replace(settings, force=True, resume=False))
    folder = ResultsFolder(Path(os.path.abspath(results)), _describe_job(options, pool, settings), settings.force)
    pending, refused = _find_work(plan.jobs, folder, settings, settings.size or pool.scale)
    with folder:
        failed = [*plan.failed, *refused]
        folder.add(_describe_failure(image, folder.job) for image in failed)
        made, done = 0, len(plan.jobs) - len(pending) - len(refused)
        if pending:
            with _Cluster(ray, options, workers) as cluster, progress_bar(total=len(pending), unit='image') as bar:
                for rows in cluster.map(pending, settings, folder):
                    folder.add(rows)
                    bar.update(len(rows))
                    new = [FailedImage(Path(row['path']), row['error']) for row in rows if row['error']]
                    found = sum(row['seconds'] is None for row in rows) - len(new)
                    made, done, failed = made + len(rows) - len(new) - found, done + found, failed + new
    return RayReport(made, done, failed, plan.left_out, folder.path / ROWS)


def _import_ray() -> Any:
    """Ray with Ray Data, of which only errors are shown."""
    ray = import_extra('ray', 'ray')
    import_extra('ray.data', 'ray')
    logging.getLogger('ray.data').setLevel(logging.ERROR)
    return ray


def _describe_job(options: PoolOptions, pool: ModelPool, settings: FileSettings) -> dict[str, object]:
    """What the results depend on, besides the images."""
    adaptation = settings.adaptation
    return {
        'dasr': __version__,
        'weights': {path.name: hash_file(path) for path in pool.list_weights()},
        'size': label_scale(settings.size or pool.scale),
        'reference': _hash_pixels(adaptation.reference),
        'strength': adaptation.strength,
        'ensemble': adaptation.ensemble,
        'mask': _hash_pixels(settings.mask),
        'format': settings.output.format,
        'quality': settings.output.quality,
        'tiling': repr(options.tiling),
        'precision': options.precision,
    }


def _hash_pixels(image: Any) -> str | None:
    return None if image is None else hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _describe_failure(image: FailedImage, job: str) -> dict[str, Any]:
    path = Path(os.path.abspath(image.path))
    return {'id': identify(path, job), 'path': str(path), 'out': '', 'error': image.reason}


def _find_work(
    jobs: Sequence[UpscaleJob], folder: ResultsFolder, settings: FileSettings, scale: Scale
) -> tuple[list[dict[str, Any]], list[FailedImage]]:
    """Rows of the images that are to be done, those with most work first, and images that cannot be done.

    A row has beside names and work the time 'since' in ns: a result of that time or later, and made since the job was
    begun, is complete. If it is 0, the result that is there is kept. InputError if a file is in the place of a result.
    """
    known = {row['out']: row for row in folder.read()}
    pending: list[dict[str, Any]] = []
    refused: list[FailedImage] = []
    for job in jobs:
        source, out = (os.path.abspath(path) for path in (job.source, job.target))
        id_ = identify(Path(source), folder.job)
        since = max(1, job.source.stat().st_mtime_ns)
        if os.path.exists(out) and not settings.force:
            there, earlier = os.stat(out), known.get(out)
            if earlier and (earlier['id'], earlier['size']) == (id_, there.st_size):
                continue
            if earlier and not earlier['error']:
                since = there.st_mtime_ns + 1  # of another image, or damaged
            elif not (earlier or folder.made_since_start(there.st_mtime_ns, since)):
                if not settings.resume:
                    raise InputError(f'{job.target}: exists already; --resume leaves it out, --force replaces it')
                assert job.header is not None
                if not is_upscaled(job.target, job.header, scale):
                    reason = f'{job.target} exists but is not {label_scale(scale)} of it; replace it with --force'
                    refused.append(FailedImage(job.source, reason))
                    continue
                since = 0
        work = estimate_work(job, settings.adaptation)
        pending.append({'id': id_, 'path': source, 'out': out, 'since': since, 'work': work})
    return sorted(pending, key=lambda row: -row['work']), refused


class _Cluster:
    """Connection to Ray; what was started or connected here is left at the end."""

    def __init__(self, ray: Any, options: PoolOptions, workers: Workers) -> None:
        self._ray = ray
        self._options = options
        self._own = not ray.is_initialized()
        if self._own:
            self._connect()
        try:
            self._number, self._cpus, self._gpus = self._fit(workers)
        except InputError:
            self.__exit__()
            raise

    def __enter__(self) -> '_Cluster':
        return self

    def __exit__(self, *error: object) -> None:
        if self._own:
            self._ray.shutdown()

    def map(self, pending: Sequence[dict[str, Any]], settings: FileSettings, folder: ResultsFolder) -> Iterator[Any]:
        """Lists of rows about results, as they are made."""
        data, arrow = self._ray.data, import_extra('pyarrow', 'ray')
        (folder.path / _TRIES).mkdir(exist_ok=True)
        for tried in (folder.path / _TRIES).iterdir():
            tried.unlink()
        blocks = list(_cut_blocks(pending, self._number))
        context = data.DataContext.get_current()
        shown, context.enable_progress_bars = context.enable_progress_bars, False
        try:
            rows = data.from_arrow([arrow.Table.from_pylist(block) for block in blocks])
        finally:
            context.enable_progress_bars = shown
        rows = rows.map_batches(
            Worker,
            fn_constructor_args=(self._options, settings, folder.path, folder.started, self._cpus, __version__),
            batch_size=None,
            batch_format='pyarrow',
            compute=data.ActorPoolStrategy(size=min(self._number, len(blocks)), max_tasks_in_flight_per_actor=2),
            num_cpus=self._cpus,
            num_gpus=self._gpus,
        )
        try:
            for table in rows.iter_batches(batch_size=None, batch_format='pyarrow', prefetch_batches=0):
                yield table.to_pylist()
        except self._ray.exceptions.RayError as error:
            raise InputError(_explain(error)) from error

    def _connect(self) -> None:
        """Connects to the cluster of RAY_ADDRESS or of this machine, or starts one here."""
        os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
        os.environ.setdefault('RAY_BACKEND_LOG_LEVEL', 'fatal')
        quiet = {'log_to_driver': False, 'logging_level': logging.ERROR}
        try:
            self._ray.init(address='auto', **quiet)
        except ConnectionError as error:
            address = os.environ.get('RAY_ADDRESS')
            if address:
                raise InputError(f'no Ray cluster answers at {address}, the value of RAY_ADDRESS') from error
            self._ray.init(address='local', include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)

    def _fit(self, workers: Workers) -> tuple[int, int, float]:
        """Number of workers, and cores and GPUs of each; InputError if no machine has room for one."""
        machines = [node['Resources'] for node in self._ray.nodes() if node['Alive']]
        gpus = workers.gpus
        if gpus is None:
            found = any(one.get('GPU') for one in machines)
            gpus = 1 if found and str(self._options.device) != 'cpu' else 0
        rooms = [
            int(min(one.get('CPU', 0) // workers.cpus, one.get('GPU', 0) // gpus if gpus else float('inf')))
            for one in machines
        ]
        if not any(rooms):
            most = max((f'{one.get("CPU", 0):g} cores and {one.get("GPU", 0):g} GPUs' for one in machines), default='')
            raise InputError(
                f'no machine of the cluster has {workers.cpus} cores and {gpus:g} GPUs for a worker, the largest has '
                f'{most or "none"}; ask for fewer'
            )
        return workers.number or sum(rooms), workers.cpus, gpus


class Worker:
    """Upscales the images of one block after another with one network; made by Ray in each process.

    Raises:
        InputError: if the package has another version here, or the network cannot be loaded.
    """

    def __init__(
        self, options: PoolOptions, settings: FileSettings, results: Path, started: int, cpus: int, version: str
    ) -> None:
        if version != __version__:
            raise InputError(f'dasr {__version__} is installed on a machine of the cluster, {version} on the first')
        torch.set_num_threads(cpus)
        self._settings = settings
        self._tries = results / _TRIES
        self._started = started
        self._pool = options.make_pool()
        if settings.size is None:
            self._pool.prepare([(1, 1)], None)  # the network of all images
        self._arrow = import_extra('pyarrow', 'ray')

    def __call__(self, block: Any) -> Iterator[Any]:
        """Rows about the results of a table of images, as tables of one row."""
        for row in block.to_pylist():
            yield self._arrow.Table.from_pylist([self._work(**row)], schema=row_schema())

    def _work(self, id: str, path: str, out: str, since: int, work: int) -> dict[str, Any]:
        row: dict[str, Any] = {'id': id, 'path': path, 'out': out, 'notes': [], 'error': ''}
        target, tried = Path(out), self._tries / id
        started = time.monotonic()
        try:
            if not (target.exists() and (since == 0 or target.stat().st_mtime_ns >= max(since, self._started))):
                if tried.exists() and tried.stat().st_size >= _MOST_TRIES:
                    raise InputError('its worker was killed three times, probably for lack of memory')
                with tried.open('ab') as file:
                    file.write(b'.')
                row['model'] = self._upscale(Path(path), target, row['notes'])
                row['seconds'] = round(time.monotonic() - started, 3)
            row |= {'sha256': hash_file(target), 'size': target.stat().st_size}
        except InputError as error:
            row['error'] = FailedImage.from_error(Path(path), error).reason
        except OSError as error:
            row['error'] = f'{error.filename or out}: {error.strerror or error}'
        except Exception as error:  # noqa: BLE001 - of an image that nobody has tried; the others go on
            row['error'] = f'{type(error).__name__}: {error}; please report it with the image'
        tried.unlink(missing_ok=True)
        return row

    def _upscale(self, source: Path, target: Path, notes: list[str]) -> str:
        """Upscales one image, collects notes on it, and returns the name of its network."""
        settings, name = self._settings, str(source)
        kind = format_for(target, settings.output.format)
        file = read_image_file(read_bytes(source), name, settings.size or self._pool.scale, kind=kind)
        upscaler, line = self._pool.choose(map(size_of, file.frames), settings.size, file)
        notes += [line] if line else []
        settings = replace(settings, output=replace(settings.output, format=kind))
        write_whole(target, upscale_image(upscaler, file, name, settings, notify=notes.append))
        return self._pool.name_of(upscaler)


def _cut_blocks(pending: Sequence[dict[str, Any]], workers: int) -> Iterator[list[dict[str, Any]]]:
    """Lists of neighbouring rows, with a limited number and a limited work."""
    most = min(_BLOCK_ROWS, max(1, len(pending) // (_BLOCKS * workers)))
    block: list[dict[str, Any]] = []
    for row in pending:
        if block and (len(block) == most or sum(one['work'] for one in block) + row['work'] > _BLOCK_WORK):
            yield block
            block = []
        block.append(row)
    if block:
        yield block


def _explain(error: Exception) -> str:
    """One line on a worker that could not be made."""
    line = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    if 'ModuleNotFoundError' in str(error):
        return f"a worker could not start ({line}); pip install 'dasr-representation-learning[ray]' on every machine"
    return f'a worker could not start or work: {line.split("InputError: ", maxsplit=1)[-1]}'
