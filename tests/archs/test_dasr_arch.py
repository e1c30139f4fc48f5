"""DASR equals the authors' network, and its variants are those of the paper's ablation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch.archs.dasr_arch import DASR, DASROutput
from dasr_arch.checkpoints.io import load_network
from tests.golden.weights import golden_state, relative_error

GOLDEN = Path(__file__).parents[1] / 'golden'
TINY = {'num_feat': 8, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 12, 'encoder_feat': 4}
PAPER_PARAMETERS = {2: 4_542_787, 3: 4_727_427, 4: 4_690_499}


def make_images(batch: int = 2, height: int = 9, width: int = 7) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def make_tiny(**options: object) -> DASR:
    torch.manual_seed(0)
    return DASR(**{'scale': 2, **TINY, **options}).eval()


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_evaluation_equals_the_released_code(scale):
    golden = np.load(GOLDEN / f'dasr_eval_x{scale}.npz')
    network = load_network(golden_state(golden), scale=scale)
    lq = torch.from_numpy(golden['lr']) / 255
    with torch.no_grad():
        out = network(lq, return_representation=True)
        assert torch.equal(network(lq), out.sr)
        assert torch.equal(network.encode(lq), out.representation)
    assert isinstance(out, DASROutput)
    assert relative_error(out.sr * 255, golden['sr']) < 1e-6
    assert relative_error(out.representation, golden['representation']) < 1e-6


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_networks_have_as_many_parameters_as_the_authors(scale):
    with torch.device('meta'):
        network = DASR(scale=scale)
    encoder = sum(parameter.numel() for parameter in network.encoder.parameters())
    assert sum(parameter.numel() for parameter in network.parameters()) - encoder == PAPER_PARAMETERS[scale]
    assert encoder == 1_147_200


def test_given_representation_replaces_the_encoder():
    network, lq = make_tiny(), make_images()
    with torch.no_grad():
        out = network(lq, return_representation=True)
        assert torch.equal(network(lq, representation=out.representation), out.sr)
        assert not torch.allclose(network(lq, representation=out.representation + 3), out.sr, atol=1e-5)
        one = network(lq, representation=out.representation[:1])
        both = network(lq, representation=out.representation[:1].expand(2, -1))
    assert torch.allclose(one, both, atol=1e-6)  # a product with one row sums in another order


def test_what_comes_back_does_not_depend_on_the_mode():
    network, lq = make_tiny(), make_images()
    assert isinstance(network.train()(lq), torch.Tensor)
    assert isinstance(network.train()(lq, return_representation=True), DASROutput)


def test_representation_is_learned_through_the_reconstruction():
    network = make_tiny()
    network(make_images()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.encoder.body[0].parameters())


def test_model_2_has_plain_convolutions_that_see_the_code():
    network = make_tiny(da_conv='concat')
    assert not any('modulation' in name or '.kernel.' in name for name in network.state_dict())
    assert network.groups[0].blocks[0].da_conv1.conv.in_channels == 16


def test_model_3_has_no_channel_modulation():
    names = set(make_tiny(da_conv='kernel').state_dict())
    assert names == {name for name in make_tiny().state_dict() if 'modulation' not in name}


def test_model_5_takes_the_true_kernel():
    network, lq = make_tiny(condition='kernel', kernel_size=5), make_images()
    kernel = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(1))
    assert not network.blind
    assert network.needs == ('kernel',)
    assert not hasattr(network, 'encoder')
    assert network(lq, kernel=kernel).shape == (2, 3, 18, 14)
    assert not torch.equal(network(lq, kernel=kernel), network(lq, kernel=kernel.flip(0)))
    with pytest.raises(ValueError, match='needs the true blur kernel, got none; pass kernel='):
        network(lq)


def test_blind_variants_need_nothing():
    network = make_tiny()
    assert network.blind
    assert network.needs == ()


def test_bicubic_skip_starts_from_the_enlarged_image():
    network, lq = make_tiny(skip='bicubic', upsampler='direct'), torch.full((1, 3, 6, 6), 0.4)
    torch.nn.init.zeros_(network.last_conv.weight)
    torch.nn.init.zeros_(network.last_conv.bias)
    assert torch.allclose(network(lq), torch.full((1, 3, 12, 12), 0.4), atol=1e-6)


def test_range_inside_changes_nothing_outside_but_the_scale_of_the_weights():
    lq = make_images()
    network, other = make_tiny(), make_tiny(img_range=1.0)
    other.load_state_dict(network.state_dict(), strict=False)
    assert not torch.allclose(network(lq), other(lq), atol=1e-3)
    for pair in ((make_tiny(img_range=100.0), 100.0), (other, 1.0), (network, 255.0)):
        torch.nn.init.zeros_(pair[0].last_conv.weight)
        torch.nn.init.zeros_(pair[0].last_conv.bias)
        mean = torch.tensor([0.4488, 0.4371, 0.4040]).reshape(1, 3, 1, 1)
        assert torch.allclose(pair[0](lq), mean.expand(2, 3, 18, 14), atol=1e-6)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scale': 5}, 'scale must be one of 1, 2, 3, 4, 8 for DASR, got 5'),
        ({'upsampler': 'nearest'}, 'upsampler must be one of pixelshuffle, direct'),
        ({'skip': True}, 'skip must be one of none, bicubic'),
        ({'da_conv': 'plain'}, 'da_conv must be one of full, kernel, concat'),
        ({'condition': 'noise'}, 'condition must be one of encoder, kernel'),
        ({'num_feat': 4}, 'num_feat at least reduction'),
        ({'num_groups': 0}, 'must be positive'),
        ({'kernel_size': 4, 'condition': 'kernel'}, 'kernel_size must be odd and positive'),
        ({'img_range': 0}, 'img_range must be positive'),
    ],
)
def test_argument_without_such_a_choice_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_tiny(**options)
