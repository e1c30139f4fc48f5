"""OpenVINO gives the results of PyTorch, and is taken where it is asked for or the fastest."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from dasr_arch._errors import InputError
from dasr_arch.backends import openvino_net
from dasr_arch.backends.precision import has_fast_bfloat16
from tests.backends.test_ncnn_net import draw
from tests.backends.test_ncnn_net import make_network as make_any_network
from tests.golden.weights import relative_error

PROJECT = Path(__file__).parents[2]
needs_openvino = pytest.mark.skipif(not openvino_net.has_openvino(), reason='the extra openvino is not installed')


def make_network(**options):
    return make_any_network(**{'implementation': 'openvino', **options})


@pytest.fixture
def calls(monkeypatch):
    """The image of every inference with OpenVINO."""
    found = []

    class Counted(openvino_net.Inputs):
        def __init__(self, image):
            found.append(image)
            super().__init__(image)

    monkeypatch.setattr(openvino_net, 'Inputs', Counted)
    return found


def test_without_the_package_it_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)  # importing it fails
    with pytest.raises(InputError, match=r"extra 'openvino'; pip install 'dasr-representation-learning\[openvino\]'"):
        make_network()


@needs_openvino
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'scale': 4, 'num_feat': 64},
        {'num_feat': 20, 'reduction': 4},  # no multiple of eight channels
        {'da_conv': 'kernel'},
        {'upsampler': 'direct', 'skip': 'bicubic', 'scale': 3},
        {'skip': 'wiener'},
        {'img_range': 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize('size', [(1, 1, 1), (1, 17, 12), (3, 9, 10), (1, 40, 64)])
@torch.no_grad()
def test_results_are_those_of_the_reference(options, size, calls):
    network, lq = make_network(**options), draw(*size)
    found = network(lq, return_representation=True)
    assert len(calls) == 2 * size[0]  # the encoder and the body, image by image
    network.set_implementation('reference')
    expected = network(lq, return_representation=True)
    assert relative_error(found.sr, expected.sr) < 1e-5
    assert relative_error(found.representation, expected.representation) < 1e-5


@needs_openvino
@pytest.mark.skipif(not has_fast_bfloat16(torch.device('cpu')), reason='no bfloat16 in this processor')
@torch.no_grad()
def test_bfloat16_is_as_close_to_float32_as_that_of_torch():
    network, lq = make_network(scale=4, num_feat=64), draw(1, 48, 48)
    network.set_implementation('reference')
    expected = network(lq)
    errors = {}
    for implementation in ('fast', 'openvino'):
        network.set_implementation(implementation)
        with torch.autocast('cpu', torch.bfloat16):
            errors[implementation] = (network(lq) - expected).abs().max()
    assert 0 < errors['openvino'] < 0.02
    assert errors['openvino'] < 4 * errors['fast']


@needs_openvino
@torch.no_grad()
def test_it_is_taken_for_inference_where_it_is_asked_for(calls):
    network, lq = make_network(), draw()
    backend = openvino_net.OpenVINO()
    assert backend.refuse(network, lq) is None
    with torch.autocast('cpu', torch.bfloat16):
        assert backend.refuse(network, lq) is None
    with torch.autocast('cpu', torch.float16):
        assert backend.refuse(network, lq) == 'for float32 and bfloat16 only'
    with torch.enable_grad():
        assert backend.refuse(network, lq) == 'for inference only'
        network(lq).sum().backward()


@needs_openvino
@torch.no_grad()
def test_auto_takes_it_for_bfloat16_with_amx(monkeypatch, calls):
    network, lq = make_network(implementation='auto'), draw()

    def explain():
        with torch.autocast('cpu', torch.bfloat16):
            return network.choose_backend(lq)

    monkeypatch.setattr(openvino_net, 'has_amx', lambda: False)
    assert dict(explain().refused)['openvino'] == 'for bfloat16 with AMX only'
    monkeypatch.setattr(openvino_net, 'has_amx', lambda: True)
    assert explain().backend.name == 'openvino'
    network(lq)  # in float32
    assert not calls
    assert dict(network.choose_backend(lq).refused)['openvino'] == 'for bfloat16 with AMX only'
    monkeypatch.setattr(openvino_net, 'has_openvino', lambda: False)
    assert dict(explain().refused)['openvino'] == 'the extra openvino is not installed'


@needs_openvino
@pytest.mark.skipif(not has_fast_bfloat16(torch.device('cpu')), reason='no bfloat16 in this processor')
@torch.no_grad()
def test_the_upsampler_is_not_rounded_to_bfloat16():
    network = make_network(scale=4, num_feat=64)
    features = 100 * torch.randn(2, 64, 30, 20, generator=torch.Generator().manual_seed(0)).bfloat16()
    features = features.contiguous(memory_format=torch.channels_last)
    backend = openvino_net.OpenVINO()
    found, exact = backend.upsample(network, features), network.upsample(features.float())
    assert found.dtype == torch.float32
    assert 'openvino upsampler' in network.derived_weights._entries
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))  # along the border, torch computes it
    assert relative_error(found[inside], exact[inside]) < 2e-3  # of the weights
    assert len(found[inside].unique()) > 0.9 * found[inside].numel()


# The limit is set around OpenVINO's part alone: with one around the whole call, torch could be the first that fails.
LITTLE_MEMORY = """
import resource, sys, torch
from dasr_arch.backends import openvino_net
from tests.backends.test_openvino_net import draw, make_network
torch.set_num_threads(1)
network, small, large = make_network(), draw(), draw(1, 600, 600)
infer = openvino_net._infer

def infer_with_little_memory(*arguments):
    used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), -1))
    try:
        return infer(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))

with torch.inference_mode():
    expected = network(small)
    openvino_net._infer = infer_with_little_memory
    try:
        network(large)
    except MemoryError as error:
        print(error)
    openvino_net._infer = infer
    assert torch.equal(network(small), expected)
    out = network(large)
    network.set_implementation('reference')
    assert torch.allclose(out, network(large), atol=1e-5)
"""


@needs_openvino
@pytest.mark.skipif(sys.platform != 'linux', reason='needs a limit of memory')
def test_a_lack_of_memory_is_an_error_and_leaves_nothing_broken():
    command = [sys.executable, '-c', LITTLE_MEMORY]
    done = subprocess.run(command, check=False, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('OpenVINO could not compute an image of (600, 600) pixels: ')


@needs_openvino
@torch.no_grad()
def test_parts_that_are_not_translated_are_left_to_torch(calls):
    network, lq = make_network(da_conv='concat'), draw()
    network(lq)
    assert len(calls) == 1  # the encoder
    network = make_network()
    network.encoder.body[1] = torch.nn.InstanceNorm2d(8)
    expected = copy.deepcopy(network)
    expected.set_implementation('reference')
    assert relative_error(network(lq), expected(lq)) < 1e-5
    assert len(calls) == 2  # the body


@needs_openvino
@torch.no_grad()
def test_a_model_is_compiled_once_for_each_number_of_threads():
    network, lq, threads = make_network(), draw(), torch.get_num_threads()
    expected = network(lq)
    built = dict(network.derived_weights._entries)
    network(draw(1, 30, 11))
    assert network.derived_weights._entries == built
    try:
        other = 2 if threads == 1 else 1  # OpenVINO takes no more threads than cores
        torch.set_num_threads(other)
        assert relative_error(network(lq), expected) < 1e-6
        model = network.derived_weights._entries['openvino features'].value
        assert model.get_property('INFERENCE_NUM_THREADS') == other
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(copy.deepcopy(network)(lq), network(lq))
    assert torch.equal(pickle.loads(pickle.dumps(network))(lq), network(lq))


@needs_openvino
@torch.no_grad()
def test_threads_may_share_a_network():
    network = make_network()
    images = [draw(1, 20 + index, 30) for index in range(12)]
    expected = [network(lq) for lq in images]

    def run(lq):
        with torch.no_grad():
            return network(lq)

    with ThreadPoolExecutor(4) as pool:
        for found, one in zip(pool.map(run, images), expected, strict=True):
            assert relative_error(found, one) < 1e-6


@needs_openvino
@torch.no_grad()
def test_hooks_of_the_blocks_are_called_in_order_and_may_end_the_work(calls):
    network, called = make_network(), []
    expected = network(draw(2))
    blocks = [block for group in network.groups for block in group.blocks]
    for block in blocks:
        block.register_forward_pre_hook(lambda module, _: called.append(module))
    assert torch.equal(network(draw(2)), expected)
    assert called == blocks * 2  # for each image

    class StopError(Exception):
        pass

    def stop(*_):
        raise StopError

    handle = blocks[1].register_forward_pre_hook(stop)
    with pytest.raises(StopError):
        network(draw())
    handle.remove()
    assert torch.equal(network(draw(2)), expected)
