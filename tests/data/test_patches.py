"""Patches lie inside, augmentation is a view, and margins are reflected."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from dasr_arch.data.patches import (
    PatchGeometry,
    Places,
    Table,
    Turns,
    cut_patch,
    cut_patches,
    draw_position,
    draw_turns,
    find_ratio,
    find_resized,
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
    assert find_resized(40, 60, factor, least) == size[::-1]


def make_table(images: list[np.ndarray]) -> Table:
    ends = np.cumsum([image.shape[0] * image.shape[1] for image in images])
    pixels = torch.from_numpy(np.concatenate([image.reshape(-1, 3) for image in images]))
    sizes = torch.tensor([image.shape[:2] for image in images])
    return Table(pixels, torch.from_numpy(ends) - sizes.prod(1), sizes)


def make_smooth_image(height: int, width: int) -> np.ndarray:
    """Values far from 0 and 255, so that bicubic overshoots are not cut off."""
    draw = np.random.default_rng(height).integers(60, 196, (height // 6 + 2, width // 6 + 2, 3), np.uint8)
    return np.asarray(Image.fromarray(draw).resize((width, height), Image.Resampling.BICUBIC)).copy()


ORIENTATIONS = [Turns(*flags) for flags in itertools.product([False, True], repeat=3)]


@pytest.mark.parametrize('turns', ORIENTATIONS, ids=str)
@pytest.mark.parametrize('size', [(40, 61), (57, 80), (93, 130), (30, 27)])
def test_patches_of_a_resized_image_are_those_of_pillow(size: tuple[int, int], turns: Turns) -> None:
    image, geometry = make_smooth_image(57, 80), PatchGeometry(12, 7)
    resized = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
    turned = turn(resized[: size[0] // 2 * 2, : size[1] // 2 * 2], turns)
    height, width = turned.shape[:2]
    corners = [(0, 0), (height - 12, width - 12), (5, 3)]
    window = torch.tensor([[*zip(*corners, strict=True), (height,) * 3, (width,) * 3]])
    ratio = find_ratio((57, 80), size)
    one = torch.zeros(1, dtype=torch.int64)
    places = Places(one, torch.tensor([turns]), window, torch.tensor([size]))
    found = cut_patches(make_table([image]), places, geometry, ratio)
    assert (found.dtype, found.shape, found.is_contiguous()) == (torch.uint8, (1, 3, 3, 26, 26), True)
    expected = torch.stack([cut_patch(turned, *corner, geometry) for corner in corners])
    difference = (found[0].int() - expected.int()).abs()
    # Pillow extends images by their mean near the border; the border is repeated here. Both round after the first axis.
    assert difference.max() <= 3
    assert (difference > 1).float().mean() < 0.01


def test_an_image_resized_to_its_own_size_stays_as_it_is() -> None:
    image, geometry = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8), PatchGeometry(8, 4)
    window = torch.tensor([[[3], [20], [40], [28]]])
    places = Places(torch.tensor([0]), torch.tensor([[True, False, True]]), window, torch.tensor([[30, 40]]))
    table = make_table([image])
    assert torch.equal(cut_patches(table, places, geometry, 1.0), cut_patches(table, places, geometry))


def test_patches_do_not_depend_on_the_other_images_of_a_batch() -> None:
    images = [make_smooth_image(50, 70), make_smooth_image(90, 44), make_smooth_image(33, 120)]
    sizes = [(75, 105), (45, 22), (33, 100)]
    geometry, table, image = PatchGeometry(12, 5), make_table(images), torch.tensor([2, 0, 1])
    turns = torch.tensor([[True, True, False], [False, False, True], [True, False, True]])
    resized = torch.tensor([sizes[number] for number in image])
    height, width = torch.where(turns[:, 2:], resized.flip(1), resized).unbind(1)
    window = torch.stack([height - 12, width - 14, height, width], 1).unsqueeze(-1)
    ratios = [find_ratio(images[number].shape[:2], sizes[number]) for number in image]
    places = Places(image, turns, window, resized)
    together = cut_patches(table, places, geometry, max(ratios))
    for number, ratio in enumerate(ratios):
        alone = Places(*(field[number : number + 1] for field in places))
        assert torch.equal(cut_patches(table, alone, geometry, ratio)[0], together[number])
