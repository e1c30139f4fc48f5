"""Training images on the device: the batches of the loader, bit for bit, and a line where they cannot be there."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dasr_arch import InputError
from dasr_arch.data.degradation_dataset import DegradationDataset
from dasr_arch.pipelines import device_images
from dasr_arch.pipelines.dataloaders import build_training_stream
from dasr_arch.pipelines.device_images import keep_on_device
from tests.pipelines.test_training import assert_same_weights, losses, run_here, tiny_options

NOISY = {'type': 'AnisotropicGaussian', 'lambda_range': [0.2, 4.0], 'theta_deg_range': [0, 180], 'noise_range': [0, 25]}
PHOTO = {'type': 'Photographic', 'level_probabilities': [0, 0, 1]}


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many shapes: hardly larger than a patch, long, wide, and no multiple of the scale."""
    folder, draw = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for number, (height, width) in enumerate([(48, 48), (51, 131), (163, 49), (70, 90), (120, 55)]):
        Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f'{number}.png')
    return folder


def make_options(root: Path, where: str, **changes: object) -> dict[str, Any]:
    data = {'dataroot_gt': str(root), 'scale': 4, 'gt_size': 48, 'degradation': NOISY, 'type': 'DegradationDataset'}
    train = {**data, 'name': 'random', 'batch_size_per_gpu': 3, 'images_on': where, **changes}
    return {'datasets': {'train': train}, 'manual_seed': 1, 'rank': 0, 'world_size': 1, 'num_gpu': 0}


def load(options: dict[str, Any], count: int = 8) -> list[dict[str, Any]]:
    return list(islice(build_training_stream(options, 0)[0], count))


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'crop_first': True},
        {'num_patches': 1},
        {'degradation': PHOTO},
        {'resize_range': [0.5, 2]},
        {'resize_range': [0.7, 0.8], 'crop_first': True},
        {'use_hflip': False},
        {'use_rot': False},
    ],
    ids=str,
)
def test_batches_are_those_of_the_loader(images: Path, changes: dict[str, object]) -> None:
    pairs = zip(
        load(make_options(images, 'host', **changes)), load(make_options(images, 'device', **changes)), strict=True
    )
    for expected, found in pairs:
        assert expected.keys() == found.keys()
        assert ('window' in found) != changes.get('crop_first', False)
        for key, value in expected.items():
            same = torch.equal(value, found[key]) if isinstance(value, torch.Tensor) else value == found[key]
            assert same, key


def test_few_patches_are_resized_at_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = make_options(images, 'device', resize_range=[0.5, 1.2])
    expected = load(options, 4)
    monkeypatch.setattr(device_images, '_PIXELS_AT_ONCE', 1)
    for batch, found in zip(expected, load(options, 4), strict=True):
        assert torch.equal(batch['hr'], found['hr'])


@pytest.mark.parametrize('workers', [0, 2])
def test_loading_processes_only_draw(images: Path, workers: int) -> None:
    options = make_options(images, 'device', num_worker_per_gpu=workers)
    dataset = DegradationDataset(options['datasets']['train'])
    expected = load(make_options(images, 'host'), 3)
    stream, _ = build_training_stream(options, 0, dataset)
    dataset.source.read = None  # and so in the loading processes
    for batch in expected:
        assert torch.equal(next(stream)['hr'], batch['hr'])


def test_trainings_are_equal_and_resume_exactly(tmp_path: Path) -> None:
    folders = {}
    for images_on in ('host', 'device'):
        options = tiny_options()
        options['datasets']['train']['images_on'] = images_on
        folders[images_on] = tmp_path / images_on
        folders[images_on].mkdir()
        assert run_here(folders[images_on], options) == 0
    assert losses(folders['host']) == losses(folders['device'])
    assert_same_weights(folders['host'], folders['device'])
    log = next((folders['device'] / 'experiments' / 'tiny').glob('*.log')).read_text(encoding='utf-8')
    assert 'Training images are on cpu, 1 MB' in log

    states = folders['device'] / 'experiments' / 'tiny' / 'training_states'
    (states / '12.state').unlink()
    assert run_here(folders['device'], options, '--auto_resume') == 0
    assert_same_weights(folders['host'], folders['device'])


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({'degrade_on': 'worker'}, 'images_on: degrade_on: worker degrades in the loading processes; write host'),
        ({'images_on': 'gpu'}, "images_on must be one of auto, device, host, got 'gpu'"),
    ],
)
def test_what_cannot_be_is_an_error_in_words(images: Path, changes: dict[str, object], line: str) -> None:
    with pytest.raises(InputError) as error:
        DegradationDataset(make_options(images, 'device', **changes)['datasets']['train'])
    assert str(error.value) == line


def test_damaged_image_is_named(images: Path, tmp_path: Path) -> None:
    good = (images / '3.png').read_bytes()
    for name in 'abc':
        (tmp_path / f'{name}.png').write_bytes(good)
    (tmp_path / 'b.png').write_bytes(good[:4000])
    with pytest.raises(InputError, match=r'b\.png: '):
        load(make_options(tmp_path, 'device'), 1)


@pytest.mark.parametrize('where', ['host', 'device'])
def test_an_image_that_was_replaced_is_named(images: Path, tmp_path: Path, where: str) -> None:
    for name in 'ab':
        (tmp_path / f'{name}.png').write_bytes((images / '3.png').read_bytes())
    options = make_options(tmp_path, where, batch_size_per_gpu=2)
    dataset = DegradationDataset(options['datasets']['train'])
    (tmp_path / 'b.png').write_bytes((images / '4.png').read_bytes())
    with pytest.raises(InputError, match=r"^image 'b' was replaced during the training; start it again$"):
        next(build_training_stream(options, 0, dataset)[0])


def test_auto_keeps_them_in_main_memory_on_a_cpu_and_where_there_is_no_room(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make_options(images, 'auto')
    dataset = DegradationDataset(options['datasets']['train'])
    assert keep_on_device(options, dataset) is None
    lines: list[str] = []
    monkeypatch.setattr(device_images.get_root_logger(), 'info', lines.append)
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (100_000, 200_000))
    assert keep_on_device({**options, 'num_gpu': 1}, dataset) is None
    reason = 'they need 9e-05 GB, more than half of the 0.0001 GB free on the GPU'
    assert lines == [f'Training images stay in main memory: {reason}']
    forced = make_options(images, 'device') | {'num_gpu': 1}
    with pytest.raises(InputError, match=f'^datasets.train.images_on: {reason}; write host$'):
        keep_on_device(forced, dataset)
