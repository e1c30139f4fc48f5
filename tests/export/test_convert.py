"""Weights keep their values on the way from one kind of file to another."""

import numpy as np
import pytest
import torch

from dasr_arch import InputError, load_network
from dasr_arch.checkpoints.io import load_encoder, read_file
from dasr_arch.export.convert import convert_weights
from tests.golden.weights import golden_state
from tests.inference.making import make_network


def test_released_weights_become_ours_and_compute_the_same(tmp_path, golden_folder):
    golden = np.load(golden_folder / 'dasr_eval_x4.npz')
    torch.save(golden_state(golden), tmp_path / 'model_600.pt')
    report = convert_weights(tmp_path / 'model_600.pt', tmp_path / 'ours.safetensors')
    lq = torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        expected = load_network(tmp_path / 'model_600.pt')(lq)
        assert torch.equal(load_network(report.path)(lq), expected)
    assert (report.scale, report.largest_change) == (4, 0)
    assert 'head.weight' in read_file(report.path)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_files_survive_the_way_there_and_back(tmp_path, suffix):
    state = make_network(3, skip='bicubic', upsampler='direct').state_dict()
    torch.save({'params': state}, tmp_path / 'net.pth')
    convert_weights(tmp_path / 'net.pth', tmp_path / f'a{suffix}')
    convert_weights(tmp_path / f'a{suffix}', tmp_path / 'back.pth')
    back = read_file(tmp_path / 'back.pth')['params']
    assert all(torch.equal(back[key], value) for key, value in state.items())


def test_averaged_weights_are_preferred(tmp_path):
    plain, averaged = make_network().state_dict(), make_network().state_dict()
    averaged['head.bias'] = averaged['head.bias'] + 1
    torch.save({'params': plain, 'params_ema': averaged}, tmp_path / 'net.pth')
    convert_weights(tmp_path / 'net.pth', tmp_path / 'net.safetensors')
    assert torch.equal(read_file(tmp_path / 'net.safetensors')['head.bias'], averaged['head.bias'])


def test_half_precision_halves_the_file_and_loads_into_float32(tmp_path):
    network = make_network(num_feat=32)
    torch.save({'params': network.state_dict()}, tmp_path / 'net.pth')
    whole = convert_weights(tmp_path / 'net.pth', tmp_path / 'whole.safetensors')
    half = convert_weights(tmp_path / 'net.pth', tmp_path / 'half.safetensors', half=True)
    assert half.size < 0.6 * whole.size
    assert 0 < half.largest_change < 1e-3
    loaded = load_network(half.path)
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    lq = torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        assert (loaded(lq) - network(lq)).abs().max() < 0.5 / 255


def test_numbers_beyond_half_precision_stay_as_they_are(tmp_path):
    state = make_network().state_dict()
    state['encoder.body.1.running_var'].fill_(1e6)
    state['head.bias'].fill_(1e5)
    torch.save({'params': state}, tmp_path / 'net.pth')
    report = convert_weights(tmp_path / 'net.pth', tmp_path / 'half.safetensors', half=True)
    stored = read_file(report.path)
    assert stored['head.bias'].dtype == stored['encoder.body.1.running_var'].dtype == torch.float32
    assert stored['head.weight'].dtype == torch.float16


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_encoder_alone_is_what_another_network_takes(tmp_path, suffix):
    torch.save({'params': make_network(4).state_dict()}, tmp_path / 'net.pth')
    source = load_network(tmp_path / 'net.pth')
    report = convert_weights(tmp_path / 'net.pth', tmp_path / f'encoder{suffix}', encoder=True)
    assert report.parameters == sum(parameter.numel() for parameter in source.encoder.parameters())
    other = make_network(2)
    before = other.body_conv.weight.clone()
    assert load_encoder(other, report.path) == {}
    for key, value in source.encoder.state_dict().items():
        assert torch.equal(other.encoder.state_dict()[key], value), key
    assert torch.equal(other.body_conv.weight, before)
    with pytest.raises(InputError, match=r"holds no DASR: 'compress\.weight' is missing"):
        load_network(report.path)


def test_network_without_encoder_gives_none(tmp_path):
    torch.save({'params': make_network(condition='kernel').state_dict()}, tmp_path / 'net.pth')
    with pytest.raises(InputError, match='is non-blind and has no degradation encoder'):
        convert_weights(tmp_path / 'net.pth', tmp_path / 'encoder.pth', encoder=True)
    assert not (tmp_path / 'encoder.pth').exists()
    with pytest.raises(InputError, match=r"net\.pth' holds no degradation encoder"):
        torch.save({'weight': torch.zeros(3)}, tmp_path / 'net.pth')
        load_encoder(make_network(), tmp_path / 'net.pth')


def test_impossible_targets_are_refused(tmp_path):
    torch.save({'params': make_network().state_dict()}, tmp_path / 'net.pth')
    with pytest.raises(InputError, match=r"unknown ending '.onnx'; use .pth or .safetensors"):
        convert_weights(tmp_path / 'net.pth', tmp_path / 'net.onnx')
    with pytest.raises(InputError, match='exists already'):
        convert_weights(tmp_path / 'net.pth', tmp_path / 'net.pth')
    with pytest.raises(InputError, match='does not exist'):
        convert_weights(tmp_path / 'none.pth', tmp_path / 'a.pth')
