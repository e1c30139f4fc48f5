"""MZSR's meta-training: tasks, both orders of gradients, the weights of the steps, and validation by adaptation."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from basicsr.models import build_model
from msgspec.structs import replace
from torch.func import functional_call

from dasr_arch import InputError
from dasr_arch.archs.mzsr_arch import MZSR
from dasr_arch.data.degradation_dataset import degrade_batch
from dasr_arch.models.mzsr_model import MZSRModel, weigh_steps
from dasr_arch.models.training_state import collect_training_state, restore_training_state
from tests.models.making import copy_state, make_batch, make_options, train_step

META = {'support': 2, 'query': 1, 'inner_steps': 2, 'inner_lr': 0.01, 'anneal_iter': 10}
DEGRADATION = {'type': 'CovarianceGaussian', 'variance_range': [1.0, 5.0], 'kernel_size': 15}


def make_model(meta: dict[str, Any] | None = None, **train: Any) -> MZSRModel:
    schedule = {'total_iter': 20, 'lr': 1e-3}
    options = make_options('MZSRModel', schedule=schedule, meta_opt={**META, **(meta or {})}, **train)
    options['network_g'] = {'type': 'MZSR', 'scale': 2, 'num_feat': 8, 'num_layers': 3}
    options['datasets']['train']['degradation'] = dict(DEGRADATION)
    options['train']['pixel_opt'] = {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}
    torch.manual_seed(0)
    model = build_model(options)
    assert isinstance(model, MZSRModel)
    return model


def make_tasks(size: int = 6, start: int = 0) -> dict[str, Any]:
    return make_batch(size, start, degradation=DEGRADATION, num_patches=1)


def test_all_images_of_a_task_have_the_kernel_of_its_first():
    model, batch = make_model(), make_tasks()
    model.feed_data(batch)
    kernel = torch.stack([batch['kernel'][0]] * 3 + [batch['kernel'][3]] * 3)
    assert not torch.equal(kernel, batch['kernel'])
    expected, gt = degrade_batch(model.degradation, {**batch, 'kernel': kernel})
    assert torch.equal(model.lq, expected[:, 0])
    assert torch.equal(model.gt, gt[:, 0])


def outer_loss(model: MZSRModel, enlarged: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    return torch.stack(model._run_task(enlarged, gt)) @ torch.tensor([0.3, 0.7], dtype=torch.float64)


def test_second_order_gradient_is_the_derivative_of_the_outer_loss():
    model = make_model({'inner_lr': 0.5}, pixel_opt={'type': 'MSELoss', 'loss_weight': 1.0, 'reduction': 'mean'})
    model.cri_pix = torch.nn.MSELoss()
    model.net_g.double()
    generator = torch.Generator().manual_seed(0)
    enlarged, gt = (torch.rand(3, 3, 12, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    parameters = list(model.net_g.parameters())
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    slopes = {}
    for second_order in (True, False):
        model.meta = replace(model.meta, second_order=second_order)
        gradients = torch.autograd.grad(outer_loss(model, enlarged, gt), parameters)
        slopes[second_order] = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)).item()
    step, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(sign * step * direction)
        values.append(outer_loss(model, enlarged, gt).item())
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.sub_(sign * step * direction)
    numeric = (values[0] - values[1]) / (2 * step)
    assert slopes[True] == pytest.approx(numeric, rel=1e-5)
    assert slopes[False] != pytest.approx(numeric, rel=1e-2)


def test_first_order_gradient_is_that_of_the_query_at_the_adapted_weights():
    model = make_model({'second_order': False, 'inner_steps': 1})
    generator = torch.Generator().manual_seed(0)
    enlarged, gt = (torch.rand(3, 3, 12, 12, generator=generator) for _ in range(2))
    parameters = list(model.net_g.parameters())
    support = (model.net_g(enlarged[:2], is_upsampled=True) - gt[:2]).abs().mean()
    adapted = {
        name: (value - 0.01 * gradient).detach().requires_grad_()
        for (name, value), gradient in zip(
            model.net_g.named_parameters(), torch.autograd.grad(support, parameters), strict=True
        )
    }
    query = (functional_call(model.net_g, adapted, (enlarged[2:],), {'is_upsampled': True}) - gt[2:]).abs().mean()
    expected = torch.autograd.grad(query, list(adapted.values()))
    (loss,) = model._run_task(enlarged, gt)
    for own, other in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        assert torch.allclose(own, other, atol=1e-7)


@pytest.mark.parametrize('second_order', [True, False])
def test_query_loss_falls(second_order):
    model, batch = make_model({'second_order': second_order}), make_tasks()
    history = [train_step(model, iteration, batch)['l_query_last'] for iteration in range(1, 13)]
    assert history[-1] < 0.9 * history[0]


def test_weights_move_from_all_steps_to_the_last():
    assert weigh_steps(1, 5, 'anneal', 3333) == pytest.approx([0.2] * 5)
    assert weigh_steps(100_000, 5, 'anneal', 3333) == pytest.approx([0.006] * 4 + [0.976])
    assert weigh_steps(3233, 5, 'anneal', 3333)[4] < 0.976 == pytest.approx(weigh_steps(3235, 5, 'anneal', 3333)[4])
    assert weigh_steps(100_000, 5, 'uniform', 3333) == pytest.approx([0.2] * 5)
    assert weigh_steps(7, 1, 'anneal', 3333) == [1.0]
    assert all(sum(weigh_steps(i, 3, 'anneal', 10)) == pytest.approx(1) for i in (1, 5, 9, 11, 50))


def test_validation_adapts_with_the_true_kernel_and_leaves_the_network_alone():
    model = make_model(adaptation={'steps': 3, 'rates': [0.05]})
    train_step(model, 1, make_tasks())
    before = copy_state(model.net_g)
    sample = {'lq': torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(0))}
    outputs = []
    for kernel in (None, make_tasks(1)['kernel']):
        model.feed_data({**sample, **({} if kernel is None else {'kernel': kernel})})
        model.test()
        outputs.append(model.output)
    plain = model.net_g(sample['lq']).clamp(0, 1)
    assert outputs[0].shape == (1, 3, 24, 20)
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], plain)
    assert all(torch.equal(value, before[name]) for name, value in model.net_g.state_dict().items())


def test_validation_downsamples_as_the_training():
    assert make_model().adaptation.downsample == 'bicubic'
    options = make_options('MZSRModel', schedule={'total_iter': 20, 'lr': 1e-3})
    options['network_g'] = {'type': 'MZSR', 'scale': 2, 'num_feat': 8, 'num_layers': 3}
    options['datasets']['train']['degradation'] = {**DEGRADATION, 'downsample': 's_fold'}
    assert build_model(options).adaptation.downsample == 'direct'


def test_restored_model_goes_on_bit_for_bit():
    model = make_model(ema_decay=0.9)
    for iteration in (1, 2):
        train_step(model, iteration, make_tasks(start=6 * iteration))
    other = make_model(ema_decay=0.9)
    restore_training_state(other, deepcopy(collect_training_state(model, 0, 2)))
    for iteration in (3, 4):
        expected = train_step(model, iteration, make_tasks(start=6 * iteration))
        assert train_step(other, iteration, make_tasks(start=6 * iteration)) == expected
    assert all(torch.equal(v, model.net_g_ema.state_dict()[k]) for k, v in other.net_g_ema.state_dict().items())


def test_weights_of_large_scale_training_at_another_scale_fit(tmp_path):
    network = MZSR(scale=4, num_feat=8, num_layers=3)
    torch.save({'params': network.state_dict()}, tmp_path / 'large.pth')
    options = make_options('MZSRModel', schedule={'total_iter': 20, 'lr': 1e-3})
    options['network_g'] = {'type': 'MZSR', 'scale': 2, 'num_feat': 8, 'num_layers': 3}
    options['path'] = {'pretrain_network_g': str(tmp_path / 'large.pth')}
    loaded = build_model(options).net_g.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


def test_batch_that_cannot_be_cut_into_tasks_is_refused():
    with pytest.raises(InputError, match='a batch of 4 cannot be split into tasks of support \\+ query = 3'):
        train_step(make_model(), 1, make_tasks(4))


def test_another_network_is_refused():
    options = make_options('MZSRModel', schedule={'total_iter': 20, 'lr': 1e-3})
    with pytest.raises(InputError, match='MZSRModel trains MZSR, got DASR'):
        build_model(options)
