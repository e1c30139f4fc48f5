"""Whole 8-bit images: sizes, seeds, and equality with the batched way."""

import numpy as np
import pytest
import torch

from dasr_arch import InputError
from dasr_arch.degradations import build_degradation, degrade_image, image_generator
from dasr_arch.degradations.whole_image import crop_to_multiple

NOISY = {'type': 'IsotropicGaussian', 'sigma': 1.2, 'noise': 10}


@pytest.mark.parametrize('scale', [1, 2, 3, 4, 7])
def test_cropping_leaves_multiples_of_the_scale_and_copies_nothing(scale, demo_image):
    cropped = crop_to_multiple(demo_image[:50, :61], scale)
    assert cropped.shape == (50 // scale * scale, 61 // scale * scale, 3)
    assert np.shares_memory(cropped, demo_image)


@pytest.mark.parametrize('size', [(3, 50), (50, 3), (0, 0)])
def test_image_smaller_than_the_scale_is_refused(size):
    image = np.zeros((*size, 3), np.uint8)
    with pytest.raises(InputError, match=f"image 'tiny' of {size[0]} x {size[1]} is smaller than the scale 4"):
        degrade_image(build_degradation(NOISY, 4), image, name='tiny')


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_sides_that_are_no_multiples_are_cropped(scale, demo_image):
    degradation = build_degradation({'type': 'IsotropicGaussian', 'sigma': 1.2}, scale)
    out = degrade_image(degradation, demo_image[:71, :59])
    assert out.shape == (71 // scale, 59 // scale, 3)
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    cropped = demo_image[: 71 // scale * scale, : 59 // scale * scale]
    assert np.array_equal(out, degrade_image(degradation, cropped))


@pytest.mark.parametrize(
    ('image', 'got'),
    [
        (np.zeros((8, 8, 3), np.uint16), r'uint16 \(8, 8, 3\)'),
        (np.zeros((8, 8, 3)), r'float64 \(8, 8, 3\)'),
        (np.zeros((8, 8), np.uint8), r'uint8 \(8, 8\)'),
        (torch.zeros(1, 3, 8, 8), 'Tensor'),
    ],
)
def test_other_images_are_refused(image, got):
    degradation = build_degradation({'type': 'IsotropicGaussian', 'sigma': 1.2}, 4)
    with pytest.raises(InputError, match=rf'expected an array of uint8 and shape \(H, W, 3\), got {got}$'):
        degrade_image(degradation, image)


def test_image_equals_the_batched_way(demo_image):
    degradation = build_degradation({**NOISY, 'jpeg': 70}, 4)
    draws = degradation.draw(image_generator(3, 'astronaut'), (60, 60))
    hr = torch.from_numpy(demo_image.copy()).permute(2, 0, 1)[None].float() / 255
    lq = degradation.apply(hr, {key: value[None] for key, value in draws.items()})[0]
    expected = (lq * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    assert np.array_equal(degrade_image(degradation, demo_image, 3, 'astronaut'), expected)


def test_noise_depends_on_seed_and_name_alone(demo_image):
    degradation = build_degradation(NOISY, 4)
    first = degrade_image(degradation, demo_image, 0, 'a')
    torch.rand(5)  # of the global generator
    assert np.array_equal(first, degrade_image(degradation, demo_image, 0, 'a'))
    assert not np.array_equal(first, degrade_image(degradation, demo_image, 1, 'a'))
    assert not np.array_equal(first, degrade_image(degradation, demo_image, 0, 'b'))


def test_image_itself_is_not_written(demo_image):
    image = demo_image.copy()
    degrade_image(build_degradation(NOISY, 4), image)
    assert np.array_equal(image, demo_image)
