"""Conversion between video frames and RGB by the standards, without loss."""

from dataclasses import replace

import numpy as np
import pytest

from dasr_arch import InputError

av = pytest.importorskip('av', reason="PyAV is not installed (extra 'video')")

from dasr_arch.inference.video.colour import Colour, make_frame, pixel_format, read_colour, read_pixels  # noqa: E402

RED = {  # of full strength, at 8 bits in limited range, from the standards' own equations
    1: (63, 102, 240),
    6: (81, 90, 240),
    9: (74, 97, 240),
}


def make_plane_frame(values, form, size=(16, 12)):
    """A frame of constant planes."""
    frame = av.VideoFrame(*size, form)
    deep = frame.format.components[0].bits > 8
    for plane, value in zip(frame.planes, values, strict=True):
        count = plane.buffer_size // (2 if deep else 1)
        plane.update(np.full(count, value, '<u2' if deep else 'u1'))
    return frame


@pytest.mark.parametrize('matrix', RED)
@pytest.mark.parametrize(('form', 'factor'), [('yuv420p', 1), ('yuv422p', 1), ('yuv444p', 1), ('yuv420p10le', 4)])
def test_matrices_are_those_of_the_standards(matrix, form, factor):
    frame = make_plane_frame([value * factor for value in RED[matrix]], form)
    frame.colorspace, frame.color_range = matrix, 1
    colour = read_colour(frame)
    assert (colour.matrix, colour.full_range) == (matrix, False)
    pixels = read_pixels(frame, colour)
    assert pixels.shape == (12, 16, 3)
    assert pixels.dtype == np.float32
    assert np.abs(pixels - (1, 0, 0)).max() < 0.006


@pytest.mark.parametrize('form', ['yuv420p', 'yuvj420p'])
def test_full_range_is_not_stretched(form):
    frame = make_plane_frame((255, 128, 128), form)
    frame.colorspace = 6
    if form == 'yuv420p':
        frame.color_range = 2
    colour = read_colour(frame)
    assert colour.full_range
    assert np.abs(read_pixels(frame, colour) - 1).max() < 1e-6


def test_limited_range_is_stretched():
    for level, expected in ((16, 0), (235, 1)):
        frame = make_plane_frame((level, 128, 128), 'yuv420p')
        assert np.abs(read_pixels(frame, read_colour(frame)) - expected).max() < 1e-6


@pytest.mark.parametrize(('size', 'matrix'), [((720, 576), 6), ((1279, 719), 6), ((1280, 720), 1), ((640, 720), 1)])
def test_untagged_frames_are_taken_as_players_do(size, matrix):
    colour = read_colour(av.VideoFrame(*size, 'yuv420p'))
    assert (colour.matrix, colour.full_range, colour.bits, colour.subsampled) == (matrix, False, 8, True)


def test_unknown_matrix_is_refused():
    frame = av.VideoFrame(16, 16, 'yuv420p')
    frame.colorspace = 8  # YCgCo
    with pytest.raises(InputError, match=r'colour matrix 8 of H.273 is not supported'):
        read_colour(frame)


@pytest.mark.parametrize('bits', [8, 10, 12, 16])
@pytest.mark.parametrize('full_range', [False, True])
@pytest.mark.parametrize('matrix', [1, 6, 9])
def test_what_is_written_reads_the_same(bits, full_range, matrix):
    colour = Colour(matrix, full_range, bits, subsampled=False)
    pixels = np.random.default_rng(0).random((9, 15, 3), np.float32)
    frame = make_frame(pixels, colour)
    assert frame.format.name == pixel_format(colour)
    assert read_colour(frame) == colour
    assert np.abs(read_pixels(frame, colour) - pixels).max() < 2.5 / 2**bits


@pytest.mark.parametrize('bits', [8, 10])
def test_luma_of_subsampled_frames_is_exact(bits):
    colour = Colour(1, False, bits, subsampled=True)
    pixels = np.random.default_rng(0).random((10, 16, 1), np.float32).repeat(3, 2)
    back = read_pixels(make_frame(pixels, colour), colour)
    assert np.abs(back - pixels).max() < 1.5 / 2**bits


def test_odd_sides_get_a_copy_of_the_last_pixel():
    colour = Colour(1, False, 8, subsampled=True)
    pixels = np.random.default_rng(0).random((9, 15, 1), np.float32).repeat(3, 2)
    frame = make_frame(pixels, colour)
    assert (frame.width, frame.height) == (16, 10)
    back = read_pixels(frame, colour)
    assert np.array_equal(back[9], back[8])
    assert np.array_equal(back[:, 15], back[:, 14])
    whole = make_frame(pixels, replace(colour, subsampled=False))
    assert (whole.width, whole.height) == (15, 9)


@pytest.mark.parametrize(('form', 'most'), [('rgb24', 255), ('gbrp', 255), ('bgra', 255), ('rgb48le', 65535)])
def test_rgb_frames_are_read_exactly(form, most):
    values = np.random.default_rng(0).integers(0, most + 1, (8, 12, 3), dtype=np.uint16 if most > 255 else np.uint8)
    frame = av.VideoFrame.from_ndarray(values, format='rgb48le' if most > 255 else 'rgb24').reformat(format=form)
    colour = read_colour(frame)
    assert np.array_equal(read_pixels(frame, colour), values.astype(np.float32) / most)
    assert (colour.matrix, colour.bits) == (1, 16 if most > 255 else 8)


@pytest.mark.parametrize(('form', 'most', 'dtype'), [('gray', 255, 'u1'), ('gray10le', 1023, 'u2')])
def test_grey_frames_are_read_exactly(form, most, dtype):
    values = np.random.default_rng(0).integers(0, most + 1, (8, 12)).astype(dtype)
    frame = av.VideoFrame.from_ndarray(values, format=form)
    pixels = read_pixels(frame, read_colour(frame))
    assert np.allclose(pixels, (values.astype(np.float32) / most)[..., None])


def test_palette_frames_are_converted():
    frame = av.VideoFrame.from_ndarray(np.full((8, 12, 3), (255, 0, 0), np.uint8), format='rgb24')
    indexed = frame.reformat(format='rgb8')
    pixels = read_pixels(indexed, read_colour(indexed))
    assert np.abs(pixels - (1, 0, 0)).max() < 0.02  # FFmpeg makes 252 of the brightest red
