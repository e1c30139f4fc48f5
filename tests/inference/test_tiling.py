"""Tiled inference equals untiled inference: the same pixels and the same representation."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dasr_arch import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.io import load_network
from dasr_arch.data.image_io import read_image
from dasr_arch.inference.images.image_modes import Pixels
from dasr_arch.inference.load_model import locate_weights
from dasr_arch.inference.self_ensemble import ORIENTATIONS, orient, orient_back, orient_pixels
from dasr_arch.inference.tile_limits import (
    FAST_BYTES,
    bytes_per_pixel,
    encoder_radius,
    encoder_stride,
    fast_tile_pixels,
    is_out_of_memory,
    max_tile_pixels,
    receptive_radius,
)
from dasr_arch.inference.tiling import (
    TILE_PAD,
    Tile,
    Tiling,
    encode_tiled,
    plan_encoder_tiles,
    plan_squares,
    plan_tiles,
    split,
    super_resolve_tiled,
)
from tests.golden.weights import golden_state
from tests.inference.making import make_network

CPU = torch.device('cpu')
SMALL = {
    'num_groups': 3,
    'num_blocks': 3,
    'encoder_feat': 48,
    'representation_dim': 192,
    'upsampler': 'direct',
    'skip': 'bicubic',
}


def noisy(image: Pixels, level: float) -> Pixels:
    generator = np.random.default_rng(0)
    values = image.astype(np.float32) / 255 + generator.normal(0, level / 255, image.shape)
    return values.clip(0, 1).astype(np.float32)


def largest_difference(network: DASR, pixels: Pixels, tiling: Tiling) -> float:
    """In grey levels of 0..255, between tiles of a third of the side and the whole image."""
    height, width = pixels.shape[:2]
    with torch.inference_mode():
        code = network.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        whole = plan_squares(height, width, 0, max(height, width))
        tiles = plan_squares(height, width, tiling.resolve_pad(network), math.ceil(max(height, width) / 3))
        assert len(tiles.tiles) > len(whole.tiles) == 1
        first = super_resolve_tiled(network, pixels, code, whole, nullcontext)
        second = super_resolve_tiled(network, pixels, code, tiles, nullcontext)
    return float(np.abs(first - second).max()) * 255


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({'scale': 4, 'num_groups': 5, 'num_blocks': 5}, 109),
        ({'scale': 3, 'num_groups': 5, 'num_blocks': 5}, 109),
        ({'scale': 4, **SMALL}, 42),
        ({'num_blocks': 2}, 13),
    ],
)
def test_receptive_field_follows_the_structure(options, expected):
    assert receptive_radius(make_network(**options)) == expected


@pytest.mark.parametrize(
    'options', [{}, {'scale': 3}, {'scale': 4, 'upsampler': 'direct'}, {'da_conv': 'concat'}, {'skip': 'bicubic'}]
)
def test_receptive_field_is_where_a_changed_pixel_changes_the_output(options):
    network = make_network(**options).double()
    radius, scale = receptive_radius(network), network.scale
    side = 2 * radius + 9
    code = torch.randn(1, 12, dtype=torch.float64)
    lq = torch.rand(1, 3, side, side, dtype=torch.float64)
    changed = lq.clone()
    changed[..., side // 2, side // 2] += 0.5
    with torch.no_grad():
        rows = (network(lq, representation=code) != network(changed, representation=code)).any(1).any(2)[0]
    farthest = max(abs(int(row) // scale - side // 2) for row in rows.nonzero())
    assert radius - 1 <= farthest <= radius


def test_encoder_has_a_radius_of_eleven_and_a_stride_of_four():
    network = make_network()
    assert (encoder_stride(network), encoder_radius(network)) == (4, 11)


@pytest.mark.parametrize('size', [(97, 131), (64, 64), (53, 200), (30, 41)])
def test_encoder_in_tiles_equals_the_whole(size):
    network = make_network(encoder_feat=16, representation_dim=32)
    pixels = np.random.default_rng(1).random((*size, 3), np.float32)
    with torch.inference_mode():
        whole = network.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        tiled = encode_tiled(network, pixels, CPU, 40 * 40)
    assert (tiled - whole).abs().max() <= 1e-5 * whole.abs().max()


@pytest.mark.parametrize(
    ('size', 'max_pixels', 'count'),
    [((1024, 1024), 1 << 17, 9), ((1080, 1920), 1 << 17, 18), ((301, 1999), 1 << 16, 11), ((500, 701), 1 << 12, None)],
)
def test_tiles_of_the_encoder_are_as_few_and_as_equal_as_they_can_be(size, max_pixels, count):
    network = make_network()
    plan = plan_encoder_tiles(network, *size, max_pixels)
    assert plan.pad == 12
    assert count is None or len(plan.tiles) == count
    covered = np.zeros(size, int)
    areas = []
    for rows, columns in plan.tiles:
        covered[rows.start : rows.stop, columns.start : columns.stop] += 1
        assert all(edge % 4 == 0 for edge in (rows.start, rows.outer_start, columns.start, columns.outer_start))
        areas.append((rows.outer_stop - rows.outer_start) * (columns.outer_stop - columns.outer_start))
    assert covered.min() == covered.max() == 1
    assert max(areas) <= max_pixels
    assert min(areas) > 0.8 * max(areas)


@pytest.mark.parametrize('pad', [0, 3, 20])
def test_spans_of_a_side_have_equal_padded_length(pad):
    for length in range(60, 400, 7):
        for count in range(1, max(2, length // (2 * pad + 4))):
            spans = split(length, count, pad)
            outer = [span.outer_stop - span.outer_start for span in spans]
            assert max(outer) <= -(-(length + 2 * pad * (count - 1)) // count)
            assert max(outer) - min(outer) <= 2


def test_encoder_in_tiles_equals_the_whole_with_the_weights_of_the_golden_outputs(golden_folder, demo_image):
    network = load_network(golden_state(np.load(golden_folder / 'dasr_eval_x4.npz')))
    with torch.inference_mode():
        whole = network.encode(torch.from_numpy(demo_image.copy()).permute(2, 0, 1)[None] / 255)
        tiled = encode_tiled(network, demo_image, CPU, 100 * 100)
    assert (tiled - whole).abs().max() <= 1e-5 * whole.abs().max()


@pytest.mark.parametrize('options', [{}, {'scale': 3}, {'scale': 4, 'upsampler': 'direct', 'skip': 'bicubic'}])
def test_exact_tiles_equal_the_whole_up_to_rounding(options):
    network = make_network(**options)
    pixels = np.random.default_rng(2).random((83, 61, 3), np.float32)
    assert largest_difference(network, pixels, Tiling(exact=True)) < 0.01


@pytest.mark.parametrize('noise', [0, 25])
def test_default_padding_leaves_less_than_half_a_grey_level_in_the_paper_s_network(golden_folder, demo_image, noise):
    network = load_network(golden_state(np.load(golden_folder / 'dasr_eval_x4.npz')))
    assert receptive_radius(network) > TILE_PAD
    assert largest_difference(network, noisy(demo_image[60:150, 60:150], noise), Tiling()) < 0.5


@pytest.mark.parametrize('noise', [0, 25])
def test_default_padding_leaves_less_than_half_a_grey_level_in_the_small_network(demo_image, noise):
    network = make_network(scale=4, num_feat=64, **SMALL)
    assert largest_difference(network, noisy(demo_image[40:160, 40:160], noise), Tiling()) < 0.5


@pytest.mark.parametrize('model', ['iso', 'general'])
@pytest.mark.parametrize('image', ['camera', 'rocket'])
def test_default_padding_leaves_less_than_half_a_grey_level_with_the_packaged_weights(demo_folder, model, image):
    network = load_network(locate_weights(model, 4))
    pixels = read_image(demo_folder / f'{image}.png')[:120, :160]
    pixels = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels
    assert largest_difference(network, pixels.astype(np.float32) / 255, Tiling()) < 0.5


def test_padding_is_at_most_the_receptive_field():
    network = make_network(num_blocks=4)
    assert receptive_radius(network) == 21
    assert Tiling().resolve_pad(network) == TILE_PAD
    assert Tiling(exact=True).resolve_pad(network) == 21
    assert Tiling(pad=3).resolve_pad(network) == 3
    assert Tiling(pad=300).resolve_pad(network) == 21


def assert_covers(tiles: list[Tile], height: int, width: int, pad: int) -> None:
    seen = np.zeros((height, width), int)
    for rows, columns in tiles:
        seen[rows.start : rows.stop, columns.start : columns.stop] += 1
        for span, length in ((rows, height), (columns, width)):
            assert span.outer_start == max(0, span.start - pad)
            assert span.outer_stop == min(length, span.stop + pad)
    assert (seen == 1).all()


def area(tile: Tile) -> int:
    return (tile.rows.outer_stop - tile.rows.outer_start) * (tile.columns.outer_stop - tile.columns.outer_start)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(0, 109), st.integers(300, 300_000))
def test_tiles_cover_every_pixel_once(height, width, pad, max_pixels):
    plan = plan_tiles(height, width, pad, max_pixels, max_pixels // 2)
    assert_covers(plan.tiles, height, width, pad)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(0, 40), st.integers(16, 400))
def test_squares_cover_every_pixel_once(height, width, pad, size):
    plan = plan_squares(height, width, pad, size)
    assert_covers(plan.tiles, height, width, pad)
    assert max(tile.rows.stop - tile.rows.start for tile in plan.tiles) <= size


@settings(max_examples=200, deadline=None)
@given(st.integers(100, 3000), st.integers(100, 3000), st.integers(10_000, 300_000))
def test_tiles_stay_below_the_limit(height, width, max_pixels):
    tiles = plan_tiles(height, width, TILE_PAD, max_pixels).tiles
    assert max(map(area, tiles)) <= max_pixels


def test_tiles_of_a_square_megapixel_cost_an_eighth_more_at_most():
    most = max_tile_pixels(make_network(scale=4, num_feat=64), torch.float32, 1 << 40, CPU)  # what a CPU gets at most
    tiles = plan_tiles(1024, 1024, TILE_PAD, most).tiles
    assert sum(map(area, tiles)) / 1024**2 < 1.125


def test_image_that_fits_is_one_tile():
    assert len(plan_tiles(300, 300, 14, 100_000).tiles) == 1


def test_fast_tiles_are_preferred_unless_their_padding_costs_more():
    assert len(plan_tiles(1024, 1024, 14, 1 << 20, 1 << 17).tiles) == 9
    assert len(plan_tiles(1024, 1024, 109, 1 << 20, 1 << 17).tiles) == 1


@pytest.mark.parametrize('index', ORIENTATIONS)
def test_orientations_are_undone(index):
    x = torch.rand(2, 3, 5, 7)
    assert torch.equal(orient_back(orient(x, index), index), x)
    pixels = x[0].permute(1, 2, 0).numpy()
    assert np.array_equal(orient_pixels(pixels, index).transpose(2, 0, 1), orient(x[0], index).numpy())


def test_orientations_differ():
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert len({tuple(orient(x, index).flatten().tolist()) for index in ORIENTATIONS}) == 8


def test_tile_that_does_not_fit_is_halved_until_it_does():
    network = make_network()
    pixels = np.random.default_rng(3).random((90, 70, 3), np.float32)
    code = torch.zeros(1, 12)
    seen = []

    class Narrow(DASR):
        """Fails as torch does when a tile is too large."""

        def forward(self, lq, **options):
            if lq.shape[-1] * lq.shape[-2] > 2500:
                raise RuntimeError('DefaultCPUAllocator: not enough memory: you tried to allocate 1 byte')
            return super().forward(lq, **options)

    narrow = make_network()
    narrow.__class__ = Narrow
    with torch.inference_mode():
        plan = plan_tiles(90, 70, receptive_radius(network), 10_000)
        assert len(plan.tiles) == 1
        expected = super_resolve_tiled(network, pixels, code, plan, nullcontext)
        out = super_resolve_tiled(narrow, pixels, code, plan, nullcontext, seen.append)
    assert np.abs(out - expected).max() < 1e-5
    assert sum(seen) == 90 * 70
    assert len(seen) > 2


@pytest.mark.parametrize(
    ('error', 'expected', 'message'),
    [
        (MemoryError(), InputError, 'not enough memory even for 24 x 30 LR pixels; close other programs'),
        (RuntimeError('a bug'), RuntimeError, '^a bug$'),
    ],
)
def test_smallest_tile_and_bugs_are_not_tried_again(monkeypatch, error, expected, message):
    def fail(*_):
        raise error

    monkeypatch.setattr('dasr_arch.inference.tiling.super_resolve', fail)
    plan = plan_tiles(24, 30, 4, 10_000)
    with pytest.raises(expected, match=message):
        super_resolve_tiled(make_network(), np.zeros((24, 30, 3), np.float32), torch.zeros(1, 12), plan, nullcontext)


def test_small_tiles_are_fastest_where_freed_memory_is_not_kept(monkeypatch):
    network = make_network(scale=4)
    monkeypatch.setattr('dasr_arch.inference.tile_limits.keep_freed_memory', lambda: True)
    assert fast_tile_pixels(network, CPU) is None
    monkeypatch.setattr('dasr_arch.inference.tile_limits.keep_freed_memory', lambda: False)
    assert fast_tile_pixels(network, CPU) == FAST_BYTES // (network.head.out_channels * 4)


def test_out_of_memory_errors_are_recognised():
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60)  # what torch says when memory runs out
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError('shapes do not match'))


def test_estimate_of_the_memory_covers_what_was_measured():
    """VmHWM of 362 x 362 to 512 x 512 LR pixels on x86."""
    paper = make_network(scale=4, num_feat=64, num_groups=5, num_blocks=5)
    assert 1.8 * 1024 < bytes_per_pixel(paper, torch.float32, CPU) < 3 * 1024  # 1.8 to 2.7 KB
    assert 1.1 * 1024 < bytes_per_pixel(paper, torch.bfloat16, CPU) < 2 * 1024  # 1.1 to 1.6 KB
    paper.set_implementation('reference')
    assert 8.3 * 1024 < bytes_per_pixel(paper, torch.float32, CPU) < 14 * 1024  # 8.3 KB


@pytest.mark.parametrize('options', [{'size': 8}, {'size': 0}, {'pad': -1}])
def test_impossible_tiles_are_refused(options):
    with pytest.raises(InputError, match='tile'):
        Tiling(**options)
