"""The Bicubic baseline: as the authors' upsampling, on the 8-bit grid."""

from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from dasr_arch.archs.bicubic_arch import Bicubic

GOLDEN = Path(__file__).parents[1] / 'golden' / 'degradations.npz'


def make_image(height: int = 12, width: int = 9, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, height, width), generator=generator) / 255


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_upsampling_equals_the_released_code_on_the_8_bit_grid(scale: int) -> None:
    golden = np.load(GOLDEN)
    small, expected = golden['small'], golden[f'bicubic_up_x{scale}']  # unrounded, in the value range of `small`
    unit = 255 if small.max() > 1 else 1
    out = Bicubic(scale)(torch.from_numpy(small)[None] / unit)[0].numpy() * 255
    rounded = np.clip(np.round(expected * (255 / unit)), 0, 255)
    # Values that lie on the edge between two levels may fall to either side: float32 sums in another order.
    assert np.abs(out - rounded).max() < 1.001
    assert (np.abs(out - rounded) > 0.5).mean() < 1e-3


def test_output_lies_on_the_grid_of_8_bit_levels_and_in_range() -> None:
    checkerboard = (torch.arange(64).reshape(8, 8).sum(0) + torch.arange(8)[:, None]) % 2
    lq = checkerboard.float().expand(1, 3, 8, 8)
    out = Bicubic(4)(lq)
    assert out.min() == 0
    assert out.max() == 1
    assert torch.allclose(out * 255, (out * 255).round(), atol=1e-4)


def test_constant_image_stays_constant() -> None:
    lq = torch.full((2, 3, 5, 7), 100 / 255)
    assert torch.allclose(Bicubic(3)(lq), torch.full((2, 3, 15, 21), 100 / 255), atol=1e-6)


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (2, 3)])
def test_smallest_images_are_upsampled(size: tuple[int, int]) -> None:
    assert Bicubic(2)(make_image(*size)).shape == (1, 3, size[0] * 2, size[1] * 2)


def test_batch_equals_images_one_by_one() -> None:
    images = torch.cat([make_image(seed=seed) for seed in range(3)])
    together = Bicubic(4)(images)
    assert torch.equal(together, torch.cat([Bicubic(4)(image[None]) for image in images]))


def test_bfloat16_comes_back_as_bfloat16() -> None:
    lq = make_image().bfloat16()
    out = Bicubic(2)(lq)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), Bicubic(2)(lq.float()), atol=4e-3)  # half a step of bfloat16 below 1


def test_it_is_registered_and_has_no_weights() -> None:
    network = ARCH_REGISTRY.get('Bicubic')(scale=2)
    assert isinstance(network, Bicubic)
    assert not network.state_dict()
    assert network.blind
    assert network.needs == ()


@pytest.mark.parametrize('scale', [0, -2, 2.5, '4', True])
def test_scale_that_is_no_positive_whole_number_is_refused(scale: object) -> None:
    with pytest.raises(ValueError, match='scale must be a whole number'):
        Bicubic(scale)  # type: ignore[arg-type]
