"""Checks the data sets of a training file: their keys, their degradations and their images on the disk."""

import os
import random
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from basicsr.utils.registry import DATASET_REGISTRY

from dasr_arch._errors import FOREIGN_ERRORS, InputError, naming, suggest
from dasr_arch.config.registry_checks import describe_briefly, find_class
from dasr_arch.config.train_schema import DATASET_OPTIONS, ForeignDatasetOptions, ForeignTrainSetOptions, LoaderOptions
from dasr_arch.config.typed import convert, section, to_plain
from dasr_arch.data.degraded_test_dataset import DegradedTestDataset
from dasr_arch.data.sampling import SampledDataset
from dasr_arch.degradations import build_degradation
from dasr_arch.degradations.whole_image import crop_to_multiple

IMAGE_KEYS = frozenset({'meta_info_file', 'filename_tmpl', 'color', 'mean', 'std', 'test_mode', 'use_shuffle'})
"""Further keys of BasicSR's own image data sets."""

_PHASE = re.compile(r'train|val(_\w+)?')


def check_datasets(
    options: Mapping[str, object], scale: int, batches: int, where: str, smallest: int = 1
) -> dict[str, object]:
    """Validates all data sets: keys, degradations, and the images on the disk.

    Every data set is built once, which opens its folders and databases and reads the sizes of the images, no pixels.
    ``batches`` are drawn at once, one for each process or GPU; validation images must have sides of at least
    ``smallest`` pixels for the metrics. Returns the section with defaults, and with the `phase`
    and `scale` that BasicSR adds to each data set. InputError for the first error.
    """
    if 'train' not in options:
        raise InputError(f"{where}: datasets: the key 'train' is missing; expected a mapping")
    options = {key: value for key, value in options.items() if value is not None or key == 'train'}
    checked: dict[str, object] = {}
    names: dict[object, str] = {}
    for key in options:
        place = f'{where}: datasets.{key}'
        if not _PHASE.fullmatch(key):
            raise InputError(
                f'{place}: expected data sets called train, val, val_1 ...{suggest(key, ("train", "val"))}'
            )
        dataset = _check_keys(section(options, key, f'{where}: datasets'), key, where)
        if dataset.get('scale') not in {None, scale}:
            raise InputError(f'{place}.scale: expected the scale of the file, {scale}, got {dataset["scale"]}')
        name = dataset['name']
        if name in names:
            raise InputError(
                f"{place}.name: '{name}' is already the name of datasets.{names[name]}; "
                'results of one would overwrite those of the other'
            )
        names[name] = key
        dataset.update(phase=key.split('_', 1)[0], scale=scale)
        _check_degradations(dataset, scale, place)
        _check_images(dataset, batches, smallest, place)
        checked[key] = dataset
    return checked


def _check_keys(given: dict[str, object], key: str, where: str) -> dict[str, object]:
    """The data set's options by its schema; unknown keys of a data set of another package only warn."""
    find_class(given, DATASET_REGISTRY, f'{where}: datasets.{key}', 'dataset')
    own = DATASET_OPTIONS.get(str(given['type']))
    if own is not None and issubclass(own, LoaderOptions) != (key == 'train'):
        use = 'validation' if key == 'train' else 'training'
        raise InputError(f'{where}: datasets.{key}.type: {given["type"]} is for {use} only')
    if own is not None:
        dataset = to_plain(convert(given, own, where, f'datasets.{key}'))
    else:
        shared = ForeignTrainSetOptions if key == 'train' else ForeignDatasetOptions
        known = {name: value for name, value in given.items() if name not in IMAGE_KEYS}
        dataset = {**deepcopy(given), **to_plain(convert(known, shared, where, f'datasets.{key}', foreign=True))}
    for name in {'dataroot_gt', 'dataroot_lq'} & dataset.keys():
        root = dataset[name]
        dataset[name] = list(map(os.path.expanduser, root)) if isinstance(root, list) else os.path.expanduser(str(root))
    return dataset


def _check_degradations(dataset: Mapping[str, Any], scale: int, place: str) -> None:
    given = dataset.get('degradation')
    if given is None:
        return
    listed = {f'.{index}': one for index, one in enumerate(given)} if isinstance(given, list) else {'': given}
    labels = set[str]()
    for index, specification in listed.items():
        with naming(f'{place}.degradation{index}'):
            label = build_degradation(specification, scale).label
            if label in labels:
                raise InputError(f"'{label}' is there twice; remove one of the two")
            labels.add(label)


def _check_images(dataset: Mapping[str, Any], batches: int, smallest: int, place: str) -> None:
    """Builds the data set once; a training set must fill a batch."""
    size, scale = dataset.get('gt_size'), dataset['scale']
    if isinstance(size, int) and size % scale:
        below, above = size // scale * scale, (size // scale + 1) * scale
        raise InputError(
            f'{place}.gt_size: expected a multiple of the scale {scale}, got {size}; take {below} or {above}'
        )
    kind = DATASET_REGISTRY.get(str(dataset['type']))
    backend = dataset.get('io_backend', {}).get('type')  # our data sets have none: they recognise it from the path
    if 'io_backend' in dataset and backend not in ('disk', 'lmdb', 'memcached'):
        raise InputError(f"{place}.io_backend.type: expected one of 'disk', 'lmdb', 'memcached', got {backend!r}")
    try:
        built = kind(deepcopy(dict(dataset)))
        images = len(built)
        if images and backend != 'lmdb':  # BasicSR would leave the database open
            _read_one(built, smallest)
    except InputError as error:
        raise InputError(f'{place}: {error}') from error
    except OSError as error:
        named = f"'{error.filename}': " if error.filename else ''
        raise InputError(f'{place}: {named}{error.strerror or error}') from error
    except FOREIGN_ERRORS as error:
        raise InputError(f'{place}: {dataset["type"]} refuses these options: {describe_briefly(error)}') from error
    if dataset['phase'] != 'train':
        return
    batch, enlarge = dataset['batch_size_per_gpu'], dataset.get('dataset_enlarge_ratio', 1)
    if images * enlarge < batch * batches:
        each = f' in each of {batches} processes' if batches > 1 else ''
        remedy = 'make batch_size_per_gpu smaller, or add images' if batch > 1 else 'add images'
        raise InputError(
            f'{place}: expected images for at least one batch of {batch}{each}, got {images} of sufficient size; '
            f'{remedy}'
        )


def _read_one(dataset: Any, smallest: int) -> None:
    """Reads the first image, of a validation set of ours all, and restores all random states."""
    if isinstance(dataset, SampledDataset):
        dataset.source.read(0)
        return
    if isinstance(dataset, DegradedTestDataset):  # all: a validation would stop the training
        for index in range(dataset.num_images):
            name = dataset.source.names[index]
            height, width, _ = crop_to_multiple(dataset.source.read(index), dataset.scale, name).shape
            if min(height, width) < smallest:
                raise InputError(
                    f"image '{name}' has {width} x {height} pixels; val.metrics need sides of at least {smallest}"
                )
        return
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            dataset[0]
    finally:
        random.setstate(state)
