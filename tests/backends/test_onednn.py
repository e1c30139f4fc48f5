"""oneDNN gives what the reference gives, for batches and for operations that it does not fuse."""

import pytest
import torch
from torch.nn import functional

from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.backends import onednn
from dasr_arch.backends.choose import load_backend
from tests.golden.weights import relative_error

SMALL = {'num_feat': 16, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 32, 'encoder_feat': 8}


@pytest.mark.skipif(not onednn._AVAILABLE, reason='this PyTorch has no oneDNN')
@pytest.mark.parametrize('da_conv', ['full', 'concat'])
@torch.inference_mode()
def test_features_of_a_batch_equal_those_of_the_reference(da_conv):
    torch.manual_seed(0)
    network = DASR(**SMALL, da_conv=da_conv).eval()
    x, embedding = torch.rand(2, 3, 17, 13) * 255, torch.randn(2, 16)
    expected = network.extract_features(x, embedding)
    found = onednn.OneDNN().extract_features(network, x.contiguous(memory_format=torch.channels_last), embedding)
    assert relative_error(found, expected) < 1e-5


def test_exports_are_left_to_other_backends(monkeypatch):
    monkeypatch.setattr(onednn, 'is_exported', lambda: True)
    with torch.inference_mode():
        reason = onednn.OneDNN().refuse(DASR(**SMALL).eval(), torch.zeros(1, 3, 8, 8))
    assert reason == 'the network is being exported'


def test_other_devices_are_left_to_other_backends():
    network, x = DASR(**SMALL).eval(), torch.zeros(1, 3, 8, 8, device='meta')
    with torch.inference_mode():
        assert onednn.OneDNN().refuse(network, x) == 'for CPUs only'
        assert load_backend('channels_last').refuse(network, x) == 'slower on this device'


@torch.inference_mode()
def test_what_is_not_fused_is_computed_as_it_stands():
    x, other, mean, variance = torch.randn(1, 4, 5, 6), torch.randn(1, 4, 5, 6), torch.randn(4), torch.rand(4) + 0.5
    summed = onednn.Features(x) + onednn.Features(other)
    assert torch.equal(summed.compute(), x + other)
    expected = functional.batch_norm(x, mean, variance)
    assert torch.equal(functional.batch_norm(onednn.Features(x), mean, variance).compute(), expected)
