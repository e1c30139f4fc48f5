"""Validation of a model whose network is wrapped for several processes, and of one that validates a part of itself."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dasr_arch.config.train_schema import StageOptions
from dasr_arch.models.ikc_model import IKCModel
from dasr_arch.models.lr_schedule import Schedule
from dasr_arch.pipelines.validation import OVERALL, BestResult, restore


class Wrapper(nn.Module):
    """Stands for DistributedDataParallel: its forward waits for all processes, so one alone must not call it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x):
        raise AssertionError('waits for the other processes')


class WrappedModel:
    def __init__(self) -> None:
        self.net_g = Wrapper(nn.Identity())

    def feed_data(self, batch):
        self.lq = batch['lq']

    def get_bare_model(self, net):
        return net.module

    def test(self):
        self.output = self.net_g(self.lq)

    def get_current_visuals(self):
        return {'result': self.output}


def test_one_process_validates_without_the_others():
    model = WrappedModel()
    wrapper = model.net_g
    result, truth = restore(model, {'lq': torch.full((1, 3, 4, 5), 0.2)})
    assert result.shape == (4, 5, 3)
    assert set(result.ravel()) == {51}
    assert truth is None
    assert model.net_g is wrapper


def test_network_is_wrapped_again_after_a_failure():
    model = WrappedModel()
    wrapper = model.net_g
    wrapper.module = nn.Linear(1, 1)  # refuses an image of this shape
    with pytest.raises(RuntimeError):
        restore(model, {'lq': torch.zeros(1, 3, 4, 5)})
    assert model.net_g is wrapper


@pytest.mark.parametrize(('total', 'stage', 'expected'), [(5, 0, True), (6, 0, False), (5, 1, True), (20, 3, False)])
def test_finished_run_knows_what_it_validates(total, stage, expected):
    stages = [StageOptions(total_iter=count, lr=1e-3) for count in (5, 5, 10)]
    model = SimpleNamespace(stage=stage, schedule=Schedule(stages), settings=SimpleNamespace(total_iter=total))
    assert IKCModel.validates_a_part.fget(model) is expected


@pytest.mark.parametrize(('better', 'values'), [('higher', (2.0, 1.0, 3.0)), ('lower', (2.0, 3.0, 1.0))])
def test_best_validation_is_that_of_the_first_metric(better, values):
    best = BestResult({'own': {'type': 'x', 'better': better}, 'other': {'type': 'y'}})
    updates = [
        best.update({'set': {OVERALL: {'own': value, 'other': -value}}}, iteration)
        for iteration, value in enumerate(values)
    ]
    assert updates == [True, False, True]
    assert (best.name, best.value, best.iteration) == ('own', values[2], 2)


@pytest.mark.parametrize(
    ('kind', 'higher'), [('calculate_psnr', True), ('calculate_niqe', False), ('calculate_lpips', False)]
)
def test_direction_of_known_metrics_is_known(kind, higher):
    assert BestResult({'own': {'type': kind}}).higher is higher
    assert BestResult({'own': {'type': kind, 'better': 'higher'}}).higher


def test_without_metrics_there_is_no_best():
    assert not BestResult({}).update({'set': {OVERALL: {}}}, 1)
    assert not BestResult({'own': {'type': 'x'}}).update({}, 1)


def test_a_validation_that_is_not_a_number_is_never_the_best():
    best = BestResult({'own': {'type': 'x'}})
    results = [{'set': {OVERALL: {'own': value}}} for value in (float('nan'), 2.0, float('nan'))]
    assert [best.update(result, number) for number, result in enumerate(results)] == [False, True, False]
    assert (best.value, best.iteration) == (2.0, 1)
