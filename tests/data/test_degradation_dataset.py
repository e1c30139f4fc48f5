"""Training samples: what the patches are, and that nothing but seed and position decides about them."""

import pickle
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from torch.utils.data import DataLoader, default_collate

from dasr_arch import InputError
from dasr_arch.data.degradation_dataset import DegradationDataset, degrade_batch, exchange_second_patches
from dasr_arch.data.sampling import SampleStream
from dasr_arch.degradations import Window

RANDOM = {
    'type': 'AnisotropicGaussian',
    'lambda_range': [0.2, 4.0],
    'theta_deg_range': [0, 180],
    'noise_range': [0, 25],
}
PHOTO = {'type': 'Photographic', 'level_probabilities': [0, 0, 1]}
CLEAN = {'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0]}


@pytest.fixture(params=['folder', 'lmdb'])
def root(request, demo_folder, tmp_path) -> Path:
    """The same images as a folder and as an LMDB that BasicSR itself writes."""
    if request.param == 'folder':
        return demo_folder
    store, paths = tmp_path / 'demo.lmdb', sorted(path.name for path in demo_folder.glob('*.png'))
    make_lmdb_from_imgs(str(demo_folder), str(store), paths, [name[:-4] for name in paths])
    return store


def make_options(root: Path | list[Path], **options: object) -> dict[str, object]:
    return {
        'name': 'demo',
        'type': 'DegradationDataset',
        'dataroot_gt': [str(path) for path in root] if isinstance(root, list) else str(root),
        'scale': 4,
        'gt_size': 48,
        'degradation': RANDOM,
        **options,
    }


def make_dataset(root: Path | list[Path], **options: object) -> DegradationDataset:
    return DegradationDataset(make_options(root, **options))


def load_batches(dataset: DegradationDataset, workers: int, count: int = 4) -> list[dict[str, object]]:
    loader = DataLoader(dataset, batch_sampler=SampleStream(len(dataset), 3, seed=1), num_workers=workers)
    return list(islice(loader, count))


def assert_equal(first: dict[str, object], second: dict[str, object]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key], key


# --- what a sample is ---


def test_sample_holds_raw_patches_with_margin_and_draws(demo_folder):
    dataset = make_dataset(demo_folder)
    sample = dataset[0, 0]
    side = 48 + 2 * dataset.degradation.margin
    assert sample['hr'].shape == (2, 3, side, side)
    assert sample['hr'].dtype == torch.uint8
    assert sample['window'].shape == (4, 2)
    assert sample['noise'].shape == (2, 3, 12, 12)
    assert sample['gt_path'] == 'astronaut'


@pytest.mark.parametrize('crop_first', [False, True])
def test_exchanged_second_patches_keep_the_degradation(demo_folder, crop_first):
    dataset = make_dataset(demo_folder, crop_first=crop_first)
    batch = default_collate([dataset[i, i] for i in range(3)])
    before = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    changed = exchange_second_patches(batch)
    assert torch.equal(changed['hr'][:, 0], before['hr'][:, 0])
    for sample, neighbour in ((0, 2), (1, 0), (2, 1)):
        assert torch.equal(changed['hr'][sample, 1], before['hr'][neighbour, 1])
        if not crop_first:
            assert torch.equal(changed['window'][sample, :, 1], before['window'][neighbour, :, 1])
    for key, value in before.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(batch[key], value), key
            if key not in {'hr', 'window'}:
                assert changed[key] is batch[key]
    _, gt = degrade_batch(dataset.degradation, changed)
    assert torch.equal(gt[0, 1], degrade_batch(dataset.degradation, batch)[1][2, 1])


def test_exchange_needs_two_images(demo_folder):
    with pytest.raises(InputError, match='need at least 2 images in a batch, got 1'):
        exchange_second_patches(default_collate([make_dataset(demo_folder)[0, 0]]))


def test_batch_becomes_lr_and_hr_patches(demo_folder):
    dataset = make_dataset(demo_folder)
    lq, gt = degrade_batch(dataset.degradation, default_collate([dataset[i, i] for i in range(3)]))
    assert lq.shape == (3, 2, 3, 12, 12)
    assert gt.shape == (3, 2, 3, 48, 48)
    assert 0 <= lq.min() <= lq.max() <= 1
    assert torch.allclose(gt * 255, (gt * 255).round(), atol=1e-4)


@pytest.mark.parametrize('border', ['replicate', 'mirror'])
@pytest.mark.parametrize('scale', [2, 3, 4])
def test_patches_are_those_of_the_whole_degraded_image(scale, border, demo_folder):
    options = {'degradation': {**CLEAN, 'border': border}, 'gt_size': 36, 'use_hflip': False, 'use_rot': False}
    dataset = make_dataset(demo_folder, scale=scale, **options)
    wrong = total = 0
    for number in range(12):
        sample = dataset[number % 6, number]
        (lq,), (gt,) = degrade_batch(dataset.degradation, default_collate([sample]))
        image = torch.from_numpy(dataset.source.read(number % 6)).permute(2, 0, 1)[None].float() / 255
        whole = dataset.degradation.apply(image, default_collate([{'kernel': sample['kernel']}]))[0]
        for i, (top, left) in enumerate(zip(*Window(*sample['window'])[:2], strict=True)):
            expected = whole[:, top // scale : (top + 36) // scale, left // scale : (left + 36) // scale]
            assert torch.equal(gt[i], image[0, :, top : top + 36, left : left + 36])
            difference = ((lq[i] - expected) * 255).round().abs()
            # Sums in another order: a value may fall to the other side of a rounding edge.
            assert difference.max() <= 1
            wrong, total = wrong + int((difference > 0).sum()), total + difference.numel()
    assert wrong < 1e-3 * total


def test_crop_first_degrades_each_patch_by_itself(demo_folder):
    dataset = make_dataset(demo_folder, crop_first=True)
    sample = dataset[1, 5]
    assert 'window' not in sample
    assert sample['hr'].shape == (2, 3, 48, 48)
    (lq,), (gt,) = degrade_batch(dataset.degradation, default_collate([sample]))
    for i in range(2):
        draws = {'kernel': sample['kernel'], 'noise_level': sample['noise_level'], 'noise': sample['noise'][i : i + 1]}
        expected = dataset.degradation.apply(gt[i : i + 1], default_collate([draws]))[0]
        assert ((lq[i] - expected) * 255).round().abs().max() <= 1  # sums in another order
    assert torch.equal(gt, sample['hr'].float() / 255)


def test_two_patches_share_augmentation_and_degradation_but_no_noise_sample(demo_folder):
    dataset = make_dataset(demo_folder, gt_size=240)  # the whole image, so that only augmentation could differ
    for number in range(8):
        sample = dataset[0, number]
        assert torch.equal(sample['hr'][0], sample['hr'][1])
        assert sample['kernel'].shape == (21, 21)
        assert sample['noise_level'].shape == ()
        assert not torch.equal(sample['noise'][0], sample['noise'][1])


@pytest.mark.parametrize('degradation', [RANDOM, PHOTO], ids=['anisotropic', 'photographic'])
def test_worker_makes_the_pairs_that_the_model_would(degradation, demo_folder):
    raw = make_dataset(demo_folder, num_patches=1, degradation=degradation)
    ready = make_dataset(demo_folder, degrade_on='worker', degradation=degradation)
    for number in range(3):
        (lq,), (gt,) = degrade_batch(raw.degradation, default_collate([raw[number, number]]))
        sample = ready[number, number]
        assert set(sample) == {'lq', 'gt', 'lq_path', 'gt_path'}
        assert torch.equal(sample['lq'], lq[0])
        assert torch.equal(sample['gt'], gt[0])


def test_patches_of_a_photograph_share_their_degradation(demo_folder):
    dataset = make_dataset(demo_folder, degradation=PHOTO)
    batch = default_collate([dataset[number, number] for number in range(3)])
    together, _ = degrade_batch(dataset.degradation, batch)
    assert together.shape == (3, 2, 3, 12, 12)
    for patch in (0, 1):
        single = {key: value for key, value in batch.items() if key != 'gt_path'}
        for key, dim in (('hr', 1), ('noise', 1), ('window', 2)):
            single[key] = batch[key].narrow(dim, patch, 1)
        assert torch.equal(degrade_batch(dataset.degradation, single)[0][:, 0], together[:, patch])


def test_resumed_run_degrades_photographs_as_the_whole_run(demo_folder):
    dataset = make_dataset(demo_folder, degradation=PHOTO, num_patches=1)
    whole = [degrade_batch(dataset.degradation, batch)[0] for batch in load_batches(dataset, 0, 4)]
    stream = SampleStream(len(dataset), 3, seed=1, start=2)
    resumed = DataLoader(make_dataset(demo_folder, degradation=PHOTO, num_patches=1), batch_sampler=stream)
    for first, batch in zip(whole[2:], islice(resumed, 2), strict=True):
        assert torch.equal(first, degrade_batch(dataset.degradation, batch)[0])


def test_jpeg_reaches_the_patches(demo_folder):
    plain = make_dataset(demo_folder)
    compressed = make_dataset(demo_folder, degradation={**RANDOM, 'jpeg': 20})
    batches = [default_collate([dataset[0, 1]]) for dataset in (plain, compressed)]
    first, second = (degrade_batch(d.degradation, b)[0] for d, b in zip((plain, compressed), batches, strict=True))
    assert not torch.equal(first, second)


# --- what decides about it ---


def test_batches_do_not_depend_on_the_number_of_workers(root):
    batches = {workers: load_batches(make_dataset(root), workers) for workers in (0, 1, 3)}
    for workers in (1, 3):
        for first, second in zip(batches[0], batches[workers], strict=True):
            assert_equal(first, second)


def test_batches_do_not_depend_on_the_number_of_processes(demo_folder):
    dataset = make_dataset(demo_folder)
    one = DataLoader(dataset, batch_sampler=SampleStream(len(dataset), 4, seed=1))
    two = [
        DataLoader(dataset, batch_sampler=SampleStream(len(dataset), 2, seed=1, rank=rank, world_size=2))
        for rank in range(2)
    ]
    for whole, first, second in islice(zip(one, *two, strict=False), 3):
        for key in ('hr', 'kernel', 'noise', 'window'):
            assert torch.equal(whole[key], torch.cat([first[key], second[key]]))


def test_resumed_run_gets_the_batches_that_were_left(demo_folder):
    dataset = make_dataset(demo_folder)
    all_batches = load_batches(dataset, 0, 5)
    resumed = DataLoader(dataset, batch_sampler=SampleStream(len(dataset), 3, seed=1, start=3))
    for first, second in zip(all_batches[3:], islice(resumed, 2), strict=True):
        assert_equal(first, second)


def test_folder_and_lmdb_give_the_same_samples(root, demo_folder):
    assert_equal(make_dataset(root)[3, 17], make_dataset(demo_folder)[3, 17])


def test_no_epoch_repeats_random_draws(demo_folder):
    dataset = make_dataset(demo_folder)
    batches = load_batches(dataset, 2, 8)  # four epochs of six images
    kernels = torch.cat([batch['kernel'] for batch in batches]).flatten(1)
    assert len(torch.unique(kernels, dim=0)) == 24


@pytest.mark.parametrize('workers', [0, 2])
def test_no_epoch_repeats_random_draws_under_samplers_of_basicsr(workers, demo_folder):
    torch.manual_seed(0)
    dataset = make_dataset(demo_folder)
    sampler = EnlargedSampler(dataset, 1, 0, 2)
    loader = DataLoader(dataset, batch_size=3, sampler=sampler, num_workers=workers)
    kernels = []
    for epoch in range(2):  # each shows every image twice
        sampler.set_epoch(epoch)
        kernels += [batch['kernel'].flatten(1) for batch in loader]
    assert len(torch.unique(torch.cat(kernels), dim=0)) == 24


def test_seed_changes_the_samples(demo_folder):
    first, second = (make_dataset(demo_folder, seed=seed)[0, 0] for seed in (0, 1))
    assert not torch.equal(first['kernel'], second['kernel'])


def test_dataset_pickles_for_spawned_workers(root):
    dataset = make_dataset(root)
    expected = dataset[2, 3]  # the store is open now
    assert_equal(pickle.loads(pickle.dumps(dataset))[2, 3], expected)


def test_options_are_left_as_they_are(demo_folder):
    options = make_options(demo_folder)
    before = pickle.dumps(options)
    build_dataset(options)[0]
    assert pickle.dumps(options) == before


# --- what is refused ---


def test_images_smaller_than_a_patch_are_left_out(demo_folder, tmp_path):
    for name, side in (('small', 40), ('large', 64)):
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.full((side, 64, 3), 90, np.uint8))
    dataset = make_dataset(tmp_path)
    assert len(dataset) == 1
    assert dataset[0, 0]['gt_path'] == 'large'
    assert len(make_dataset([tmp_path, demo_folder])) == 7


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'gt_size': 50}, 'gt_size must be a positive multiple of scale 4, got 50'),
        ({'gt_size': 0}, 'gt_size must be a positive multiple'),
        ({'gt_size': 244}, 'is as large as a patch of 244 pixels; make the patches smaller'),
        ({'num_patches': 0}, 'num_patches must be 1 or more, got 0'),
        ({'degrade_on': 'gpu'}, 'degrade_on must be one of device, worker'),
        ({'degradation': {'type': 'Isotropic'}}, 'unknown degradation type'),
    ],
)
def test_wrong_option_is_named(options, message, demo_folder):
    with pytest.raises(InputError, match=message) as error:
        make_dataset(demo_folder, **options)
    assert '\n' not in str(error.value)


def test_missing_data_root_is_named(tmp_path):
    with pytest.raises(InputError, match='nowhere'):
        make_dataset(tmp_path / 'nowhere')


def test_images_can_be_shrunk_before_patches_are_cut(demo_folder):
    plain = DegradationDataset(make_options(demo_folder))
    same = DegradationDataset(make_options(demo_folder, resize_range=[1.0, 1.0]))
    small = DegradationDataset(make_options(demo_folder, resize_range=[0.3, 0.6]))
    assert len(small) == len(plain)
    for number in range(4):
        assert same[0, number]['hr'].shape == small[0, number]['hr'].shape == plain[0, number]['hr'].shape
        assert (small[0, number]['window'][2:] <= plain[0, number]['window'][2:]).all()
    rough = [
        np.mean([float(data[0, number]['hr'].float().diff(dim=-1).abs().mean()) for number in range(16)])
        for data in (plain, small)
    ]
    assert rough[1] > 1.1 * rough[0]  # neighbouring pixels differ more


def test_images_can_be_enlarged_before_patches_are_cut(demo_folder):
    plain = DegradationDataset(make_options(demo_folder))
    large = DegradationDataset(make_options(demo_folder, resize_range=[1.5, 1.5]))
    sizes = [(plain[0, number]['window'][2:].float(), large[0, number]['window'][2:].float()) for number in range(4)]
    assert all(torch.allclose(after, 1.5 * before, atol=4) for before, after in sizes)
    rough = [
        np.mean([float(data[0, number]['hr'].float().diff(dim=-1).abs().mean()) for number in range(16)])
        for data in (plain, large)
    ]
    assert rough[1] < 0.9 * rough[0]


@pytest.mark.parametrize('span', [[0.5, 2.5], [0, 1], [0.8, 0.5]])
def test_wrong_range_of_resizing_is_refused(demo_folder, span):
    with pytest.raises(InputError, match='resize_range'):
        DegradationDataset(make_options(demo_folder, resize_range=span))


def test_cache_is_filled_until_an_image_does_not_fit(demo_folder):
    large, none = make_dataset(demo_folder), make_dataset(demo_folder, cache_mib=0)
    for dataset in (large, none):
        dataset.fill_cache()
    assert not large.source.is_full
    assert none.source.is_full
