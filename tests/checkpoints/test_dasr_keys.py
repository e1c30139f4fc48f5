"""Every tensor of the authors' checkpoints has one place here, and nothing else has."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch.archs.dasr_arch import DASR, DegradationEncoder
from dasr_arch.checkpoints.dasr_keys import is_released, our_name, translate
from dasr_arch.losses.contrastive import MomentumContrast
from tests.golden.weights import golden_state

GOLDEN = Path(__file__).parents[1] / 'golden'


@pytest.fixture(scope='module', params=[2, 3, 4])
def released(request) -> tuple[int, dict[str, torch.Tensor]]:
    return request.param, golden_state(np.load(GOLDEN / f'dasr_eval_x{request.param}.npz'))


def test_whole_checkpoint_fills_network_and_contrast_exactly(released):
    scale, state = released
    assert len(state) == (519 if scale == 4 else 517)
    network, contrast, unknown = translate(state)
    assert unknown == []
    with torch.device('meta'):
        own, own_contrast = DASR(scale).state_dict(), MomentumContrast(DegradationEncoder()).state_dict()
    assert {k: v.shape for k, v in network.items()} == {k: v.shape for k, v in own.items()}
    assert {k: v.shape for k, v in contrast.items()} == {k: v.shape for k, v in own_contrast.items()}


def test_no_two_released_names_share_one_of_ours(released):
    _, state = released
    names = [our_name(name) for name in state]
    ours = [name for name in names if name is not None]
    assert len(ours) == len(set(ours)) == len(state) - 4  # the mean shifts are constants


def test_one_by_one_convolutions_become_linear_layers_with_the_same_numbers(released):
    _, state = released
    network, _, _ = translate(state)
    theirs = state['G.body.3.body.2.da_conv2.ca.conv_du.2.weight']
    assert torch.equal(network['groups.3.blocks.2.da_conv2.modulation.2.weight'], theirs[:, :, 0, 0])


@pytest.mark.parametrize(
    'name', ['G.head.1.weight', 'G.body.0.body.0.conv3.weight', 'E.encoder_q.fc.weight', 'queue', 'xG.head.0.weight']
)
def test_unknown_name_is_reported(name, released):
    _, state = released
    assert our_name(name) is None
    assert translate({**state, name: torch.zeros(1)})[2] == [name]


def test_second_tensor_for_one_place_is_reported(released):
    _, state = released
    name = 'G.body.0.body.7.weight'  # the group's last convolution is number 5
    assert translate({**state, name: torch.zeros(64, 64, 3, 3)})[2] == [name]


def test_only_the_authors_names_count_as_released(released):
    _, state = released
    assert is_released(state)
    assert not is_released(translate(state)[0])
    assert not is_released({})
