"""UDVD filters every pixel with a kernel of its own, and has the sizes that its description gives."""

import pytest
import torch
from torch.nn import functional

from dasr_arch.archs.udvd_arch import UDVD, DynamicBlock, UDVDOutput, convolve_dynamically
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel

TINY = {'scale': 2, 'num_feat': 8, 'num_blocks': 1}
KERNEL = isotropic_gaussian_kernel(torch.tensor([1.2, 0.7]), 15)


def make_images(batch: int = 2, height: int = 7, width: int = 5) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def make_tiny(**options: object) -> UDVD:
    torch.manual_seed(0)
    return UDVD(**{**TINY, **options}).eval()


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ('scale', 'up', 'align', 'whole'),
    [(2, 244_167, 20_736, 4_869_023), (3, 539_572, 41_376, 5_205_708), (4, 953_139, 70_272, 5_677_067)],
)
def test_sizes_are_those_of_the_description(scale, up, align, whole):
    with torch.device('meta'):
        network = UDVD(scale=scale)
    assert count(network.head) + count(network.body) == 4_449_536
    assert count(network.up) == up
    assert [count(block.align) for block in network.refine] == [align, align]
    assert [count(block) - align for block in network.refine] == [66_924, 66_924]
    assert count(network) == whole


# --- the dynamic convolution ---


def test_centres_of_one_change_nothing():
    image = make_images()
    kernels = torch.zeros(2, 25, 7, 5)
    kernels[:, 12] = 1
    assert torch.equal(convolve_dynamically(image, kernels), image)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_centres_of_one_for_every_sub_pixel_repeat_the_pixels(scale):
    image = make_images()
    kernels = torch.zeros(2, 25 * scale**2, 7, 5)
    kernels[:, 12 * scale**2 : 13 * scale**2] = 1
    expected = functional.interpolate(image, scale_factor=scale, mode='nearest')
    assert torch.equal(convolve_dynamically(image, kernels, scale), expected)


def test_equal_kernels_everywhere_are_an_ordinary_convolution():
    image = make_images()
    kernel = torch.rand(5, 5, generator=torch.Generator().manual_seed(1))
    expected = functional.conv2d(image, kernel.expand(3, 1, 5, 5), padding=2, groups=3)
    out = convolve_dynamically(image, kernel.reshape(1, 25, 1, 1).expand(2, 25, 7, 5))
    assert torch.allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize('sub_pixel', range(4))
def test_every_sub_pixel_has_a_kernel_of_its_own(sub_pixel):
    image = make_images()
    kernels = torch.zeros(2, 25, 4, 7, 5)
    kernels[:, 12, sub_pixel] = 1
    out = convolve_dynamically(image, kernels.reshape(2, 100, 7, 5), 2)
    row, column = divmod(sub_pixel, 2)
    assert torch.equal(out[..., row::2, column::2], image)
    assert torch.count_nonzero(out) == torch.count_nonzero(image)


@pytest.mark.parametrize(('options', 'factor'), [({'scale': 3}, 3), ({'align': 2}, 1), ({}, 1)])
def test_block_adds_the_residual_to_the_filtered_image(options, factor):
    torch.manual_seed(0)
    block = DynamicBlock(8, 5, **options)
    with torch.no_grad():
        for conv in (block.feat_kernel, block.feat_residual[-1]):
            conv.weight.zero_()
            conv.bias.zero_()
        taps = block.feat_kernel.bias.view(25, -1)
        taps[12] = 1
        block.feat_residual[-1].bias.fill_(0.25)
    image = make_images(height=8, width=6)
    small = options.get('align', 1)
    out = block(image, torch.rand(2, 8, 8 // small, 6 // small))
    expected = functional.interpolate(image, scale_factor=factor, mode='nearest') + 0.25
    assert torch.allclose(out, expected)


# --- the network ---


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_stages_come_back_on_request_and_end_with_the_output(scale):
    network, lq = make_tiny(scale=scale), make_images()
    out = network(lq, kernel=KERNEL, return_stages=True)
    assert isinstance(out, UDVDOutput)
    assert [stage.shape for stage in out.stages] == [(2, 3, 7 * scale, 5 * scale)] * 3
    assert out.sr is out.stages[-1]
    assert torch.equal(network(lq, kernel=KERNEL), out.sr)


def test_loss_over_all_stages_reaches_every_path():
    network = make_tiny()
    out = network(make_images(), kernel=KERNEL, noise_level=torch.tensor([0.0, 10.0]), return_stages=True)
    sum(stage.square().mean() for stage in out.stages).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_kernel_and_noise_change_the_image():
    network, lq = make_tiny(), make_images()
    out = network(lq, kernel=KERNEL, noise_level=torch.tensor([0.0, 10.0]))
    assert not torch.allclose(out, network(lq, kernel=KERNEL.flip(0), noise_level=torch.tensor([0.0, 10.0])), atol=1e-5)
    assert not torch.allclose(out[1], network(lq, kernel=KERNEL)[1], atol=1e-6)
    assert torch.equal(out[0], network(lq, kernel=KERNEL)[0])


def test_degradation_may_change_within_the_image():
    network, lq = make_tiny(), make_images()
    code = torch.einsum('bij,cij->bc', KERNEL, network.kernel_code.basis)
    maps = code[..., None, None].expand(-1, -1, 7, 5).contiguous()
    levels = torch.full((2, 1, 7, 5), 5.0)
    out = network(lq, code=maps, noise_level=levels)
    assert torch.allclose(out, network(lq, kernel=KERNEL, noise_level=torch.tensor([5.0, 5.0])), atol=1e-6)
    maps[..., 3:] = 0
    assert not torch.allclose(out, network(lq, code=maps, noise_level=levels), atol=1e-5)


def test_inputs_are_declared_and_a_missing_kernel_is_named():
    network = make_tiny()
    assert network.needs == ('kernel', 'noise_level')
    assert not network.blind
    with pytest.raises(ValueError, match='UDVD needs the blur kernel, got none; pass kernel='):
        network(make_images())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scale': 8}, 'scale must be one of 2, 3, 4 for UDVD, got 8'),
        ({'num_blocks': 0}, 'num_blocks must be a whole number of at least 1 for UDVD'),
        ({'dynamic_size': 4}, 'dynamic_size must be odd and positive for UDVD'),
        ({'kernel_size': 0}, 'kernel_size must be odd and positive'),
        ({'num_refine': -1}, 'num_refine must be 0 or more'),
    ],
)
def test_argument_without_such_a_choice_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_tiny(**options)
