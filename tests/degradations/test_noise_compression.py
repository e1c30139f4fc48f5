"""Noise has the level that it says, rounding is to 8 bit, and JPEG is the codec's."""

import cv2
import numpy as np
import pytest
import torch

from dasr_arch.degradations.noise_compression import add_noise, compress_jpeg, quantise


def make_images(image: np.ndarray, count: int = 1) -> torch.Tensor:
    tensor = torch.from_numpy(image[:64, :48].copy()).permute(2, 0, 1).float() / 255
    return tensor.expand(count, -1, -1, -1).clone()


def test_level_is_the_standard_deviation_in_grey_levels_of_each_image():
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    out = add_noise(torch.full_like(noise, 0.5), torch.tensor([5.0, 20.0]), noise)
    deviations = ((out - 0.5) * 255).flatten(1).std(1)
    assert torch.allclose(deviations, torch.tensor([5.0, 20.0]), rtol=0.02)  # of 12288 samples


def test_level_zero_adds_nothing():
    x = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(add_noise(x, torch.zeros(1), torch.ones_like(x)), x)


def test_halves_are_rounded_to_even_and_values_clamped():
    x = torch.tensor([-3.0, 0.5, 1.5, 2.5, 254.4, 300.0], dtype=torch.float64) / 255
    assert (quantise(x) * 255).round(decimals=6).tolist() == [0, 0, 2, 2, 254, 255]


def test_no_gradient_passes_the_rounding():
    assert not quantise(torch.rand(3, requires_grad=True)).requires_grad


def test_rounded_images_stay_as_they_are():
    levels = torch.arange(256) / 255
    assert torch.equal(quantise(levels), levels)


def test_jpeg_equals_the_codec(demo_image):
    x = make_images(demo_image)
    encoded = cv2.imencode(
        '.jpg', cv2.cvtColor(demo_image[:64, :48], cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 60]
    )
    expected = cv2.cvtColor(cv2.imdecode(encoded[1], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    out = (compress_jpeg(x, torch.tensor([60]))[0] * 255).permute(1, 2, 0).round()
    assert np.array_equal(out.numpy().astype(np.uint8), expected)


def test_jpeg_leaves_images_of_quality_zero_alone_and_compresses_the_others(demo_image):
    x = make_images(demo_image, 3)
    out = compress_jpeg(x, torch.tensor([0, 90, 10]))
    errors = (out - x).square().flatten(1).mean(1).tolist()
    assert errors[0] == 0
    assert 0 < errors[1] < errors[2]
    assert torch.equal(out, quantise(out))


def test_jpeg_keeps_red_red():
    x = torch.zeros(1, 3, 16, 16)
    x[:, 0] = 1
    red, green, blue = compress_jpeg(x, torch.tensor([95]))[0].mean((1, 2)).tolist()
    assert red == pytest.approx(1, abs=0.02)
    assert max(green, blue) < 0.02
