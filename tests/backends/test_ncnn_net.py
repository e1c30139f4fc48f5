"""ncnn gives the results of PyTorch, and is refused where it would not."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.backends import ncnn_net
from dasr_arch.inference.tile_limits import is_out_of_memory
from tests.golden.weights import relative_error

SMALL = {
    'scale': 2,
    'num_feat': 16,
    'num_groups': 2,
    'num_blocks': 2,
    'representation_dim': 12,
    'encoder_feat': 8,
    'implementation': 'ncnn',
}
needs_ncnn = pytest.mark.skipif(not ncnn_net.has_ncnn(), reason='the extra ncnn is not installed')


def make_network(**options):
    torch.manual_seed(0)
    network = DASR(**{**SMALL, **options})
    for module in network.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def draw(batch=1, height=17, width=12):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def calls(monkeypatch):
    """The network of every inference with ncnn."""
    found = []

    class Counted(ncnn_net.Inference):
        def __init__(self, network):
            found.append(network)
            super().__init__(network)

    monkeypatch.setattr(ncnn_net, 'Inference', Counted)
    return found


def test_without_the_package_auto_is_torch_and_ncnn_is_refused(monkeypatch):
    monkeypatch.setattr(ncnn_net, 'has_ncnn', lambda: False)
    monkeypatch.setitem(sys.modules, 'ncnn', None)  # importing it fails
    with pytest.raises(InputError, match=r"extra 'ncnn'; pip install 'dasr-representation-learning\[ncnn\]'"):
        make_network()
    network = make_network(implementation='auto')
    with torch.no_grad():
        out = network(draw())
        network.set_implementation('fast')
        assert torch.equal(network(draw()), out)


@needs_ncnn
def test_an_old_ncnn_which_may_crash_is_not_used(monkeypatch):
    monkeypatch.setattr(ncnn_net.import_ncnn(), '__version__', '1.0.20250503')
    ncnn_net.has_ncnn.cache_clear()
    try:
        assert not ncnn_net.has_ncnn()
        with pytest.raises(InputError, match=r'ncnn 1\.0\.20250503 is too old, 1\.0\.20260114 or newer is needed; pip'):
            make_network()
    finally:
        ncnn_net.has_ncnn.cache_clear()


def test_the_oldest_release_is_that_of_the_extra():
    setup = (Path(__file__).parents[2] / 'setup.py').read_text(encoding='utf-8')
    assert f"'ncnn>={ncnn_net._OLDEST}'" in setup


@needs_ncnn
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


@needs_ncnn
@torch.no_grad()
def test_the_features_themselves_are_right_to_the_last_digits():
    network, x, code = make_network(num_feat=64), 255 * draw(2, 30, 50) - 110, torch.randn(2, 64)
    found = ncnn_net.Ncnn().extract_features(network, x, code)
    exact = copy.deepcopy(network).double().extract_features(x.double(), code.double())
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(found.double(), exact) < 5e-6


@needs_ncnn
@torch.no_grad()
def test_auto_takes_it_in_float32_on_a_cpu_without_gradients(monkeypatch, calls):
    monkeypatch.setattr(ncnn_net, 'has_amx', lambda: False)
    network = make_network(implementation='auto')
    network(draw())
    assert len(calls) == 2
    with torch.autocast('cpu', torch.bfloat16):
        network(draw())
    with torch.enable_grad():
        network(draw()).sum().backward()
    network.train()(draw())
    copy.deepcopy(network).eval().double()(draw().double())
    make_network(implementation='fast')(draw())
    assert len(calls) == 2


@needs_ncnn
@torch.no_grad()
def test_auto_leaves_processors_with_amx_to_torch(monkeypatch, calls):
    monkeypatch.setattr(ncnn_net, 'has_amx', lambda: True)
    network = make_network(implementation='auto')
    network(draw())
    assert not calls
    assert dict(network.choose_backend(draw()).refused)['ncnn'] == 'slower than torch on processors with AMX'
    make_network()(draw())
    assert len(calls) == 2


@needs_ncnn
@torch.no_grad()
def test_onednn_is_not_needed(monkeypatch, calls):
    monkeypatch.setattr('dasr_arch.backends.onednn._AVAILABLE', False)  # as on some processors of Arm
    monkeypatch.setattr(ncnn_net, 'has_amx', lambda: False)
    network = make_network(implementation='auto')
    found = network(draw())
    assert len(calls) == 2
    network.set_implementation('fast')
    assert relative_error(found, network(draw())) < 1e-5


@needs_ncnn
@torch.no_grad()
def test_variants_without_predicted_kernels_are_left_to_torch(calls):
    network = make_network(da_conv='concat')
    network(draw())
    assert len(calls) == 1  # the encoder


@needs_ncnn
@torch.no_grad()
def test_a_change_of_the_weights_is_noticed():
    network, lq = make_network(), draw()
    before = network(lq)
    built = dict(network.derived_weights._entries)
    network(lq)
    assert network.derived_weights._entries == built  # not made anew for each image
    for weights in (network.groups[1].blocks[0].conv2.weight, network.encoder.body[1].running_mean):
        weights.mul_(9)
        found = network(lq, return_representation=True)
        assert relative_error(found.sr, before) > 1e-3
        network.set_implementation('fast')
        expected = network(lq, return_representation=True)
        network.set_implementation('ncnn')
        assert relative_error(found.sr, expected.sr) < 1e-5
        assert relative_error(found.representation, expected.representation) < 1e-5
    network.load_state_dict(make_network().state_dict())
    assert torch.equal(network(lq), before)


@needs_ncnn
def test_a_change_of_weights_made_in_inference_mode_is_noticed(calls):
    with torch.inference_mode():
        network, lq = make_network(), draw()
        before = network(lq)
        assert len(calls) == 2
        network.body_conv.weight.mul_(9)
        found = network(lq)
        network.set_implementation('fast')
        assert relative_error(found, network(lq)) < 1e-5
    assert relative_error(found, before) > 1e-3


@needs_ncnn
@torch.no_grad()
def test_the_number_of_threads_is_that_of_torch():
    network, threads = make_network(), torch.get_num_threads()
    expected = network(draw())
    try:
        torch.set_num_threads(threads + 1)
        assert relative_error(network(draw()), expected) < 1e-6
        built = network.derived_weights._entries['ncnn features']
        assert built.setting == (threads + 1, False, torch.float32)
        assert built.value.opt.num_threads == threads + 1
    finally:
        torch.set_num_threads(threads)


@needs_ncnn
@torch.no_grad()
def test_networks_can_be_copied_and_pickled_after_use():
    network, lq = make_network(), draw()
    expected = network(lq)
    assert torch.equal(copy.deepcopy(network)(lq), expected)
    assert torch.equal(pickle.loads(pickle.dumps(network))(lq), expected)
    assert not any('ncnn' in name for name in network.state_dict())


@needs_ncnn
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
            assert torch.equal(found, one)


@needs_ncnn
@torch.no_grad()
def test_an_order_of_memory_or_a_view_does_not_matter():
    network, lq = make_network(), draw(1, 20, 30)
    wide = torch.zeros(1, 3, 22, 41)
    wide[..., 1:-1, 5:-6] = lq
    expected = network(lq)
    assert torch.equal(network(lq.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(network(wide[..., 1:-1, 5:-6]), expected)
    assert torch.equal(network(lq.mT.contiguous().mT), expected)


@needs_ncnn
@torch.no_grad()
def test_a_failure_is_an_error_that_the_upscaler_understands():
    network = make_network()

    class Failing:
        def __init__(self, code):
            self.code = code

        def create_extractor(self):
            return self

        def extract(self, *_):
            return self.code, None

    inference = ncnn_net.Inference(Failing(-100))
    with pytest.raises(MemoryError) as caught:
        inference.extract('sum_0')
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError, match='code -1'):
        ncnn_net.Inference(Failing(-1)).extract('sum_0')
    assert network(draw()).isfinite().all()


@needs_ncnn
@torch.no_grad()
def test_hooks_of_the_blocks_are_called_and_may_end_the_work():
    network, expected, called = make_network(), make_network()(draw()), []

    class StopError(Exception):
        pass

    def listen(module, _):
        called.append(module)
        if len(called) == 3:
            raise StopError

    blocks = [block for group in network.groups for block in group.blocks]
    for block in blocks:
        block.da_conv1.kernel.register_forward_pre_hook(listen)
    with pytest.raises(StopError):
        network(draw())
    assert called == [block.da_conv1.kernel for block in blocks[:3]]
    assert torch.equal(network(draw()), expected)


@needs_ncnn
def test_a_layer_that_ncnn_does_not_know_is_an_error():
    recorder = ncnn_net.Recorder()
    recorder.append('Unheard', [recorder.input('image')], 'result')
    with pytest.raises(RuntimeError, match='newer version'):
        ncnn_net.load_net(recorder, 1)


def test_recorded_layers_are_what_ncnn_reads():
    recorder = ncnn_net.Recorder()
    image = recorder.input('image')
    image + torch.nn.functional.leaky_relu(image, 0.1)
    assert recorder.to_text().splitlines() == [
        '7767517',
        '4 5',  # layers and blobs
        'Input layer_0 0 1 image',
        'Split layer_1 1 2 image image_0 image_1',
        'ReLU layer_2 1 1 image_0 activation_0 0=0.1',
        'BinaryOp layer_3 2 1 image_1 activation_0 sum_0 0=0',
    ]


@needs_ncnn
@torch.no_grad()
def test_an_encoder_that_is_not_translated_is_run_by_torch():
    network, lq = make_network(), draw()
    network.encoder.body[1] = torch.nn.InstanceNorm2d(8)
    assert relative_error(network(lq), make_reference(network)(lq)) < 1e-5


def make_reference(network):
    reference = copy.deepcopy(network)
    reference.set_implementation('reference')
    return reference


def test_a_normalisation_of_no_convolution_is_an_error():
    image = ncnn_net.Recorder().input('image')
    with pytest.raises(ncnn_net.UnsupportedError, match='this normalisation'):
        torch.nn.BatchNorm2d(3).eval()(image)


def test_an_operation_that_is_not_translated_is_an_error():
    recorder = ncnn_net.Recorder()
    image = recorder.input('image')
    with pytest.raises(ncnn_net.UnsupportedError, match='cat is not translated'):
        torch.cat([image, image])
    with pytest.raises(ncnn_net.UnsupportedError, match='this convolution'):
        torch.nn.Conv2d(3, 3, 3, padding=1)(image)  # its weights are none of the recorder's
