"""Time and memory of networks on this machine, as a table and as JSON.

Repeats are interleaved: every case runs once, then every case again, so that a drift of the machine affects all cases
alike. The result is the median. Memory is measured in a process of its own for each case.
"""

import json
import logging
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm import tqdm

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError, suggest
from dasr_arch.backends.choose import load_backend
from dasr_arch.backends.ncnn_net import has_ncnn
from dasr_arch.backends.openvino_net import has_openvino
from dasr_arch.backends.precision import has_amx, has_fast_bfloat16
from dasr_arch.benchmark.environment import describe_environment, list_versions, now
from dasr_arch.benchmark.own_process import MEBIBYTE, run_in_own_process
from dasr_arch.benchmark.timing.cases import (
    IMPLEMENTATIONS,
    PAPER_RANGES,
    PRECISIONS,
    SPEED_NETWORKS,
    Operation,
    SpeedCase,
    Timing,
    build_action,
    is_possible,
)
from dasr_arch.benchmark.timing.components import align_columns, format_components, measure_components
from dasr_arch.data.prepare import RunSettings, prepare
from dasr_arch.data.sample_images import find_sample_images
from dasr_arch.data.sub_images import Cutting

MEMORY_METHOD = {
    'cpu': 'peak resident size of a process of its own (VmHWM); own: without Python and libraries',
    'cuda': 'peak memory that torch allocated on the GPU, in a process of its own',
}
COMPONENTS = 'components'  # the operation that measures everything but networks
_PIECE = 480  # side of the images that training reads, pixels

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeedSettings:
    """Settings of a benchmark; raises InputError on unknown values, and if a package is asked for and not installed.

    By default, implementations are 'reference', 'fast', and where installed 'ncnn', and 'openvino' on processors with
    AMX; bf16 is a precision only where the hardware supports it; and the baseline, a row such as 'DASR reference fp32',
    is that one, the authors' formulation, or the first row where it is not measured.
    """

    networks: tuple[str, ...] = ('Bicubic', 'DASR-S', 'DASR')  # keys of SPEED_NETWORKS
    implementations: tuple[str, ...] = ()  # of networks that have several
    precisions: tuple[str, ...] = ()  # 'fp32', 'bf16'
    operations: tuple[str, ...] = (*get_args(Operation), COMPONENTS)  # 'parts' is the old name of 'components'
    scales: tuple[int, ...] = (2, 3, 4)  # of inference; training uses the largest
    size: int = 180  # side of the LR image, pixels
    patch: int = 48  # side of the LR patches of training, pixels
    batch: int = 8  # pairs of patches in a training step
    repeats: int = 3  # timed runs after one warm-up, three at least
    baseline: str = ''  # network, implementation and precision
    device: str = 'cpu'  # 'cpu' or 'cuda'

    def __post_init__(self) -> None:
        operations = tuple(COMPONENTS if name == 'parts' else name for name in self.operations)
        object.__setattr__(self, 'operations', operations)
        _check_names('networks', self.networks, SPEED_NETWORKS)
        if not self.implementations:
            ncnn, openvino = has_ncnn(), has_openvino() and has_amx()
            usual = ('reference', 'fast', *['ncnn'] * ncnn, *['openvino'] * openvino)
            object.__setattr__(self, 'implementations', usual)
        _check_names('implementations', self.implementations, IMPLEMENTATIONS)
        for name in {'ncnn', 'openvino'} & set(self.implementations):
            load_backend(name).require()
        _check_names('operations', self.operations, (*get_args(Operation), COMPONENTS))
        _check_names('device', (self.device,), ('cpu', 'cuda'))
        for scale in self.scales:
            if scale not in PAPER_RANGES:
                raise InputError(f'scales: expected some of 2, 3, 4, got {scale}')
        for name, least in (('size', 1), ('patch', 1), ('batch', 1), ('repeats', 3)):
            if getattr(self, name) < least:
                raise InputError(f'{name} must be at least {least}, got {getattr(self, name)}')
        side = self.patch * max(self.scales, default=1)
        if side > _PIECE:
            raise InputError(
                f'patch: at most {_PIECE} HR pixels, the size of the training images, got {side}; make it smaller'
            )
        if self.device == 'cuda' and not torch.cuda.is_available():
            raise InputError('device: cuda was asked for, but there is no GPU here; use cpu')
        if not self.precisions:
            fast = has_fast_bfloat16(torch.device(self.device))
            object.__setattr__(self, 'precisions', PRECISIONS if fast else ('fp32',))
        _check_names('precisions', self.precisions, PRECISIONS)


def list_cases(settings: SpeedSettings) -> list[SpeedCase]:
    """Every possible case of the settings; raises InputError if there is none, or not the baseline."""
    cases = []
    axes = (settings.networks, settings.implementations, settings.precisions)
    for operation in settings.operations:
        if operation == COMPONENTS:
            continue
        inference = operation == 'inference'
        scales = settings.scales if inference else (max(settings.scales),)
        sides = (settings.size, 1) if inference else (settings.patch, settings.batch)
        for scale, (network, implementation, precision) in product(scales, product(*axes)):
            only = implementation if SPEED_NETWORKS[network]['type'] == 'DASR' else 'auto'
            case = SpeedCase(network, only, precision, operation, scale, *sides, settings.device)  # type: ignore[arg-type]
            if is_possible(case) and case not in cases:
                cases.append(case)
    if not cases and COMPONENTS not in settings.operations:
        raise InputError('nothing to measure: Bicubic has no training, and RCAN no encoder stage; choose more networks')
    if cases:
        choose_baseline(settings, cases)
    return cases


def choose_baseline(settings: SpeedSettings, cases: Sequence[SpeedCase]) -> str:
    """The label of the baseline; raises InputError if the settings name a row that is not measured."""
    labels = [case.label for case in cases]
    if settings.baseline and settings.baseline not in labels:
        raise InputError(f"baseline: no row is called '{settings.baseline}'{suggest(settings.baseline, set(labels))}")
    usual = 'DASR reference fp32'
    return settings.baseline or (usual if usual in labels else labels[0])


def measure_speed(settings: SpeedSettings) -> dict[str, Any]:
    """Measures every case, ready for JSON; InputError if there is none, or the sample images are missing."""
    cases, samples = list_cases(settings), find_sample_images('train')
    components: list[dict[str, Any]] = []
    runs = len(cases) * (settings.repeats + 2)
    with (
        tempfile.TemporaryDirectory(prefix='dasr-bench-') as folder,
        progress_bar(total=runs, desc='bench', unit='run') as bar,
    ):
        images = Path(folder) / 'images.lmdb'
        prepare(samples, images, Cutting(_PIECE, 240, 192), RunSettings(progress=False))
        if COMPONENTS in settings.operations:
            components = measure_components(settings.repeats, bar.set_postfix_str)
        timings = _time_interleaved(cases, images, settings.repeats, bar)
        memory = []
        for case in cases:
            bar.set_postfix_str(f'memory, {case.label}')
            memory.append(_measure_in_process(case, images))
            bar.update()
    rows = [_make_row(*entry) for entry in zip(cases, timings, memory, strict=True)]
    baseline = choose_baseline(settings, cases) if cases else ''
    _add_ratios(cases, rows, baseline)
    device = torch.device(settings.device)
    return {
        'date': now(),
        'environment': describe_environment(device),
        'settings': asdict(settings),
        'baseline': baseline,
        'time': 'median of interleaved repeats after a warm-up; loading: of decoded images, without workers',
        'memory': MEMORY_METHOD[settings.device],
        'rows': rows,
        'parts': components,
    }


def check_speed_file(path: Path) -> None:
    """Raises InputError if a file is there that `dasr bench` has not written."""
    try:
        is_record = not path.exists() or 'rows' in json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, TypeError):
        is_record = False
    if not is_record:
        raise InputError(f'{path}: exists and holds no measurements of this command; choose another name')


def format_speed(record: Mapping[str, Any]) -> str:
    """The record as lines of text, the last one ended."""
    environment, settings = record['environment'], record['settings']
    head = ['operation', 'scale', 'LR', 'network', 'implementation', 'precision', 'ms', 'speedup', 'MiB', 'own MiB']
    table = [[*head, 'loading', 'degrading']]
    for row in record['rows']:
        side = f'{row["batch"]} x {row["size"]}' if row['batch'] > 1 else f'{row["size"]}'
        shares = [f'{row[key]:.0%}' if row[key] is not None else '' for key in ('loading_share', 'degrading_share')]
        ratio = f'{row["ratio"]:.2f}' if row['ratio'] is not None else ''
        memory = ['failed' if row[key] is None else f'{row[key]:.0f}' for key in ('peak_mib', 'own_mib')]
        names = [row[key] for key in ('network', 'implementation', 'precision')]
        milliseconds = f'{row["milliseconds"]:.1f}'
        table.append([row['operation'], f'x{row["scale"]}', side, *names, milliseconds, ratio, *memory, *shares])
    lines = align_columns(table) if record['rows'] else []
    if record.get('parts'):
        lines += ['', *format_components(record['parts'])]
    lines += [
        '',
        f'{environment["device"]}, {environment["cores"]} cores, {environment["threads"]} threads; '
        f'{list_versions(environment, ("dasr", "torch", "python"))}; '
        f'commit {environment["commit"] or "none"}; {record["date"]}',
        f'time: {record["time"]}; {settings["repeats"]} repeats; baseline: {record["baseline"]}',
        f'memory: {record["memory"]}',
    ]
    return '\n'.join(lines) + '\n'


def _time_interleaved(cases: Sequence[SpeedCase], images: Path, repeats: int, bar: 'tqdm[Any]') -> list[list[Timing]]:
    """Runs all cases in turn, ``repeats`` times after one warm-up."""
    actions: list[Callable[[], Timing]] = []
    timings: list[list[Timing]] = [[] for _ in cases]
    for case in cases:
        bar.set_postfix_str(f'warming up, {case.label}')
        actions.append(build_action(case, images))
        actions[-1]()
        bar.update()
    for _ in range(repeats):
        for case, action, found in zip(cases, actions, timings, strict=True):
            bar.set_postfix_str(f'{case.operation}, {case.label}')
            found.append(action())
            bar.update()
    return timings


def _measure_in_process(case: SpeedCase, images: Path) -> dict[str, int] | None:
    """Bytes 'peak' and 'base' of a case in a new process, None if it failed."""
    try:
        request = json.dumps({'case': asdict(case), 'pictures': str(images)})
        return run_in_own_process('dasr_arch.benchmark.timing.cases', request)
    except RuntimeError as error:
        _LOGGER.warning('%s, %s: memory could not be measured: %s', case.operation, case.label, error)
        return None


def _make_row(case: SpeedCase, timings: Sequence[Timing], memory: Mapping[str, int] | None) -> dict[str, Any]:
    steps = [timing.degrading + timing.computing for timing in timings]
    training = case.operation != 'inference'
    loading = statistics.median(timing.loading / sum(timing) for timing in timings)
    degrading = statistics.median(timing.degrading / sum(timing) for timing in timings)
    return {
        **asdict(case),
        'milliseconds': 1000 * statistics.median(steps),
        'milliseconds_of_repeats': [1000 * step for step in steps],
        'loading_share': loading if training else None,
        'degrading_share': degrading if training else None,
        'peak_mib': memory['peak'] / MEBIBYTE if memory else None,
        'own_mib': (memory['peak'] - memory['base']) / MEBIBYTE if memory else None,
    }


def _add_ratios(cases: Sequence[SpeedCase], rows: Sequence[dict[str, Any]], baseline: str) -> None:
    """Adds the speedup over the baseline at the same operation and scale; None where the baseline has no such row."""
    references = {
        (case.operation, case.scale): row['milliseconds']
        for case, row in zip(cases, rows, strict=True)
        if case.label == baseline
    }
    for case, row in zip(cases, rows, strict=True):
        reference = references.get((case.operation, case.scale))
        row['ratio'] = reference / row['milliseconds'] if reference else None


def _check_names(what: str, names: Sequence[str], known: Any) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{what}: unknown '{name}'{suggest(name, known)}")
    if not names:
        raise InputError(f'{what}: expected at least one of {", ".join(known)}')
