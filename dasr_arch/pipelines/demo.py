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
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from tqdm import tqdm

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write
from dasr_arch.benchmark.config import build_degradations, folder_name
from dasr_arch.benchmark.environment import describe_environment, list_versions, now
from dasr_arch.benchmark.pages.results_page import DemoContent, write_results_page
from dasr_arch.checkpoints.io import load_network
from dasr_arch.checkpoints.packaged import check_packaged, find_packaged
from dasr_arch.data.degrade_files import DegradeSettings, degrade_files
from dasr_arch.data.image_io import read_image, write_image
from dasr_arch.data.image_source import open_source
from dasr_arch.data.prepare import RunSettings, prepare
from dasr_arch.data.sample_images import SAMPLE_IMAGES, find_sample_images
from dasr_arch.data.sub_images import Cutting
from dasr_arch.pipelines.testing import run_test_file
from dasr_arch.pipelines.training import train
from dasr_arch.pipelines.training_log import HISTORY_NAME, read_history
from dasr_arch.probe.tsne import encode_patches, make_maps, write_maps

SCALE = 4
PAGE_NAME = 'index.html'
DEGRADATIONS: tuple[dict[str, object], ...] = (
    {'type': 'IsotropicGaussian', 'sigma': [0.0, 1.2, 2.4, 3.6]},
    {'type': 'AnisotropicGaussian', 'lambda_1': 3.6, 'lambda_2': 1.2, 'theta_deg': 45.0},
)
"""Degradations of the test: the paper's kernel widths at x4, and an anisotropic blur that is not in the training."""

_DEFAULT_FOLDER = Path('results') / 'demo'
_RECORD = 'demo.json'
_MAP = 'representations.json'
_TRAINING, _TEST = 'train_demo', 'test_demo'
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

_METRICS = {
    'psnr': {'type': 'calculate_psnr', 'crop_border': SCALE, 'test_y_channel': True},
    'ssim': {'type': 'calculate_ssim', 'crop_border': SCALE, 'test_y_channel': True},
}


@dataclass(frozen=True)
class DemoSettings:
    """Size of the demo; the defaults take a few minutes on two cores."""

    stage_1: int = 150  # iterations of the encoder alone
    stage_2: int = 300  # joint iterations
    batch_size: int = 12  # images, with two patches each
    gt_size: int = 96  # side of a patch in HR pixels, a multiple of the scale
    network: tuple[tuple[str, object], ...] = (
        ('num_feat', 32),
        ('num_groups', 2),
        ('num_blocks', 2),
        ('encoder_feat', 32),
        ('upsampler', 'direct'),
        ('skip', 'bicubic'),
    )
    map_patch: int = 32  # side of the patches of the map in LR pixels


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


def run_demo(folder: Path, settings: DemoSettings | None = None) -> DemoReport:
    """Prepares data, trains both stages, tests on a grid, maps the representations and writes the page.

    The folder is empty or new; its files are kept if the demo is interrupted. Raises InputError if the sample images
    are missing, OSError if the folder cannot be written.
    """
    settings = settings or DemoSettings()
    began = time.monotonic()
    for part in ('train', 'test'):
        find_sample_images(part)  # before anything is created
    folder.mkdir(parents=True, exist_ok=True)
    stages: dict[str, Callable[[], object]] = {
        'copying images': _copy_images,
        'making an LMDB': lambda: _make_lmdb(settings),
        'degrading test images': _degrade_test_images,
        'training both stages': lambda: _train(settings),
        'testing': lambda: run_test_file(Path(f'{_TEST}.yml')).console,
        'mapping representations': lambda: _map_representations(settings),
        'writing the page': lambda: _write_page(settings, seconds),
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


def make_training_options(settings: DemoSettings) -> dict[str, Any]:
    """Content of the option file of the training; paths are relative to the demo's folder."""
    total = settings.stage_1 + settings.stage_2
    return {
        'name': _TRAINING,
        'model_type': 'DASRModel',
        'scale': SCALE,
        'num_gpu': 'auto',
        'manual_seed': 0,
        'datasets': {
            'train': {
                'name': 'sample_images',
                'type': 'DegradationDataset',
                'dataroot_gt': 'train.lmdb',
                'gt_size': settings.gt_size,
                'degradation': {'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0]},
                'batch_size_per_gpu': settings.batch_size,
            },
            'val_1': {
                'name': 'test_images',
                'type': 'DegradedTestDataset',
                'dataroot_gt': 'images/test',
                'degradation': [degradation.specification() for degradation in _build_grid()],
            },
        },
        'network_g': {'type': 'DASR', 'scale': SCALE, **dict(settings.network)},
        'train': {
            'precision': 'fp32',
            'total_iter': total,
            'stage_1': {'total_iter': settings.stage_1, 'lr': 1e-3, 'schedule': 'cosine'},
            'stage_2': {'total_iter': settings.stage_2, 'lr': 5e-4, 'schedule': 'cosine'},
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 255},
            'contrast_opt': {'queue_length': 512, 'momentum': 0.99, 'positives': 'other'},
            'ema_decay': 0.98,
        },
        'val': {'val_freq': max(1, total // 12), 'metrics': _METRICS},
        'logger': {
            'print_freq': max(1, total // 48),
            'save_checkpoint_freq': max(1, total // 2),
            'keep_checkpoints': 1,
        },
    }


def make_test_options() -> dict[str, Any]:
    """Content of the option file of the test."""
    return {
        'name': _TEST,
        'scale': SCALE,
        'num_gpu': 'auto',
        'seed': 0,
        'missing': 'error',
        'datasets': {'sample_images': {'dataroot_gt': 'images/test'}},
        'degradations': [dict(block) for block in DEGRADATIONS],
        'networks': {
            'Bicubic': {'type': 'Bicubic'},
            _OURS: {'type': 'DASR', 'path': str(_WEIGHTS)},
            _PACKAGED: {'type': 'DASR', 'path': str(check_packaged(find_packaged('iso', SCALE)))},
        },
        'metrics': _METRICS,
        'save_img': True,
        'crops': {'images': len(_TEST_WINDOWS), 'size': _TEST_SIDE},
    }


def _copy_images() -> None:
    """Writes the centre of training images, and a window of each test image, as PNG."""
    for part in ('train', 'test'):
        for path in find_sample_images(part):
            image = read_image(path)
            height = width = _TRAINING_SIDE
            top, left = (max(0, side - _TRAINING_SIDE) // 2 for side in image.shape[:2])
            if part == 'test':
                top, left, height, width = _TEST_WINDOWS[path.stem]
            window = np.ascontiguousarray(image[top : top + height, left : left + width])
            write_image(Path('images', part, f'{path.stem}.png'), window)


def _make_lmdb(settings: DemoSettings) -> None:
    cutting = Cutting(size=320, step=96, min_size=max(settings.gt_size, 128))
    prepare(['images/train'], 'train.lmdb', cutting, RunSettings(workers=1))


def _build_grid() -> Any:
    return build_degradations(DEGRADATIONS, SCALE)


def _degrade_test_images() -> None:
    for degradation in _build_grid():
        target = Path('lq', folder_name(degradation.label))
        degrade_files('images/test', target, degradation, DegradeSettings(seed=0))


def _train(settings: DemoSettings) -> None:
    _write_options(f'{_TRAINING}.yml', make_training_options(settings), 'train')
    _write_options(f'{_TEST}.yml', make_test_options(), 'test')
    train(Path(f'{_TRAINING}.yml'))


def _write_options(name: str, options: Mapping[str, Any], command: str) -> None:
    head = f'# Written by `dasr demo`. To run it again: cd to this folder, then `dasr {command} -opt {name}`.\n'
    with atomic_write(name) as temporary:
        temporary.write_text(head + yaml.safe_dump(dict(options), sort_keys=False), encoding='utf-8')


def _map_representations(settings: DemoSettings) -> None:
    network = load_network(check_packaged(find_packaged('iso', SCALE)), SCALE)
    images = {}
    for degradation in _build_grid():
        source = open_source(Path('lq', folder_name(degradation.label)))
        images[degradation.label] = {name: source.read(index) for index, name in enumerate(source.names)}
    encoded = encode_patches(network, images, settings.map_patch, settings.map_patch // 2)
    write_maps(Path(_MAP), make_maps(encoded))


def _write_page(settings: DemoSettings, seconds: Mapping[str, float]) -> None:
    environment = describe_environment(torch.device('cuda' if torch.cuda.device_count() else 'cpu'))
    count = sum(parameter.numel() for parameter in load_network(_WEIGHTS, SCALE).parameters())
    packaged = find_packaged('iso', SCALE)
    arguments = ', '.join(f'{key} {value}' for key, value in settings.network)
    side = settings.gt_size // SCALE
    patch = f'{settings.batch_size} images, two patches of {side} x {side} LR pixels'
    versions = list_versions(environment, ('dasr', 'torch', 'basicsr', 'python'))
    facts = {
        _OURS: f'DASR x{SCALE}, {count:,d} parameters ({arguments}); the paper has 64 features, 5 groups of 5 blocks',
        'training': f'{settings.stage_1} + {settings.stage_2} iterations; batch: {patch}; the paper has about 600,000',
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
        'settings': asdict(settings),
        'stages': [(settings.stage_1, 'stage 1, the encoder alone'), (settings.stage_2, 'stage 2, everything')],
        'seconds': dict(seconds),
        'environment': environment,
        'facts': list(facts.items()),
    }
    with atomic_write(_RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
    write_demo_page(Path())
