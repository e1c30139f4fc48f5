"""Small version of a training file: a few iterations on a CPU with the demo images, as a smoke test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ITERATIONS = 20
"""Iterations of a smoke run at most, shared equally by the stages."""

DEMO_FOLDER = 'datasets/demo'

_DATA_FILE = Path(__file__).resolve().parents[1] / 'assets' / 'smoke.yml'
_SMALL: Any = yaml.safe_load(_DATA_FILE.read_text(encoding='utf-8'))


def shrink_options(options: Mapping[str, object]) -> dict[str, object]:
    """A copy of a training file with few iterations, small batches, networks and images.

    Learning rates, losses, degradations of the training and everything else stay. Schedules shrink in proportion.
    Weights to start from are left out; data sets of LR-HR pairs keep their folders, since the demo images are no pairs.
    The name begins with `smoke_` in place of `train_`. Parts of the wrong type stay as they are.
    """
    small = dict(options)
    name = options.get('name')
    if isinstance(name, str):
        small['name'] = f'smoke_{name.removeprefix("train_")}'
    small['num_gpu'] = 0
    train, paths = (_mapping(options.get(key)) for key in ('train', 'path'))
    if train:
        small['train'] = _shrink_training(train)
    if paths:
        small['path'] = {key: None if key.startswith('pretrain_network') else value for key, value in paths.items()}
    for key in ('network_g', 'network_d'):
        if network := _mapping(options.get(key)):
            small[key] = {**network, **_SMALL['networks'].get(network.get('type'), {})}
    scale, datasets = options.get('scale'), options.get('datasets')
    if isinstance(datasets, dict):
        images = 6 if 'meta_opt' in train else 2  # two tasks of support + query
        small['datasets'] = {
            key: _shrink_dataset(key, value, scale if isinstance(scale, int) else 1, images)
            for key, value in datasets.items()
        }
    if isinstance(options.get('val'), dict):
        small['val'] = {**_mapping(options['val']), 'val_freq': 10}
    small['logger'] = {**_mapping(options.get('logger')), **_SMALL['logger']}
    return small


def _shrink_training(train: dict[str, object]) -> dict[str, object]:
    small = {**train, **{key: value for key, value in _SMALL['train'].items() if train.get(key)}}
    for key, value in _SMALL['train'].items():
        given = train.get(key)
        if isinstance(value, dict) and isinstance(given, dict):
            small[key] = {**given, **value}
    stages = [key for key in ('schedule', 'stage_1', 'stage_2', 'stage_3') if isinstance(train.get(key), dict)]
    lengths = {}
    for key in stages:
        small[key] = _shrink_stage(_mapping(train[key]), ITERATIONS // len(stages))
        lengths[key] = _mapping(small[key]).get('total_iter')
    total = sum(length for length in lengths.values() if isinstance(length, int))
    if isinstance(train.get('scheduler'), dict):  # of a model of BasicSR
        small['scheduler'] = _shrink_milestones(_mapping(train['scheduler']), train.get('total_iter'), ITERATIONS)
    small['total_iter'] = total or ITERATIONS
    if lengths.get('stage_1') == 0:
        small['freeze_encoder'] = False  # its weights are left out
    return small


def _shrink_stage(stage: dict[str, object], iterations: int) -> dict[str, object]:
    """A stage with that number of iterations; a stage of 0 iterations is returned as it is."""
    total = stage.get('total_iter')
    if not isinstance(total, int) or not total:
        return stage
    small = {**_shrink_milestones(stage, total, iterations), 'total_iter': iterations}
    warmup, periods = stage.get('warmup_iter'), stage.get('periods')
    if isinstance(warmup, int):
        small['warmup_iter'] = warmup * iterations // total
    if isinstance(periods, int):
        small['periods'] = min(periods, 2)
    return small


def _shrink_milestones(options: dict[str, object], total: object, iterations: int) -> dict[str, object]:
    given = options.get('milestones')
    if not isinstance(given, list) or not isinstance(total, int):
        return options
    scaled = {round(one * iterations / total) for one in given if isinstance(one, int)}
    return {**options, 'milestones': sorted(one for one in scaled if 0 < one < iterations)}


def _shrink_dataset(key: str, dataset: object, scale: int, images: int) -> object:
    """A data set of demo images; patches of 24 LR pixels, at least 48 HR pixels."""
    if not isinstance(dataset, dict):
        return dataset
    small = dict(dataset)
    folders = [name for name in ('dataroot_gt', 'dataroot_lq') if name in dataset]
    if len(folders) == 1:
        small |= {'name': f'demo_{key}', folders[0]: DEMO_FOLDER}
    if key != 'train':
        degradations = dataset.get('degradation')
        if isinstance(degradations, list) and degradations:
            small['degradation'] = [degradations[len(degradations) // 2]]
        if dataset.get('type') == 'DegradedTestDataset':
            small.pop('max_pictures', None)  # the old name
            small['max_images'] = 1
        return small
    for name, side in (('gt_size', max(48, 24 * scale)), ('lq_size', 24)):
        given = dataset.get(name)
        if isinstance(given, int):
            small[name] = min(given, side)
    return {**small, 'num_worker_per_gpu': 0, 'batch_size_per_gpu': images}


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
