"""Training states hold everything, fit one model alone, and are whole on the disk."""

import resource

import pytest
import torch
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel

from dasr_arch import InputError
from dasr_arch.models.training_state import (
    collect_training_state,
    find_networks,
    restore_training_state,
    save_atomically,
)
from tests.models.making import make_batch, make_dasr_options, make_options, train_step


@pytest.mark.parametrize('precision', ['fp32', 'auto'])  # with an optimiser that is fused and one that is not
def test_restored_model_goes_on_bit_for_bit(tmp_path, precision):
    batches = [make_batch(start=4 * i) for i in range(5)]
    model = build_model(make_dasr_options(2, 3, ema_decay=0.9, precision=precision))
    for i in range(3):
        train_step(model, i + 1, batches[i])
    save_atomically(collect_training_state(model, 0, 3), tmp_path / '3.state')
    expected = [train_step(model, i + 1, batches[i]) for i in (3, 4)]

    torch.manual_seed(99)
    other = build_model(make_dasr_options(2, 3, ema_decay=0.9, precision=precision))
    restore_training_state(other, torch.load(tmp_path / '3.state', weights_only=True))
    assert [train_step(other, i + 1, batches[i]) for i in (3, 4)] == expected
    for name, network in find_networks(model).items():
        for key, value in network.state_dict().items():
            assert torch.equal(find_networks(other)[name].state_dict()[key], value), (name, key)


def test_state_has_basicsrs_format_and_every_network():
    state = collect_training_state(build_model(make_dasr_options(ema_decay=0.9)), 4, 7)
    assert (state['epoch'], state['iter']) == (4, 7)
    assert len(state['optimizers']) == 1
    assert set(state['networks']) == {'net_g', 'net_g_ema', 'net_contrast'}


def make_basicsr_model() -> SRModel:
    scheduler = {'type': 'MultiStepLR', 'milestones': [1], 'gamma': 0.5}
    return SRModel(make_options('SRModel', scheduler=scheduler, optim_g={'type': 'Adam', 'lr': 1e-3}, ema_decay=0.9))


def test_models_of_basicsr_are_collected_too():
    model, other = make_basicsr_model(), make_basicsr_model()
    state = collect_training_state(model, 0, 1)
    assert set(state['networks']) == {'net_g', 'net_g_ema'}
    assert len(state['schedulers']) == 1
    assert not torch.equal(other.net_g.head.weight, model.net_g.head.weight)
    restore_training_state(other, state)
    assert torch.equal(other.net_g.head.weight, model.net_g.head.weight)


def test_state_of_another_model_is_refused():
    model = build_model(make_dasr_options())
    with pytest.raises(
        InputError, match='holds net_contrast, net_g, net_g_ema but the options make net_contrast, net_g'
    ):
        restore_training_state(model, collect_training_state(build_model(make_dasr_options(ema_decay=0.9)), 0, 1))
    other = make_dasr_options()
    other['network_g']['num_feat'] = 16
    with pytest.raises(InputError, match='does not fit the options') as error:
        restore_training_state(model, collect_training_state(build_model(other), 0, 1))
    assert '\n' not in str(error.value)
    assert 'size mismatch for ' in str(error.value)


@pytest.mark.parametrize('missing', ['optimizers', 'schedulers'])
def test_incomplete_state_is_refused(missing):
    model = build_model(make_dasr_options())
    state = collect_training_state(model, 0, 1)
    del state[missing]
    with pytest.raises(InputError, match=f"does not fit the options .'{missing}'"):
        restore_training_state(model, state)


def test_options_of_the_optimiser_are_those_of_today():
    state = collect_training_state(make_basicsr_model(), 0, 1)
    model = make_basicsr_model()
    for group in model.optimizers[0].param_groups:
        group.update(betas=(0.5, 0.6), weight_decay=0.25)
    state['optimizers'][0]['param_groups'][0]['lr'] = 0.125
    restore_training_state(model, state)
    for entry in state['optimizers'][0]['param_groups']:
        assert entry['weight_decay'] == 0  # the state itself is left as it was
    (group,) = model.optimizers[0].param_groups
    assert (group['betas'], group['weight_decay'], group['lr']) == ((0.5, 0.6), 0.25, 0.125)


def test_networks_are_found_without_losses():
    model = build_model(make_dasr_options())
    assert set(find_networks(model)) == {'net_g', 'net_contrast'}


def test_full_disk_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / 'x.state'
    save_atomically({'iter': 1}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # files of this process may not grow beyond it
    try:
        with pytest.raises(OSError, match=r'cannot write|File too large'):
            save_atomically({'iter': 2, 'data': torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.load(path, weights_only=True) == {'iter': 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ['x.state']
