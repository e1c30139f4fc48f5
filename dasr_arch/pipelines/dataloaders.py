"""Data loaders of training and validation; training batches are endless and continue exactly in a resumed run."""

import gc
import os
import signal
import threading
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import cv2
import torch
from basicsr.data import build_dataset
from torch.utils.data import DataLoader

from dasr_arch._errors import InputError
from dasr_arch.data.sampling import SampledDataset, SampleStream, mix_seeds
from dasr_arch.pipelines.device_images import DeviceImages, Draws, keep_on_device

STOP_SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]
"""Signals after which a training saves its state and ends: Ctrl-C, those of Slurm and systemd, a lost terminal."""


def build_training_stream(
    options: Mapping[str, Any], start: int, dataset: Any = None
) -> tuple[Generator[dict[str, Any], None, None], int]:
    """Endless batches after ``start`` finished iterations, and the number of images in an epoch.

    ``dataset`` is the training set, where it has been built already. InputError if the data set cannot be opened.
    """
    data = options['datasets']['train']
    dataset = build_dataset(data) if dataset is None else dataset
    stream = SampleStream(
        len(dataset),
        data['batch_size_per_gpu'],
        seed=options['manual_seed'],
        start=start,
        rank=options['rank'],
        world_size=options['world_size'],
    )
    images = keep_on_device(options, dataset)
    indices: Iterable[list[Any]] = stream
    if not isinstance(dataset, SampledDataset):  # such as BasicSR's, which know only the index of an image
        indices = ([image for image, _ in batch] for batch in stream)
    workers = data.get('num_worker_per_gpu', 0)
    loader: DataLoader[dict[str, Any]] = DataLoader(
        dataset if images is None else Draws(dataset),
        batch_sampler=indices,
        num_workers=workers,
        pin_memory=options['num_gpu'] > 0,
        persistent_workers=workers > 0,
        prefetch_factor=2 if workers > 0 else None,
        worker_init_fn=quiet_worker,
        # It does not use the global generator, and differs between processes.
        generator=torch.Generator().manual_seed(mix_seeds(options['manual_seed'] + start, options['rank'])),
    )
    return iterate(loader, images), len(dataset)


def build_validation_loaders(options: Mapping[str, Any]) -> dict[str, DataLoader[dict[str, Any]]]:
    """Loaders of the validation sets by name, one image at a time."""
    chosen = [data for phase, data in options['datasets'].items() if phase != 'train']
    return {data['name']: DataLoader(build_dataset(data), batch_size=1, shuffle=False) for data in chosen}


def iterate(loader: DataLoader[dict[str, Any]], images: DeviceImages | None) -> Generator[dict[str, Any], None, None]:
    """The batches of a loader, completed by images on the device; an InputError of a worker keeps its own message.

    Close it, so that its processes end.
    """
    if loader.num_workers:
        gc.collect()  # a forked process may abort where it collects what others own, such as groups of processes
    try:
        for batch in loader:
            yield batch if images is None else images.complete(batch)
    except InputError as error:
        message = str(error)
        if message.startswith('Caught InputError'):  # torch wraps it in the worker's traceback
            message = message.strip().rsplit('InputError: ', 1)[-1]
        raise InputError(message) from error
    except RuntimeError as error:
        if 'shared memory' not in str(error):
            raise
        raise InputError(
            'the loading processes need more shared memory than /dev/shm has; give a container more, as by '
            '`docker run --shm-size 8g`, or train with --set datasets.train.num_worker_per_gpu=0'
        ) from error


def leave_signals() -> None:
    """Leaves the signals that stop a training to its first process; `timeout`, Slurm and systemd send them to all.

    SIGTERM of the parent, which Python sends to what is left when it ends, counts.
    """
    for number in STOP_SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


def quiet_worker(worker: int) -> None:
    """Sets up a loader process: one thread; signals are left to the main process."""
    del worker
    leave_signals()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
