"""Sizes that users ask for: how large results become, which factor is used, what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from dasr_arch import InputError, Tiling, Upscaler
from dasr_arch.degradations.resize import downsample_bicubic, resize_matrix, upsample_bicubic
from dasr_arch.inference.target_size import TargetSize, check_mask, choose_factor, label_scale, read_label
from tests.inference.making import make_network


@pytest.fixture(scope='module')
def upscaler():
    return Upscaler(4, make_network(4), device='cpu', precision='fp32')


def make_pixels(height=20, width=31, channels=3, dtype='uint8'):
    rng = np.random.default_rng(0)
    if dtype == 'float32':
        return rng.random((height, width, channels), np.float32)
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


@pytest.mark.parametrize(
    ('options', 'image', 'expected', 'label'),
    [
        ({'to': '3840x2160'}, (1000, 1000), (2160, 2160), 'to3840x2160'),
        ({'to': '3840X2160'}, (2000, 600), (3840, 1152), 'to3840x2160'),
        ({'long_side': 100}, (33, 77), (43, 100), 'long100'),
        ({'short_side': 100}, (33, 77), (100, 233), 'short100'),
        ({'long_side': 10}, (1000, 3), (10, 1), 'long10'),
        ({'scale': 1}, (33, 77), (33, 77), 'x1'),
    ],
)
def test_size_keeps_the_aspect_ratio(options, image, expected, label):
    target = TargetSize.read(**{'to': None, 'long_side': None, 'short_side': None, **options})
    assert target.fit(*image) == expected
    assert label_scale(target) == label


@pytest.mark.parametrize('options', [('3840', None, None), ('0x9', None, None), ('2x2', 3, None), (None, 0, None)])
def test_wrong_sizes_are_refused(options):
    with pytest.raises(InputError, match=r'--to|at least 1 pixel'):
        TargetSize.read(*options)
    assert TargetSize.read(None, None, None, 4) is None
    with pytest.raises(InputError, match='the scale 1 keeps the size; give another scale, or none'):
        TargetSize.read('40x40', None, None, 1)


@pytest.mark.parametrize(('side', 'expected'), [(101, 2), (200, 2), (201, 4), (400, 4)])
def test_smallest_factor_that_reaches_the_size_is_chosen(side, expected):
    assert choose_factor(TargetSize(long_side=side), 100, 37, [4, 2]) == expected


@pytest.mark.parametrize(
    ('side', 'message'),
    [(100, '100 x 37 pixels would become 100 x 37, which is no enlargement'), (401, 'ask for at most 400 x 148')],
)
def test_sizes_beyond_the_factors_are_refused(side, message):
    with pytest.raises(InputError, match=message):
        choose_factor(TargetSize(long_side=side), 100, 37, [4, 2])


def test_size_of_the_image_takes_the_smallest_factor():
    assert choose_factor(TargetSize(same=True), 100, 37, [4, 2]) == 2


def test_size_of_the_image_keeps_what_is_masked(upscaler):
    pixels = make_pixels(dtype='uint16')
    mask = np.zeros((20, 31), np.uint8)
    mask[:, :15] = 255
    out = upscaler(pixels, size=TargetSize(same=True), mask=mask)
    assert np.array_equal(out[:, 15:], pixels[:, 15:])
    assert not np.array_equal(out[:, :15], pixels[:, :15])


def test_resizing_by_whole_factors_is_that_of_the_degradations():
    x = torch.rand(1, 1, 24, 12)
    down = resize_matrix(0, 6, 0.25, 0, 24) @ x @ resize_matrix(0, 3, 0.25, 0, 12).T
    assert torch.allclose(down, downsample_bicubic(x, 4), atol=1e-5)
    up = resize_matrix(0, 72, 3, 0, 24) @ x @ resize_matrix(0, 36, 3, 0, 12).T
    assert torch.allclose(up, upsample_bicubic(x, 3), atol=1e-5)
    assert torch.allclose(resize_matrix(5, 9, 1, 2, 20), torch.eye(18)[3:7])


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
def test_result_is_the_bicubic_reduction_of_the_networks_result(upscaler, dtype):
    pixels = make_pixels(dtype=dtype)
    white = 1 if dtype == 'float32' else np.iinfo(dtype).max
    whole = torch.from_numpy(upscaler(pixels).astype(np.float32) / white).permute(2, 0, 1)[None]
    expected = downsample_bicubic(whole, 2)[0].permute(1, 2, 0).clamp(0, 1).numpy() * white
    out = upscaler(pixels, size=TargetSize(long_side=62))
    assert out.dtype == pixels.dtype
    assert np.abs(out - expected).max() <= (1e-5 if dtype == 'float32' else 1.5)  # rounded once instead of twice


@pytest.mark.parametrize(
    'size', [TargetSize(box=(99, 300)), TargetSize(short_side=77), TargetSize(long_side=58), TargetSize(same=True)]
)
def test_tiles_leave_no_seams(upscaler, size):
    pixels = make_pixels(40, 57, 4)
    tiled = Upscaler(4, upscaler.network, device='cpu', precision='fp32', tiling=Tiling(16, exact=True))
    out = upscaler(pixels, size=size)
    assert out.shape == (*size.fit(57, 40)[::-1], 4)
    assert np.abs(out.astype(int) - tiled(pixels, size=size)).max() <= 1


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGB', 'RGBA', 'CMYK', 'P', '1'])
def test_every_mode_is_reduced(upscaler, mode):
    image = Image.fromarray(make_pixels()).convert(mode)
    assert upscaler(image, size=TargetSize(long_side=70)).size == (70, 45)


def test_tensors_are_reduced_and_masked(upscaler):
    x = torch.rand(2, 3, 8, 9)
    assert upscaler(x, size=TargetSize(short_side=12)).shape == (2, 3, 12, 14)
    black = np.zeros((8, 9), np.uint8)
    assert torch.allclose(upscaler(x, mask=black), upsample_bicubic(x, 4).clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize('factor', [1, 4])
def test_mask_says_where_the_network_works(upscaler, factor):
    pixels = make_pixels(dtype='float32')
    mask = np.zeros((20 * factor, 31 * factor), np.uint8)
    mask[:, : 15 * factor] = 255
    out = upscaler(pixels, mask=mask)
    bicubic = upsample_bicubic(torch.from_numpy(pixels).permute(2, 0, 1)[None], 4).clamp(0, 1)[0].permute(1, 2, 0)
    assert np.abs(out[:, 70:] - bicubic.numpy()[:, 70:]).max() < 1e-5
    assert np.abs(out[:, :50] - upscaler(pixels)[:, :50]).max() < 1e-5
    assert np.abs(out[:, :50] - bicubic.numpy()[:, :50]).max() > 0.01


def test_grey_mask_blends(upscaler):
    pixels = make_pixels(dtype='float32')
    ends = [upscaler(pixels, mask=np.full((20, 31), value, np.uint8)) for value in (0, 255)]
    middle = upscaler(pixels, mask=np.full((20, 31), 51, np.uint8))
    assert np.abs(middle - (0.8 * ends[0] + 0.2 * ends[1])).max() < 1e-5


def test_mask_of_another_size_is_refused(upscaler):
    with pytest.raises(InputError, match='the mask has 9 x 8 pixels; it needs 31 x 20 as the image, or 124 x 80'):
        upscaler(make_pixels(), mask=np.zeros((8, 9), np.uint8))
    check_mask((62, 40), (31, 20), (62, 40))


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('a_x4', ('a', 4)),
        ('a_x2_x3', ('a_x2', 3)),
        ('a_to40x30', ('a', TargetSize((40, 30)))),
        ('a_long40', ('a', TargetSize(long_side=40))),
        ('a_short40', ('a', TargetSize(short_side=40))),
        ('a_x1', ('a', TargetSize(same=True))),
    ],
)
def test_label_of_a_result_is_read(name: str, expected: tuple[str, int | TargetSize]) -> None:
    assert read_label(name) == expected
    assert name == f'{expected[0]}_{label_scale(expected[1])}'


@pytest.mark.parametrize('name', ['a', 'a_x5', '_x4', 'x4', 'a_to40', 'a_to0x9', 'a_long0', 'a_x44', 'a_long40b'])
def test_other_names_hold_no_label(name: str) -> None:
    assert read_label(name) is None
