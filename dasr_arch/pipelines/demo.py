"""The demo: prepares data, trains a small DASR, tests it and writes a page, on a dozen free images of scikit-image.

The packaged network, trained for hours, is tested for comparison. All files are in one folder:

    index.html            the page
    demo.json             settings, times and versions for the page
    images/train, test    disjoint images
    train.lmdb/           from images/train, as by `dasr prepare`
    lq/<degradation>/     LR test images with their specification, as by `dasr degrade`
    train_demo.yml        option file for `dasr train`; both stages
    test_demo.yml         option file for `dasr test`
    experiments/          output of the training
    results/              output of the test
    representations.json  map of degradation representations
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch.benchmark.config import build_degradations, folder_name
from dasr_arch.benchmark.environment import describe_environment, list_versions, now
from dasr_arch.benchmark.pages.results_page import DemoContent, write_results_page
from dasr_arch.checkpoints.io import load_network
from dasr_arch.checkpoints.packaged import check_packaged, find_packaged
from dasr_arch.config.yaml_reader import read_yaml
from dasr_arch.data.degrade_files import DegradeSettings, degrade_files
from dasr_arch.data.image_io import cut_middle, read_image, write_image
from dasr_arch.data.image_source import open_source
from dasr_arch.data.prepare import RunSettings, prepare
from dasr_arch.data.sample_images import SAMPLE_IMAGES, find_sample_images
from dasr_arch.data.sub_images import Cutting
from dasr_arch.degradations.base import Degradation
from dasr_arch.pipelines.testing import run_test_file
from dasr_arch.pipelines.training import train
from dasr_arch.pipelines.training_log import HISTORY_NAME, read_history
from dasr_arch.probe.tsne import encode_patches, make_maps, write_maps

SCALE = 4
PAGE_NAME = 'index.html'
OPTION_FILES = Path(__file__).resolve().parents[1] / 'assets' / 'demo'
"""Folder of the option files of training and test; paths in them are relative to the demo's folder."""

_DEFAULT_FOLDER = Path('results') / 'demo'
_RECORD = 'demo.json'
_MAP = 'representations.json'
_TRAINING, _TEST = 'train_demo', 'test_demo'
_STAGES = {'stage_1': 'stage 1, the encoder alone', 'stage_2': 'stage 2, everything'}
_WEIGHTS = Path('experiments') / _TRAINING / 'models' / 'net_g_latest.pth'
_TRAINING_SIDE = 512  # pixels
_TEST_SIDE = 256  # pixels
_TEST_WINDOWS = {  # top, left, height and width of the part of each test image that is used
    'astronaut': (0, 96, _TEST_SIDE, _TEST_SIDE),
    'chelsea': (22, 60, _TEST_SIDE, _TEST_SIDE),
    'rocket': (150, 200, _TEST_SIDE, _TEST_SIDE),
    'text': (0, 0, 172, _TEST_SIDE),
}
_OURS, _PACKAGED = 'DASR, minutes', 'DASR-S, packaged'
"""The network that the demo trains, and the packaged one."""

_MAP_PATCH = 32  # side of the patches of the map in LR pixels


class DemoReport(NamedTuple):
    """Result of a demo."""

    page: Path
    console: str  # the table of the test as text
    seconds: float  # wall time


def choose_folder(out: Path | None = None) -> Path:
    """The folder of a new demo; by default results/demo, with a number if that exists.

    Raises InputError if the user's choice is not empty.
    """
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f'{out}: exists already; the demo needs a folder of its own, choose another name')
        return out
    folder, number = _DEFAULT_FOLDER, 2
    while os.path.lexists(folder):
        folder, number = _DEFAULT_FOLDER.with_name(f'{_DEFAULT_FOLDER.name}-{number}'), number + 1
    return folder


def run_demo(folder: Path, overrides: Sequence[str] = ()) -> DemoReport:
    """Prepares data, trains both stages, tests on a grid, maps the representations and writes the page.

    The folder is empty or new; its files are kept if the demo is interrupted. ``overrides`` are laid over the training
    file, such as 'train.total_iter=4'. Raises InputError if the sample images are missing, OSError if the folder cannot
    be written.
    """
    began = time.monotonic()
    for part in ('train', 'test'):
        find_sample_images(part)  # before anything is created
    folder.mkdir(parents=True, exist_ok=True)
    stages: dict[str, Callable[[], object]] = {
        'copying images': _copy_images,
        'making an LMDB': _make_lmdb,
        'degrading test images': _degrade_test_images,
        'training both stages': lambda: _train(overrides),
        'testing': lambda: run_test_file(Path(f'{_TEST}.yml')).console,
        'mapping representations': _map_representations,
        'writing the page': lambda: _write_page(overrides, seconds),
    }
    results: dict[str, object] = {}
    seconds: dict[str, float] = {}
    bar: tqdm[Any] = tqdm(total=len(stages), unit='step', bar_format='{desc} [{elapsed}]')
    with chdir(folder), bar:
        for number, (name, action) in enumerate(stages.items(), start=1):
            bar.set_description_str(f'demo, step {number} of {len(stages)}: {name}')
            started = time.monotonic()
            results[name] = action()
            seconds[name] = time.monotonic() - started
            bar.update()
    return DemoReport(folder / PAGE_NAME, str(results['testing']), time.monotonic() - began)


def write_demo_page(folder: Path) -> None:
    """Writes the page of a finished demo from the saved files of its folder.

    Raises InputError if one of them is missing, OSError if the page cannot be written.
    """
    path = folder / _RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        stages, facts = record['stages'], record['facts']
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path}: missing or damaged; run the demo again') from error
    demo = DemoContent(
        title='DASR: blind super-resolution that adapts to the degradation',
        network=_OURS,
        shown=_PACKAGED,
        history=read_history(folder / 'experiments' / _TRAINING / HISTORY_NAME),
        stages=[(count, name) for count, name in stages],
        representations=folder / _MAP,
        facts=[(name, value) for name, value in facts],
        credits=[f'{image.file} ({image.part}): {image.content}; {image.licence}' for image in SAMPLE_IMAGES],
    )
    write_results_page(folder / 'results' / _TEST, folder / PAGE_NAME, demo)


def _copy_images() -> None:
    """Writes the centre of training images, and a window of each test image, as PNG."""
    for part in ('train', 'test'):
        for path in find_sample_images(part):
            image = read_image(path)
            window = cut_middle(image, _TRAINING_SIDE)
            if part == 'test':
                top, left, height, width = _TEST_WINDOWS[path.stem]
                window = image[top : top + height, left : left + width]
            write_image(Path('images', part, f'{path.stem}.png'), np.ascontiguousarray(window))


def _make_lmdb() -> None:
    prepare(['images/train'], 'train.lmdb', Cutting(size=320, step=96, min_size=128), RunSettings(workers=1))


def _build_grid() -> tuple[Degradation, ...]:
    specifications: Any = read_yaml(OPTION_FILES / f'{_TEST}.yml')['degradations']
    return build_degradations(specifications, SCALE)


def _degrade_test_images() -> None:
    for degradation in _build_grid():
        target = Path('lq', folder_name(degradation.label))
        degrade_files('images/test', target, degradation, DegradeSettings(seed=0))


def _train(overrides: Sequence[str]) -> None:
    weights = check_packaged(find_packaged('iso', SCALE))
    for name in (_TRAINING, _TEST):
        text = (OPTION_FILES / f'{name}.yml').read_text(encoding='utf-8')
        write_whole(f'{name}.yml', text.replace('PACKAGED_WEIGHTS', json.dumps(str(weights))))
    train(Path(f'{_TRAINING}.yml'), overrides)


def _map_representations() -> None:
    network = load_network(check_packaged(find_packaged('iso', SCALE)), SCALE)
    images = {}
    for degradation in _build_grid():
        source = open_source(Path('lq', folder_name(degradation.label)))
        images[degradation.label] = {name: source.read(index) for index, name in enumerate(source.names)}
    write_maps(Path(_MAP), make_maps(encode_patches(network, images, _MAP_PATCH, _MAP_PATCH // 2)))


def _write_page(overrides: Sequence[str], seconds: Mapping[str, float]) -> None:
    options: Any = read_yaml(f'{_TRAINING}.yml', overrides)
    training, stages = options['datasets']['train'], [options['train'][stage]['total_iter'] for stage in _STAGES]
    environment = describe_environment(torch.device('cuda' if torch.cuda.device_count() else 'cpu'))
    count = sum(parameter.numel() for parameter in load_network(_WEIGHTS, SCALE).parameters())
    packaged = find_packaged('iso', SCALE)
    network = {key: value for key, value in options['network_g'].items() if key not in ('type', 'scale')}
    arguments = ', '.join(f'{key} {value}' for key, value in network.items())
    side = training['gt_size'] // SCALE
    patch = f'{training["batch_size_per_gpu"]} images, two patches of {side} x {side} LR pixels'
    versions = list_versions(environment, ('dasr', 'torch', 'basicsr', 'python'))
    facts = {
        _OURS: f'DASR x{SCALE}, {count:,d} parameters ({arguments}); the paper has 64 features, 5 groups of 5 blocks',
        'training': f'{" + ".join(map(str, stages))} iterations; batch: {patch}; the paper has about 600,000',
        _PACKAGED: f'{packaged.name}, {packaged.parameters:,d} parameters, used by `dasr upscale --model iso`; '
        f'trained on {packaged.trained_on}, {packaged.date}',
        'training degradations': 'isotropic Gaussian blur of kernel width 0.2 to 4 HR pixels, bicubic downsampling, '
        'no noise',
        'machine': f'{environment["device"]}, {environment["cores"]} cores, {environment["threads"]} threads',
        'versions': f'{versions}, commit {environment["commit"] or "none"}',
        'date': now(),
        'time': '; '.join(f'{name} {timedelta(seconds=round(value))}' for name, value in seconds.items()),
        'files': 'train_demo.yml, test_demo.yml, experiments/, results/ and lq/ beside this page',
    }
    record = {
        'overrides': list(overrides),
        'stages': list(zip(stages, _STAGES.values(), strict=True)),
        'seconds': dict(seconds),
        'environment': environment,
        'facts': list(facts.items()),
    }
    write_whole(_RECORD, json.dumps(record, indent=1) + '\n')
    write_demo_page(Path())
