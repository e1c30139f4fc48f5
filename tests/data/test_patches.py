"""Patches lie inside, augmentation is a view, and margins are reflected."""

import numpy as np
import pytest
import torch

from dasr_arch.data.patches import (
    PatchGeometry,
    cut_patch,
    draw_position,
    draw_turns,
    find_resized,
    resize,
    turn,
)


def make_image(height: int = 6, width: int = 4) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def augment_often(use_hflip: bool, use_rot: bool) -> set[bytes]:
    generator = torch.Generator().manual_seed(0)
    out = [turn(make_image(5, 5), draw_turns(generator, use_hflip, use_rot)) for _ in range(100)]
    return {np.ascontiguousarray(image).tobytes() for image in out}


@pytest.mark.parametrize(
    ('use_hflip', 'use_rot', 'count'), [(True, True, 8), (True, False, 2), (False, True, 4), (False, False, 1)]
)
def test_augmentation_reaches_every_orientation_that_is_allowed(use_hflip, use_rot, count):
    assert len(augment_often(use_hflip, use_rot)) == count


def test_horizontal_flip_mirrors_left_to_right():
    image = make_image(5, 5)
    assert augment_often(True, False) == {image.tobytes(), np.ascontiguousarray(image[:, ::-1]).tobytes()}


def test_augmentation_never_writes_into_the_image():
    image, generator = make_image(), torch.Generator().manual_seed(0)
    image.setflags(write=False)  # writing would raise
    for _ in range(20):
        assert np.shares_memory(turn(image, draw_turns(generator, True, True)), image)
    assert np.array_equal(image, make_image())


def test_as_many_numbers_are_drawn_whatever_is_allowed():
    states = []
    for flags in ((True, True), (False, True), (True, False), (False, False)):
        generator = torch.Generator().manual_seed(3)
        draw_turns(generator, *flags)
        states.append(torch.rand(1, generator=generator).item())
    assert len(set(states)) == 1


def test_patches_start_at_every_multiple_of_the_step_where_they_fit():
    generator, geometry = torch.Generator().manual_seed(0), PatchGeometry(8, step=4)
    places = {draw_position(20, 15, geometry, generator) for _ in range(200)}
    assert places == {(top, left) for top in (0, 4, 8, 12) for left in (0, 4)}


def test_image_of_patch_size_has_one_place():
    generator = torch.Generator().manual_seed(0)
    assert {draw_position(8, 8, PatchGeometry(8), generator) for _ in range(5)} == {(0, 0)}


def test_patch_without_margin_is_a_piece_of_the_image():
    image = make_image(9, 8)
    patch = cut_patch(image, 2, 3, PatchGeometry(4))
    assert patch.dtype == torch.uint8
    assert np.array_equal(patch.numpy(), image[2:6, 3:7].transpose(2, 0, 1))


@pytest.mark.parametrize('margin', [1, 3, 20])
@pytest.mark.parametrize('place', [(0, 0), (5, 4), (2, 2), (0, 4)])
def test_margin_is_reflected_beyond_the_image(margin, place):
    image = make_image(9, 8)
    padded = np.pad(image, [(margin, margin), (margin, margin), (0, 0)], mode='reflect')
    side = 4 + 2 * margin
    expected = padded[place[0] : place[0] + side, place[1] : place[1] + side].transpose(2, 0, 1)
    assert np.array_equal(cut_patch(image, *place, PatchGeometry(4, margin)).numpy(), expected)


@pytest.mark.parametrize('margin', [0, 5])
def test_patch_is_a_copy(margin):
    image = make_image(9, 8)
    cut_patch(image, 2, 2, PatchGeometry(4, margin)).zero_()
    assert np.array_equal(image, make_image(9, 8))


@pytest.mark.parametrize('geometry', [PatchGeometry(4), PatchGeometry(4, 2), PatchGeometry(1), PatchGeometry(4, 20)])
@pytest.mark.parametrize('transpose', [False, True])
@pytest.mark.parametrize('step', [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_patch_of_an_augmented_view_is_that_of_its_copy(step, transpose, geometry):
    view = make_image(9, 8)[:: step[0], :: step[1]]
    view = view.transpose(1, 0, 2) if transpose else view
    for place in ((0, 0), (2, 3), (4, 4)):
        patch = cut_patch(view, *place, geometry)
        assert patch.is_contiguous()
        assert torch.equal(patch, cut_patch(np.ascontiguousarray(view), *place, geometry))


@pytest.mark.parametrize(
    ('factor', 'least', 'size'),
    [(0.5, 8, (30, 20)), (0.5, 24, (36, 24)), (1.0, 8, (60, 40)), (0.3, 40, (60, 40)), (1.5, 40, (90, 60))],
)
def test_images_are_resized_but_not_below_a_patch(factor, least, size):
    rows, columns = np.mgrid[0:40, 0:60]
    image = np.stack([rows * 4, columns * 4, rows + columns], 2).astype(np.uint8)
    out = resize(image, find_resized(*image.shape[:2], factor, least))
    assert (out.dtype, out.shape) == (np.uint8, (size[1], size[0], 3))
    middle = out[size[1] // 2, size[0] // 2].astype(int)
    assert np.abs(middle - image[20, 30].astype(int)).max() <= 6  # the same place of a smooth image
