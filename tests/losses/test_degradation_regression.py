"""Auxiliary loss of the encoder: normalised kernel parameters, noise levels and JPEG qualities."""

import pytest
import torch

from dasr_arch import InputError
from dasr_arch.degradations import build_degradation
from dasr_arch.degradations.kernel_pca import draw_kernels
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel, sinc_kernel
from dasr_arch.losses.degradation_regression import DegradationRegression, width_matrix

BLUR = {'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0]}
NOISY = {'type': 'AnisotropicGaussian', 'lambda_range': [0.2, 4.0], 'theta_deg_range': [0, 180], 'noise_range': [0, 25]}


def make_target(
    degradation: dict[str, object], kernel: str = 'components', components: int = 6
) -> DegradationRegression:
    torch.manual_seed(0)
    return DegradationRegression(12, build_degradation(degradation, 4), kernel, components)


@pytest.mark.parametrize(
    ('degradation', 'kernel', 'length'),
    [(BLUR, 'components', 6), (NOISY, 'components', 7), (BLUR, 'widths', 2), (NOISY, 'widths', 4)],
)
def test_targets_have_mean_zero_and_deviation_one_over_the_draws(degradation, kernel, length):
    target = make_target(degradation, kernel)
    built = build_degradation(degradation, 4)
    kernels = draw_kernels(built, 500, seed=7)
    levels = 25 * torch.rand(500, generator=torch.Generator().manual_seed(0))
    codes = target.target(kernels, levels)
    assert codes.shape == (500, length)
    assert codes.mean(0).abs().max() < 0.2
    assert codes.std(0)[:4].sub(1).abs().max() < 0.2
    assert codes.std(0).max() < 1.2


def test_width_matrix_of_a_gaussian_is_its_widths_turned():
    widths, angle = torch.tensor([[3.0, 1.0], [2.0, 2.0]]), torch.tensor([0.5, 1.0])
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1)
    expected = turn @ torch.diag_embed(widths) @ turn.mT
    matrix = width_matrix(anisotropic_gaussian_kernel(widths[:, 0], widths[:, 1], angle, 31))
    assert matrix[:, 0] == pytest.approx(expected[:, 0, 0], abs=1e-3)
    assert matrix[:, 1] == pytest.approx(expected[:, 1, 1], abs=1e-3)
    assert matrix[:, 2].abs() == pytest.approx(expected[:, 0, 1].abs(), abs=1e-3)
    assert matrix[0, 2].abs() > 0.5


def test_width_matrix_of_a_point_is_zero_wherever_it_stands():
    kernels = torch.zeros(2, 5, 5)
    kernels[0, 2, 2] = kernels[1, 1, 4] = 1
    assert torch.equal(width_matrix(kernels), torch.zeros(2, 3))


@pytest.mark.parametrize('kernel', ['components', 'widths'])
def test_codes_tell_kernels_apart_and_the_noise_level_stands_last(kernel):
    target = make_target(NOISY, kernel)
    kernels = draw_kernels(build_degradation(NOISY, 4), 3)
    codes = target.target(kernels, torch.tensor([0.0, 12.5, 25.0]))
    assert codes[:, -1].tolist() == pytest.approx([-(3**0.5), 0, 3**0.5], abs=1e-5)
    assert torch.cdist(codes[:, :-1], codes[:, :-1])[0, 1:].min() > 0.1


@pytest.mark.parametrize('kernel', ['components', 'widths'])
def test_error_is_one_for_the_mean_and_falls_by_learning(kernel):
    target = make_target(BLUR, kernel)
    kernels = draw_kernels(build_degradation(BLUR, 4), 64, seed=3)
    expected = target.target(kernels, torch.zeros(64))
    torch.nn.init.zeros_(target.head.weight)
    torch.nn.init.zeros_(target.head.bias)
    representation = torch.randn(64, 12, generator=torch.Generator().manual_seed(0), requires_grad=True)
    first = target(representation, expected)
    assert first.item() == pytest.approx(1, abs=0.3)
    optimizer = torch.optim.Adam([representation, *target.parameters()], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss = target(representation, expected)
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * first


def test_target_is_the_same_whatever_the_seed_of_the_run():
    torch.manual_seed(1)
    first = DegradationRegression(12, build_degradation(BLUR, 4), 'components')
    torch.manual_seed(2)
    second = DegradationRegression(12, build_degradation(BLUR, 4), 'components')
    assert torch.equal(first.basis, second.basis)
    assert torch.equal(first.spread, second.spread)
    assert not torch.equal(first.head.weight, second.head.weight)


def test_widths_of_small_kernels_need_no_components():
    small = {**BLUR, 'kernel_size': 3}
    kernels = draw_kernels(build_degradation(small, 4), 5)
    assert make_target(small, 'widths', 10).target(kernels, torch.zeros(5)).shape == (5, 2)


@pytest.mark.parametrize(
    ('degradation', 'components', 'message'),
    [
        ({'type': 'IsotropicGaussian', 'sigma': 1.2}, 6, "'sigma 1.2' has one kernel for all images"),
        (BLUR, 0, r'code_opt.components must lie in 1\.\.441'),
        ({**BLUR, 'kernel_size': 3}, 10, r'code_opt.components must lie in 1\.\.9'),
    ],
)
def test_what_cannot_be_a_target_is_refused(degradation, components, message):
    with pytest.raises(InputError, match=message):
        make_target(degradation, 'components', components)


def test_range_of_no_width_has_nothing_to_find():
    with pytest.raises(InputError, match='one kernel for all images'):
        make_target({'type': 'IsotropicGaussian', 'sigma_range': [2.0, 2.0]}, 'widths')


# --- compression quality ---

COMPRESSED = {**NOISY, 'jpeg_range': [30, 95], 'jpeg_probability': 0.5}


def test_quality_stands_last_and_no_compression_counts_as_100():
    target = DegradationRegression(12, build_degradation(COMPRESSED, 4), 'widths', jpeg_quality=True)
    kernels = draw_kernels(build_degradation(COMPRESSED, 4), 4)
    codes = target.target(kernels, torch.full((4,), 12.5), torch.tensor([30, 65, 100, 0]))
    assert codes.shape == (4, 5)
    assert codes[:, -2].abs().max() < 1e-6  # the noise level before it
    assert codes[:, -1].tolist() == pytest.approx([-(3**0.5), 0, 3**0.5, 3**0.5], abs=1e-5)
    assert target.head.out_features == 5


def test_quality_is_no_part_of_the_target_unless_it_is_asked_for():
    target = DegradationRegression(12, build_degradation(COMPRESSED, 4), 'widths')
    codes = target.target(draw_kernels(build_degradation(COMPRESSED, 4), 2), torch.zeros(2), torch.tensor([30, 0]))
    assert codes.shape == (2, 4)
    assert target.head.out_features == 4


def test_photographs_tell_widths_noise_and_quality():
    degradation = build_degradation({'type': 'Photographic'}, 4)
    target = DegradationRegression(12, degradation, 'widths', jpeg_quality=True)
    generator = torch.Generator().manual_seed(5)
    draws = [degradation.draw(generator, (1, 1)) for _ in range(300)]
    kernel, level, quality = (
        torch.stack([draw[key] for draw in draws]) for key in ('kernel', 'noise_level', 'jpeg_quality')
    )
    codes = target.target(kernel, level, quality)
    assert codes.shape == (300, 5)
    assert codes.isfinite().all()
    assert codes[:, :3].std(0).sub(1).abs().max() < 0.35
    assert codes.abs().max() < 12  # low-pass filters, with their negative lobes, are no outliers
    assert 0.3 < codes[:, 4].std() < 1.5


def test_level_stands_last_with_mean_zero_and_deviation_one():
    degradation = build_degradation({'type': 'Photographic'}, 4)
    target = DegradationRegression(12, degradation, 'widths', jpeg_quality=True, level=True)
    draws = [degradation.draw(torch.Generator().manual_seed(seed), (8, 8)) for seed in range(2000)]
    known = {
        key: torch.stack([draw[key] for draw in draws]) for key in ('kernel', 'noise_level', 'jpeg_quality', 'level')
    }
    codes = target.target(**known)
    assert codes.shape == (2000, target.head.out_features)
    assert codes[:, -1].mean() == pytest.approx(0, abs=0.06)
    assert codes[:, -1].std() == pytest.approx(1, abs=0.04)
    assert torch.equal(codes[:, -1].argsort(stable=True), known['level'].argsort(stable=True))
    assert torch.equal(
        codes[:, :-1], DegradationRegression(12, degradation, 'widths', jpeg_quality=True).target(**known)
    )


@pytest.mark.parametrize('degradation', [NOISY, {'type': 'Photographic', 'level_probabilities': [0, 1, 0]}])
def test_level_that_is_never_drawn_is_refused(degradation):
    with pytest.raises(InputError, match=r'code_opt\.level: .* draws no level; remove it'):
        DegradationRegression(12, build_degradation(degradation, 4), 'widths', level=True)


def test_quality_that_is_never_drawn_is_refused():
    with pytest.raises(InputError, match=r'code_opt\.jpeg_quality: .* draws no JPEG quality; remove it'):
        DegradationRegression(12, build_degradation(NOISY, 4), 'widths', jpeg_quality=True)


def test_width_of_a_low_pass_filter_falls_with_its_cutoff():
    widths = width_matrix(sinc_kernel(torch.tensor([0.6, 1.0, 1.5]), 21))
    assert (widths[:, 0].diff() < 0).all()
    assert widths[:, 0] == pytest.approx(widths[:, 1], abs=1e-5)
    assert 0.5 < widths.max() < 4


def test_kernels_too_narrow_for_their_precision_have_no_width():
    narrow = anisotropic_gaussian_kernel(torch.full((8,), 0.2), torch.linspace(0.2, 0.27, 8), torch.linspace(0, 3, 8))
    brighter = narrow * (1 + 3e-7)  # as rounding leaves it
    assert width_matrix(torch.cat([narrow, brighter])).abs().max() < 0.1
