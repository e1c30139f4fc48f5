"""Networks that train on the test image: what they may know, that they learn, and that nothing stays behind."""

import inspect

import pytest
import torch
from torch import Tensor

from dasr_arch import InputError
from dasr_arch._errors import DivergedError
from dasr_arch.archs.mzsr_arch import MZSR
from dasr_arch.archs.srcnn_arch import SRCNN
from dasr_arch.archs.zssr_arch import ZSSR
from dasr_arch.config.zero_shot_schema import MZSROptions
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel
from dasr_arch.zero_shot.adaptation import adapt_mzsr, adapts, build_adapter
from tests.models.making import copy_state
from tests.zero_shot.test_zssr import make_image

KERNEL = isotropic_gaussian_kernel(torch.tensor([1.6]))
OPTIONS = {'ZSSR': {'max_steps': 12, 'crop_size': 16}, 'MZSR': {'steps': 4, 'rates': [0.05, 0.02]}}
both = pytest.mark.parametrize('kind', ['ZSSR', 'MZSR'])


def make_network(kind: str, scale: int = 2) -> ZSSR | MZSR:
    torch.manual_seed(0)
    return {'ZSSR': ZSSR, 'MZSR': MZSR}[kind](scale=scale, num_feat=8, num_layers=4)


def run(kind: str, lq: Tensor, kernel: Tensor | None = None, seed: int = 0, scale: int = 2, **options: object):
    adapter = build_adapter(kind, {**OPTIONS[kind], **options})
    generator = torch.Generator().manual_seed(seed)
    return adapter(make_network(kind, scale), lq, kernel=kernel, generator=generator)


@both
@pytest.mark.parametrize('scale', [2, 4])
@pytest.mark.parametrize('kernel', [None, KERNEL, KERNEL[0]], ids=['none', 'batch', 'single'])
def test_image_comes_out_at_its_size_and_range(kind, scale, kernel):
    out = run(kind, make_image(15, 22), kernel, scale=scale)
    assert out.sr.shape == (1, 3, 15 * scale, 22 * scale)
    assert 0 <= out.sr.min() <= out.sr.max() <= 1
    assert len(out.losses) == len(out.rates) == (12 if kind == 'ZSSR' else 4)


@both
def test_no_ground_truth_can_be_passed(kind):
    adapter = build_adapter(kind, OPTIONS[kind])
    assert set(inspect.signature(adapter).parameters) == {'network', 'lq', 'kernel', 'generator'}


@both
def test_given_network_stays_as_it_was_and_the_adapted_one_does_not(kind):
    network = make_network(kind)
    before = copy_state(network)
    out = build_adapter(kind, OPTIONS[kind])(network, make_image(), generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    changed = [name for name, value in out.network.state_dict().items() if not torch.equal(value, before[name])]
    assert set(changed) == set(before)


@both
def test_works_in_inference_mode_and_gives_the_same(kind):
    expected = run(kind, make_image(), KERNEL).sr
    with torch.inference_mode():
        lq, kernel = make_image(), KERNEL.clone()
        assert torch.equal(run(kind, lq, kernel).sr, expected)
        assert not torch.is_grad_enabled()
    with torch.no_grad():
        assert torch.equal(run(kind, make_image(), KERNEL).sr, expected)


@both
def test_result_depends_on_the_kernel(kind):
    lq = make_image()
    assert not torch.allclose(run(kind, lq).sr, run(kind, lq, KERNEL).sr, atol=1e-4)
    options = {'back_projections': 0}
    assert not torch.equal(
        run(kind, lq, KERNEL, **options).sr, run(kind, lq, KERNEL, downsample='direct', **options).sr
    )


def test_zssr_depends_on_its_generator_alone():
    lq = make_image()
    adapter = build_adapter('ZSSR', OPTIONS['ZSSR'])
    results = []
    for seed, network_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(network_seed)
        network = ZSSR(scale=2, num_feat=8, num_layers=4)
        results.append(adapter(network, lq, generator=torch.Generator().manual_seed(seed)).sr)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_mzsr_loss_falls_with_every_step_at_the_rates_it_is_given():
    out = run('MZSR', make_image(), KERNEL, steps=6)
    assert all(first > second for first, second in zip(out.losses, out.losses[1:], strict=False))
    assert out.rates == (0.05, 0.02, 0.02, 0.02, 0.02, 0.02)


def test_mzsr_takes_the_gradient_step_of_the_paper():
    network, lq = make_network('MZSR'), make_image(16, 12)
    out = adapt_mzsr(network, lq, MZSROptions(steps=1, rates=[0.1]))
    lr_up = torch.nn.functional.interpolate(lq, (8, 6), mode='bicubic', antialias=True)  # differs at the border alone
    assert lr_up.shape == (1, 3, 8, 6)
    loss = (network(upsample_downscaled(lq), is_upsampled=True) - lq).abs().mean()
    assert out.losses[0] == pytest.approx(loss.item(), rel=1e-6)
    for (name, value), gradient in zip(
        network.named_parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True
    ):
        assert torch.allclose(out.network.state_dict()[name], value - 0.1 * gradient, atol=1e-7), name


def upsample_downscaled(lq: Tensor) -> Tensor:
    from dasr_arch.archs.layers.image_ops import upsample_bicubic_symmetric
    from dasr_arch.degradations.resize import downsample_bicubic

    return upsample_bicubic_symmetric(downsample_bicubic(lq, 2, 'mirror'), 2)


def test_without_steps_the_network_is_unchanged():
    network, lq = make_network('MZSR'), make_image()
    out = adapt_mzsr(network, lq, MZSROptions(steps=0))
    with torch.no_grad():
        assert torch.equal(out.sr, network(lq).clamp(0, 1))
    assert out.losses == ()


def test_zssr_learns_to_sharpen_what_was_blurred_by_the_kernel():
    """On a smooth image the untrained network gives about bicubic; training must come nearer to the truth."""
    from dasr_arch.archs.layers.image_ops import upsample_bicubic_symmetric
    from dasr_arch.zero_shot.pairs import Downscaler

    truth = (make_image(96, 96) * 8).sin() / 2 + 0.5
    lq = Downscaler(2, KERNEL)(truth)
    out = run('ZSSR', lq, KERNEL, max_steps=150, crop_size=32)
    bicubic = (upsample_bicubic_symmetric(lq, 2) - truth).square().mean()
    assert (out.sr - truth).square().mean() < 0.5 * bicubic


@both
def test_images_of_a_few_pixels_are_restored(kind):
    for height, width in ((1, 1), (2, 5)):
        out = run(kind, make_image(height, width), KERNEL, scale=4)
        assert out.sr.shape == (1, 3, 4 * height, 4 * width)
        assert torch.isfinite(out.sr).all()


def test_which_networks_adapt():
    assert adapts(make_network('ZSSR'))
    assert adapts(make_network('MZSR'))
    assert not adapts(SRCNN(scale=2, num_feat=4))


@pytest.mark.parametrize(
    ('kind', 'options', 'message'),
    [
        ('ZSR', {}, "no test-time adaptation for 'ZSR'; did you mean 'ZSSR'"),
        ('ZSSR', {'max_step': 3}, "ZSSR's test-time adaptation: unknown key 'max_step'; did you mean 'max_steps'"),
        ('ZSSR', {1: 2}, "unknown key '1'"),
        ('MZSR', {'steps': -1}, 'steps: expected a whole number of at least 0, got -1'),
        ('MZSR', {'rates': []}, 'rates must hold at least one number'),
        ('MZSR', {'rates': ['fast']}, "rates.0: expected a number above 0, got the text 'fast'"),
    ],
)
def test_wrong_options_are_named(kind, options, message):
    with pytest.raises(InputError, match=message):
        build_adapter(kind, options)


@both
def test_wrong_shapes_are_named(kind):
    with pytest.raises(ValueError, match=r'lq must be one image of shape \(1, 3, h, w\), got \(2, 3, 8, 8\)'):
        run(kind, torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match='kernel must have shape'):
        run(kind, make_image(), torch.rand(1, 4, 4))


def test_former_name_of_an_option_is_accepted_and_warns(caplog):
    image, generator = make_image(), torch.Generator
    options = {'max_steps': 1, 'ensemble': False}
    former = build_adapter('ZSSR', {**options, 'son_noise': 9.0})
    assert "'son_noise'" in caplog.text
    assert "'lq_noise'" in caplog.text
    losses = [
        adapter(make_network('ZSSR'), image, generator=generator().manual_seed(3)).losses
        for adapter in (former, build_adapter('ZSSR', {**options, 'lq_noise': 9.0}), build_adapter('ZSSR', options))
    ]
    assert losses[0] == losses[1] != losses[2]


@both
@pytest.mark.parametrize('kernel', [None, KERNEL], ids=['ensemble', 'single'])
def test_output_that_is_not_finite_is_refused(kind, kernel, monkeypatch):
    def fill(network: ZSSR, generator: torch.Generator | None = None) -> None:
        for parameter in network.parameters():
            parameter.data.fill_(1e30)

    monkeypatch.setattr(ZSSR, 'draw_weights', fill)
    network = make_network(kind)
    fill(network)
    adapter = build_adapter(kind, OPTIONS[kind])
    with pytest.raises(DivergedError, match='the output is not finite'):
        adapter(network, make_image(15, 22), kernel=kernel, generator=torch.Generator().manual_seed(0))
