"""Shrinking matrices: against Pillow, the bicubic down-sampling of the tests, and themselves at another place."""

import numpy as np
import pytest
import torch
from PIL import Image

from dasr_arch.degradations.padding import pad_border
from dasr_arch.degradations.resize import FILTERS, downsample_bicubic, downsample_matrix, shrink_matrix

PILLOW = {
    'bicubic': Image.Resampling.BICUBIC,
    'bilinear': Image.Resampling.BILINEAR,
    'area': Image.Resampling.BOX,
    'lanczos': Image.Resampling.LANCZOS,
}


@pytest.mark.parametrize('name', FILTERS)
@pytest.mark.parametrize('scale', [2, 3, 4])
def test_inner_pixels_equal_pillows(name, scale):
    signal = torch.rand(1, 30 * scale, generator=torch.Generator().manual_seed(0))
    reach = 5 * scale
    got = (
        pad_border(signal.expand(1, -1), 0, 'replicate')
        @ shrink_matrix(reach, 20, reach, scale, filters=('bicubic', name)).T
    )
    image = Image.fromarray(signal.repeat(4, 1).numpy())
    expected = np.asarray(image.resize((30, 4), PILLOW[name]))[0, 5:25]
    assert got[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_bicubic_in_one_step_is_the_protocols(scale):
    image = torch.rand(1, 1, 12 * scale, 8 * scale, generator=torch.Generator().manual_seed(0))
    padded = pad_border(image, 5 * scale, 'replicate')
    vertical, horizontal = (shrink_matrix(0, count, 5 * scale, scale) for count in (12, 8))
    assert torch.allclose(vertical @ padded @ horizontal.T, downsample_bicubic(image, scale), atol=1e-6)


@pytest.mark.parametrize('first', ['bicubic', 'bilinear', 'area'])
@pytest.mark.parametrize('last', FILTERS)
@pytest.mark.parametrize('factor', [1.0, 0.83, 0.5, 0.27])
def test_part_of_an_axis_gives_what_the_whole_axis_gives(first, last, factor):
    scale, reach = 4, 20
    whole = torch.rand(80 + 2 * reach, generator=torch.Generator().manual_seed(0))
    expected = shrink_matrix(0, 20, reach, scale, factor, (first, last)) @ whole
    got = shrink_matrix(28, 6, reach, scale, factor, (first, last)) @ whole[28 : 28 + 24 + 2 * reach]
    assert got.tolist() == pytest.approx(expected[7:13].tolist(), abs=1e-6)


@pytest.mark.parametrize('factor', [1.0, 0.7, 0.25])
@pytest.mark.parametrize('name', FILTERS)
def test_rows_sum_to_one_and_keep_the_centre_in_place(factor, name):
    matrix = shrink_matrix(0, 15, 20, 4, factor, ('bilinear', name))
    assert matrix.shape == (15, 100)
    assert matrix.sum(1).sub(1).abs().max() < 1e-6
    centre = matrix @ (torch.arange(100.0) - 20)
    expected = torch.arange(15.0) * 4 + 1.5
    assert (centre - expected).abs().max() < 0.51  # half an HR pixel: the box takes whole pixels
    if factor == 1:
        assert (centre - expected).abs().max() < 1e-4


def test_an_intermediate_size_blurs():
    wave = (torch.arange(100) * 0.6).sin()  # ten HR pixels long, near the finest that an LR image holds
    direct, stepped = (shrink_matrix(0, 15, 20, 4, factor, ('bilinear', 'bicubic')) @ wave for factor in (1.0, 0.3))
    assert stepped.std() < 0.9 * direct.std()


def test_reach_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match='a filter reaches beyond the 44 pixels'):
        shrink_matrix(0, 10, 2, 4, filters=('bicubic', 'lanczos'))


def test_kept_matrix_is_on_the_cpu_wherever_it_was_made_first():
    with torch.device('meta'):
        made = downsample_matrix(60, 5)
    assert made.device.type == 'cpu'
    assert torch.equal(made, downsample_matrix(60, 5))
