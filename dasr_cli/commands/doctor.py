"""`dasr doctor`: installed versions, devices with their precisions and backends, and missing packages by feature."""

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dasr_cli.arguments import add_json

if TYPE_CHECKING:
    import torch

ALTERNATIVES = {
    'basicsr': ('basicsr', 'new-basicsr', 'basicsr-fixed'),
    'cv2': ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless'),
    'tensorboard': ('tb-nightly', 'tensorboard'),
}
"""Distributions that install the same module; one of them is enough, and two overwrite each other."""

REQUIRED_DISTRIBUTIONS = (
    'torch',
    'torchvision',
    'numpy',
    'scipy',
    'lmdb',
    'pyyaml',
    'addict',
    'tqdm',
    'msgspec',
    'safetensors',
    'pillow',
)
SCARCE_DISK_BYTES = 10 * 10**9
"""Below this much, a warning: a DIV2K database alone takes more."""


@dataclass(frozen=True)
class Feature:
    """A feature of the package, its state on this machine, and the remedy if it does not work."""

    name: str
    works: bool
    detail: str
    remedy: str = ''


@dataclass(frozen=True)
class Device:
    """A processor or GPU."""

    name: str  # torch's name, such as `cpu` or `cuda:0`
    description: str  # maker's name
    memory_bytes: int  # all of its memory, 0 if unknown
    precisions: Mapping[str, str]  # values of the option `precision` that ran here, each with a remark on its speed
    backends: Mapping[str, str] = field(default_factory=dict)  # of `implementation: auto`, each with the reason


@dataclass
class Report:
    """Everything that the command prints."""

    versions: dict[str, str] = field(default_factory=dict)
    devices: list[Device] = field(default_factory=list)
    features: list[Feature] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    free_disk_bytes: int = 0
    works: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Show installed packages, devices and working features. Exit code 0 if training and testing work.'
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the report; returns 0 if training and testing work here, 1 otherwise."""
    report = examine()
    print(json.dumps(asdict(report), indent=2) if args.json else format_report(report))
    return 0 if report.works else 1


def examine() -> Report:
    """Examines the installation and the machine; never raises for anything broken."""
    report = Report(versions=_read_versions())
    report.free_disk_bytes = shutil.disk_usage(Path.cwd()).free
    core = _check_core()
    report.works = core.works
    report.features = [core, _check_viewer(), *_check_extras()]
    if core.works:
        import torch

        report.versions['torch'] = torch.__version__  # names the CUDA release that it was built for, too
        report.features.insert(1, _check_processes())
        report.devices = _list_devices()
    report.warnings = _find_duplicates()
    if report.free_disk_bytes < SCARCE_DISK_BYTES:
        report.warnings.append(f'{Path.cwd()} has {_format_bytes(report.free_disk_bytes)} left; DIV2K alone needs more')
    return report


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those distributions of a list that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _read_versions() -> dict[str, str]:
    from dasr_cli.main import read_version

    versions = {'dasr': read_version(), 'python': platform.python_version(), 'system': platform.platform()}
    versions |= dict.fromkeys(REQUIRED_DISTRIBUTIONS, 'missing') | _installed(REQUIRED_DISTRIBUTIONS)
    for module, names in ALTERNATIVES.items():
        found = ', '.join(f'{version} ({name})' for name, version in _installed(names).items())
        versions['opencv' if module == 'cv2' else module] = found or 'missing'
    return versions


def _find_duplicates() -> list[str]:
    """A warning for each module that several installed distributions have written."""
    installed = {module: list(_installed(names)) for module, names in ALTERNATIVES.items()}
    return [
        f'{" and ".join(found)} both install the module {module} and overwrite each other; '
        f'run `pip uninstall {" ".join(found)}`, then `pip install {found[0]}`'
        for module, found in installed.items()
        if len(found) > 1
    ]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def _check_core() -> Feature:
    """Imports the package and BasicSR; an error is the diagnosis."""
    name = 'training and testing'
    try:
        importlib.import_module('dasr_arch')
        importlib.import_module('basicsr')
    except Exception as error:  # noqa: BLE001  whatever a broken package raises is the diagnosis
        return Feature(name, False, _first_line(error), 'run `pip install .` again in the project folder')
    return Feature(name, True, 'dasr_arch and BasicSR import')


def _check_processes() -> Feature:
    """Training by several processes, started by torchrun."""
    import torch.distributed

    name = 'several processes (torchrun)'
    if not torch.distributed.is_available():
        return Feature(
            name, False, 'this torch was built without torch.distributed', 'install the usual build of torch'
        )
    backends = {'gloo': torch.distributed.is_gloo_available(), 'nccl': torch.distributed.is_nccl_available()}
    return Feature(name, any(backends.values()), ', '.join(key for key, available in backends.items() if available))


def _check_viewer() -> Feature:
    """The `tensorboard` command; writing its files works without it."""
    name = 'TensorBoard viewer'
    if importlib.util.find_spec('tensorboard') is None:
        return Feature(name, False, 'tensorboard is not installed', 'pip install tensorboard')
    if 'tb-nightly' in _installed(ALTERNATIVES['tensorboard']) and importlib.util.find_spec('pkg_resources') is None:
        return Feature(
            name,
            False,
            'tb-nightly needs pkg_resources, which setuptools 82 dropped (curves are written all the same)',
            "pip install 'setuptools<82'",
        )
    return Feature(name, True, 'run `tensorboard --logdir tb_logger`')


def _check_extras() -> list[Feature]:
    """Features that need packages of an extra."""
    extras = {
        'maps of representations, figures': ('report', ('sklearn',)),
        'export to ONNX': ('onnx', ('onnx', 'onnxscript', 'onnxruntime')),
        'export to OpenVINO': ('openvino', ('openvino', 'onnx', 'onnxscript')),
        'faster inference on CPUs': ('ncnn', ('ncnn',)),
        'faster inference on CPUs with AMX': ('openvino', ('openvino',)),
        'weights in spandrel': ('spandrel', ('spandrel',)),
        'video': ('video', ('av',)),
        'manifests in Parquet': ('parquet', ('pyarrow',)),
        'a Ray cluster': ('ray', ('ray',)),
        'metric LPIPS': ('lpips', ('lpips',)),
        'page and HTTP API (dasr serve)': ('serve', ('fastapi', 'uvicorn', 'python_multipart')),
        'tests and linting': ('dev', ('pytest', 'xdist', 'ruff', 'mypy')),
    }
    features = []
    for name, (extra, modules) in extras.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        detail = f'missing: {", ".join(missing)}' if missing else ', '.join(modules)
        remedy = f"pip install '.[{extra}]' in the project folder" if missing else ''
        features.append(Feature(name, not missing, detail, remedy))
    return features


def _list_devices() -> list[Device]:
    import torch

    from dasr_arch.benchmark.environment import name_device

    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') if hasattr(os, 'sysconf') else 0
    processor = name_device(torch.device('cpu'))
    found = [('cpu', f'{processor}, {torch.get_num_threads()} threads', memory)]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        description = f'{properties.name}, compute capability {properties.major}.{properties.minor}'
        found.append((f'cuda:{index}', description, properties.total_memory))
    if torch.backends.mps.is_available():
        found.append(('mps', "Apple's GPU", torch.mps.recommended_max_memory()))
    return [Device(*facts, _try_precisions(facts[0]), _explain_backends(facts[0])) for facts in found]


def _explain_backends(device: str) -> dict[str, str]:
    """Backends of `implementation: auto` on a device, in the precision of `auto`."""
    import torch

    from dasr_arch import DASR
    from dasr_arch.backends.choose import explain_choice
    from dasr_arch.backends.precision import choose_precision

    place = torch.device(device)
    network = DASR(num_feat=8, num_groups=1, num_blocks=1, representation_dim=8, encoder_feat=4).to(device)
    dtype = choose_precision('auto', place)
    with torch.autocast(place.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = {'training': explain_choice(network, place)}
        network.eval()
        with torch.no_grad():
            for side in (128, 512):
                found[f'inference of {side} x {side} pixels'] = explain_choice(network, place, side)
    return found


def _try_precisions(device: str) -> dict[str, str]:
    """Remark on each precision after a convolution, forward and backward."""
    import torch

    from dasr_arch.backends.precision import has_fast_bfloat16

    emulated = 'as Metal has it; auto takes fp32' if device == 'mps' else 'emulated: slower than fp32'
    results = {'fp32': 'works', 'bf16': 'in hardware' if has_fast_bfloat16(torch.device(device)) else emulated}
    for precision, autocast in (('fp32', None), ('bf16', torch.bfloat16)):
        try:
            if not _run_convolution(device, autocast):
                results[precision] = 'gives values that are not finite'
        except RuntimeError as error:
            results[precision] = f'fails: {_first_line(error)}'
    return results


def _run_convolution(device: str, autocast: 'torch.dtype | None') -> bool:
    """Returns True if one convolution and its gradient are finite, under autocast to the given type if there is one."""
    import torch

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 3, 3, 3, generator=generator).to(device).requires_grad_()
    image = torch.rand(1, 3, 16, 16, generator=generator).to(device)
    with torch.autocast(torch.device(device).type, dtype=autocast, enabled=autocast is not None):
        loss = torch.nn.functional.conv2d(image, weight).float().square().mean()
    (gradient,) = torch.autograd.grad(loss, weight)
    return bool(torch.isfinite(gradient).all() & torch.isfinite(loss))


def _format_bytes(count: int) -> str:
    return f'{count / 10**9:.1f} GB'


def format_report(report: Report) -> str:
    """The report as text, a section for each question."""
    width = max(map(len, report.versions))
    lines = ['Versions', *(f'  {name:<{width}}  {version}' for name, version in report.versions.items())]
    lines += ['', 'Devices']
    for device in report.devices:
        memory = f', {_format_bytes(device.memory_bytes)}' if device.memory_bytes else ''
        lines.append(f'  {device.name}: {device.description}{memory}')
        lines += [f'    {precision}: {text}' for precision, text in device.precisions.items()]
        lines += [f'    {work}: {text}' for work, text in device.backends.items()]
    if not any(device.name.startswith('cuda') for device in report.devices):
        lines.append('  no CUDA device: training runs on the processor')
    lines += ['', 'Features']
    for feature in report.features:
        lines.append(f'  {"yes" if feature.works else "NO ":<3}  {feature.name}: {feature.detail}')
        if feature.remedy:
            lines.append(f'       -> {feature.remedy}')
    lines += ['', f'Disk: {_format_bytes(report.free_disk_bytes)} free in {Path.cwd()}']
    lines += [f'Warning: {warning}' for warning in report.warnings]
    lines += ['', 'Training and testing work here.' if report.works else 'Training and testing do NOT work here.']
    return '\n'.join(lines)
