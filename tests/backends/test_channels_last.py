"""The fast formulations give what the reference gives, forwards and backwards."""

import pytest
import torch
from torch.nn import functional

from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.backends import onednn
from dasr_arch.backends.channels_last import (
    Conv3x3,
    convolve_each,
    convolve_float32,
    convolve_grouped,
    convolve_shifted,
    depthwise_conv_leaky,
)
from dasr_arch.backends.onednn import OneDNN
from dasr_arch.backends.precision import has_fast_bfloat16
from tests.golden.weights import relative_error

needs_bfloat16 = pytest.mark.skipif(not has_fast_bfloat16(torch.device('cpu')), reason='no bfloat16 in this processor')
SMALL = {'num_feat': 16, 'num_groups': 2, 'num_blocks': 2, 'representation_dim': 32, 'encoder_feat': 8}


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize('convolve', [convolve_grouped, convolve_each, convolve_shifted])
@pytest.mark.parametrize('batch', [1, 3])
def test_every_channel_of_every_image_has_its_own_kernel(convolve, batch):
    x, kernel = draw(batch, 4, 6, 5), draw(batch, 4, 3, 3)
    out = convolve(x, kernel)
    for i in range(batch):
        for c in range(4):
            expected = functional.conv2d(x[i : i + 1, c : c + 1], kernel[i, c][None, None], padding=1)
            assert torch.allclose(out[i, c], expected[0, 0], atol=1e-5)  # sums in another order


@pytest.mark.parametrize('convolve', [convolve_each, convolve_shifted])
@pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('batch', [1, 3])
def test_gradients_equal_those_of_the_reference(order, batch, convolve):
    x = draw(batch, 8, 13, 9, dtype=torch.float64).contiguous(memory_format=order).requires_grad_()
    kernel = draw(batch, 8, 3, 3, dtype=torch.float64).requires_grad_()
    weight = draw(batch, 8, 13, 9, dtype=torch.float64)
    expected = torch.autograd.grad(convolve_grouped(x, kernel), (x, kernel), weight)
    found = torch.autograd.grad(convolve(x, kernel), (x, kernel), weight)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize('recorded', [False, True])
@pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last])
def test_images_come_out_in_the_order_that_is_fast_around_it(order, recorded):
    x = draw(3, 8, 6, 5).contiguous(memory_format=order).requires_grad_(recorded)
    kernel = draw(3, 8, 3, 3)
    out = convolve_each(x, kernel)
    assert out.is_contiguous(memory_format=torch.channels_last)
    if recorded:
        (gradient,) = torch.autograd.grad(out.sum(), x)
        assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_gradients_are_those_of_finite_differences():
    x, kernel = draw(2, 2, 4, 3, dtype=torch.float64), draw(2, 2, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(convolve_each, (x.requires_grad_(), kernel.requires_grad_()))


@pytest.mark.parametrize(
    'arguments', [{}, {'da_conv': 'kernel'}, {'da_conv': 'concat'}, {'upsampler': 'direct', 'skip': 'bicubic'}]
)
@pytest.mark.parametrize('size', [(1, 1, 1), (1, 17, 12), (3, 9, 10)])
def test_fast_inference_equals_the_reference(arguments, size):
    network = make_network(**arguments)
    lq = torch.rand(size[0], 3, *size[1:], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        fast = network(lq, return_representation=True)
        network.set_implementation('reference')
        expected = network(lq, return_representation=True)
    assert relative_error(fast.sr, expected.sr) < 1e-5
    assert relative_error(fast.representation, expected.representation) < 1e-5


@pytest.mark.parametrize('training', [False, True])
def test_fast_gradients_equal_the_reference(training):
    network = make_network()
    network.train(training)
    lq = torch.rand(3, 3, 12, 14, generator=torch.Generator().manual_seed(1))
    gradients = {}
    for implementation in ('fast', 'reference'):
        network.set_implementation(implementation)
        network.zero_grad()
        network(lq).square().mean().backward()
        gradients[implementation] = {name: p.grad.clone() for name, p in network.named_parameters()}
    for name, expected in gradients['reference'].items():
        if training and name.startswith('encoder.') and name.endswith('.bias') and int(name.split('.')[2]) % 3 == 0:
            continue  # before a normalisation, so it has no effect and its gradient is rounding noise
        assert relative_error(gradients['fast'][name], expected) < 1e-4, name


def test_bfloat16_inference_stays_close_to_float32():
    network = make_network()
    lq = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(lq)
        with torch.autocast('cpu', torch.bfloat16):
            out = network(lq)
    assert out.dtype == torch.float32
    assert relative_error(out, expected) < 0.02  # eight bits of mantissa


def test_bfloat16_that_onednn_cannot_convolve_takes_the_plain_way(monkeypatch):
    monkeypatch.setattr(onednn, '_computes', lambda dtype: dtype == torch.float32)  # as without AVX-512
    network = make_network()
    lq = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(lq)
        with torch.autocast('cpu', torch.bfloat16):
            assert OneDNN().refuse(network, lq) == 'this CPU does not convolve bfloat16'
            out = network(lq)
    assert relative_error(out, expected) < 0.02


def test_nothing_is_fused_when_gradients_are_recorded():
    network, x = make_network(), torch.rand(1, 3, 4, 4)
    assert OneDNN().refuse(network, x) == 'for inference only'
    with torch.no_grad():
        assert (OneDNN().refuse(network, x) is None) == torch.backends.mkldnn.is_available()
        assert OneDNN().refuse(network.train(), x) == 'for inference only'


@pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('batch', [1, 3])
def test_the_order_of_memory_selects_a_formulation_and_no_result(order, batch):
    x = draw(batch, 8, 13, 9, dtype=torch.float64).contiguous(memory_format=order).requires_grad_()
    kernel = draw(batch, 8, 3, 3, dtype=torch.float64)
    expected = functional.leaky_relu(convolve_grouped(x, kernel), 0.1)
    out = depthwise_conv_leaky(x, kernel, 0.1)
    assert torch.allclose(out, expected, atol=1e-12)
    assert out.is_contiguous(memory_format=order)
    weight = draw(batch, 8, 13, 9, dtype=torch.float64)
    found = torch.autograd.grad(out, x, weight)
    assert torch.allclose(*found, *torch.autograd.grad(expected, x, weight), atol=1e-12)


def test_an_unknown_implementation_is_refused():
    with pytest.raises(ValueError, match='auto, reference, fast'):
        DASR(**SMALL, implementation='quick')


def make_network(**arguments: object) -> DASR:
    torch.manual_seed(0)
    network = DASR(4, **SMALL, **arguments)
    with torch.no_grad():
        for module in network.modules():  # statistics as after a training
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 20)
                module.bias.normal_()
    return network.eval()


@needs_bfloat16
def test_gradients_of_predicted_kernels_in_bfloat16_are_close_to_the_exact_ones():
    x, kernel = (draw(*shape, dtype=torch.bfloat16) for shape in ((3, 16, 13, 9), (3, 16, 3, 3)))
    x = x.contiguous(memory_format=torch.channels_last)
    errors = draw(3, 16, 13, 9, dtype=torch.bfloat16)
    given = [one.clone().requires_grad_() for one in (x, kernel)]
    exact = [one.double().requires_grad_() for one in (x, kernel)]
    found = torch.autograd.grad(convolve_each(*given), given, errors)
    expected = torch.autograd.grad(convolve_grouped(*exact), exact, errors.double())
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.bfloat16
        assert relative_error(one.double(), other) < 0.02


@needs_bfloat16
@pytest.mark.parametrize('side', [3, 5])
def test_last_convolution_of_bfloat16_features_is_exact_and_its_gradients_are_close(side):
    x = draw(2, 16, 13, 9, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias, errors = draw(12, 16, side, side), draw(12), draw(2, 12, 13, 9)
    given = [x, weight.requires_grad_(), bias.requires_grad_()]
    exact = [one.detach().double().requires_grad_() for one in given]
    out, expected = convolve_float32(*given), functional.conv2d(*exact, padding=side // 2)
    assert out.dtype == torch.float32
    assert relative_error(out.detach().double(), expected.detach()) < 1e-6
    found = torch.autograd.grad(out, given, errors)
    for one, other, like in zip(found, torch.autograd.grad(expected, exact, errors.double()), given, strict=True):
        assert one.dtype == like.dtype
        assert relative_error(one.double(), other) < 0.02


@needs_bfloat16
def test_convolution_of_less_precise_features_has_the_precision_of_its_weights():
    conv, x = Conv3x3(8, 3), draw(1, 8, 10, 10, dtype=torch.bfloat16)
    assert torch.equal(conv(x), conv(x.float()))
    with torch.autocast('cpu', torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
