"""LR-HR pairs from one image: sizes, alignment, back-projection, orientations."""

import pytest
import torch
from torch import Tensor

from dasr_arch.degradations.blur import blur
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel, isotropic_gaussian_kernel
from dasr_arch.degradations.resize import downsample_bicubic
from dasr_arch.inference.self_ensemble import orient, orient_back
from dasr_arch.zero_shot.pairs import (
    Downscaler,
    back_project,
    centre_kernel,
    run_self_ensemble,
    upsample_to,
)

KERNEL = isotropic_gaussian_kernel(torch.tensor([1.2]))
SKEWED = anisotropic_gaussian_kernel(torch.tensor([2.0]), torch.tensor([0.6]), torch.tensor([0.5]))


def make_image(height: int = 24, width: int = 36) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def make_blob(height: int = 48, width: int = 48) -> Tensor:
    """A smooth spot in the middle of (24.5, 20.5), black towards the borders."""
    y, x = torch.arange(height)[:, None] - 24.5, torch.arange(width)[None] - 20.5
    return torch.exp(-(x**2 + y**2) / (2 * 4.0**2)).expand(1, 3, -1, -1)


def centre_of(image: Tensor) -> tuple[float, float]:
    weights = image[0, 0] / image[0, 0].sum()
    y, x = torch.arange(image.shape[-2]).float(), torch.arange(image.shape[-1]).float()
    return float((weights.sum(1) * y).sum()), float((weights.sum(0) * x).sum())


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_bicubic_downscaling_follows_the_protocol(scale):
    image = make_image()
    expected = downsample_bicubic(blur(image, SKEWED), scale, 'mirror')
    assert torch.equal(Downscaler(scale, SKEWED)(image), expected)
    assert torch.equal(Downscaler(scale)(image), downsample_bicubic(image, scale, 'mirror'))


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('kernel', [KERNEL, SKEWED], ids=['round', 'skewed'])
def test_centred_direct_downscaling_is_aligned_with_upsampling(scale, kernel):
    blob = make_blob()
    moved = {}
    for centred in (True, False):
        downscaler = Downscaler(scale, kernel, 'direct', centred)
        back = upsample_to(downscaler(blob), scale, blob)
        moved[centred] = [a - b for a, b in zip(centre_of(back), centre_of(blob), strict=True)]
    assert max(map(abs, moved[True])) < 0.05
    assert moved[False] == pytest.approx([(scale - 1) / 2] * 2, abs=0.05)  # what MZSR learns to undo


def test_kernel_is_centred_by_its_mass():
    off = torch.zeros(1, 5, 5)
    off[0, 1, 3] = 1.0
    moved = centre_kernel(off, 1)
    side = moved.shape[-1]
    assert side % 2 == 1
    assert centre_of(moved[None].expand(1, 3, -1, -1)) == pytest.approx((side // 2, side // 2), abs=1e-4)
    assert moved.sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (1, 7), (5, 2), (23, 34)])
@pytest.mark.parametrize('method', ['bicubic', 'direct'])
def test_any_size_is_downscaled_and_upsampled_to_its_size(height, width, method):
    image = make_image(height, width)
    for kernel in (None, KERNEL):
        small = Downscaler(4, kernel, method, centred=True)(image)
        assert small.shape == (1, 3, -(-height // 4), -(-width // 4))
        assert upsample_to(small, 4, image).shape == image.shape
        assert torch.isfinite(small).all()


def test_back_projection_approaches_an_image_whose_downscaled_version_is_the_given_one():
    downscaler = Downscaler(2, KERNEL)
    lq = downscaler(make_image(16, 20))
    sr = torch.full((1, 3, 16, 20), 0.5)
    errors = [float((downscaler(back_project(sr, lq, downscaler, rounds)) - lq).abs().mean()) for rounds in (0, 1, 4)]
    assert errors[0] > 1.5 * errors[1] > 3 * errors[2] > 0


def test_eight_orientations_are_all_different_and_undone():
    image = make_image(5, 7)
    turned = [orient(image, number) for number in range(8)]
    for number, one in enumerate(turned):
        assert torch.equal(orient_back(one, number), image)
        assert all(one.shape != other.shape or not torch.equal(one, other) for other in turned[:number])


def test_ensemble_is_the_median_over_orientations():
    lq = make_image(4, 6)
    seen = []

    def network(x: Tensor) -> Tensor:
        seen.append(x)
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2) * (len(seen) / 8)

    out = run_self_ensemble(network, lq, Downscaler(2), 0)
    expected = lq.repeat_interleave(2, -1).repeat_interleave(2, -2) * (4.5 / 8)
    assert torch.allclose(out, expected)
    assert len({tuple(x.shape) for x in seen}) == 2
