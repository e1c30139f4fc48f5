"""Export to ONNX, OpenVINO and torch.export; the output of each file is compared with that of torch."""

import copy
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._extras import import_extra
from dasr_arch._files import atomic_write, check_free
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.export.plain_network import PlainDASR

Format = Literal['onnx', 'openvino', 'torch']
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: Mapping[Format, str] = {'onnx': '.onnx', 'openvino': '.xml', 'torch': '.pt2'}
MIN_SIDES: Mapping[Format, int] = {'onnx': 1, 'openvino': 1, 'torch': 5}
"""Least LR height and width; torch.export specialises sizes at which the features of the encoder have a side of 1."""

MAX_SIDE = 32767
"""Largest LR height and width."""

LARGEST_DIFFERENCE = 0.1 / 255
"""A file whose output differs from torch's by more, in [0, 1] and float32, is not kept."""

_CHECKED = ((32, 24), (37, 51))  # LR pixels, height and width; the smallest size that a format takes is added
_EXAMPLE = (24, 20)
_INPUT, _OUTPUT = 'lq', 'sr'

_PACKAGES: Mapping[Format, Sequence[str]] = {
    'onnx': ('onnx', 'onnxscript', 'onnxruntime'),
    'openvino': ('openvino', 'onnx', 'onnxscript'),
    'torch': (),
}
Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class ExportReport(NamedTuple):
    """Result of an export."""

    paths: list[Path]  # the new files; OpenVINO's weights are in a .bin beside its .xml
    format: Format
    scale: int  # upsampling factor
    parameters: int  # number of learned parameters
    sizes: list[tuple[int, int]]  # LR sizes (height, width) at which the file was run and compared
    largest_difference: float  # between its outputs and torch's, in [0, 1]


def export_network(
    network: DASR, target: str | os.PathLike[str], kind: Format, *, name: str = 'DASR', force: bool = False
) -> ExportReport:
    """Writes a blind network for another runtime, runs the file there, and keeps it if its output is that of torch.

    Input ``lq`` is one image, RGB of shape (1, 3, h, w) in [0, 1], float32; output ``sr`` has shape
    (1, 3, h * scale, w * scale), around [0, 1], not clamped. Height and width are dynamic, from MIN_SIDES to MAX_SIDE.
    The file holds these facts and the name of the model, see :func:`describe_export`.

    The target has the suffix of the format: .onnx, .xml of OpenVINO (with .bin beside it), or .pt2 of torch.export.
    ``force`` replaces files that exist. Raises InputError if the format is unknown, its packages are not installed, the
    target exists or has another suffix, or the output differs; then nothing is left of the file. Raises OSError if the
    target cannot be written.
    """
    if kind not in FORMATS:
        raise InputError(f"format must be {', '.join(FORMATS)}, got '{kind}'")
    target = Path(target)
    if target.suffix != SUFFIXES[kind]:
        raise InputError(f"{target}: unknown ending '{target.suffix}' for {kind}; use {SUFFIXES[kind]}")
    paths = [target, target.with_suffix('.bin')] if kind == 'openvino' else [target]
    for path in paths:
        check_free(path, force)
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')  # ONNX Runtime would report its use from its import on
    for package in _PACKAGES[kind]:
        import_extra(package, kind)  # a missing one is reported before the work
    facts = describe_export(network, kind, name)
    network = copy.deepcopy(network).cpu().float().eval()
    with tempfile.TemporaryDirectory(prefix='dasr-export-') as folder:
        made = Path(folder, f'network{SUFFIXES[kind]}')
        write, run = _TOOLS[kind]
        write(_trace(PlainDASR(network)), made, facts)
        sizes = [*_CHECKED, (MIN_SIDES[kind], MIN_SIDES[kind])]
        difference = _compare(network, run(made), sizes)
        if not difference <= LARGEST_DIFFERENCE:  # not a number, too
            raise InputError(
                f'{target}: not written, because {kind} computes something else than torch '
                f'(difference {difference:.2g} in [0, 1]); try other versions of its packages'
            )
        with ExitStack() as stack:
            for path in paths:  # all or none; renamed in the opposite order: weights first
                stack.enter_context(atomic_write(path)).write_bytes(made.with_suffix(path.suffix).read_bytes())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ExportReport(paths, kind, network.scale, parameters, sizes, difference)


def choose_target(name: str, target: str | None, kind: str | None) -> tuple[Path, Format]:
    """The file and format of a command: a file, a format, or both, which must then agree.

    Without a file it is the name of the model with the suffix of the format. Raises InputError if neither is given, the
    format is unknown, or they contradict each other.
    """
    if kind is not None and kind not in FORMATS:
        raise InputError(f"--format: unknown format '{kind}'; use one of {', '.join(FORMATS)}")
    if target is None:
        if kind is None:
            raise InputError(f'name a file to write ({", ".join(SUFFIXES.values())}) or a --format')
        return Path(f'{name}{SUFFIXES[kind]}'), kind
    suffix = Path(target).suffix
    found = next((one for one in FORMATS if SUFFIXES[one] == suffix), None)
    if found is None:
        raise InputError(f"{target}: unknown ending '{suffix}'; use {', '.join(SUFFIXES.values())}")
    if kind is not None and kind != found:
        raise InputError(f'{target}: its ending says {found}, --format says {kind}; leave one of them out')
    return Path(target), found


def describe_export(network: DASR, kind: Format, name: str) -> dict[str, str]:
    """Metadata of an exported file.

    They are in metadata_props of ONNX, under 'dasr' in rt_info of OpenVINO, and in the extra file 'metadata.json' of a
    program of torch.export.
    """
    return {
        'architecture': 'DASR',
        'model': name,
        'scale': str(network.scale),
        'color_order': 'RGB',
        'value_range': '0..1',
        'layout': 'NCHW',
        'min_side': str(MIN_SIDES[kind]),
        'max_side': str(MAX_SIDE),
    }


def _trace(plain: PlainDASR) -> torch.export.ExportedProgram:
    """The program of torch.export, with dynamic height and width."""
    names = {2: 'height', 3: 'width'}
    sides = {axis: torch.export.Dim(name, min=MIN_SIDES['torch'], max=MAX_SIDE) for axis, name in names.items()}
    with torch.no_grad(), _quiet():
        program = torch.export.export(plain, (torch.zeros(1, 3, *_EXAMPLE),), dynamic_shapes={_INPUT: sides})
    for node in program.graph.nodes:
        node.meta.pop('stack_trace', None)  # paths of this machine
    return program


def _write_torch(program: torch.export.ExportedProgram, path: Path, facts: Mapping[str, str]) -> None:
    with _quiet():
        torch.export.save(program, path, extra_files={'metadata.json': json.dumps(dict(facts), indent=1)})


def _write_onnx(program: torch.export.ExportedProgram, path: Path, facts: Mapping[str, str]) -> None:
    onnx = import_extra('onnx', 'onnx')
    with _quiet():
        made = torch.onnx.export(program, input_names=[_INPUT], output_names=[_OUTPUT], dynamo=True, verbose=False)
    assert made is not None
    model = made.model_proto
    _name_sides(model.graph)
    onnx.helper.set_model_props(model, dict(facts))
    for node in model.graph.node:
        del node.metadata_props[:]  # where in Python each comes from
    model.doc_string = 'DASR, blind super-resolution (Wang et al., CVPR 2021)'
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _name_sides(graph: Any) -> None:
    """Names dynamic sides height and width, instead of the numbered names of torch.export."""
    axes = graph.input[0].type.tensor_type.shape.dim
    names = {axes[2].dim_param: 'height', axes[3].dim_param: 'width'}
    pattern = re.compile('|'.join(rf'\b{re.escape(name)}\b' for name in names))
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = pattern.sub(lambda found: names[found[0]], axis.dim_param)


def _write_openvino(program: torch.export.ExportedProgram, path: Path, facts: Mapping[str, str]) -> None:
    """Converts by way of ONNX; the converter of OpenVINO would report each use to its makers."""
    openvino = import_extra('openvino', 'openvino')
    between = path.with_name('between.onnx')
    _write_onnx(program, between, {})
    model = openvino.Core().read_model(between)
    model.reshape([1, 3, openvino.Dimension(1, MAX_SIDE), openvino.Dimension(1, MAX_SIDE)])
    for key, value in facts.items():
        model.set_rt_info(value, ['dasr', key])
    openvino.save_model(model, path, compress_to_fp16=False)


def _run_torch(path: Path) -> Runner:
    module = torch.export.load(path).module()
    return lambda lq: module(torch.from_numpy(lq)).detach().numpy()


def _run_onnx(path: Path) -> Runner:
    session = import_extra('onnxruntime', 'onnx').InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda lq: session.run([_OUTPUT], {_INPUT: lq})[0]


def _run_openvino(path: Path) -> Runner:
    openvino = import_extra('openvino', 'openvino')
    model = openvino.Core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda lq: model({_INPUT: lq})[0]


Writer = Callable[[torch.export.ExportedProgram, Path, Mapping[str, str]], None]
_TOOLS: Mapping[Format, tuple[Writer, Callable[[Path], Runner]]] = {
    'onnx': (_write_onnx, _run_onnx),
    'openvino': (_write_openvino, _run_openvino),
    'torch': (_write_torch, _run_torch),
}


def _compare(network: DASR, run: Runner, sizes: Sequence[tuple[int, int]]) -> float:
    """Largest difference between the outputs of a file and of the network, for noise of several sizes."""
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for height, width in sizes:
        lq = torch.rand(1, 3, height, width, generator=generator)
        with torch.no_grad():
            expected = network(lq)
        assert isinstance(expected, Tensor)
        found = run(lq.numpy())
        if found.shape != tuple(expected.shape):
            return float('nan')
        largest = float(np.maximum(largest, np.abs(found - expected.numpy()).max()))  # keeps what is not a number
    return largest


def _quiet() -> warnings.catch_warnings:
    """Suppresses warnings of exporters about their internals."""
    return warnings.catch_warnings(action='ignore')
