"""Fitting a probe: its classes, its optimum, and what it finds in an encoder that tells blur from none."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from dasr_arch import DASR
from dasr_arch.degradations import build_degradation
from dasr_arch.probe.fit import (
    NOISE_LEVELS,
    Confusion,
    Samples,
    degradation_options,
    fit_logistic,
    fit_probe,
    list_kernels,
    list_noises,
    list_qualities,
)
from dasr_arch.probe.model import ProbeClass, Quantity


def test_widths_reach_up_to_the_scale() -> None:
    assert [one.values['sigma'] for one in list_kernels('iso', 4)] == [0.2, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0, 3.4, 3.8]
    assert [one.values['sigma'] for one in list_kernels('iso', 2)] == [0.2, 0.6, 1.0, 1.4, 1.8]
    assert [one.values['noise'] for one in list_noises('general')] == list(NOISE_LEVELS)
    assert len(list_noises('iso')) == 1


def test_photo_has_five_widths_and_eight_qualities() -> None:
    assert [one.values['sigma'] for one in list_kernels('photo', 2)] == [0.3, 0.7, 1.1, 1.5, 1.9]
    assert [one.values.get('jpeg') for one in list_qualities('photo')] == [None, 90, 80, 70, 60, 50, 40, 30]
    assert len(list_qualities('general')) == 1
    options = degradation_options(list_kernels('photo', 2)[0], list_noises('photo')[1], list_qualities('photo')[3])
    assert options == {'type': 'IsotropicGaussian', 'sigma': 0.3, 'noise': 5, 'jpeg': 70}
    assert build_degradation(options, 2).label == 'sigma 0.3, noise 5, jpeg 70'


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_every_kernel_of_the_general_setting_is_another_one(scale: int) -> None:
    classes = list_kernels('general', scale)
    generator = torch.Generator()
    noise = list_noises('general')[0]
    kernels = [
        build_degradation(degradation_options(one, noise), scale).draw(generator, (4, 4))['kernel'] for one in classes
    ]
    distances = torch.cdist(torch.stack(kernels).flatten(1), torch.stack(kernels).flatten(1))
    assert len(classes) == 45
    assert distances[~torch.eye(45, dtype=torch.bool)].min() > 1e-3


def test_logistic_regression_is_at_its_optimum() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 4, dtype=torch.float64, generator=generator)
    targets = (inputs[:, :3] + 0.5 * torch.randn(200, 3, generator=generator)).argmax(1)
    weight, bias = fit_logistic(inputs, targets, 3)
    weight.requires_grad_(), bias.requires_grad_()
    loss = functional.cross_entropy(inputs @ weight.T + bias, targets) + 1e-4 * weight.square().sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-4
    assert ((inputs @ weight.T + bias).argmax(1) == targets).double().mean() > 0.75


def test_a_probe_finds_what_the_vectors_hold_and_chance_elsewhere() -> None:
    generator = torch.Generator().manual_seed(0)
    kernels, noises, qualities = torch.randint(3, (3, 600), generator=generator)
    vectors = torch.randn(600, 8, dtype=torch.float64, generator=generator)
    vectors[:, :3] += 20 * functional.one_hot(kernels, 3)
    vectors[:, 3:6] += 20 * functional.one_hot(qualities, 3)
    network = DASR(scale=2, num_feat=8, num_groups=1, num_blocks=1, encoder_feat=4, representation_dim=8)
    known = [ProbeClass(f'class {index}', {}) for index in range(3)]
    whole = Samples(vectors, kernels, noises, qualities)
    train, test = (Samples(*(part[chosen] for part in whole)) for chosen in (slice(400), slice(400, None)))
    classes: dict[Quantity, list[ProbeClass]] = {'kernel': known, 'noise': known, 'jpeg': known}
    probe, confusions = fit_probe(network, train, test, classes, 'others')
    assert confusions['kernel'].accuracy == confusions['jpeg'].accuracy == 1
    assert abs(confusions['noise'].accuracy - 1 / 3) < 0.12
    assert confusions['kernel'].counts.sum() == 200
    assert probe.read(vectors[500])['kernel'][0].label == f'class {kernels[500]}'


def test_shares_of_a_confusion() -> None:
    confusion = Confusion(['a', 'b', 'c'], np.array([[2, 1, 1], [0, 4, 0], [0, 1, 3]]))
    assert confusion.accuracy == 9 / 12
    assert confusion.within(1) == 11 / 12
