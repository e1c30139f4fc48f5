"""Properties of every degradation: draws, batches, windows, options, names."""

import inspect
import json
import math
import pickle
from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
import torch
import yaml

from dasr_arch import InputError
from dasr_arch._registration import DEGRADATION_REGISTRY
from dasr_arch.data.patches import PatchGeometry, cut_patch
from dasr_arch.degradations import Degradation, Window, build_degradation
from dasr_arch.degradations.whole_image import crop_to_multiple

ISO = {'type': 'IsotropicGaussian'}
ANISO = {'type': 'AnisotropicGaussian'}
TRAINING = {**ANISO, 'lambda_range': [0.2, 4.0], 'theta_deg_range': [0, 180], 'noise_range': [0, 25]}
SETTINGS = [
    {**ISO, 'sigma': 0},
    {**ISO, 'sigma': 1.2},
    {**ISO, 'sigma_range': [0.2, 4.0]},
    {**ISO, 'sigma': 1.2, 'noise': 10, 'downsample': 's_fold', 'border': 'mirror', 'kernel_size': 15},
    {**ANISO, 'lambda_1': 2.0, 'lambda_2': 0.5, 'theta_deg': 30},
    TRAINING,
    {**TRAINING, 'jpeg_range': [50, 95], 'jpeg_probability': 0.5},
    {**ANISO, 'lambda_range': [0.2, 4.0], 'theta_deg': 10.0, 'jpeg': 60},
]
SPECIFICATION = pytest.mark.parametrize('specification', SETTINGS, ids=lambda s: build_degradation(s, 4).label)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stack(draws: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {key: torch.stack([draw[key] for draw in draws]) for key in draws[0]}


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float().unsqueeze(0) / 255


def count_levels(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Difference of two images in whole grey levels."""
    return ((a - b) * 255).round().abs()


# --- draws ---


@SPECIFICATION
def test_draws_come_from_the_generator_alone(specification):
    degradation = build_degradation(specification, 4)
    torch.manual_seed(1)
    first = degradation.draw(seeded(), (6, 7), 2)
    torch.manual_seed(2)
    second = degradation.draw(seeded(), (6, 7), 2)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@SPECIFICATION
def test_draws_have_the_promised_shapes_and_pickle(specification):
    degradation = build_degradation(specification, 4)
    draws = pickle.loads(pickle.dumps(degradation.draw(seeded(), (6, 7), 2)))
    assert draws['kernel'].shape == (degradation.kernel_size, degradation.kernel_size)
    assert draws['kernel'].sum().item() == pytest.approx(1, abs=1e-5)
    assert draws['noise_level'].shape == ()
    assert ('noise' in draws) == ('noise' in specification or 'noise_range' in specification)
    if 'noise' in draws:
        assert draws['noise'].shape == (2, 3, 6, 7)
    assert ('jpeg_quality' in draws) == any(key.startswith('jpeg') for key in specification)


def test_random_values_fill_their_ranges():
    degradation = build_degradation({**TRAINING, 'jpeg_range': [50, 52], 'jpeg_probability': 0.5}, 4)
    generator = seeded()
    draws = stack([degradation.draw(generator, (1, 1)) for _ in range(400)])
    levels, qualities = draws['noise_level'], draws['jpeg_quality']
    assert 0 <= levels.min() < 1
    assert 24 < levels.max() <= 25
    assert levels.mean().item() == pytest.approx(12.5, abs=1.2)  # three standard errors of 400 uniform draws
    assert set(qualities.tolist()) == {0, 50, 51, 52}
    assert (qualities > 0).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_two_patches_share_kernel_and_level_but_no_noise_sample(demo_image):
    degradation = build_degradation({**TRAINING, 'jpeg_range': [50, 95]}, 4)
    draws = degradation.draw(seeded(), (6, 6), 2)
    assert draws['noise_level'].ndim == draws['jpeg_quality'].ndim == 0  # one for both
    assert draws['kernel'].ndim == 2
    assert not torch.equal(draws['noise'][0], draws['noise'][1])
    assert torch.corrcoef(draws['noise'].flatten(1))[0, 1].abs() < 0.3  # 108 samples: three standard errors


# --- batches ---


@SPECIFICATION
@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_output_lies_on_the_grid_of_8_bit_levels(specification, scale, demo_image):
    degradation = build_degradation(specification, scale)
    hr = to_tensor(demo_image[:48, :36])
    lq = degradation.apply(hr, stack([degradation.draw(seeded(), (48 // scale, 36 // scale))]))
    assert lq.shape == (1, 3, 48 // scale, 36 // scale)
    assert lq.min() >= 0
    assert lq.max() <= 1
    assert torch.allclose(lq * 255, (lq * 255).round(), atol=1e-4)


@SPECIFICATION
def test_batch_equals_images_one_by_one(specification, demo_image):
    degradation = build_degradation(specification, 4)
    hr = torch.cat([to_tensor(demo_image[top : top + 64, :48]) for top in (0, 60, 120)])
    draws = [degradation.draw(seeded(seed), (16, 12)) for seed in range(3)]
    together = degradation.apply(hr, stack(draws))
    single = torch.cat([degradation.apply(hr[i : i + 1], stack([draws[i]])) for i in range(3)])
    difference = count_levels(together, single)
    if 'jpeg_quality' in draws[0]:
        assert difference.mean() < 0.05  # one level before the codec may become a few after it
    else:
        # A sum in another order may fall to the other side of a rounding edge.
        assert difference.max() <= 1
        assert (difference > 0).float().mean() < 1e-3


@pytest.mark.gpu
@SPECIFICATION
def test_gpu_equals_cpu(specification, demo_image):
    if not torch.cuda.is_available():
        pytest.skip('no GPU')
    degradation = build_degradation({**specification, 'kernel_size': 21}, 4)
    draws = stack([degradation.draw(seeded(), (60, 60))])
    hr = to_tensor(demo_image)
    difference = count_levels(degradation.apply(hr.cuda(), draws).cpu(), degradation.apply(hr, draws))
    assert (difference > 0).float().mean() < 1e-3 or 'jpeg_quality' in draws


def test_no_gradient_is_kept():
    degradation = build_degradation({**ISO, 'sigma': 1.2}, 2)
    hr = torch.rand(1, 3, 8, 8, requires_grad=True)
    assert not degradation.apply(hr, stack([degradation.draw(seeded(), (4, 4))])).requires_grad


def test_sides_that_are_no_multiples_of_the_scale_are_refused():
    degradation = build_degradation({**ISO, 'sigma': 1.2}, 4)
    with pytest.raises(ValueError, match='sides must be multiples of scale 4, got 8 x 10; crop them first'):
        degradation.apply(torch.zeros(1, 3, 8, 10), stack([degradation.draw(seeded(), (2, 2))]))


@pytest.mark.parametrize('size', [(4, 4), (4, 40), (8, 12)])
def test_images_smaller_than_the_kernel_are_degraded(size):
    degradation = build_degradation({**ISO, 'sigma': 2.0}, 4)
    lq = degradation.apply(torch.full((1, 3, *size), 0.2), stack([degradation.draw(seeded(), (1, 1))]))
    assert torch.allclose(lq, torch.full((1, 3, size[0] // 4, size[1] // 4), 0.2))  # 51 grey levels


# --- windows ---

KERNELS: list[Mapping[str, object]] = [
    {**ISO, 'sigma': 0},
    {**ISO, 'sigma': 1.3},
    {**ISO, 'sigma': 3.9, 'kernel_size': 7},
    {**ANISO, 'lambda_1': 4.0, 'lambda_2': 1.0, 'theta_deg': 30},
]


def degrade_windows(degradation: Degradation, image: np.ndarray, places: list[tuple[int, int]], size: int):
    """LR patches at some places of an image, each from a window of it."""
    geometry = PatchGeometry(size, degradation.margin, degradation.scale)
    hr = torch.stack([cut_patch(image, top, left, geometry) for top, left in places]).float() / 255
    tops, lefts = zip(*places, strict=True)
    sides = [[side] * len(places) for side in image.shape[:2]]
    draws = stack([degradation.draw(seeded(), (1, 1))] * len(places))
    return degradation.apply(hr, draws, Window(*torch.tensor([tops, lefts, *sides])))


@pytest.mark.parametrize('downsample', ['bicubic', 's_fold'])
@pytest.mark.parametrize('border', ['replicate', 'mirror'])
@pytest.mark.parametrize('kernel', KERNELS, ids=lambda k: build_degradation(k, 4).label)
@pytest.mark.parametrize('scale', [2, 3, 4])
def test_window_equals_degrading_the_whole_image_and_cropping(scale, kernel, border, downsample, demo_image):
    degradation = build_degradation({**kernel, 'border': border, 'downsample': downsample}, scale)
    image = crop_to_multiple(demo_image[:142, :110], scale)
    height, width = image.shape[:2]
    size = 12 * scale
    middle = (height // 2 // scale * scale, width // 3 // scale * scale)
    # Corners, borders, one step from the borders, and the inside.
    rows, columns = (0, scale, middle[0], height - size), (0, middle[1], width - size - scale, width - size)
    places = list(product(rows, columns))
    patches = degrade_windows(degradation, image, places, size)
    whole = degradation.apply(to_tensor(image), stack([degradation.draw(seeded(), (1, 1))]))[0]
    sides = [[slice(start // scale, (start + size) // scale) for start in place] for place in places]
    expected = [whole[:, rows, columns] for rows, columns in sides]
    difference = count_levels(patches, torch.stack(expected))
    # The same numbers are summed in another order, so a value may fall to the other side of a rounding edge.
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 1e-3


@pytest.mark.parametrize('border', ['replicate', 'mirror'])
@pytest.mark.parametrize('scale', [2, 3, 4])
def test_window_that_is_the_whole_image_equals_the_image(scale, border, demo_image):
    degradation = build_degradation({**ISO, 'sigma': 2.1, 'border': border}, scale)
    image = demo_image[: 2 * scale, : 2 * scale]  # smaller than kernel and margin
    patch = degrade_windows(degradation, image, [(0, 0)], 2 * scale)
    whole = degradation.apply(to_tensor(image), stack([degradation.draw(seeded(), (2, 2))]))
    assert count_levels(patch, whole).max() <= 1


@pytest.mark.parametrize('scale', [1, 2, 3, 4, 8])
@pytest.mark.parametrize('kernel_size', [1, 7, 21])
def test_margin_is_a_multiple_of_the_scale_that_covers_blur_and_resizing(scale, kernel_size):
    margin = build_degradation({**ISO, 'sigma': 1, 'kernel_size': kernel_size}, scale).margin
    assert margin % scale == 0
    assert kernel_size // 2 + 2 * scale <= margin < kernel_size // 2 + 3 * scale


# --- options and names ---


@SPECIFICATION
def test_specification_rebuilds_an_equal_degradation_through_json_and_yaml(specification):
    degradation = build_degradation(specification, 3)
    for text in (json.loads(json.dumps(degradation.specification())), yaml.safe_load(yaml.safe_dump(specification))):
        assert build_degradation(text, 3) == degradation


@SPECIFICATION
def test_building_leaves_the_options_as_they_are(specification):
    before = json.dumps(specification)
    build_degradation(specification, 3)
    assert json.dumps(specification) == before


def test_labels_tell_settings_apart():
    widths = [{**ISO, 'sigma': sigma} for sigma in (0, 0.2, 1.2, 1.25, 12, 1.2000001, 1.2000002)]
    axes = [
        {**ANISO, 'lambda_1': a, 'lambda_2': b, 'theta_deg': t}
        for a, b, t in ((2, 0.5, 10), (0.5, 2, 10), (2, 0.5, -10), (2, 0.5, 100), (2, 0.51, 0))
    ]
    jpegs = [{'jpeg': 50, 'jpeg_probability': share} for share in (0.501, 0.502, 0, 1)]
    more = [{'noise': 5}, {'noise': 5.5}, {'jpeg': 60}, {'border': 'mirror'}, {'downsample': 's_fold'}, *jpegs]
    fixed = [*widths, *axes, *({**widths[2], **extra} for extra in (*more, {'kernel_size': 15}))]
    labels = [build_degradation(specification, 4).label for specification in fixed]
    assert len(set(labels)) == len(labels)
    assert all(len(label) < 80 for label in labels)


def test_labels_name_only_what_is_not_at_its_default():
    assert build_degradation({**ISO, 'sigma': 1.2}, 4).label == 'sigma 1.2'
    assert build_degradation({**ISO, 'sigma': 0, 'noise': 5}, 4).label == 'sigma 0, noise 5'
    axes = {**ANISO, 'lambda_1': 2.0, 'lambda_2': 0.5, 'theta_deg': 10}
    assert build_degradation(axes, 4).label == 'lambda 2 0.5, theta 10'


def test_constants_are_fixed_and_ranges_are_not():
    fixed = {str(s): build_degradation(s, 4).fixed for s in SETTINGS}
    assert list(fixed.values()) == [not any('range' in key for key in s) for s in SETTINGS]
    assert not build_degradation({**ISO, 'sigma': 1, 'jpeg': 50, 'jpeg_probability': 0.5}, 4).fixed
    assert build_degradation({**ISO, 'sigma': 1, 'jpeg': 50, 'jpeg_probability': 0}, 4).fixed


def test_every_registered_degradation_is_documented():
    names = [name for name, _ in DEGRADATION_REGISTRY]
    assert {'IsotropicGaussian', 'AnisotropicGaussian'} <= set(names)
    assert all(inspect.getdoc(kind) for _, kind in DEGRADATION_REGISTRY)


NAN, INF = math.nan, math.inf
MISTAKES = [
    ({}, "unknown degradation type 'None'; known: AnisotropicGaussian, CovarianceGaussian, IsotropicGaussian"),
    ('IsotropicGaussian', 'must be a mapping with a type'),
    ({'type': 'IsotropicGausian'}, "did you mean 'IsotropicGaussian'"),
    ({'type': ['IsotropicGaussian']}, 'unknown degradation type'),
    ({**ISO}, 'IsotropicGaussian needs sigma or sigma_range'),
    ({**ISO, 'sigma': 1, 'sigma_range': [1, 2]}, 'give sigma or sigma_range, not both'),
    ({**ISO, 'sgima': 1}, "unknown parameter 'sgima' of IsotropicGaussian; did you mean 'sigma'"),
    ({**ISO, 'sigma': 1, 'scale': 2}, "unknown parameter 'scale'"),
    ({**ISO, 'sigma': 1, 3: 4}, "unknown parameter '3'"),
    *(
        ({**ISO, 'sigma': bad}, r'sigma must be a number in \[0, 100\]')
        for bad in (-1, NAN, INF, '1', True, [1, 2], 10**400)
    ),
    ({**ISO, 'sigma_range': [0, 4]}, r'sigma_range must be a number in \(0, 100\], got 0'),
    ({**ISO, 'sigma_range': [2, 1]}, r'sigma_range must begin with the lower number, got \[2, 1\]'),
    ({**ISO, 'sigma_range': [1, NAN]}, 'sigma_range must be a number'),
    *(({**ISO, 'sigma_range': bad}, r'sigma_range must be two numbers') for bad in (3, [1], [1, 2, 3], 'ab', {1: 2})),
    ({**ANISO, 'lambda_1': 1, 'theta_deg': 0}, 'AnisotropicGaussian needs lambda_2 or lambda_range'),
    ({**ANISO, 'lambda_1': 1, 'lambda_2': 1}, 'AnisotropicGaussian needs theta_deg or theta_deg_range'),
    ({**ANISO, 'lambda_1': 0, 'lambda_2': 1, 'theta_deg': 0}, r'lambda_1 must be a number in \(0, 100\]'),
    ({**ANISO, 'lambda_1': 1, 'lambda_range': [1, 2], 'theta_deg': 0}, 'not both'),
    ({**ANISO, 'lambda_range': [0.0, 2], 'theta_deg': 0}, 'lambda_range must be a number'),
    ({**ANISO, 'lambda_range': [1, 2], 'theta_deg': 361}, r'theta_deg must be a number in \[-360, 360\]'),
    ({**ANISO, 'lambda_range': [1, 2], 'theta_deg_range': [0, 720]}, 'theta_deg_range must be a number'),
    ({**ANISO, 'lambda_range': [1, 2], 'theta_deg': NAN}, 'theta_deg must be a number'),
    *(({**ISO, 'sigma': 1, 'kernel_size': bad}, 'kernel_size must be odd') for bad in (20, 0, -3, 21.0, '21', True)),
    ({**ISO, 'sigma': 1, 'downsample': 'bilinear'}, 'downsample must be one of bicubic, s_fold'),
    ({**ISO, 'sigma': 1, 'border': 'reflect'}, 'border must be one of replicate, mirror'),
    *(({**ISO, 'sigma': 1, 'noise': bad}, 'noise must be a number') for bad in (-1, NAN, 256, '5', [0, 25])),
    ({**ISO, 'sigma': 1, 'noise': 5, 'noise_range': [0, 25]}, 'give noise or noise_range, not both'),
    ({**ISO, 'sigma': 1, 'noise_range': [25, 0]}, 'noise_range must begin with the lower'),
    *(({**ISO, 'sigma': 1, 'jpeg': bad}, 'jpeg must be') for bad in (0, 101, 50.5, '50', [50, 95])),
    ({**ISO, 'sigma': 1, 'jpeg': 50, 'jpeg_range': [50, 95]}, 'give jpeg or jpeg_range, not both'),
    *(({**ISO, 'sigma': 1, 'jpeg_range': bad}, 'jpeg_range must') for bad in ([0, 50], [95, 50], [50], 50, [1.5, 2])),
    *(({**ISO, 'sigma': 1, 'jpeg': 5, 'jpeg_probability': bad}, 'jpeg_probability') for bad in (-0.1, 1.1, NAN, '1')),
]


@pytest.mark.parametrize(('specification', 'message'), MISTAKES, ids=lambda value: str(value)[:60])
def test_mistake_in_a_parameter_is_named_in_one_line(specification, message):
    with pytest.raises(InputError, match=message) as error:
        build_degradation(specification, 4)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('scale', [0, -2, 2.0, True, '4'])
def test_scale_that_is_no_positive_whole_number_is_refused(scale):
    with pytest.raises(InputError, match='scale must be a whole number of 1 or more'):
        build_degradation({**ISO, 'sigma': 1}, scale)
