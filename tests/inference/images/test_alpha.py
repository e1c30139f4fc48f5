"""Alpha channels without halos and ringing."""

import numpy as np
import pytest

from dasr_arch.inference.images.image_modes import bleed, limit_to_neighbours


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_hidden_colours_become_those_of_visible_neighbours(dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    colour = np.zeros((13, 10, 3), dtype)
    alpha = np.zeros((13, 10, 1), dtype)
    colour[:, :4] = (top, top // 2, 0)
    alpha[:, :4] = top
    out = bleed(colour, alpha)
    assert out.dtype == dtype
    assert np.array_equal(out[:, :4], colour[:, :4])
    assert np.abs(out.astype(float) - colour[0, 0].astype(float)).max() <= 1


def test_nearest_colour_wins():
    colour = np.zeros((64, 64, 3), np.uint8)
    alpha = np.zeros((64, 64, 1), np.uint8)
    colour[:8, :, 0], colour[-8:, :, 2] = 200, 200
    alpha[:8], alpha[-8:] = 255, 255
    out = bleed(colour, alpha)
    assert out[9, :, 0].min() > 150
    assert out[54, :, 2].min() > 150


@pytest.mark.parametrize('value', [0, 255])
def test_nothing_changes_if_all_or_nothing_is_visible(value):
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert bleed(colour, np.full((5, 7, 1), value, np.uint8)) is colour


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (2, 1), (3, 5)])
def test_any_size_and_grey(size):
    colour = np.full((*size, 1), 77, np.uint8)
    alpha = np.zeros((*size, 1), np.uint8)
    alpha[0, 0] = 1
    assert (bleed(colour, alpha) == 77).all()


def test_transparency_stays_between_its_neighbours():
    alpha = np.zeros((20, 20, 1), np.uint8)
    alpha[:, 10:] = 255
    alpha[:, 9] = 100
    wild = np.random.default_rng(0).integers(0, 256, (40, 40, 1), dtype=np.uint8)
    out = limit_to_neighbours(wild, alpha)
    assert (out[:, : 2 * 7] == 0).all()
    assert (out[:, 2 * 12 :] == 255).all()
    assert np.array_equal(out[:, 18:20], wild[:, 18:20])
