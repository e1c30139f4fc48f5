"""Bicubic resizing equals the released code with replicated borders and MATLAB's with mirrored ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.utils.matlab_functions import imresize

from dasr_arch.degradations.resize import downsample_bicubic, downsample_s_fold, upsample_bicubic
from tests.golden.weights import relative_error

GOLDEN = np.load(Path(__file__).parents[1] / 'golden' / 'degradations.npz')
SCALES = [2, 3, 4]
BORDERS = ['replicate', 'mirror']


def make_images(height: int = 24, width: int = 36) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize('scale', SCALES)
def test_downsampling_equals_the_released_code(scale):
    out = downsample_bicubic(torch.from_numpy(GOLDEN['hr'])[None], scale)[0]
    assert relative_error(out, GOLDEN[f'bicubic_down_x{scale}']) < 2e-6


@pytest.mark.parametrize('scale', SCALES)
def test_upsampling_equals_the_released_code(scale):
    out = upsample_bicubic(torch.from_numpy(GOLDEN['small'])[None], scale)[0]
    assert relative_error(out, GOLDEN[f'bicubic_up_x{scale}']) < 2e-6


@pytest.mark.parametrize('scale', [2, 3, 4, 8])
def test_downsampling_with_mirrored_borders_equals_matlab(scale):
    x = make_images(48, 72)
    expected = imresize(x[0], 1 / scale)
    assert torch.allclose(downsample_bicubic(x, scale, 'mirror')[0], expected, atol=1e-5)  # sums in another order


@pytest.mark.parametrize('scale', SCALES)
def test_upsampling_with_mirrored_borders_equals_matlab(scale):
    x = make_images(9, 7)
    assert torch.allclose(upsample_bicubic(x, scale, 'mirror')[0], imresize(x[0], scale), atol=1e-5)


@pytest.mark.parametrize('border', BORDERS)
@pytest.mark.parametrize('scale', [1, *SCALES])
def test_constant_image_stays_constant(scale, border):
    small, large = torch.full((1, 3, 5, 7), 0.7), torch.full((1, 3, 5 * scale, 7 * scale), 0.7)
    assert torch.allclose(downsample_bicubic(large, scale, border), small, atol=1e-6)
    assert torch.allclose(upsample_bicubic(small, scale, border), large, atol=1e-6)


@pytest.mark.parametrize('border', BORDERS)
def test_scale_one_changes_nothing(border):
    x = make_images()
    assert torch.equal(downsample_bicubic(x, 1, border), x)
    assert torch.equal(upsample_bicubic(x, 1, border), x)
    assert torch.equal(downsample_s_fold(x, 1), x)


@pytest.mark.parametrize('scale', SCALES)
def test_smallest_images_are_resized(scale):
    x = torch.tensor([0.1, 0.5, 0.9]).reshape(1, 3, 1, 1)
    assert torch.allclose(upsample_bicubic(x, scale), x.expand(1, 3, scale, scale), atol=1e-6)
    assert torch.allclose(downsample_bicubic(x.expand(1, 3, scale, scale), scale), x, atol=1e-6)


@pytest.mark.parametrize('scale', SCALES)
def test_batch_equals_images_one_by_one(scale):
    x = make_images()
    for resize in (downsample_bicubic, upsample_bicubic, downsample_s_fold):
        single = torch.cat([resize(image[None], scale) for image in x])
        assert torch.allclose(resize(x, scale), single, atol=1e-6)


@pytest.mark.parametrize('scale', SCALES)
def test_rows_and_columns_are_treated_alike(scale):
    x = make_images()
    for resize in (downsample_bicubic, upsample_bicubic, downsample_s_fold):
        assert torch.allclose(resize(x, scale).mT, resize(x.mT.contiguous(), scale), atol=1e-6)


@pytest.mark.parametrize('scale', SCALES)
def test_s_fold_keeps_the_top_left_pixel_of_each_block(scale):
    x = make_images()
    out = downsample_s_fold(x, scale)
    assert out.shape == (2, 3, 24 // scale, 36 // scale)
    assert torch.equal(out[..., 2, 1], x[..., 2 * scale, scale])


def test_resizing_is_differentiable():
    x = make_images(8, 8)[:1, :1].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda image: downsample_bicubic(image, 2), x)
    assert torch.autograd.gradcheck(lambda image: upsample_bicubic(image, 2), x)


@pytest.mark.parametrize('downsample', [downsample_bicubic, downsample_s_fold])
def test_sides_that_are_no_multiples_of_the_scale_are_refused(downsample):
    with pytest.raises(ValueError, match='sides must be multiples of scale 4, got 24 x 35; crop them first'):
        downsample(make_images(24, 35), 4)
