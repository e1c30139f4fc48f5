"""IKC's three stages: who learns when, from what, and what validation may know."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from torch.nn import functional

from dasr_arch import InputError
from dasr_arch.archs.ikc_arch import IKC, SFTMD
from dasr_arch.models.ikc_model import IKCModel
from dasr_arch.models.training_state import collect_training_state, restore_training_state
from tests.golden.weights import golden_state
from tests.models.making import copy_state, make_batch, make_options, train_step

GOLDEN = Path(__file__).parents[1] / 'golden'
TINY = {'type': 'IKC', 'scale': 2, 'num_feat': 8, 'num_blocks': 1, 'num_steps': 3}


def make_model(*stages: int, folder: Path | None = None, paths: dict[str, Any] | None = None, **train: Any) -> IKCModel:
    named = {f'stage_{number}': {'total_iter': count, 'lr': 1e-3} for number, count in enumerate(stages, 1)}
    options = make_options('IKCModel', folder, **named, corrections=3, **train)
    options['network_g'] = dict(TINY)
    options['path'] |= paths or {}
    torch.manual_seed(0)
    model = build_model(options)
    assert isinstance(model, IKCModel)
    return model


def changed_parts(before: dict[str, torch.Tensor], model: IKCModel) -> set[str]:
    after = model.net_g.state_dict()
    return {name.split('.')[0] for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize(
    ('stages', 'trained', 'names'),
    [
        ((1, 0, 0), {'sftmd'}, {'l_pix'}),
        ((0, 1, 0), {'predictor'}, {'l_predictor'}),
        ((0, 0, 1), {'predictor', 'corrector'}, {'l_predictor', 'l_corrector', 'l_corrector_last'}),
    ],
)
def test_each_stage_trains_its_part_alone(stages, trained, names, tmp_path):
    torch.save({'params': IKC(**{k: v for k, v in TINY.items() if k != 'type'}).state_dict()}, tmp_path / 'ikc.pth')
    model = make_model(*stages, paths={'pretrain_network_g': str(tmp_path / 'ikc.pth')})
    before = copy_state(model.net_g)
    assert set(train_step(model, 1, make_batch())) == names
    assert changed_parts(before, model) == trained


def test_losses_of_all_stages_fall():
    model, batch = make_model(12, 12, 12), make_batch(2)
    history = [train_step(model, iteration, batch) for iteration in range(1, 37)]
    assert history[11]['l_pix'] < history[0]['l_pix']
    assert history[23]['l_predictor'] < 0.5 * history[12]['l_predictor']
    assert history[35]['l_corrector_last'] < history[24]['l_corrector_last']


def test_third_stage_is_that_of_the_public_code_with_an_optimiser_for_each_network():
    model, batch = make_model(1, 0, 2), make_batch(3)
    train_step(model, 1, batch)
    torch.manual_seed(1)
    reference = IKC(**{key: value for key, value in TINY.items() if key != 'type'})
    reference.load_state_dict(copy_state(model.net_g))
    adam = {
        part: torch.optim.Adam(getattr(reference, part).parameters(), lr=1e-3, betas=(0.9, 0.999))
        for part in ('predictor', 'corrector')
    }
    for iteration in (2, 3):
        losses = train_step(model, iteration, batch)
        lq, true = model.lq, reference.sftmd.kernel_code(3, batch['kernel'], None)
        code = reference.predictor(lq)
        loss = functional.mse_loss(code, true)
        adam['predictor'].zero_grad()
        loss.backward()
        adam['predictor'].step()
        assert losses['l_predictor'] == pytest.approx(loss.item(), rel=1e-5)
        for _ in range(3):
            code = code.detach()
            with torch.no_grad():
                sr = reference.sftmd(lq, code=code)
            code = reference.corrector(sr, code)
            loss = functional.mse_loss(code, true)
            adam['corrector'].zero_grad()
            loss.backward()
            adam['corrector'].step()
        assert losses['l_corrector_last'] == pytest.approx(loss.item(), rel=1e-4)
    for name, value in reference.state_dict().items():
        assert torch.allclose(model.net_g.state_dict()[name], value, atol=1e-6), name


def test_parts_of_a_batch_add_up_to_the_batch():
    whole, parts = make_model(1, 1, 1), make_model(1, 1, 1, accumulate=2)
    for iteration in (1, 2, 3):
        expected = train_step(whole, iteration, make_batch())
        assert train_step(parts, iteration, make_batch()) == pytest.approx(expected, rel=1e-3)


def test_validation_is_blind_and_takes_the_last_step_whatever_the_truth():
    model = make_model(1, 0, 1)
    for iteration in (1, 2):
        train_step(model, iteration, make_batch())
    lq = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    steps = model.net_g(lq, return_steps=True).steps
    assert not torch.equal(steps[0], steps[-1])
    for truth in (steps[0], steps[1], torch.zeros_like(steps[0])):
        model.feed_data({'lq': lq, 'gt': truth, 'kernel': torch.full((1, 21, 21), 1 / 441)})
        model.test()
        assert torch.equal(model.output, steps[-1])
    assert not model.validates_a_part


def test_validation_of_the_first_stage_tells_the_kernel_and_does_not_count_for_the_best():
    model = make_model(1, 0, 1)
    train_step(model, 1, make_batch())
    lq = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    kernel = make_batch(1)['kernel']
    model.feed_data({'lq': lq, 'kernel': kernel})
    model.test()
    with torch.no_grad():
        assert torch.equal(model.output, model.net_g.sftmd(lq, kernel=kernel))
    assert model.validates_a_part


def test_averaged_network_follows_and_restores():
    model = make_model(1, 0, 1, ema_decay=0.9)
    for iteration in (1, 2):
        train_step(model, iteration, make_batch())
    model.feed_data({'lq': torch.rand(1, 3, 9, 7)})
    model.test()
    with torch.no_grad():
        assert torch.equal(model.output, model.net_g_ema(model.lq))


def test_average_of_parts_that_a_short_last_stage_trains_forgets_their_first_weights():
    """It begins anew in each stage: the decay of a late iteration would keep what was drawn at the start."""
    model = make_model(40, 0, 10, ema_decay=0.9)
    for part in (model.net_g_ema.corrector, model.net_g_ema.predictor):
        for value in part.parameters():
            torch.nn.init.constant_(value, 1000.0)  # what must be forgotten
    for iteration in range(41, 51):
        train_step(model, iteration, make_batch())
    for name in ('corrector', 'predictor'):
        for value in getattr(model.net_g_ema, name).parameters():
            assert value.abs().max() < 1


def test_restored_model_goes_on_bit_for_bit_in_every_stage():
    batches = [make_batch(2, 2 * number) for number in range(6)]
    for split in (1, 3, 5):
        model = make_model(2, 2, 2)
        for number in range(split):
            train_step(model, number + 1, batches[number])
        other = make_model(2, 2, 2)
        restore_training_state(other, deepcopy(collect_training_state(model, 0, split)))
        for number in range(split, 6):
            expected = train_step(model, number + 1, batches[number])
            assert train_step(other, number + 1, batches[number]) == expected
        assert all(torch.equal(v, model.net_g.state_dict()[k]) for k, v in other.net_g.state_dict().items())


def test_estimators_start_from_a_file_of_sftmd_alone(tmp_path):
    torch.manual_seed(3)
    sftmd = SFTMD(scale=2, num_feat=8, num_blocks=1)
    torch.save({'params': sftmd.state_dict()}, tmp_path / 'sftmd.pth')
    model = make_model(0, 0, 1, paths={'pretrain_network_g': str(tmp_path / 'sftmd.pth')})
    for name, value in sftmd.state_dict().items():
        assert torch.equal(model.net_g.sftmd.state_dict()[name], value), name


def test_predictor_starts_from_the_authors_file(tmp_path):
    state = golden_state(np.load(GOLDEN / 'ikc_predictor.npz'))
    torch.save(state, tmp_path / 'Predictor_latest_G.pth')
    options = make_options('IKCModel', **{f'stage_{n}': {'total_iter': 1, 'lr': 1e-4} for n in (1, 2, 3)})
    options['network_g'] = {'type': 'IKC', 'scale': 2, 'num_blocks': 1}
    options['path'] = {'pretrain_network_g': str(tmp_path / 'Predictor_latest_G.pth')}
    network = build_model(options).net_g
    assert torch.equal(network.predictor.body[0].weight, state['ConvNet.0.weight'])


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({'params': torch.nn.Conv2d(3, 3, 3).state_dict()}, tmp_path / 'net.pth')
    with pytest.raises(InputError, match='does not fit this IKC'):
        make_model(1, 0, 1, paths={'pretrain_network_g': str(tmp_path / 'net.pth')})


def test_estimators_without_a_trained_network_are_refused():
    with pytest.raises(InputError, match=r'without iterations in train\.stage_1 the estimators need a trained SFTMD'):
        make_model(0, 0, 1)


def test_estimators_beside_an_untrained_network_are_refused(tmp_path):
    """A file of the Predictor alone leaves SFTMD as it was drawn."""
    whole = make_model(1, 0, 1).net_g
    for part in (whole.predictor, whole.sftmd):
        torch.save({'params': part.state_dict()}, tmp_path / f'{type(part).__name__}.pth')
    with pytest.raises(InputError, match=r'is of Predictor; without stage_1 the estimators need a trained SFTMD'):
        make_model(0, 0, 1, paths={'pretrain_network_g': str(tmp_path / 'Predictor.pth')})
    model = make_model(0, 0, 1, paths={'pretrain_network_g': str(tmp_path / 'SFTMD.pth')})
    assert torch.equal(model.net_g.sftmd.last_conv.weight, whole.sftmd.last_conv.weight)


def test_another_network_is_refused():
    options = make_options('IKCModel', **{f'stage_{n}': {'total_iter': 1, 'lr': 1e-4} for n in (1, 2, 3)})
    with pytest.raises(InputError, match='IKCModel trains IKC, got DASR'):
        build_model(options)


def test_images_without_kernels_are_refused():
    model = make_model(1, 0, 0)
    with pytest.raises(InputError, match='needs the true kernels'):
        train_step(model, 1, {'lq': torch.rand(2, 3, 8, 8), 'gt': torch.rand(2, 3, 16, 16)})
