"""Two patches of an LR image, with no HR image anywhere."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from dasr_arch import InputError
from dasr_arch.data.lq_dataset import LQDataset


def make_dataset(root, **options: object) -> LQDataset:
    return LQDataset({'dataroot_lq': str(root), 'lq_size': 24, **options})


def test_sample_is_two_patches_of_one_image(demo_folder):
    dataset = make_dataset(demo_folder, use_hflip=False, use_rot=False)
    sample = dataset[2, 9]
    assert sample['lq'].shape == (2, 3, 24, 24)
    assert sample['lq_path'] == 'chelsea'
    image = dataset.source.read(2).transpose(2, 0, 1)
    windows = np.lib.stride_tricks.sliding_window_view(image, (24, 24), (1, 2))
    for patch in (sample['lq'] * 255).round().numpy().astype(np.uint8):
        assert (windows == patch[:, None, None]).all((0, 3, 4)).sum() == 1


def test_samples_depend_on_seed_and_number_alone(demo_folder):
    first, again = make_dataset(demo_folder)[1, 5], make_dataset(demo_folder)[1, 5]
    assert torch.equal(first['lq'], again['lq'])
    assert not torch.equal(first['lq'], make_dataset(demo_folder)[1, 6]['lq'])
    assert not torch.equal(first['lq'], make_dataset(demo_folder, seed=1)[1, 5]['lq'])


def test_patches_of_a_whole_image_share_the_augmentation(demo_folder):
    dataset = make_dataset(demo_folder, lq_size=240)
    seen = [dataset[0, number]['lq'] for number in range(12)]
    assert all(torch.equal(*patches) for patches in seen)
    assert len({patches.numpy().tobytes() for patches in seen}) > 3


def test_samples_collate(demo_folder):
    dataset = make_dataset(demo_folder)
    assert default_collate([dataset[i, i] for i in range(3)])['lq'].shape == (3, 2, 3, 24, 24)


@pytest.mark.parametrize(('size', 'message'), [(0, 'lq_size must be 1 or more'), (241, 'as large as a patch of 241')])
def test_wrong_size_is_named(size, message, demo_folder):
    with pytest.raises(InputError, match=message):
        make_dataset(demo_folder, lq_size=size)
