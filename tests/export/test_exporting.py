"""Exported files are run by the runtimes that they are for, at sizes of which none was known at export."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch import InputError
from dasr_arch._extras import import_extra
from dasr_arch.export import exporting
from dasr_arch.export.exporting import FORMATS, MIN_SIDES, SUFFIXES, choose_target, export_network
from dasr_arch.export.plain_network import PlainDASR
from dasr_arch.inference.load_model import load_named
from tests.inference.making import make_faithful, make_network

PACKAGES = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'openvino': ('openvino', 'onnx', 'onnxscript'), 'torch': ()}
NETWORKS = {
    'as in the paper': {'scale': 4},
    'with a bicubic skip': {'scale': 3, 'skip': 'bicubic', 'upsampler': 'direct'},
    'that concatenates': {'scale': 2, 'da_conv': 'concat'},
    'of scale 1': {'scale': 1, 'skip': 'bicubic', 'img_range': 1.0},
}


def need(kind):
    for package in PACKAGES[kind]:
        pytest.importorskip(package)


def run_file(path, lq):
    """Output of the runtime itself for an image, without code of the exporter."""
    if path.suffix == '.onnx':
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        return torch.from_numpy(session.run(['sr'], {'lq': lq.numpy()})[0])
    if path.suffix == '.xml':
        import openvino

        model = openvino.Core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        return torch.from_numpy(model({'lq': lq.numpy()})['sr'])
    with torch.no_grad():
        return torch.export.load(path).module()(lq)


@pytest.fixture(scope='module', params=[(kind, skip) for kind in FORMATS for skip in ('bicubic', 'wiener')], ids=str)
def exported(request, tmp_path_factory):
    """A network in each format, with what exporters like least: a skip, bicubic or a filter found for the image."""
    kind, skip = request.param
    need(kind)
    network = make_network(4, skip=skip, upsampler='direct')
    target = tmp_path_factory.mktemp('export') / f'net{SUFFIXES[kind]}'
    return network, export_network(network, target, kind, name='net')


@pytest.mark.parametrize('options', NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize('size', [(1, 1), (2, 9), (20, 33), (48, 17)])
def test_plain_network_computes_the_same(options, size):
    network = make_network(**options)
    lq = torch.rand(1, 3, *size)
    with torch.no_grad():
        assert (PlainDASR(network)(lq) - network(lq)).abs().max() < 2e-5


@pytest.mark.parametrize('size', [(5, 5), (7, 64), (48, 31), (66, 50)])
def test_file_computes_what_torch_computes_at_any_size(exported, size):
    network, report = exported
    lq = torch.rand(1, 3, *size)
    with torch.no_grad():
        expected = network(lq)
    found = run_file(report.paths[0], lq)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 2e-5


def test_smallest_size_is_as_documented(exported):
    network, report = exported
    side = MIN_SIDES[report.format]
    assert (side, side) in report.sizes
    lq = torch.rand(1, 3, side, side)
    with torch.no_grad():
        assert (run_file(report.paths[0], lq) - network(lq)).abs().max() < 2e-5
    if side > 1:
        with pytest.raises(AssertionError, match=f'>= {side}'):
            run_file(report.paths[0], torch.rand(1, 3, side - 1, side))


def test_report_tells_what_was_compared(exported):
    _, report = exported
    assert len(set(report.sizes)) >= 3
    assert report.largest_difference < 2e-5
    assert report.largest_difference > 0 or report.format == 'torch'  # others sum in another order
    assert report.scale == 4
    assert all(path.is_file() for path in report.paths)
    assert sorted(report.paths[0].parent.iterdir()) == sorted(report.paths)


def test_file_says_what_goes_in_and_comes_out(exported):
    _, report = exported
    facts = read_facts(report.paths[0])
    assert facts['architecture'] == 'DASR'
    assert (facts['model'], facts['scale']) == ('net', '4')
    assert (facts['color_order'], facts['value_range'], facts['layout']) == ('RGB', '0..1', 'NCHW')
    assert int(facts['min_side']) == MIN_SIDES[report.format]


def read_facts(path):
    if path.suffix == '.onnx':
        import onnx

        model = onnx.load(path)
        ends = (model.graph.input[0], model.graph.output[0])
        sides = [[axis.dim_param or axis.dim_value for axis in end.type.tensor_type.shape.dim] for end in ends]
        assert sides == [[1, 3, 'height', 'width'], [1, 3, '4*height', '4*width']]
        return {entry.key: entry.value for entry in model.metadata_props}
    if path.suffix == '.xml':
        import openvino

        info = openvino.Core().read_model(path).get_rt_info()['dasr']
        return {key: str(value.value if hasattr(value, 'value') else value) for key, value in info.items()}
    extra = {'metadata.json': ''}
    torch.export.load(path, extra_files=extra)
    return json.loads(extra['metadata.json'])


def test_file_holds_no_path_of_this_machine(exported):
    _, report = exported
    for path in report.paths:
        data = path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                data = b''.join(archive.read(name) for name in archive.namelist())
        for needle in (str(Path(exporting.__file__).parent), str(Path(torch.__file__).parent), 'File "'):
            assert needle.encode() not in data


@pytest.mark.parametrize('kind', FORMATS)
def test_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch, kind):
    need(kind)
    wrong = make_faithful(2)
    trace = exporting._trace
    monkeypatch.setattr(exporting, '_trace', lambda plain: trace(PlainDASR(wrong)))
    with pytest.raises(InputError, match=rf'not written, because {kind} computes something else than torch'):
        export_network(make_network(2), tmp_path / f'net{SUFFIXES[kind]}', kind)
    assert list(tmp_path.iterdir()) == []


def test_file_that_computes_no_number_is_not_kept(tmp_path, monkeypatch):
    network = make_network(2)
    with torch.no_grad():
        network.last_conv.bias.fill_(float('nan'))
    with pytest.raises(InputError, match='difference nan'):
        export_network(network, tmp_path / 'net.pt2', 'torch')
    assert list(tmp_path.iterdir()) == []


def test_other_sizes_than_torchs_are_found(monkeypatch):
    assert np.isnan(exporting._compare(make_network(2), lambda lq: lq, [(8, 8)]))


def test_network_of_the_caller_stays_as_it_is(tmp_path):
    network = make_network(2).train()
    network.head.weight.requires_grad_(True)
    export_network(network, tmp_path / 'net.pt2', 'torch')
    assert network.training
    assert network.head.weight.requires_grad


def test_network_that_is_told_the_kernel_is_refused(tmp_path):
    with pytest.raises(InputError, match='a non-blind network cannot be exported'):
        export_network(make_network(2, condition='kernel'), tmp_path / 'net.pt2', 'torch')
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unless_asked_for(tmp_path):
    target = tmp_path / 'net.pt2'
    target.write_text('mine')
    with pytest.raises(InputError, match='exists already'):
        export_network(make_network(2), target, 'torch')
    assert target.read_text() == 'mine'
    export_network(make_network(2), target, 'torch', force=True)
    assert zipfile.is_zipfile(target)


def test_package_that_misses_another_one_is_no_missing_extra(tmp_path, monkeypatch):
    (tmp_path / 'half_installed.py').write_text('import not_there_at_all')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match='not_there_at_all'):
        import_extra('half_installed', 'onnx')


def test_weights_beside_an_openvino_file_are_not_replaced_either(tmp_path):
    (tmp_path / 'net.bin').write_text('mine')
    with pytest.raises(InputError, match=r'net.bin: exists already'):
        export_network(make_network(2), tmp_path / 'net.xml', 'openvino')
    assert [path.name for path in tmp_path.iterdir()] == ['net.bin']


@pytest.mark.parametrize(
    ('package', 'kind'),
    [('onnx', 'onnx'), ('onnxscript', 'onnx'), ('onnxruntime', 'onnx'), ('openvino', 'openvino')],
)
def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, package, kind):
    for present in PACKAGES[kind]:
        if present != package:
            pytest.importorskip(present)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError) as raised:
        export_network(make_network(2), tmp_path / f'net{SUFFIXES[kind]}', kind)
    assert str(raised.value) == (
        f"{package} is not installed, it belongs to the extra '{kind}'; "
        f"pip install 'dasr-representation-learning[{kind}]'"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('target', 'kind', 'expected'),
    [
        (None, 'onnx', ('net.onnx', 'onnx')),
        (None, 'openvino', ('net.xml', 'openvino')),
        ('a/b.pt2', None, ('a/b.pt2', 'torch')),
        ('b.onnx', 'onnx', ('b.onnx', 'onnx')),
    ],
)
def test_target_and_format_follow_from_each_other(target, kind, expected):
    assert choose_target('net', target, kind) == (Path(expected[0]), expected[1])


@pytest.mark.parametrize(
    ('target', 'kind', 'message'),
    [
        (None, None, 'name a file to write'),
        (None, 'tflite', "unknown format 'tflite'; use one of onnx, openvino, torch"),
        ('net.trt', None, "unknown ending '.trt'"),
        ('net.onnx', 'torch', 'its ending says onnx, --format says torch'),
    ],
)
def test_contradictions_are_refused(target, kind, message):
    with pytest.raises(InputError, match=message):
        choose_target('net', target, kind)


@pytest.mark.slow
@pytest.mark.parametrize('kind', FORMATS)
def test_packaged_network_is_exported(tmp_path, kind):
    need(kind)
    network, name = load_named('iso', 4)
    report = export_network(network, tmp_path / f'{name}{SUFFIXES[kind]}', kind, name=name)
    assert report.largest_difference < 3e-5  # for noise, whose results reach 3.8
    lq = torch.rand(1, 3, 41, 58)
    with torch.no_grad():
        assert (run_file(report.paths[0], lq) - network(lq)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ('kind', 'name', 'message'),
    [('tflite', 'x.onnx', "format must be .*, got 'tflite'"), ('onnx', 'x.xml', "unknown ending '.xml' for onnx")],
)
def test_format_and_suffix_must_fit(kind, name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        export_network(make_network(scale=4), tmp_path / name, kind)
    assert not list(tmp_path.iterdir())
