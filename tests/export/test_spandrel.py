"""Weights of ours and of the authors load in the real spandrel, and nothing else becomes a DASR there."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dasr_arch import InputError, load_network
from dasr_arch.checkpoints.packaged import check_packaged, find_packaged
from tests.golden.weights import golden_state
from tests.inference.making import make_network

spandrel = pytest.importorskip('spandrel', reason="spandrel is not installed (extra 'spandrel')")

from dasr_arch.export.spandrel import ARCHITECTURE_ID, install, is_dasr  # noqa: E402


@pytest.fixture
def loader():
    """A loader with spandrel's own registry, ours installed into a copy of it."""
    registry = spandrel.MAIN_REGISTRY.copy()
    install(registry)
    return spandrel.ModelLoader(registry=registry)


def check_same(descriptor, path):
    lq = torch.rand(1, 3, 14, 19)
    with torch.no_grad():
        expected = load_network(path)(lq).clamp(0, 1)
    found = descriptor(lq)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=2e-6)  # gradients off: the fused way, which rounds elsewhere


def save(state, path):
    if path.suffix == '.safetensors':
        save_file(state, path)
    else:
        torch.save({'params': state}, path)


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
@pytest.mark.parametrize(
    'options',
    [{'scale': 4}, {'scale': 2, 'da_conv': 'kernel'}, {'scale': 3, 'upsampler': 'direct', 'skip': 'bicubic'}],
    ids=['paper', 'without modulation', 'direct with skip'],
)
def test_our_files_load(tmp_path, loader, suffix, options):
    path = tmp_path / f'net{suffix}'
    save(make_network(**options).state_dict(), path)
    descriptor = loader.load_from_file(path)
    assert descriptor.architecture.id == ARCHITECTURE_ID
    assert (descriptor.scale, descriptor.purpose) == (options['scale'], 'SR')
    assert (descriptor.input_channels, descriptor.output_channels) == (3, 3)
    assert descriptor.size_requirements.none
    check_same(descriptor, path)


def test_packaged_weights_load(loader):
    path = check_packaged(find_packaged('iso', 4))
    descriptor = loader.load_from_file(path)
    assert descriptor.scale == 4
    check_same(descriptor, path)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_files_of_the_authors_load_and_compute_what_their_code_does(tmp_path, golden_folder, loader, scale):
    golden = np.load(golden_folder / f'dasr_eval_x{scale}.npz')
    torch.save(golden_state(golden), tmp_path / 'model_600.pth')
    descriptor = loader.load_from_file(tmp_path / 'model_600.pth')
    assert descriptor.scale == scale
    check_same(descriptor, tmp_path / 'model_600.pth')


def test_checkpoint_of_a_training_loads_with_its_averaged_weights(tmp_path, loader):
    plain, averaged = make_network(2).state_dict(), make_network(2).state_dict()
    averaged['head.bias'] = averaged['head.bias'] + 1
    projection = {'0.weight': torch.zeros(3, 3)}
    torch.save({'params': plain, 'params_ema': averaged, 'projection': projection}, tmp_path / 'net.pth')
    descriptor = loader.load_from_file(tmp_path / 'net.pth')
    assert torch.equal(descriptor.model.head.bias, averaged['head.bias'])


def test_incomplete_weights_are_named(loader):
    state = make_network(2).state_dict()
    del state['groups.0.conv.bias']
    with pytest.raises(InputError, match=r"'groups.0.conv.bias' is missing"):
        loader.load_from_state_dict(state)


def test_network_that_is_told_the_kernel_is_not_taken(loader):
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict(make_network(2, condition='kernel').state_dict())


def test_other_networks_are_left_alone(loader):
    from basicsr.archs.rcan_arch import RCAN

    state = RCAN(3, 3, num_feat=16, num_group=1, num_block=1, squeeze_factor=4).state_dict()
    assert not is_dasr(state)
    assert not is_dasr({'G.head.0.weight': torch.zeros(1)})


def test_precision_that_rounds_pixels_is_refused(loader):
    descriptor = loader.load_from_state_dict(make_network(2).state_dict())
    with pytest.raises(spandrel.UnsupportedDtypeError):
        descriptor.half()
    with pytest.raises(spandrel.UnsupportedDtypeError):
        descriptor.bfloat16()


def test_installing_twice_registers_once_for_every_loader(monkeypatch):
    before = len(spandrel.MAIN_REGISTRY)
    for name in ('_architectures', '_ordered', '_by_id'):  # copied on write, so this undoes the registration
        monkeypatch.setattr(spandrel.MAIN_REGISTRY, name, getattr(spandrel.MAIN_REGISTRY, name))
    install()
    install()
    assert len(spandrel.MAIN_REGISTRY) == before + 1
    descriptor = spandrel.ModelLoader().load_from_state_dict(make_network(2).state_dict())
    assert descriptor.architecture.id == ARCHITECTURE_ID


def test_no_built_in_architecture_claims_our_weights():
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.MAIN_REGISTRY.load(make_network(2).state_dict())
