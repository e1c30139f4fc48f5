"""DASR-W is a DASR with other defaults, and its weights are weights of a DASR."""

import inspect

import torch
from basicsr.utils.registry import ARCH_REGISTRY

from dasr_arch import DASR, load_network
from dasr_arch.archs.dasr_w_arch import DASRW
from dasr_arch.config.yaml_reader import read_yaml
from tests.benchmark.making import save_weights
from tests.option_files import OPTIONS


def test_it_is_what_the_race_has_trained():
    arguments = read_yaml(OPTIONS / 'race' / 'dasr_w_x4.yml')['network_g']
    assert arguments.pop('type') == 'DASR'
    with torch.device('meta'):
        racer, ours = DASR(**arguments), ARCH_REGISTRY.get('DASRW')()
    assert {key: value.shape for key, value in racer.state_dict().items()} == {
        key: value.shape for key, value in ours.state_dict().items()
    }
    assert sum(parameter.numel() for parameter in ours.parameters()) == 2_344_824


def test_it_takes_every_argument_of_a_blind_dasr():
    taken = inspect.signature(DASRW).parameters
    assert list(taken) == [key for key in inspect.signature(DASR).parameters if key not in {'condition', 'kernel_size'}]
    torch.manual_seed(0)
    changed = DASRW(2, 16, 1, 1, 24, 8, 4, 1.0, 'pixelshuffle', 'bicubic', 'kernel', 'reference')
    torch.manual_seed(0)
    expected = DASR(
        2,
        16,
        1,
        1,
        24,
        8,
        4,
        1.0,
        upsampler='pixelshuffle',
        skip='bicubic',
        da_conv='kernel',
        implementation='reference',
    )
    lq = torch.rand(1, 3, 12, 14)
    assert torch.equal(changed.eval()(lq), expected.eval()(lq))
    assert changed.implementation == 'reference'


def test_weights_load_as_those_of_a_dasr(tmp_path):
    torch.manual_seed(0)
    network = DASRW(scale=3, num_feat=8, num_groups=1, num_blocks=1, representation_dim=16, encoder_feat=4).eval()
    loaded = load_network(save_weights(network, tmp_path / 'w.pth'))
    lq = torch.rand(1, 3, 12, 14)
    with torch.no_grad():
        assert torch.allclose(loaded(lq), network(lq), atol=1e-6)
