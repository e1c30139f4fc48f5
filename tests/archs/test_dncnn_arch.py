"""DnCNN equals the authors' network and reads their names of tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch.archs.dncnn_arch import DnCNN
from dasr_arch.checkpoints.io import load_strictly
from tests.golden.weights import golden_state, relative_error

GOLDEN = Path(__file__).parents[1] / 'golden'
GRAY = {'num_in_ch': 1, 'num_layers': 17}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ('name', 'options'),
    [('dncnn_color_blind', {}), ('dncnn_gray_bn', {**GRAY, 'batch_norm': True})],
)
def test_outputs_equal_the_authors_code(name, options):
    golden = np.load(GOLDEN / f'{name}.npz')
    network = DnCNN(**options).eval()
    load_strictly(network, golden_state(golden), name)
    with torch.no_grad():
        out = network(torch.from_numpy(golden['noisy']))
    assert relative_error(out, golden['out']) < 1e-5
    assert count(network) == golden['params']


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({}, 668_227),
        ({'batch_norm': True}, 670_531),
        (GRAY, 555_137),
        ({**GRAY, 'batch_norm': True}, 557_057),
        ({'num_in_ch': 1}, 665_921),
    ],
)
def test_sizes_are_those_of_the_published_networks(options, expected):
    with torch.device('meta'):
        assert count(DnCNN(**options)) == expected


def test_what_the_convolutions_find_is_subtracted():
    network = DnCNN(num_feat=4, num_layers=3)
    last = network.body[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 0.25)
    lq = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(lq), lq - 0.25)


def test_it_finds_the_noise_itself_and_keeps_the_size():
    network = DnCNN()
    assert network.blind
    assert network.needs == ()
    assert network.scale == 1


def test_our_own_names_load_as_well_as_the_authors():
    torch.manual_seed(0)
    first, second = DnCNN(num_feat=4, num_layers=3), DnCNN(num_feat=4, num_layers=3)
    load_strictly(second, first.state_dict(), 'state dict')
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scale': 2}, 'scale must be 1 for DnCNN, which does not upsample, got 2'),
        ({'num_in_ch': 0}, 'num_in_ch must be a whole number of at least 1 for DnCNN'),
        ({'num_feat': 1.5}, 'num_feat must be a whole number'),
        ({'num_layers': 1}, 'num_layers must be at least 2'),
    ],
)
def test_argument_without_such_a_choice_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DnCNN(**options)
