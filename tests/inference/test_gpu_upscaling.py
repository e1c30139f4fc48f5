"""Enlarging on a GPU: what the processor gives."""

import numpy as np
import pytest
import torch

from dasr_arch.inference.tiling import Tiling
from dasr_arch.inference.upscaler import Upscaler

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu():
    if not torch.cuda.is_available():
        pytest.skip('no GPU')


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-9))


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_float32_picture_is_that_of_the_processor(demo_picture, scale):
    expected = Upscaler(scale, device='cpu', precision='fp32')(demo_picture)
    found = Upscaler(scale, device='cuda', precision='fp32')(demo_picture)
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_bfloat16_picture_is_close(demo_picture):
    expected = Upscaler(4, device='cuda', precision='fp32')(demo_picture)
    assert psnr(Upscaler(4, device='cuda', precision='bf16')(demo_picture), expected) > 50


def test_tiles_leave_no_seams(demo_picture):
    whole = Upscaler(4, device='cuda', precision='fp32', tiling=Tiling(size=240))(demo_picture)
    tiled = Upscaler(4, device='cuda', precision='fp32', tiling=Tiling(size=64, exact=True))(demo_picture)
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() <= 1


def test_tensor_stays_on_the_gpu(demo_picture):
    picture = torch.from_numpy(demo_picture).permute(2, 0, 1)[:, :40, :50].cuda()
    out = Upscaler(2, device='cuda')(picture)
    assert out.device.type == 'cuda'
    assert out.shape == (3, 80, 100)
