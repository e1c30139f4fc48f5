"""The encoder averages any image to one vector; the known-kernel code replaces it."""

import pytest
import torch
from torch import nn

from dasr_arch.archs.dasr_arch import DegradationEncoder
from dasr_arch.archs.dasr_variants import KernelEncoder


def make_images(*size: int) -> torch.Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 255


def test_encoder_has_as_many_parameters_as_in_the_paper():
    assert sum(parameter.numel() for parameter in DegradationEncoder().parameters()) == 1_147_200


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (2, 3), (48, 48)])
def test_any_size_gives_one_vector(size):
    representation = DegradationEncoder(8, 24).eval()(make_images(*size))
    assert representation.shape == (2, 24)
    assert torch.isfinite(representation).all()


def test_strides_halve_the_image_twice_and_widths_double():
    shapes = []
    encoder = DegradationEncoder(8, 24).eval()
    for layer in encoder.body:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda module, given, out: shapes.append(tuple(out.shape[1:])))
    encoder(make_images(16, 12))
    assert shapes == [(8, 16, 12), (8, 16, 12), (16, 8, 6), (16, 8, 6), (24, 4, 3), (24, 4, 3)]


def test_average_is_taken_in_float32_when_the_rest_is_bfloat16():
    encoder, x = DegradationEncoder(8, 24).eval(), make_images(32, 32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = encoder(x)
    assert half.dtype == torch.float32
    full = encoder(x)
    assert (half - full).norm() < 0.02 * full.norm()  # bfloat16 keeps 8 bits in each of six layers


def test_gradient_reaches_image_and_weights():
    encoder, x = DegradationEncoder(4, 6).double(), make_images(5, 6).double().requires_grad_()
    encoder(x).square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_kernel_encoder_is_five_layers_from_the_flattened_kernel():
    encoder = KernelEncoder(21, 256)
    layers = [layer for layer in encoder if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(441, 256)] + [(256, 256)] * 4
    assert not isinstance(encoder[-1], nn.LeakyReLU)
    assert encoder(torch.ones(3, 21, 21)).shape == (3, 256)
