"""SRCNN has the paper's layers, starts from MATLAB's bicubic, and leaves the colours alone when it restores luma."""

import numpy as np
import pytest
import torch
from basicsr.utils.color_util import rgb2ycbcr_pt
from basicsr.utils.matlab_functions import imresize

from dasr_arch.archs.srcnn_arch import SRCNN
from dasr_arch.checkpoints.io import load_strictly


def make_images(batch: int = 1, height: int = 9, width: int = 7) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def make_identity(**options: object) -> SRCNN:
    """An SRCNN that gives back what it gets: every convolution passes the channels of the image on."""
    network = SRCNN(**options)
    with torch.no_grad():
        for conv in (network.conv1, network.conv2, network.conv3):
            conv.weight.zero_()
            conv.bias.zero_()
            centre = conv.kernel_size[0] // 2
            for channel in range(network.conv1.in_channels):
                conv.weight[channel, channel, centre, centre] = 1
    return network


@pytest.mark.parametrize(
    ('middle_kernel', 'num_in_ch', 'expected'),
    [(1, 1, 8_129), (3, 1, 24_513), (5, 1, 57_281), (1, 3, 20_099), (3, 3, 36_483), (5, 3, 69_251)],
)
def test_sizes_are_those_of_the_paper(middle_kernel, num_in_ch, expected):
    with torch.device('meta'):
        network = SRCNN(middle_kernel=middle_kernel, num_in_ch=num_in_ch)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_weights_carry_the_names_of_public_versions():
    assert {name.rpartition('.')[0] for name in SRCNN().state_dict()} == {'conv1', 'conv2', 'conv3'}
    assert SRCNN(middle_kernel=1).conv2.weight.shape == (32, 64, 1, 1)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_input_is_upsampled_as_by_matlab(scale):
    lq = make_images()
    expected = imresize(lq[0].permute(1, 2, 0).numpy().astype(np.float64), scale).clip(0)
    out = make_identity(scale=scale)(lq)[0].permute(1, 2, 0)
    assert np.abs(out.detach().numpy() - expected).max() < 1e-5  # float32 sums


def test_other_cubic_is_torchs():
    lq = make_images()
    expected = torch.nn.functional.interpolate(lq, scale_factor=2, mode='bicubic', align_corners=False)
    out = make_identity(scale=2, upsampler='torch')(lq)
    assert torch.allclose(out, expected.clamp(min=0), atol=1e-6)
    assert not torch.allclose(out, make_identity(scale=2)(lq), atol=1e-3)


def test_restoring_luma_leaves_both_colour_differences_as_they_are():
    torch.manual_seed(0)
    network, lq = SRCNN(scale=2, num_in_ch=1), make_images()
    before = rgb2ycbcr_pt(make_identity(scale=2, num_in_ch=1)(lq).detach())
    with torch.no_grad():
        after = rgb2ycbcr_pt(network(lq))
    assert torch.allclose(before[:, 1:], after[:, 1:], atol=1e-5)
    assert not torch.allclose(before[:, :1], after[:, :1], atol=1e-2)


def test_restored_luma_is_what_the_convolutions_give():
    torch.manual_seed(0)
    network, lq = SRCNN(scale=2, num_in_ch=1), make_images()
    seen = []
    network.conv3.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        out = network(lq)
    assert torch.allclose(rgb2ycbcr_pt(out, y_only=True), seen[0], atol=1e-5)


def test_replicated_borders_keep_a_constant_image_constant():
    lq = torch.full((1, 3, 6, 6), 0.4)
    torch.manual_seed(0)
    out = SRCNN(scale=2, padding_mode='replicate')(lq)
    assert torch.allclose(out, out[..., :1, :1].expand_as(out), atol=1e-6)
    assert not torch.allclose(SRCNN(scale=2)(lq)[..., :1, :1], SRCNN(scale=2)(lq)[..., 6:7, 6:7], atol=1e-4)


def test_public_weights_load_strictly():
    state = {name: torch.ones_like(value) for name, value in SRCNN(middle_kernel=1).state_dict().items()}
    network = SRCNN(middle_kernel=1)
    load_strictly(network, state, 'state dict')
    assert torch.equal(network.conv2.weight, torch.ones(32, 64, 1, 1))


def test_weights_of_the_paper_start_near_zero():
    torch.manual_seed(0)
    network = SRCNN(init='paper')
    for layer in (network.conv1, network.conv2, network.conv3):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.05)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scale': 0}, 'scale must be a whole number of at least 1 for SRCNN, got 0'),
        ({'scale': 1.5}, 'scale must be a whole number'),
        ({'num_in_ch': 2}, 'num_in_ch must be one of 1, 3 for SRCNN'),
        ({'num_feat': 0}, 'num_feat must be a whole number'),
        ({'middle_kernel': 4}, 'middle_kernel must be odd and positive'),
        ({'padding_mode': 'circular'}, 'padding_mode must be one of zeros, replicate'),
        ({'upsampler': 'bicubic'}, 'upsampler must be one of matlab, torch'),
        ({'init': 'xavier'}, 'init must be one of default, paper'),
    ],
)
def test_argument_without_such_a_choice_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SRCNN(**options)
