"""Upscaling on a GPU equals upscaling on a CPU."""

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
def test_float32_image_is_that_of_the_processor(demo_image, scale):
    expected = Upscaler(scale, device='cpu', precision='fp32')(demo_image)
    found = Upscaler(scale, device='cuda', precision='fp32')(demo_image)
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_bfloat16_image_is_close(demo_image):
    expected = Upscaler(4, device='cuda', precision='fp32')(demo_image)
    assert psnr(Upscaler(4, device='cuda', precision='bf16')(demo_image), expected) > 50


def test_tiles_leave_no_seams(demo_image):
    whole = Upscaler(4, device='cuda', precision='fp32', tiling=Tiling(size=240))(demo_image)
    tiled = Upscaler(4, device='cuda', precision='fp32', tiling=Tiling(size=64, exact=True))(demo_image)
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() <= 1


def test_tensor_stays_on_the_gpu(demo_image):
    image = torch.from_numpy(demo_image).permute(2, 0, 1)[:, :40, :50].cuda()
    out = Upscaler(2, device='cuda')(image)
    assert out.device.type == 'cuda'
    assert out.shape == (3, 80, 100)
