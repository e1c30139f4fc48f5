"""Weights of ours and of the authors become networks; anything else becomes one line and runs nothing."""

import io
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.archs.rcan_arch import RCAN
from safetensors.torch import save_file

from dasr_arch import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.dasr_keys import our_name
from dasr_arch.checkpoints.io import (
    build_from_state,
    load_fitting,
    load_network,
    load_strictly,
    read_dasr_weights,
    read_file,
    read_weights,
)
from tests.golden.weights import golden_state

GOLDEN = Path(__file__).parents[1] / 'golden'
TINY = {'num_feat': 8, 'num_groups': 2, 'num_blocks': 1, 'representation_dim': 12, 'encoder_feat': 4}
VARIANTS = [
    {},
    {'scale': 2},
    {'scale': 3},
    {'scale': 1},
    {'scale': 8, 'upsampler': 'direct'},
    {'skip': 'bicubic'},
    {'scale': 3, 'upsampler': 'direct', 'skip': 'bicubic'},
    {'da_conv': 'concat'},
    {'da_conv': 'kernel'},
    {'condition': 'kernel', 'kernel_size': 15},
    {'num_feat': 24, 'reduction': 5},
    {'num_groups': 1, 'num_blocks': 3},
    {'img_range': 1.0},
]


def make_tiny(**options: object) -> DASR:
    torch.manual_seed(0)
    network = DASR(**{'scale': 4, **TINY, **options})
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith('running_mean'):
                buffer.normal_()
    return network.eval()


def restore(network: DASR) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    lq = torch.rand(1, 3, 6, 5, generator=generator)
    kernel = torch.rand(1, 15, 15, generator=generator)
    with torch.no_grad():
        return network(lq) if network.blind else network(lq, kernel=kernel)


@pytest.fixture(scope='module')
def released() -> dict[str, torch.Tensor]:
    return golden_state(np.load(GOLDEN / 'dasr_eval_x4.npz'))


def drop_training_parts(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """State dict as the authors' code writes it: without key encoder and queue."""
    return {name: value for name, value in state.items() if 'E.encoder_k' not in name and 'queue' not in name}


def assert_one_line(error: pytest.ExceptionInfo[InputError]) -> None:
    assert '\n' not in str(error.value)


# --- whole networks ---


@pytest.mark.parametrize('options', VARIANTS, ids=str)
def test_state_dict_alone_rebuilds_every_variant(options):
    network = make_tiny(**options)
    loaded = load_network(network.state_dict(), scale=network.scale)
    assert not loaded.training
    assert loaded.blind == network.blind
    assert loaded.img_range == network.img_range
    assert torch.equal(restore(loaded), restore(network))


@pytest.mark.parametrize('suffix', ['.pth', '.pt', '.safetensors'])
def test_saving_then_loading_changes_nothing(suffix, tmp_path):
    network, path = make_tiny(), tmp_path / f'net{suffix}'
    state = network.state_dict()
    save_file(state, path) if suffix == '.safetensors' else torch.save({'params': state}, path)
    assert torch.equal(restore(load_network(path)), restore(network))
    assert torch.equal(restore(load_network(str(path))), restore(network))


def test_state_of_the_program_has_no_influence_and_stays(tmp_path):
    state = {'params': DASR(2, **TINY).state_dict()}
    torch.save(state, tmp_path / 'net.pth')
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        network = load_network(tmp_path / 'net.pth')
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in network.state_dict().values() if value.is_floating_point()} == {torch.float32}
    assert torch.equal(torch.rand(1), expected)


def test_averaged_weights_are_preferred(tmp_path):
    averaged, plain = make_tiny(), make_tiny()
    torch.nn.init.ones_(plain.head.bias)
    path = tmp_path / 'net.pth'
    torch.save({'params': plain.state_dict(), 'params_ema': averaged.state_dict()}, path)
    assert torch.equal(restore(load_network(path)), restore(averaged))
    assert torch.equal(read_weights(path, 'params')['head.bias'], torch.ones(8))
    assert torch.equal(read_dasr_weights(path, 'params').network['head.bias'], torch.ones(8))


def test_prefix_of_data_parallel_training_is_dropped():
    network = make_tiny()
    loaded = load_network({f'module.{name}': value for name, value in network.state_dict().items()})
    assert torch.equal(restore(loaded), restore(network))


@pytest.mark.parametrize(
    'prefix', ['_orig_mod.', 'module._orig_mod.', '_orig_mod.module.', 'net_g.', 'net_g._orig_mod.', 'module.net_g.']
)
@pytest.mark.parametrize('section', [None, 'params', 'state_dict'])
def test_wrappers_of_training_are_taken_off_in_any_order(prefix, section, tmp_path):
    network = make_tiny()
    wrapped = {f'{prefix}{key}': value for key, value in network.state_dict().items()}
    torch.save(wrapped if section is None else {section: wrapped, 'epoch': 3}, tmp_path / 'net.pth')
    assert torch.equal(restore(load_network(tmp_path / 'net.pth')), restore(network))


@pytest.mark.parametrize('prefix', ['model.', 'generator.', 'ema.module.', 'model._orig_mod.', 'net.'])
@pytest.mark.parametrize('sections', [[], ['state_dict'], ['model'], ['state_dict', 'params_ema'], ['a', 'b', 'c']])
def test_a_network_inside_any_module_and_sections_is_found(prefix, sections, tmp_path):
    network = make_tiny()
    content = {f'{prefix}{key}': value for key, value in network.state_dict().items()} | {'vgg.0.bias': torch.zeros(1)}
    for section in reversed(sections):
        content = {section: content, 'epoch': 3}
    torch.save(content, tmp_path / 'net.pth')
    assert torch.equal(restore(load_network(tmp_path / 'net.pth')), restore(network))


def test_averages_of_torch_and_of_a_module_are_found():
    network = make_tiny()
    averaged = {f'module.{key}': value for key, value in network.state_dict().items()}
    assert torch.equal(restore(load_network(averaged | {'n_averaged': torch.tensor(5)})), restore(network))
    other = {f'model.{key}': torch.zeros_like(value) for key, value in network.state_dict().items()}
    both = other | {f'ema_model.{key}': value for key, value in network.state_dict().items()}
    assert torch.equal(restore(load_network(both)), restore(network))


def test_tensors_of_losses_in_a_lightning_file_are_left_out(tmp_path):
    network = make_tiny()
    state = {f'net_g.{key}': value for key, value in network.state_dict().items()} | {'vgg.0.weight': torch.zeros(1)}
    torch.save({'state_dict': state}, tmp_path / 'net.ckpt')
    assert torch.equal(restore(load_network(tmp_path / 'net.ckpt')), restore(network))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused(value):
    state = make_tiny().state_dict()
    state['groups.0.conv.bias'][2] = value
    with pytest.raises(InputError, match=r"'groups\.0\.conv\.bias' is not finite, its training diverged"):
        load_network(state)


def test_loaded_network_shares_no_memory_with_the_state_dict():
    network = make_tiny()
    before = restore(network)
    loaded = load_network(network.state_dict())
    torch.nn.init.zeros_(loaded.last_conv.weight)
    assert torch.equal(restore(network), before)


def test_authors_saved_form_and_their_whole_network_give_the_same(released, tmp_path):
    saved = drop_training_parts(released)
    assert (len(released), len(saved)) == (519, 471)
    torch.save(saved, tmp_path / 'model_600.pt')
    from_file = load_network(tmp_path / 'model_600.pt', scale=4)
    whole = load_network(released)
    for name, value in whole.state_dict().items():
        assert torch.equal(from_file.state_dict()[name], value), name


def test_contrastive_part_of_the_authors_comes_along(released):
    assert set(read_dasr_weights(drop_training_parts(released)).contrast) == {
        f'projection.{layer}.{kind}' for layer in (0, 2) for kind in ('weight', 'bias')
    }
    assert {'queue', 'queue_ptr', 'encoder_k.body.0.weight'} <= set(read_dasr_weights(released).contrast)


def test_projection_beside_our_weights_comes_along():
    network, projection = make_tiny(), {'0.weight': torch.ones(12, 12)}
    weights = read_dasr_weights({'params': network.state_dict(), 'projection': projection})
    assert torch.equal(weights.contrast['projection.0.weight'], torch.ones(12, 12))
    assert read_dasr_weights(network.state_dict()).contrast == {}


# --- what does not fit ---


def test_scale_that_the_weights_do_not_have_is_refused(released):
    with pytest.raises(
        InputError, match='state dict is for x4, not for x2; choose the scale or the file to fit'
    ) as error:
        load_network(released, scale=2)
    assert_one_line(error)


@pytest.mark.parametrize('name', ['G.body.2.body.1.conv1.bias', 'E.encoder_q.E.4.running_var', 'G.tail.1.weight'])
def test_missing_tensor_of_the_authors_is_named(name, released):
    with pytest.raises(InputError) as error:
        load_network({key: value for key, value in drop_training_parts(released).items() if key != name})
    assert_one_line(error)
    assert f"'{our_name(name)}' is missing" in str(error.value)


@pytest.mark.parametrize('name', list(make_tiny().state_dict()))
def test_every_missing_tensor_of_ours_is_refused(name):
    state = {key: value for key, value in make_tiny().state_dict().items() if key != name}
    with pytest.raises(InputError) as error:
        load_network(state)
    assert_one_line(error)


def test_wrong_shape_is_named_with_both_shapes():
    state = {**make_tiny().state_dict(), 'head.bias': torch.zeros(9)}
    with pytest.raises(InputError, match=r"'head.bias' has shape \(9,\), expected \(8,\)") as error:
        load_network(state)
    assert_one_line(error)


@pytest.mark.parametrize('shape', [(), (8,), (8, 12, 1), (0, 0)])
def test_wrong_shape_of_a_telling_tensor_is_refused(shape):
    with pytest.raises(InputError) as error:
        load_network({**make_tiny().state_dict(), 'compress.weight': torch.zeros(shape)})
    assert_one_line(error)


def test_tensor_too_many_is_named(released):
    with pytest.raises(InputError, match="holds 'extra', which the network does not have"):
        load_network({**make_tiny().state_dict(), 'extra': torch.zeros(1)})
    with pytest.raises(InputError, match=r"no released DASR has, such as 'G\.extra'"):
        load_network({**released, 'G.extra': torch.zeros(1)})


def test_number_in_a_name_makes_no_huge_network():
    state = {**make_tiny().state_dict(), 'groups.999999999.blocks.0.conv1.bias': torch.zeros(8)}
    with pytest.raises(InputError, match='is no complete DASR'):
        load_network(state)


def test_tensor_with_fewer_numbers_than_it_says_is_refused():
    state = {**make_tiny().state_dict(), 'compress.weight': torch.zeros(1, 1).expand(10**6, 10**6)}
    with pytest.raises(InputError, match=r"'compress\.weight' holds fewer numbers than its shape says"):
        load_network(state)


def test_other_networks_are_refused(tmp_path):
    other = RCAN(3, 3, num_feat=8, num_group=1, num_block=1, squeeze_factor=4, upscale=4)
    torch.save({'params': other.state_dict()}, tmp_path / 'rcan.pth')
    with pytest.raises(InputError, match='holds no DASR') as error:
        load_network(tmp_path / 'rcan.pth')
    assert_one_line(error)
    assert 'rcan.pth' in str(error.value)
    assert 'conv_first.weight' in read_weights(tmp_path / 'rcan.pth')  # another network's file can be read as such


@pytest.mark.parametrize(
    'content',
    [
        {},
        [torch.zeros(1)],
        torch.zeros(3),
        'text',
        {'iter': 5, 'networks': {'net_g': {}}},
        {'state_dict': {'head.bias': torch.zeros(1)}},
        {'params': {}},
        {'params': {'head.bias': 'text'}},
        {0: torch.zeros(1)},
        {0: {}, 'one': {}},
        {'projection': torch.zeros(2), 'head.bias': torch.zeros(2)},
        {'G.head.0.weight': torch.zeros(1)},
        {'G.head.0.weight': 5},
    ],
    ids=lambda value: str(value)[:40].replace('\n', ' '),
)
def test_file_that_holds_something_else_is_refused(content, tmp_path):
    path = tmp_path / 'file.pth'
    torch.save(content, path)
    with pytest.raises(InputError) as error:
        load_network(path)
    assert_one_line(error)
    assert 'file.pth' in str(error.value)


def test_unknown_parameter_key_lists_the_known_ones(tmp_path):
    torch.save({'params': make_tiny().state_dict()}, tmp_path / 'net.pth')
    with pytest.raises(InputError, match='holds no params_ema; it has params'):
        read_weights(tmp_path / 'net.pth', 'params_ema')


# --- damaged files ---


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('share', [0, 0.001, 0.01, 0.3, 0.9, 0.999])
def test_truncated_file_is_named(suffix, share, tmp_path):
    path, state = tmp_path / f'net{suffix}', make_tiny().state_dict()
    save_file(state, path) if suffix == '.safetensors' else torch.save(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match='damaged') as error:
        load_network(path)
    assert_one_line(error)
    assert path.name in str(error.value)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_random_bytes_in_a_file_never_escape_as_another_error(suffix, tmp_path):
    path, state = tmp_path / f'net{suffix}', make_tiny().state_dict()
    save_file(state, path) if suffix == '.safetensors' else torch.save(state, path)
    data, generator = path.read_bytes(), random.Random(0)
    starts = [b'', data[:4], b'\x80\x02', b'\x80\x04', b'PK\x03\x04', b'\x89PNG\r\n', b'\xff' * 8, data[:60]]
    for number in range(60):
        path.write_bytes(starts[number % len(starts)] + generator.randbytes(generator.choice([1, 20, 3000])))
        with pytest.raises(InputError) as error:
            load_network(path)
        assert_one_line(error)


@pytest.mark.parametrize('form', ['archive', 'pickle', 'safetensors'])
def test_flipped_bits_in_a_file_give_a_network_or_one_line(form, tmp_path):
    path, generator = tmp_path / ('net.safetensors' if form == 'safetensors' else 'net.pth'), random.Random(1)
    state = make_tiny().state_dict()
    if form == 'safetensors':
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == 'archive')
    data = path.read_bytes()
    refused = 0
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(4):  # most of them where names and shapes are
            changed[generator.randrange(min(len(data), 8000))] ^= 1 << generator.randrange(8)
            changed[-1 - generator.randrange(6000)] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        try:
            load_network(path)
        except InputError as error:
            refused += 1
            assert '\n' not in str(error)
    assert refused > 0


def test_archive_that_unpacks_to_more_than_it_is_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / 'bomb.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        with archive.open('archive/data.pkl', 'w') as entry:
            for _ in range(64):
                entry.write(bytes(1 << 20))
        archive.writestr('archive/version', '3')
    with pytest.raises(InputError, match='is a compressed archive, not a weights file'):
        read_file(path)


def test_old_files_without_archive_are_read(tmp_path):
    network = make_tiny()
    torch.save(network.state_dict(), tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert torch.equal(restore(load_network(tmp_path / 'old.pth')), restore(network))


def test_file_that_may_not_be_read_is_an_error_of_the_system(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, 'Permission denied', str(path))

    path = tmp_path / 'net.pth'
    torch.save({}, path)
    monkeypatch.setattr(torch, 'load', refuse)
    with pytest.raises(PermissionError):
        read_file(path)


def test_missing_file_is_named(tmp_path):
    for path, fault in ((tmp_path / 'none.pth', 'does not exist'), (tmp_path, 'is a folder or no regular file')):
        with pytest.raises(InputError, match=f'{fault}; check the path'):
            load_network(path)


# --- code ---


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def set_trap(path: Path, form: str, trap: Trap) -> None:
    if form == 'torch':
        torch.save({'params': OrderedDict(weight=torch.zeros(2)), 'trap': trap}, path)
    elif form == 'old torch':
        torch.save({'trap': trap}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps({'trap': trap}, protocol=int(form)))


@pytest.mark.parametrize('form', ['torch', 'old torch', '2', '4', '0'])
def test_code_in_a_file_is_never_run(form, tmp_path):
    marker, path = tmp_path / 'ran', tmp_path / 'trap.pth'
    set_trap(path, form, Trap(marker))
    with pytest.raises(InputError) as error:
        load_network(path)
    assert_one_line(error)
    assert 'trap.pth' in str(error.value)
    assert not marker.exists()
    if form != '0':  # which looks like text
        assert 'carries something else than weights and was not run' in str(error.value)
    if form != 'torch' and not form.startswith('old'):
        pickle.load(io.BytesIO(path.read_bytes()))  # the trap is a real one
        assert marker.exists()


# --- helpers that others use ---


def test_strict_loading_takes_every_tensor_or_none():
    network, other = make_tiny(), make_tiny()
    torch.nn.init.ones_(other.head.bias)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    bad = {**other.state_dict(), 'last_conv.bias': torch.zeros(7)}
    with pytest.raises(InputError, match='weights file of mine does not fit this DASR'):
        load_strictly(network, bad, 'weights file of mine')
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    load_strictly(network, other.state_dict(), 'x')
    assert torch.equal(network.head.bias, torch.ones(8))


def test_fitting_tensors_are_loaded_and_the_others_listed():
    network, other = make_tiny(scale=2), make_tiny(scale=3)
    torch.nn.init.ones_(other.head.bias)
    loaded, left = load_fitting(network, {**other.state_dict(), 'unknown': torch.zeros(1)})
    assert left == ['upsampler.0.weight', 'upsampler.0.bias']
    assert loaded == len(network.state_dict()) - 2
    assert torch.equal(network.head.bias, torch.ones(8))


def test_building_from_a_state_copies_it():
    state = make_tiny().state_dict()
    network = build_from_state(state)
    assert torch.equal(network.head.weight, state['head.weight'])
    assert network.head.weight.data_ptr() != state['head.weight'].data_ptr()


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU is here')
def test_a_gpu_that_is_not_there_is_one_line(tmp_path):
    state = DASR(4, num_feat=8, num_groups=1, num_blocks=1, representation_dim=8, encoder_feat=4).state_dict()
    with pytest.raises(InputError, match='no GPU'):
        load_network(state, device='cuda')
