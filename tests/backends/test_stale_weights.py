"""Inference after a change of the weights is inference with the new weights, however they were written."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.backends.ncnn_net import has_ncnn
from dasr_arch.backends.openvino_net import has_openvino
from tests.golden.weights import relative_error
from tests.models.making import TINY, make_options

needs_ncnn = pytest.mark.skipif(not has_ncnn(), reason='the extra ncnn is not installed')
needs_openvino = pytest.mark.skipif(not has_openvino(), reason='the extra openvino is not installed')
OPTIONAL = [pytest.param('ncnn', marks=needs_ncnn), pytest.param('openvino', marks=needs_openvino)]
IMPLEMENTATIONS = ['reference', 'fast', 'auto', *OPTIONAL]
SIZES = [(8, 8), (24, 20), (40, 48)]  # too small for the collapsed tail, large enough, and large enough for any cache


def make_network(implementation: str) -> DASR:
    torch.manual_seed(0)
    network = DASR(2, num_feat=16, num_groups=1, num_blocks=2, representation_dim=12, encoder_feat=8)
    network.set_implementation(implementation)
    return network.eval()


def draw(*size: int) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def check_current(network: DASR, lq: Tensor) -> None:
    """Fails unless the network computes what its present weights give in the reference formulation."""
    expected = copy.deepcopy(network)
    expected.set_implementation('reference')
    found, right = network(lq, return_representation=True), expected(lq, return_representation=True)
    assert relative_error(found.sr, right.sr) < 1e-5
    assert relative_error(found.representation, right.representation) < 1e-5


def halve(network: DASR) -> None:
    for parameter in network.parameters():
        parameter.data.mul_(0.5)


def halve_through_numpy(network: DASR) -> None:
    for parameter in network.parameters():
        parameter.detach().numpy()[...] *= 0.5


def swap_channels(network: DASR) -> None:
    for parameter in network.parameters():
        parameter.data.copy_(parameter.data.flip(0))


def change_statistics(network: DASR) -> None:
    for buffer in network.encoder.buffers():
        if buffer.is_floating_point():
            buffer.data.mul_(1.5)


def change_one_number(network: DASR) -> None:
    network.last_conv.bias.data[0] += 3
    network.groups[0].blocks[1].conv1.weight.data[3, 2, 1, 1] += 3


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(
    'change',
    [halve, halve_through_numpy, swap_channels, change_statistics, change_one_number],
    ids=lambda f: f.__name__,
)
def test_a_write_that_counts_no_version_is_noticed(implementation, size, change):
    network, lq = make_network(implementation), draw(*size)
    check_current(network, lq)
    versions = [parameter._version for parameter in network.parameters()]
    change(network)
    assert versions == [parameter._version for parameter in network.parameters()]
    check_current(network, lq)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_weights_made_in_inference_mode_are_followed(implementation):
    lq = draw(24, 20)
    with torch.inference_mode():
        network = make_network(implementation)
        check_current(network, lq)
        halve(network)
        check_current(network, lq)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_weights_that_were_loaded_are_followed(implementation):
    network, lq = make_network(implementation), draw(24, 20)
    state = {name: value * 0.5 for name, value in network.state_dict().items()}
    check_current(network, lq)
    network.load_state_dict(state, assign=True)
    check_current(network, lq)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_threads_that_infer_while_another_changes_the_weights_end_with_the_new_ones(implementation):
    network, lq = make_network(implementation), draw(40, 48)

    def infer(_: int) -> Tensor:
        with torch.no_grad():
            return network(lq)

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(infer, index) for index in range(6)]
        halve(network)
        assert all(one.result().isfinite().all() for one in running)
        found = list(pool.map(infer, range(4)))
    network.set_implementation('reference')
    expected = infer(0)
    assert all(relative_error(one, expected) < 1e-5 for one in found)


@pytest.mark.parametrize('implementation', ['fast', 'auto'])
def test_validations_of_basicsr_see_the_moving_average_of_the_weights(implementation):
    from basicsr.models import build_model

    torch.manual_seed(0)
    options = make_options('SRModel')
    options['network_g'] = {'type': 'DASR', 'scale': 2, **TINY, 'implementation': implementation}
    options['train'] = {
        'ema_decay': 0.5,
        'optim_g': {'type': 'Adam', 'lr': 1e-3},
        'scheduler': {'type': 'MultiStepLR', 'milestones': [100], 'gamma': 0.5},
        'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
    }
    model = build_model(options)
    outputs = []
    for _ in range(2):
        for iteration in range(5):
            model.feed_data({'lq': draw(24, 24), 'gt': draw(48, 48)})
            model.optimize_parameters(iteration)
        model.feed_data({'lq': draw(40, 48)})
        model.test()
        outputs.append(model.output)
        check_current(model.net_g_ema, model.lq)
        reference = copy.deepcopy(model.net_g_ema)
        reference.set_implementation('reference')
        with torch.no_grad():
            assert relative_error(model.output, reference(model.lq)) < 1e-5
    assert relative_error(*outputs) > 1e-3  # else there is no change that could be missed


@pytest.mark.parametrize('change', ['train', 'load', 'move'])
@torch.no_grad()
def test_training_loading_and_moving_free_what_was_derived(change):
    network = make_network('auto')
    network(draw(24, 20))
    assert network.derived_weights._entries
    if change == 'train':
        network.eval()
        assert network.derived_weights._entries  # BasicSR calls it before each image
        network.train()
    elif change == 'load':
        network.load_state_dict(network.state_dict())
    else:
        network.double()
    assert not network.derived_weights._entries
