"""Supervised training: any network, raw or ready batches, and what BasicSR's own model lacks."""

from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn

from dasr_arch import InputError
from dasr_arch.checkpoints.io import load_network
from dasr_arch.models.supervised_model import SupervisedModel
from tests.checkpoints.test_rcan_edsr_keys import make_state
from tests.golden.weights import golden_state, relative_error
from tests.models.making import TINY, copy_state, make_batch, make_dasr_options, make_options, train_step

GOLDEN = Path(__file__).parents[1] / 'golden'
RCAN = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_group': 1, 'num_block': 1, 'squeeze_factor': 4}
SCHEDULE = {'total_iter': 10, 'lr': 1e-3, 'milestones': [2], 'gamma': 0.1}


def make_model(
    folder: Path | None = None, network: dict[str, object] | None = None, **train: object
) -> SupervisedModel:
    options = make_options('SupervisedModel', folder, schedule=dict(SCHEDULE), **train)
    if network is not None:
        options['network_g'] = network
    torch.manual_seed(0)
    model = build_model(options)
    assert isinstance(model, SupervisedModel)
    return model


def test_rcan_of_basicsr_learns_from_raw_patches():
    model = make_model(
        network={'type': 'RCAN', 'upscale': 2, 'img_range': 255.0, 'rgb_mean': [0.4488, 0.4371, 0.4040], **RCAN}
    )
    before, batch = copy_state(model.net_g), make_batch()
    losses = [train_step(model, i, batch)['l_pix'] for i in (1, 2, 3)]
    assert losses[0] > losses[1] > losses[2] > 0
    changed = [name for name, value in model.net_g.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) == len(before)


@pytest.mark.parametrize(
    'network',
    [
        {'type': 'SRCNN', 'num_feat': 8},
        {'type': 'SAN', 'num_feat': 16, 'num_groups': 1, 'num_blocks': 1},
        {'type': 'SRMD', 'num_feat': 8, 'num_layers': 3},
        {'type': 'SRMDNF', 'num_feat': 8, 'num_layers': 3},
        {'type': 'UDVD', 'num_feat': 8, 'num_blocks': 1, 'num_refine': 1},
        {'type': 'SFTMD', 'num_feat': 8, 'num_blocks': 1},
        {'type': 'IKC', 'num_feat': 8, 'num_blocks': 1, 'num_steps': 2},
    ],
    ids=lambda network: network['type'],
)
def test_other_networks_train_on_raw_patches_and_their_conditions(network):
    model = make_model(network={'scale': 2, **network})
    batch = make_batch()
    losses = [train_step(model, i, batch)['l_pix'] for i in (1, 2, 3)]
    assert losses[0] > losses[2] > 0
    assert set(model.conditions) == set(model.net_g.needs)


def test_layers_may_learn_at_rates_of_their_own():
    network = {'type': 'SRCNN', 'scale': 2, 'num_feat': 8}
    model = make_model(network=network, lr_factors={'conv3': 0.1, 'conv1.bias': 3.0})
    rates = {id(p): group['lr'] for group in model.optimizer_g.param_groups for p in group['params']}
    train_step(model, 1, make_batch())
    rates = {id(p): group['lr'] for group in model.optimizer_g.param_groups for p in group['params']}
    named = {name: rates[id(parameter)] for name, parameter in model.net_g.named_parameters()}
    assert named == pytest.approx(
        {
            **{f'conv{number}.{kind}': 1e-3 for number in (1, 2) for kind in ('weight', 'bias')},
            'conv1.bias': 3e-3,
            'conv3.weight': 1e-4,
            'conv3.bias': 1e-4,
        }
    )
    assert model.get_current_learning_rate()[0] == 1e-3
    model.update_learning_rate(5)
    assert [group['lr'] for group in model.optimizer_g.param_groups] == pytest.approx([1e-4, 3e-4, 1e-5])


def test_factor_for_no_parameter_is_refused():
    with pytest.raises(InputError, match="lr_factors: no parameter's name begins with 'conv4'; did you mean 'conv"):
        make_model(network={'type': 'SRCNN', 'scale': 2, 'num_feat': 8}, lr_factors={'conv4': 0.1})


def test_loss_of_several_stages_is_the_sum_over_their_images():
    network = {'type': 'UDVD', 'scale': 2, 'num_feat': 8, 'num_blocks': 1, 'num_refine': 2}
    model, batch = make_model(network=network, multi_stage=True), make_batch()
    model.feed_data(batch)
    with torch.no_grad():
        stages = model.net_g(model.lq, return_stages=True, **model.conditions).stages
    expected = sum(model.cri_pix(stage, model.gt).item() for stage in stages)
    losses = [train_step(model, i, batch)['l_pix'] for i in (1, 2, 3, 4)]
    assert len(stages) == 3
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert losses[3] < losses[0]
    assert all(parameter.grad is not None for parameter in model.net_g.parameters())


def test_stages_of_a_network_without_are_refused():
    with pytest.raises(InputError, match=r'train\.multi_stage: SRCNN gives one image, no stages'):
        make_model(network={'type': 'SRCNN', 'scale': 2, 'num_feat': 8}, multi_stage=True)


def test_denoiser_learns_at_scale_one():
    options = make_options('SupervisedModel', schedule=dict(SCHEDULE))
    blur = {'type': 'IsotropicGaussian', 'sigma': 0, 'kernel_size': 1, 'noise_range': [0, 55]}
    data = {'scale': 1, 'degradation': blur, 'num_patches': 1}
    options |= {'scale': 1, 'network_g': {'type': 'DnCNN', 'num_feat': 8, 'num_layers': 4, 'batch_norm': True}}
    options['datasets']['train'] |= data
    torch.manual_seed(0)
    model, batch = build_model(options), make_batch(**data)
    losses = [train_step(model, i, batch)['l_pix'] for i in range(1, 9)]
    assert model.lq.shape == model.gt.shape
    assert losses[-1] < 0.9 * losses[0]


def test_training_starts_from_a_file_of_other_authors(tmp_path):
    golden = np.load(GOLDEN / 'srmdnf_x3.npz')
    torch.save(golden_state(golden), tmp_path / 'srmdnf_x3.pth')
    options = make_options('SupervisedModel', schedule=dict(SCHEDULE))
    options |= {'scale': 3, 'network_g': {'type': 'SRMDNF', 'scale': 3}}
    options['path'] = {'pretrain_network_g': str(tmp_path / 'srmdnf_x3.pth')}
    network = build_model(options).net_g
    with torch.no_grad():
        sr = network(torch.from_numpy(golden['lr']), code=torch.from_numpy(golden['code']))
    assert relative_error(sr, golden['sr']) < 1e-5


def test_dasr_is_trained_by_basicsrs_own_model():
    options = make_options(
        'SRModel',
        optim_g={'type': 'Adam', 'lr': 1e-3},
        scheduler={'type': 'MultiStepLR', 'milestones': [9]},
        ema_decay=0.9,
    )
    torch.manual_seed(0)
    model = build_model(options)
    assert type(model) is MODEL_REGISTRY.get('SRModel')
    batch = make_batch(degrade_on='worker')
    losses = [train_step(model, i, batch)['l_pix'] for i in (1, 2, 3)]
    assert losses[0] > losses[2] > 0


def test_ready_pairs_give_the_losses_of_raw_patches():
    ready, raw = make_model(), make_model()
    pairs = train_step(ready, 1, make_batch(degrade_on='worker'))
    assert train_step(raw, 1, make_batch(num_patches=1)) == pairs


def test_non_blind_network_gets_the_true_kernel():
    model = make_model(network={'type': 'DASR', 'scale': 2, 'condition': 'kernel', **TINY})
    batch = make_batch()
    train_step(model, 1, batch)
    assert torch.equal(model.conditions['kernel'], batch['kernel'])
    assert all(parameter.grad is not None for parameter in model.net_g.kernel_encoder.parameters())


def test_learning_rate_follows_the_schedule_whatever_came_before():
    model = make_model()
    for iteration, rate in ((1, 1e-3), (3, 1e-4), (2, 1e-3)):
        model.update_learning_rate(iteration)
        assert model.get_current_learning_rate() == [pytest.approx(rate)]


def test_averaged_network_takes_batch_statistics_as_they_are():
    model = make_model(ema_decay=0.9)
    old = copy_state(model.net_g_ema)
    train_step(model, 1, make_batch())
    new = model.net_g.state_dict()
    parameters = dict(model.net_g.named_parameters())
    assert any('running_mean' in name for name in set(new) - set(parameters))
    for name, value in model.net_g_ema.state_dict().items():
        expected = (old[name] + 9 * new[name]) / 10 if name in parameters else new[name]
        assert torch.allclose(value, expected, atol=1e-6), name
    assert not torch.equal(new['encoder.body.1.running_mean'], old['encoder.body.1.running_mean'])


def test_loss_on_luma_does_not_see_colours():
    """A luma network trained on RGB would aim at the mean of R, G and B."""
    colour = torch.tensor([24.966, 0.0, -65.481]).reshape(1, 3, 1, 1) / 255  # without luma
    losses: dict[str, list[float]] = {'luma': [], 'rgb': []}
    for loss_on, found in losses.items():
        for shift in (0.0, 1.0):
            network = {'type': 'SRCNN', 'scale': 2, 'num_feat': 8, 'num_in_ch': 1}
            model = make_model(network=network, loss_on=loss_on)
            before = deepcopy(model.net_g)
            batch = make_batch()
            model.feed_data(batch)
            model.gt = model.gt + shift * colour
            part = model.split_batch()[0]
            model.optimize_parameters(1)
            found.append(model.get_current_log()['l_pix'])
            if loss_on == 'luma':
                grey = torch.tensor([65.481, 128.553, 24.966]).reshape(1, 3, 1, 1) / 255
                with torch.no_grad():
                    difference = ((before(part['lq']) - part['gt']) * grey).sum(1).abs().mean()
                assert found[-1] == pytest.approx(255 * difference.item(), rel=1e-4)  # its weight
    assert losses['luma'][0] == pytest.approx(losses['luma'][1], rel=1e-4)
    assert losses['rgb'][0] != pytest.approx(losses['rgb'][1], rel=1e-2)


def test_average_forgets_the_first_weights_early_and_reaches_its_decay(monkeypatch):
    decays: list[float] = []
    model = make_model(ema_decay=0.9)
    monkeypatch.setattr(model, 'model_ema', decays.append)
    for iteration in (1, 9, 81, 1000):
        model.follow_average(iteration)
    assert decays == pytest.approx([0.1, 0.5, 0.9, 0.9])
    plain = make_model()
    monkeypatch.setattr(plain, 'model_ema', decays.append)
    plain.follow_average(1)
    assert len(decays) == 4


def test_parts_of_a_batch_add_up_to_the_batch():
    network = {'type': 'DASR', 'scale': 2, 'condition': 'kernel', **TINY}  # no batch normalisation
    whole, parts = make_model(network=network), make_model(network=network, accumulate=2)
    batch = make_batch()
    assert train_step(parts, 1, batch)['l_pix'] == pytest.approx(train_step(whole, 1, batch)['l_pix'], rel=1e-5)
    for own, other in zip(parts.net_g.parameters(), whole.net_g.parameters(), strict=True):
        assert torch.allclose(own.grad, other.grad, rtol=1e-3, atol=1e-3 * other.grad.abs().max().item())


def test_batch_that_cannot_be_split_is_refused():
    model = make_model(accumulate=3)
    with pytest.raises(InputError, match=r'a batch of 4 cannot be split into train\.accumulate = 3 equal parts'):
        train_step(model, 1, make_batch())


def test_bfloat16_training_stays_finite_and_keeps_float32_weights():
    model = make_model(precision='bf16')
    losses = [train_step(model, i, make_batch())['l_pix'] for i in (1, 2, 3)]
    assert all(0 < loss < 255 for loss in losses)
    assert {parameter.dtype for parameter in model.net_g.parameters()} == {torch.float32}
    assert losses[0] == pytest.approx(train_step(make_model(), 1, make_batch())['l_pix'], rel=0.02)  # 8 bits


def test_tf32_is_float32_where_there_is_no_gpu():
    exact, rounded = make_model(precision='fp32'), make_model(precision='tf32')
    batch = make_batch()
    assert train_step(rounded, 1, batch)['l_pix'] == train_step(exact, 1, batch)['l_pix']


@pytest.mark.parametrize(('precision', 'fused'), [('fp32', False), ('tf32', False), ('auto', True), ('bf16', True)])
@pytest.mark.skipif(torch.cuda.is_available(), reason='on a GPU it is always fused')
def test_optimiser_is_fused_where_it_need_not_round_as_the_released_code(precision, fused):
    assert bool(make_model(precision=precision).optimizer_g.defaults['fused']) is fused


@pytest.mark.parametrize('stages', [False, True])
def test_compiled_training_takes_the_same_steps(monkeypatch, stages):
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend='aot_eager'))  # no C++ compiler needed
    plain, compiled = ({'precision': 'fp32', 'compile': one} for one in (False, True))
    build = (lambda train: build_model(make_dasr_options(1, 2, **train))) if stages else (lambda t: make_model(**t))
    logs = []
    for train in (plain, compiled):
        torch.manual_seed(0)
        model = build(train)
        logs.append([train_step(model, i, make_batch(start=4 * i)) for i in (1, 2, 3)])
    for first, second in zip(*logs, strict=True):
        assert second == pytest.approx(first, rel=1e-4)
    assert model.forward_pass is not model.wrapped
    assert not any('_orig_mod' in name for name in model.collect_weights()['params'])


def test_tests_use_the_averaged_network_and_leave_the_mode_alone():
    model = make_model(ema_decay=0.9)
    train_step(model, 1, make_batch())
    nn.init.zeros_(model.net_g_ema.last_conv.weight)
    nn.init.zeros_(model.net_g_ema.last_conv.bias)
    model.feed_data({'lq': torch.rand(1, 3, 6, 5)})
    model.test()
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).reshape(1, 3, 1, 1).expand(1, 3, 12, 10)
    assert torch.allclose(model.output, mean, atol=1e-6)
    assert model.net_g.training
    assert not model.net_g_ema.training


def test_image_without_truth_does_not_meet_that_of_an_earlier_batch():
    model = make_model()
    model.feed_data(make_batch())
    model.feed_data({'lq': torch.rand(1, 3, 6, 5)})
    model.test()
    assert 'gt' not in model.get_current_visuals()


def test_saved_files_restore_weights_and_training(tmp_path):
    model = make_model(tmp_path, ema_decay=0.9)
    train_step(model, 1, make_batch())
    model.save(0, 1)
    model.save(-1, -1)
    assert sorted(path.name for path in (tmp_path / 'models').iterdir()) == ['net_g_1.pth', 'net_g_latest.pth']
    loaded = load_network(tmp_path / 'models' / 'net_g_1.pth')
    assert all(torch.equal(v, model.net_g_ema.state_dict()[k]) for k, v in loaded.state_dict().items())
    state = torch.load(tmp_path / 'training_states' / '1.state', weights_only=True)
    other = make_model(tmp_path, ema_decay=0.9)
    other.resume_training(state)
    assert train_step(other, 2, make_batch(start=4)) == train_step(model, 2, make_batch(start=4))


def test_chosen_kind_of_weights_is_loaded(tmp_path):
    plain, averaged = make_model().net_g, make_model().net_g
    nn.init.ones_(plain.head.bias)
    torch.save({'params': plain.state_dict(), 'params_ema': averaged.state_dict()}, tmp_path / 'net.pth')
    for paths, expected in (({}, averaged), ({'param_key_g': 'params'}, plain)):
        options = make_options('SupervisedModel', schedule=dict(SCHEDULE))
        options['path'] = {'pretrain_network_g': str(tmp_path / 'net.pth'), **paths}
        assert torch.equal(build_model(options).net_g.head.bias, expected.head.bias)


def test_weights_of_another_scale_are_taken_as_far_as_they_fit(tmp_path):
    torch.save({'params': make_model().net_g.state_dict()}, tmp_path / 'net.pth')
    options = make_options('SupervisedModel', schedule=dict(SCHEDULE))
    options |= {'scale': 3, 'network_g': {'type': 'DASR', 'scale': 3, **TINY}}
    options['datasets']['train'] |= {'scale': 3}
    options['path'] = {'pretrain_network_g': str(tmp_path / 'net.pth'), 'strict_load_g': False}
    torch.manual_seed(5)
    assert torch.equal(build_model(options).net_g.head.weight, make_model().net_g.head.weight)
    options['path']['strict_load_g'] = True
    with pytest.raises(InputError, match=r"does not fit this DASR: 'upsampler\.0\.weight' has shape"):
        build_model(options)


def test_weights_with_another_mean_colour_are_refused(tmp_path):
    torch.save(make_state('EDSR', 2, drift=0), tmp_path / 'edsr.pt')
    options = make_options('SupervisedModel', schedule=dict(SCHEDULE))
    options['path'] = {'pretrain_network_g': str(tmp_path / 'edsr.pt')}
    network = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 2, 'upscale': 2}
    options['network_g'] = {**network, 'rgb_mean': [0.2, 0.4, 0.6]}
    with pytest.raises(InputError, match=r'network_g\.rgb_mean: \[0\.448800, 0\.437100, 0\.404000\], here and in'):
        build_model(options)
    options['network_g'] = network  # of BasicSR, with this mean
    assert build_model(options).net_g.conv_first.weight.shape[0] == 16


def test_raw_patches_need_a_degradation():
    options = make_options('SupervisedModel', schedule=dict(SCHEDULE))
    del options['datasets']['train']['degradation']
    with pytest.raises(InputError, match=r'datasets\.train needs a degradation'):
        build_model(options).feed_data(make_batch())


def test_nothing_is_logged_before_the_first_step():
    assert make_model().get_current_log() == {}


def test_first_process_alone_writes(tmp_path):
    model = make_model(tmp_path)
    model.opt['rank'] = 1
    model.save(0, 1)
    assert model.save_weights('best') is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('train', 'message'),
    [
        ({'optim_g': {'type': 'SGD'}}, "train.optim_g.type: expected one of 'Adam', 'AdamW', got the text 'SGD'"),
        ({'precision': 'fp16'}, "train.precision: expected one of 'auto', 'fp32', 'tf32', 'bf16', got the text 'fp16'"),
    ],
)
def test_wrong_option_is_named(train, message):
    with pytest.raises(InputError, match=message):
        make_model(**train)


def test_options_are_left_as_they_are():
    options = make_options('SupervisedModel', schedule=dict(SCHEDULE))
    before = repr(options)
    model = build_model(options)
    model.setup_optimizers()  # twice, which BasicSR's own model does not survive
    train_step(model, 1, make_batch())
    assert repr(options) == before
