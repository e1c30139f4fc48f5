"""The photographic degradation: draws, levels, batches, windows, codecs and their blocks."""

import json
import pickle

import cv2
import numpy as np
import pytest
import torch
import yaml

from dasr_arch import InputError
from dasr_arch.data.patches import PatchGeometry, cut_patch
from dasr_arch.degradations import Window, build_degradation, degrade_image
from dasr_arch.degradations.kernels import dirac_kernel
from dasr_arch.degradations.noise_compression import CODECS, compress
from dasr_arch.degradations.photographic_levels import LEVELS, NOISE_LEVELS, QUALITIES, draw_parameters
from dasr_arch.degradations.resize import FILTERS

PHOTO = {'type': 'Photographic'}
SEVERE = {'type': 'Photographic', 'level_probabilities': [0, 0, 1]}
NAMES = [level.name for level in LEVELS]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stack(draws: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {key: torch.stack([draw[key] for draw in draws]) for key in draws[0]}


def draw_many(specification: dict[str, object], count: int, scale: int = 4) -> dict[str, torch.Tensor]:
    degradation = build_degradation(specification, scale)
    generator = seeded()
    return stack([degradation.draw(generator, (1, 1)) for _ in range(count)])


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float().unsqueeze(0) / 255


# --- draws ---


def test_draws_come_from_the_generator_alone():
    degradation = build_degradation(PHOTO, 4)
    for seed in range(20):
        torch.manual_seed(1)
        first = degradation.draw(seeded(seed), (6, 7), 2)
        torch.manual_seed(2)
        second = degradation.draw(seeded(seed), (6, 7), 2)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_draws_have_the_promised_shapes_and_pickle():
    degradation = build_degradation({**PHOTO, 'kernel_size': 15}, 4)
    draws = pickle.loads(pickle.dumps(degradation.draw(seeded(), (6, 7), 2)))
    assert set(draws) == {*degradation.shared_draws, 'noise'}
    shapes = {'kernel': (15, 15), 'resize': (3,), 'grid': (2,), 'noise': (2, 3, 6, 7)}
    assert {key: tuple(value.shape) for key, value in draws.items()} == {key: shapes.get(key, ()) for key in draws}


def test_parameters_do_not_depend_on_the_size_or_the_number_of_patches():
    degradation = build_degradation(PHOTO, 4)
    for seed in range(20):
        small, large = degradation.draw(seeded(seed), (1, 1)), degradation.draw(seeded(seed), (9, 5), 3)
        assert all(torch.equal(small[key], large[key]) for key in degradation.shared_draws)


def test_every_image_takes_as_many_numbers_from_the_generator():
    states = set()
    for shares in ((1, 0, 0, 0), (0, 0, 0, 1)):
        generator = seeded()
        draw_parameters(generator, 4, 21, shares)
        states.add(float(torch.rand((), generator=generator)))
    assert len(states) == 1


def test_kernels_have_sum_one_and_some_have_negative_lobes():
    kernels = draw_many(PHOTO, 300)['kernel']
    assert kernels.sum((1, 2)).sub(1).abs().max() < 1e-5
    lobed = (kernels < 0).flatten(1).any(1).float().mean()
    assert 0 < lobed < 0.15
    sharp = (kernels == dirac_kernel()).flatten(1).all(1).float().mean()
    assert 0.2 < sharp < 0.45


def test_kernel_drawn_alone_is_that_of_the_image():
    degradation = build_degradation(PHOTO, 3)
    for seed in range(20):
        assert torch.equal(degradation.draw_kernel(seeded(seed)), degradation.draw(seeded(seed), (1, 1))['kernel'])


def test_two_patches_share_everything_but_the_noise_samples():
    draws = build_degradation(SEVERE, 4).draw(seeded(), (6, 6), 2)
    assert not torch.equal(draws['noise'][0], draws['noise'][1])


# --- levels ---


def test_levels_have_their_probabilities_and_the_rest_is_clean():
    level = draw_many({**PHOTO, 'level_probabilities': [0.3, 0.2, 0.1]}, 2000)['level']
    shares = torch.bincount(level, minlength=4) / len(level)
    assert shares.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.035)  # three standard errors


@pytest.mark.parametrize('index', [1, 2, 3])
def test_draws_of_a_level_fill_its_ranges(index):
    level = LEVELS[index]
    shares = [float(number == index) for number in (1, 2, 3)]
    draws = draw_many({**PHOTO, 'level_probabilities': shares}, 600)
    assert set(draws['level'].tolist()) == {index}
    compressed = draws['codec'] > 0
    assert compressed.float().mean().item() == pytest.approx(level.compressed, abs=0.07)
    assert torch.equal(compressed, draws['jpeg_quality'] > 0)
    qualities = draws['jpeg_quality'][compressed]
    assert (qualities.min().item(), qualities.max().item()) == level.quality
    noisy = draws['noise_level'] > 0
    assert noisy.float().mean().item() == pytest.approx(level.noisy, abs=0.07)
    strengths = draws['noise_level'][noisy]
    assert level.noise[0] <= strengths.min()
    assert 0.9 * level.noise[1] < strengths.max() <= level.noise[1]
    factors = draws['resize'][:, 0]
    assert ((factors >= 0.25) & (factors <= 1)).all()
    assert (factors < 1).double().mean().item() == pytest.approx(level.resized, abs=0.05)


def test_clean_images_have_neither_noise_nor_compression():
    draws = draw_many({**PHOTO, 'level_probabilities': [0, 0, 0]}, 200)
    assert NAMES[int(draws['level'].unique())] == 'clean'
    assert not draws['noise_level'].any()
    assert not draws['codec'].any()
    x = torch.arange(-10.0, 11)
    gaussian = (draws['kernel'] >= 0).flatten(1).all(1)
    widths = (draws['kernel'].sum(1) * x**2).sum(1)[gaussian].sqrt()
    assert 1 < widths.max() < 4  # a slight blur; the tails of generalized Gaussians are wider than their deviation


def test_all_codecs_filters_and_kinds_of_noise_are_drawn():
    draws = draw_many(SEVERE, 500)
    assert set(draws['codec'].tolist()) == set(range(len(CODECS)))
    assert set(draws['resize'][:, 2].tolist()) == set(range(len(FILTERS)))
    assert set(draws['grid'].flatten().tolist()) == set(range(16))
    shot = draws['noise_shot'][draws['noise_level'] > 0]
    assert {0.0, 1.0} < set(shot.tolist())
    assert ((shot > 0.5) & (shot < 0.9)).any()


def test_published_ends_of_noise_and_quality_cover_every_draw():
    draws = draw_many(PHOTO, 500)
    assert build_degradation(PHOTO, 4).drawn_noise_levels == NOISE_LEVELS == (0, 25)
    assert build_degradation(PHOTO, 4).drawn_jpeg_qualities == QUALITIES == (30, 100)
    assert draws['noise_level'].max() <= 25
    assert draws['jpeg_quality'][draws['codec'] > 0].min() >= 30


# --- noise ---


def noise_of(shot: float, brightness: float, samples: torch.Tensor, level: float = 10.0) -> torch.Tensor:
    degradation = build_degradation({**PHOTO, 'level_probabilities': [0, 0, 0]}, 4)
    size = samples.shape[-2:]
    draws = stack([degradation.draw(seeded(), (size[0], size[1]))])
    draws |= {
        'kernel': dirac_kernel(),
        'noise_level': torch.tensor([level]),
        'noise_shot': torch.tensor([shot]),
        'noise': samples.unsqueeze(0),
    }
    hr = torch.full((1, 3, 4 * size[0], 4 * size[1]), brightness)
    return (degradation.apply(hr, draws) - brightness) * 255


@pytest.mark.parametrize(('shot', 'dark', 'bright'), [(0.0, 10, 10), (1.0, 4.472, 13.416), (0.5, 7.746, 11.832)])
def test_strength_of_shot_noise_grows_with_the_root_of_brightness(shot, dark, bright):
    samples = torch.randn(1, 3, 64, 64, generator=seeded())
    assert noise_of(shot, 0.1, samples).std().item() == pytest.approx(dark, rel=0.05)
    assert noise_of(shot, 0.5, samples).std().item() == pytest.approx(10, rel=0.05)
    assert noise_of(shot, 0.9, samples).std().item() == pytest.approx(bright, rel=0.05)


def test_noise_is_in_colour_or_grey_and_a_cameras_is_smooth():
    degradation = build_degradation(SEVERE, 4)
    grey, neighbours = [], {True: [], False: []}
    for seed in range(60):
        draws = degradation.draw(seeded(seed), (40, 40))
        noise, shot = draws['noise'][0], float(draws['noise_shot'])
        assert noise.std().item() == pytest.approx(1, abs=0.08)
        grey.append(torch.equal(noise[0], noise[1]))
        camera = 0 < shot < 1
        neighbours[camera].append(float((noise[..., 1:] * noise[..., :-1]).mean()))
    assert any(grey)
    assert not all(grey)
    assert min(neighbours[True]) > 0.3
    assert max(map(abs, neighbours[False])) < 0.12


# --- batches and windows ---


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_output_lies_on_the_grid_of_8_bit_levels(scale, demo_image):
    degradation = build_degradation(PHOTO, scale)
    hr = to_tensor(demo_image[:48, :36])
    for seed in range(12):
        lq = degradation.apply(hr, stack([degradation.draw(seeded(seed), (48 // scale, 36 // scale))]))
        assert lq.shape == (1, 3, 48 // scale, 36 // scale)
        assert lq.min() >= 0
        assert lq.max() <= 1
        assert torch.allclose(lq * 255, (lq * 255).round(), atol=1e-4)


@pytest.mark.parametrize('window', [False, True])
def test_batch_equals_images_one_by_one(window, demo_image):
    degradation = build_degradation(PHOTO, 4)
    margin = degradation.margin if window else 0
    geometry = PatchGeometry(48, margin, 4)
    tops, lefts = [0, 20, 44, 8], [12, 0, 40, 4]
    hr = torch.stack([cut_patch(demo_image, *place, geometry) for place in zip(tops, lefts, strict=True)]) / 255
    draws = [degradation.draw(seeded(seed), (12, 12)) for seed in range(4)]
    height, width = (side // 4 * 4 for side in demo_image.shape[:2])
    place = Window(*(torch.tensor(values) for values in (tops, lefts, [height] * 4, [width] * 4)))
    together = degradation.apply(hr, stack(draws), place if window else None)
    for index, draw in enumerate(draws):
        alone = Window(*(values[index : index + 1] for values in place)) if window else None
        assert torch.equal(degradation.apply(hr[index : index + 1], stack([draw]), alone)[0], together[index])


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('border', ['replicate', 'mirror'])
def test_window_equals_degrading_the_whole_image_and_cropping(scale, border, demo_image):
    degradation = build_degradation({**SEVERE, 'border': border}, scale)
    side = 16 * scale
    image = demo_image[: demo_image.shape[0] // scale * scale, : demo_image.shape[1] // scale * scale]
    height, width = image.shape[:2]
    geometry = PatchGeometry(side, degradation.margin, scale)
    for seed, (top, left) in enumerate([(0, 0), (4 * scale, 7 * scale), (height - side, width - side)] * 4):
        draws = degradation.draw(seeded(seed), (height // scale, width // scale))
        draws |= {'codec': torch.tensor(0), 'noise_level': torch.tensor(0.0)}
        whole = degradation.apply(to_tensor(image), stack([draws]))
        window = Window(*(torch.tensor([value]) for value in (top, left, height, width)))
        patch = cut_patch(image, top, left, geometry).unsqueeze(0) / 255
        got = degradation.apply(patch, stack([{**draws, 'noise': torch.zeros(1, 3, 16, 16)}]), window)
        rows, columns = (slice(start // scale, start // scale + 16) for start in (top, left))
        difference = ((got - whole[..., rows, columns]) * 255).round().abs()
        # Sums in another order: a value may fall to the other side of a rounding edge.
        assert difference.max() <= 1
        assert (difference > 0).float().mean() < 0.05


def test_blocks_of_a_window_lie_where_those_of_the_image_lie(demo_image):
    degradation = build_degradation({**PHOTO, 'level_probabilities': [0, 0, 0]}, 4)
    image = demo_image[:160, :160]
    draws = degradation.draw(seeded(), (40, 40))
    draws |= {
        'kernel': dirac_kernel()[0],
        'codec': torch.tensor(CODECS.index('jpeg 4:4:4')),
        'jpeg_quality': torch.tensor(10),
        'grid': torch.tensor([3, 5]),
    }
    whole = degradation.apply(to_tensor(image), stack([draws]))
    top, left, size = 28, 44, 96
    patch = cut_patch(image, top, left, PatchGeometry(size, degradation.margin, 4)).unsqueeze(0) / 255
    window = Window(*(torch.tensor([value]) for value in (top, left, 160, 160)))
    got = degradation.apply(patch, stack([{**draws, 'noise': torch.zeros(1, 3, 24, 24)}]), window)
    # The patch begins at row 7 and column 11 of the LR image; the first whole blocks begin at rows and columns that are
    # multiples of 8 after the grid's offset is added.
    first_row, first_column = 13 - 7, 11 - 11
    inside = (slice(first_row, first_row + 16), slice(first_column, first_column + 24))
    expected = whole[0, :, 7:31, 11:35][:, inside[0], inside[1]]
    assert ((got[0][:, inside[0], inside[1]] - expected) * 255).abs().max() < 8  # rounding, enlarged by the quantiser
    assert ((got[0][:, inside[0], inside[1]] - expected) != 0).float().mean() < 0.1
    shifted = degradation.apply(
        patch, stack([{**draws, 'grid': torch.tensor([0, 0]), 'noise': torch.zeros(1, 3, 24, 24)}]), window
    )
    assert ((shifted[0][:, inside[0], inside[1]] - expected) != 0).float().mean() > 0.5


def test_no_gradient_is_kept_and_odd_sides_are_refused():
    degradation = build_degradation(PHOTO, 4)
    draws = stack([degradation.draw(seeded(), (4, 4))])
    assert not degradation.apply(torch.rand(1, 3, 16, 16, requires_grad=True), draws).requires_grad
    with pytest.raises(ValueError, match='multiples of scale 4'):
        degradation.apply(torch.rand(1, 3, 17, 16), draws)


def test_image_is_the_same_for_a_seed_and_a_name(demo_image):
    degradation = build_degradation(PHOTO, 4)
    first, second = (degrade_image(degradation, demo_image, 3, 'a') for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, degrade_image(degradation, demo_image, 3, 'b'))


# --- codecs ---


def compress_one(image: np.ndarray, codec: str, quality: int, grid: tuple[int, int] = (0, 0)) -> np.ndarray:
    out = compress(to_tensor(image), torch.tensor([CODECS.index(codec)]), torch.tensor([quality]), torch.tensor([grid]))
    return (out[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def loss(image: np.ndarray, restored: np.ndarray) -> float:
    return float(np.abs(image.astype(int) - restored).mean())


@pytest.mark.parametrize('codec', CODECS[1:])
def test_codecs_lose_more_at_lower_quality(codec, demo_image):
    image = demo_image[:64, :48]
    losses = [loss(image, compress_one(image, codec, quality)) for quality in (95, 60, 30)]
    assert 0 < losses[0] < losses[1] < losses[2]


def test_no_codec_leaves_the_image_as_it_is(demo_image):
    image = demo_image[:40, :40]
    assert np.array_equal(compress_one(image, 'none', 10), image)


def test_codec_equals_opencv_on_an_image_of_whole_blocks(demo_image):
    image = np.ascontiguousarray(demo_image[:64, :48])
    encoded = cv2.imencode('.jpg', image[..., ::-1].copy(), [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    assert np.array_equal(compress_one(image, 'jpeg 4:2:0', 50), cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])


def test_chroma_sampling_spoils_colour_and_not_brightness():
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    image[:, ::2] = (200, 40, 40)
    image[:, 1::2] = (40, 83, 200)  # nearly the same luma
    full, sampled = (compress_one(image, f'jpeg {name}', 95) for name in ('4:4:4', '4:2:0'))
    assert loss(image, full) < 8
    assert loss(image, sampled) > 30


@pytest.mark.parametrize('grid', [(0, 0), (3, 0), (0, 13), (7, 9)])
def test_blocks_begin_where_the_grid_says(grid):
    ramp = np.add.outer(np.arange(64) * 2, np.arange(64) * 2).astype(np.uint8)
    image = np.repeat(ramp[..., None], 3, 2)
    restored = compress_one(image, 'jpeg 4:4:4', 1, grid)[..., 0].astype(int)  # flat blocks
    for axis, offset in ((0, grid[0]), (1, grid[1])):
        steps = np.abs(np.diff(restored, axis=axis)).mean(1 - axis)
        edges = {index + 1 for index in np.flatnonzero(steps > 4)}
        assert edges
        assert {(edge + offset) % 8 for edge in edges} == {0}


@pytest.mark.parametrize('size', [(1, 1), (3, 20), (16, 16), (17, 33)])
def test_images_of_any_size_are_compressed(size):
    image = np.full((*size, 3), 120, dtype=np.uint8)
    assert np.abs(compress_one(image, 'jpeg 4:2:0', 80, (15, 7)).astype(int) - 120).max() <= 2


# --- options ---


@pytest.mark.parametrize(
    'specification',
    [PHOTO, SEVERE, {**PHOTO, 'kernel_size': 15, 'border': 'mirror', 'level_probabilities': [0.5, 0, 0]}],
)
def test_specification_rebuilds_an_equal_degradation(specification):
    degradation = build_degradation(specification, 4)
    for text in (json.loads(json.dumps(degradation.specification())), yaml.safe_load(yaml.dump(specification))):
        assert build_degradation(text, 4) == degradation


def test_labels_tell_settings_apart():
    labels = {
        build_degradation(s, 4).label
        for s in (PHOTO, SEVERE, {**PHOTO, 'border': 'mirror'}, {**PHOTO, 'kernel_size': 15})
    }
    assert len(labels) == 4
    assert 'photographic 0/0/1' in labels


def test_it_is_never_fixed():
    assert not build_degradation(PHOTO, 4).fixed
    assert not build_degradation({**PHOTO, 'level_probabilities': [0, 0, 0]}, 4).fixed


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'level_probabilities': [0.5, 0.5]}, r'must be three numbers \[weak, standard, severe\]'),
        ({'level_probabilities': 0.5}, 'must be three numbers'),
        ({'level_probabilities': [0.5, 0.5, 0.5]}, r'a sum of at most 1, got \[0.5, 0.5, 0.5\]'),
        ({'level_probabilities': [-0.1, 0.5, 0.5]}, r'level_probabilities must be a number in \[0, 1\]'),
        ({'level_probabilities': ['a', 0, 0]}, r'level_probabilities must be a number in \[0, 1\]'),
        ({'noise': 5}, 'noise is no parameter of Photographic: its levels decide it; remove it'),
        ({'noise_range': [0, 5]}, 'noise_range is no parameter of Photographic'),
        ({'jpeg': 50}, 'jpeg is no parameter of Photographic'),
        ({'jpeg_range': [50, 60]}, 'jpeg_range is no parameter of Photographic'),
        ({'downsample': 's_fold'}, 'downsample is no parameter of Photographic'),
        ({'levels': 3}, "unknown parameter 'levels' of Photographic"),
        ({'kernel_size': 4}, 'kernel_size must be odd'),
    ],
)
def test_mistake_in_a_parameter_is_named_in_one_line(wrong, message):
    with pytest.raises(InputError, match=message) as error:
        build_degradation({**PHOTO, **wrong}, 4)
    assert '\n' not in str(error.value)


def test_description_of_an_intermediate_size_names_both_filters():
    degradation = build_degradation(SEVERE, 4)
    generator = seeded()
    draws = next(
        draw for draw in (degradation.draw(generator, (1, 1)) for _ in range(200)) if float(draw['resize'][0]) < 1
    )
    resize = degradation.describe(draws)['resize']
    assert set(resize) == {'filter', 'first_filter', 'factor'}
    assert resize['first_filter'] in FILTERS
    assert 0.25 <= resize['factor'] < 1
