"""Decomposition and reassembly of images of all modes."""

import numpy as np
import pytest
from PIL import Image

from dasr_arch import InputError
from dasr_arch.inference.images.image_modes import decompose

MODES = ('L', 'LA', 'RGB', 'RGBA', 'CMYK', 'I;16')


def make_image(mode: str) -> Image.Image:
    values = np.random.default_rng(0).integers(1, 256, (6, 9, 4), dtype=np.uint8)
    if mode == 'I;16':
        return Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    if mode == 'LA':
        return Image.fromarray(values[..., :2])
    return (
        Image.fromarray(values).convert(mode)
        if mode != 'CMYK'
        else Image.merge('CMYK', [Image.fromarray(values[..., index]) for index in range(4)])
    )


@pytest.mark.parametrize('mode', MODES)
def test_pillow_images_survive_unchanged(mode):
    image = make_image(mode)
    image.info['icc_profile'] = b'profile'
    out = decompose(image).assemble()
    assert out.mode == mode
    assert out.info['icc_profile'] == b'profile'
    assert np.array_equal(np.array(out), np.array(image))


@pytest.mark.parametrize(
    ('mode', 'expected'),
    [('1', 'L'), ('P', 'RGB'), ('YCbCr', 'RGB'), ('HSV', 'RGB'), ('RGBX', 'RGB'), ('La', 'LA'), ('RGBa', 'RGBA')],
)
def test_unsupported_modes_become_the_nearest_supported_one(mode, expected):
    source = {'La': 'LA', 'RGBa': 'RGBA'}.get(mode, 'RGB')
    image = make_image(source).convert(mode)
    out = decompose(image).assemble()
    assert (out.mode, out.size) == (expected, (9, 6))


def test_palette_with_a_transparent_entry_gets_alpha():
    image = make_image('RGB').quantize(8)
    image.info['transparency'] = 3
    out = decompose(image).assemble()
    assert out.mode == 'RGBA'
    assert 'transparency' not in out.info
    assert ((np.array(out)[..., 3] == 0) == (np.array(image) == 3)).all()


def test_transparent_grey_level_gets_alpha():
    image = Image.fromarray(np.array([[10, 20], [10, 30]], np.uint8))
    image.info['transparency'] = 10
    out = decompose(image).assemble()
    assert out.mode == 'LA'
    assert np.array(out)[..., 1].tolist() == [[0, 255], [0, 255]]


def test_black_ink_is_a_layer_of_its_own_and_seen_by_the_encoder():
    image = Image.merge('CMYK', [Image.new('L', (4, 4), value) for value in (0, 255, 0, 128)])
    decomposed = decompose(image)
    assert [pixels.shape for pixels in decomposed.components] == [(4, 4, 3), (4, 4, 1)]
    assert decomposed.visible()[0, 0].tolist() == [127, 0, 127]


@pytest.mark.parametrize('mode', ['LAB', 'F', 'I'])
def test_other_modes_are_refused(mode):
    with pytest.raises(InputError, match=f"mode '{mode}' cannot be upscaled"):
        decompose(Image.new(mode, (3, 3)))


@pytest.mark.parametrize('shape', [(5, 4), (5, 4, 1), (5, 4, 2), (5, 4, 3), (5, 4, 4)])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float16', 'float32', 'float64'])
def test_arrays_survive_unchanged(shape, dtype):
    values = np.random.default_rng(0).random(shape) * 0.9 + 0.1
    array = (values * {'uint8': 255, 'uint16': 65535}.get(dtype, 1)).astype(dtype)
    out = decompose(array).assemble()
    assert out.dtype == dtype
    assert np.allclose(out, array, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (np.zeros((3, 3), np.int32), 'expected uint8, uint16 or floats'),
        (np.zeros((3, 3), bool), 'expected uint8, uint16 or floats'),
        (np.full((3, 3), 200.0), r'floats must be in \[0, 1\], got 200 to 200'),
        (np.full((3, 3), np.nan), r'floats must be in \[0, 1\]'),
        (np.zeros((0, 3, 3), np.uint8), 'expected an array of'),
        (np.zeros((3, 3, 5), np.uint8), 'expected an array of'),
        (np.zeros((1, 3, 3, 3), np.uint8), 'expected an array of'),
        ('image.png', 'got str'),
    ],
)
def test_what_is_no_image_is_refused(array, message):
    with pytest.raises(InputError, match=message):
        decompose(array)
