"""Validation images: every image under every degradation, the same at any time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dasr_arch import InputError
from dasr_arch.data.degraded_test_dataset import DegradedTestDataset
from dasr_arch.data.image_io import write_image
from dasr_arch.degradations import build_degradation, degrade_image

NOISY = {'type': 'IsotropicGaussian', 'sigma': 1.2, 'noise': 5}
SHARP = {'type': 'IsotropicGaussian', 'sigma': 0}


def make_dataset(root: Path, **options: object) -> DegradedTestDataset:
    return DegradedTestDataset({'dataroot_gt': str(root), 'scale': 4, 'degradation': [SHARP, NOISY], **options})


def test_every_image_comes_under_every_degradation(demo_folder):
    dataset = make_dataset(demo_folder)
    names = [(dataset[i]['gt_path'], dataset[i]['degradation']) for i in range(len(dataset))]
    images = ['astronaut', 'camera', 'chelsea', 'coffee', 'gravel', 'rocket']
    assert names == [(f'{name}.png', label) for label in ('sigma 0', 'sigma 1.2, noise 5') for name in images]


def test_lr_images_are_those_of_the_command_and_the_benchmark(demo_folder):
    dataset = make_dataset(demo_folder, seed=3)
    sample = dataset[6 + 3]
    expected = degrade_image(build_degradation(NOISY, 4), dataset.source.read(3), 3, 'coffee')
    lq = (sample['lq'] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    assert np.array_equal(lq, expected)
    assert sample['gt'].shape == (3, 240, 240)
    assert sample['kernel'].shape == (21, 21)
    assert sample['noise_level'].item() == 5


def test_noise_depends_on_image_and_seed_alone(demo_folder):
    lq = make_dataset(demo_folder)[9]['lq']
    assert torch.equal(lq, make_dataset(demo_folder, degradation=NOISY, max_images=4)[3]['lq'])
    assert not torch.equal(lq, make_dataset(demo_folder, seed=1)[9]['lq'])


def test_saved_names_are_unique_and_survive_cutting_the_ending(demo_folder):
    specifications = [{'type': 'IsotropicGaussian', 'sigma': sigma} for sigma in (1, 1.2, 12, 0.12)]
    dataset = make_dataset(demo_folder, degradation=specifications, max_images=2)
    stems = {Path(dataset[i]['lq_path']).stem for i in range(len(dataset))}
    assert len(stems) == 8
    assert 'astronaut_sigma_1_2' in stems


def test_sides_are_cropped_to_multiples_of_the_scale(tmp_path, demo_image):
    write_image(tmp_path / 'odd.png', demo_image[:31, :45])
    sample = make_dataset(tmp_path)[0]
    assert sample['gt'].shape == (3, 28, 44)
    assert sample['lq'].shape == (3, 7, 11)


def test_loader_gives_one_image_a_batch(demo_folder):
    (batch,) = list(DataLoader(make_dataset(demo_folder, degradation=NOISY, max_images=1), batch_size=1))
    assert batch['lq'].shape == (1, 3, 60, 60)
    assert batch['degradation'] == ['sigma 1.2, noise 5']


def test_random_degradation_is_refused(demo_folder):
    with pytest.raises(InputError, match=r"'sigma 0.2-4' is random; a test needs fixed values, no ranges"):
        make_dataset(demo_folder, degradation={'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0]})


def test_image_smaller_than_the_scale_is_named(tmp_path):
    write_image(tmp_path / 'dot.png', np.zeros((3, 9, 3), np.uint8))
    with pytest.raises(InputError, match="image 'dot' of 3 x 9 is smaller than the scale 4"):
        make_dataset(tmp_path)[0]
