"""ZSSR's HR crops and its plateau-based learning-rate schedule."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dasr_arch import InputError
from dasr_arch.archs.zssr_arch import ZSSR
from dasr_arch.config.typed import convert
from dasr_arch.config.zero_shot_schema import ZSSROptions
from dasr_arch.zero_shot.pairs import Downscaler
from dasr_arch.zero_shot.zssr import PlateauSchedule, sample_hr_crop, train_zssr


def make_image(height: int = 40, width: int = 52) -> Tensor:
    """Smooth, without a symmetry."""
    y, x = torch.arange(height)[:, None] / 7, torch.arange(width)[None] / 9
    return torch.stack([(y.sin() * x.cos() + 1) / 2, (x + y).sin().abs(), torch.exp(-x) + 0 * y])[None].clamp(0, 1)


def run_schedule(errors: list[float], **options: float) -> tuple[list[int], int]:
    """Steps after which the rate falls, and the last step; errors repeat their last."""
    schedule = PlateauSchedule(ZSSROptions(**options))  # type: ignore[arg-type]
    falls = []
    for step in range(3000):
        if step % 50 == 0:
            schedule.record(step, errors[min(step // 50, len(errors) - 1)])
        before = schedule.rate
        over = schedule.is_finished(step)
        if schedule.rate != before:
            falls.append(step)
        if over:
            return falls, step
    return falls, 2999


def test_rate_falls_as_early_as_the_authors_when_nothing_improves():
    noise = np.random.default_rng(0).normal(1, 0.1, 70).tolist()
    falls, last = run_schedule(noise)
    assert falls[0] >= 299
    assert all((step + 1) % 60 == 0 for step in falls)
    flat, end = run_schedule([1.0, 1.1] * 40)
    assert flat == [299, 599, 899]
    assert end == 899
    assert last <= 2999


@pytest.mark.parametrize('error', [0.1, 1 / 3, 0.0])
def test_rate_stays_while_errors_are_equal(error):
    assert run_schedule([error] * 70) == ([], 2999)


def test_rate_stays_while_errors_fall_in_a_line():
    falls, last = run_schedule([1 - 0.01 * i for i in range(70)])
    assert falls == []
    assert last == 2999


@pytest.mark.parametrize('augment', [True, False])
def test_hr_crops_have_the_size_of_the_options(augment):
    image, generator = make_image(), torch.Generator().manual_seed(0)
    options = ZSSROptions(crop_size=24)
    crops = [sample_hr_crop(image, 4, options, generator, augment) for _ in range(60)]
    assert {tuple(hr.shape) for hr in crops} == {(1, 3, 24, 24)}
    assert all(0 <= hr.min() <= hr.max() <= 1 for hr in crops)
    assert len({round(float(hr.mean()), 5) for hr in crops}) > 50
    assert min(float((hr.amax(1) > 0).float().mean()) for hr in crops) > 0.3  # black where nothing is, at most


def test_without_augmentation_half_of_the_crops_are_unchanged():
    image, generator = make_image(), torch.Generator().manual_seed(1)
    windows = image.unfold(2, 20, 1).unfold(3, 20, 1)
    crops = 0
    for _ in range(30):
        hr = sample_hr_crop(image, 2, ZSSROptions(crop_size=20), generator, augment=False)
        crops += bool((windows == hr[:, :, None, None]).all(-1).all(-1).all(1).any())
    assert 8 <= crops <= 22  # half of them


@pytest.mark.parametrize(('height', 'width', 'expected'), [(40, 52, (40, 52)), (41, 30, (40, 28)), (3, 2, (3, 2))])
def test_crops_of_small_images_are_all_of_them_but_for_the_scale(height, width, expected):
    options = ZSSROptions()
    generator = torch.Generator().manual_seed(0)
    sizes = set()
    for _ in range(20):
        sizes.add(tuple(sample_hr_crop(make_image(height, width), 4, options, generator, False).shape[-2:]))
    assert sizes == {expected}


def test_loss_falls_and_training_depends_on_the_generator_alone():
    image = make_image()
    histories = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        network = ZSSR(scale=2, num_feat=16, num_layers=4)
        network.draw_weights(generator)
        options = ZSSROptions(max_steps=80, crop_size=32)
        losses, rates = train_zssr(network, image, Downscaler(2), options, generator)
        histories.append(losses)
        assert rates == (1e-3,) * 80
    assert histories[0] == histories[1] != histories[2]
    assert np.mean(histories[0][-20:]) < 0.8 * np.mean(histories[0][:20])


def test_training_ends_when_the_rate_is_below_the_least():
    network = ZSSR(scale=2, num_feat=4, num_layers=2)
    options = ZSSROptions(
        max_steps=500, crop_size=8, check_every=5, check_window=20, measure_every=5, lr_change_ratio=0.0, lr=1e-4
    )
    _, rates = train_zssr(network, make_image(), Downscaler(2), options, torch.Generator().manual_seed(0))
    assert len(rates) < 100
    assert rates[0] == 1e-4
    assert rates[-1] == pytest.approx(1e-5)


def test_noise_of_lr_crops_is_drawn_from_the_generator():
    image = make_image()
    losses = []
    for noise in (0.0, 12.75):
        network = ZSSR(scale=2, num_feat=4, num_layers=2)
        network.draw_weights(torch.Generator().manual_seed(5))
        options = ZSSROptions(max_steps=1, crop_size=16, lq_noise=noise)
        losses += train_zssr(network, image, Downscaler(2), options, torch.Generator().manual_seed(0))[0]
    assert losses[1] > losses[0]


def test_defaults_depend_on_a_known_kernel():
    options = ZSSROptions()
    assert (options.uses_ensemble(known_kernel=False), options.rounds(known_kernel=False)) == (True, 10)
    assert (options.uses_ensemble(known_kernel=True), options.rounds(known_kernel=True)) == (False, 2)
    assert ZSSROptions(ensemble=True, back_projections=1).rounds(known_kernel=False) == 1


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'max_steps': 1.5}, 'ZSSR: max_steps: expected a whole number'),
        ({'crop_size': 0}, 'crop_size: expected a whole number'),
        ({'min_scale': 0}, 'min_scale: expected a number above 0'),
        ({'downsample': 'nearest'}, "downsample: expected one of 'bicubic', 'direct'"),
        ({'ensemble': 8}, 'ensemble: expected'),
        ({'lq_noise': -1}, 'lq_noise: expected a number'),
        ({'lr_factor': 1}, 'lr_factor: expected a number above 1'),
    ],
)
def test_wrong_value_is_named(options, message):
    with pytest.raises(InputError, match=message):
        convert(options, ZSSROptions, 'ZSSR')
