"""From a test file to tables: everything is checked before anything is computed."""

import inspect
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from msgspec import Meta

from dasr_arch._errors import InputError
from dasr_arch._memory import keep_freed_memory
from dasr_arch.benchmark.cells import PictureFacts
from dasr_arch.benchmark.conditions import TELLERS
from dasr_arch.benchmark.environment import describe_environment
from dasr_arch.benchmark.measuring import check_metric, smallest_side
from dasr_arch.benchmark.networks import build_network, probe_network
from dasr_arch.benchmark.runner import Runner, inspect_dataset
from dasr_arch.benchmark.suites import (
    Benchmark,
    DatasetPlan,
    MetricPlan,
    NetworkPlan,
    build_degradations,
    check_folder_names,
)
from dasr_arch.benchmark.tables import format_console, record_results, write_tables
from dasr_arch.pipelines.arguments import parse_testing_arguments
from dasr_arch.pipelines.guard import run_guarded
from dasr_arch.pipelines.schema import check_arguments, check_known, convert
from dasr_arch.pipelines.training_schema import Count, Name, Options, WholeNumber
from dasr_arch.pipelines.yaml_reader import read_yaml

RESULTS_FOLDER = Path('results')  # below the current folder
OWN_NETWORK_KEYS = ('type', 'path', 'param_key', 'told')
_SCALE_ARGUMENTS = ('scale', 'upscale')

_LOGGER = logging.getLogger(__name__)

Missing = Literal['skip', 'error']
Block = dict[str, object]


class DatasetOptions(Options, kw_only=True, frozen=True):
    """One set of HR pictures."""

    dataroot_gt: Annotated[str, Meta(min_length=1)]
    missing: Missing | None = None  # what the file says for all, if absent


class TestOptions(Options, kw_only=True, frozen=True):
    """A test file."""

    __test__ = False  # pytest takes the name for a test

    name: Name
    scale: Count
    num_gpu: Literal['auto'] | WholeNumber = 'auto'
    seed: WholeNumber = 0
    missing: Missing = 'skip'
    datasets: dict[str, DatasetOptions]
    degradations: list[Block]
    networks: dict[str, Block]
    metrics: dict[str, Block]
    save_img: bool = False

    def __post_init__(self) -> None:
        """Checks that there is something to do."""
        for key in ('datasets', 'degradations', 'networks', 'metrics'):
            if not getattr(self, key):
                raise ValueError(f'{key}: expected at least one entry, got none')


class TestReport(NamedTuple):
    """What a test leaves.

    Attributes:
        console: the tables as text.
        folder: where the files are.
        failures: number of cells that could not be computed.
    """

    console: str
    folder: Path
    failures: int

    @property
    def exit_code(self) -> int:
        """0, or 1 if a cell failed."""
        return 1 if self.failures else 0


class _Prepared(NamedTuple):
    """A benchmark whose every part has been tried."""

    benchmark: Benchmark
    pictures: dict[str, tuple[PictureFacts, ...]]
    digests: dict[str, str]
    skipped: list[dict[str, str]]


def run_test_file(path: Path, overrides: Sequence[str] = ()) -> TestReport:
    """Runs the test that an option file describes.

    Args:
        path: the file.
        overrides: ``key=value`` pairs laid over it.

    Returns:
        The report; its files are in ``results/<name>``.

    Raises:
        InputError: if anything in the file, or anything that it names, is wrong. Nothing has been computed then.
        OSError: if results cannot be written.
    """
    return run_test(read_yaml(path, overrides), str(path))


def run_test(options: Mapping[str, object], where: str = 'options') -> TestReport:
    """Runs a test; cells that an earlier run has stored are not computed again.

    Args:
        options: content of a test file; not altered.
        where: what messages call it.

    Returns:
        The report.

    Raises:
        InputError: as `run_test_file`.
        OSError: as `run_test_file`.
    """
    checked = convert(_leave_out(options), TestOptions, where)
    device = choose_device(checked.num_gpu, where)
    prepared = _prepare(checked, where)
    folder = RESULTS_FOLDER / checked.name
    folder.mkdir(parents=True, exist_ok=True)
    if device.type == 'cpu':
        keep_freed_memory()
    runner = Runner(prepared.benchmark, prepared.pictures, prepared.digests, folder, device)
    outcomes = runner.run()
    environment = describe_environment(device)
    record = record_results(prepared.benchmark, outcomes, prepared.skipped, options, environment)
    write_tables(folder, record)
    return TestReport(format_console(record), folder, sum(bool(outcome.reason) for outcome in outcomes))


def choose_device(num_gpu: int | Literal['auto'], where: str) -> torch.device:
    """The device of a test: one GPU at most.

    Args:
        num_gpu: 'auto' takes a GPU if there is one, 0 the CPU.
        where: opens the message.

    Returns:
        The device.

    Raises:
        InputError: if a GPU is asked for where there is none.
    """
    present = torch.cuda.device_count()
    if num_gpu != 'auto' and num_gpu > present:
        raise InputError(f'{where}: num_gpu: expected at most {present} (GPUs here), got {num_gpu}; 0 runs on the CPU')
    if num_gpu != 'auto' and num_gpu > 1:
        _LOGGER.warning('num_gpu is %d; a test uses one GPU', num_gpu)
    return torch.device('cuda' if present and num_gpu != 0 else 'cpu')


def _prepare(options: TestOptions, where: str) -> _Prepared:
    """Plans everything, then tries every network and reads every picture once."""
    try:
        degradations = build_degradations(options.degradations, options.scale)
        metrics = tuple(_plan_metric(label, block) for label, block in options.metrics.items())
        networks = tuple(_plan_network(label, block, options.scale) for label, block in options.networks.items())
        check_folder_names('networks', list(options.networks))
        check_folder_names('datasets', list(options.datasets))
        check_folder_names('degradations', [degradation.label for degradation in degradations])
        datasets, skipped = _find_datasets(options)
        digests = {}
        for plan in networks:
            network, digests[plan.label] = build_network(plan)
            probe_network(network, plan, degradations[0])
            del network
        pictures = {}
        for dataset in datasets:
            pictures[dataset.name], small = inspect_dataset(dataset, options.scale, smallest_side(metrics))
            skipped += [{'dataset': dataset.name, 'picture': name, 'reason': reason} for name, reason in small]
    except InputError as error:
        raise InputError(f'{where}: {error}') from error
    for entry in skipped:
        _LOGGER.warning(
            'skipped: %s: %s', ' '.join(filter(None, (entry['dataset'], entry['picture']))), entry['reason']
        )
    benchmark = Benchmark(
        options.name, options.scale, options.seed, datasets, degradations, networks, metrics, options.save_img
    )
    return _Prepared(benchmark, pictures, digests, skipped)


def _leave_out(options: Mapping[str, object]) -> dict[str, object]:
    """The options without the networks, data sets and metrics that are set to nothing, as `networks.DASR=~` does."""
    kept = dict(options)
    for key in ('networks', 'datasets', 'metrics'):
        entries = kept.get(key)
        if isinstance(entries, Mapping):
            kept[key] = {label: entry for label, entry in entries.items() if entry is not None}
    return kept


def _find_datasets(options: TestOptions) -> tuple[tuple[DatasetPlan, ...], list[dict[str, str]]]:
    """The data sets that are there, and those that are not but may be skipped."""
    found, skipped = [], []
    for name, entry in options.datasets.items():
        root = Path(entry.dataroot_gt)
        if root.exists():
            found.append(DatasetPlan(name, root))
            continue
        reason = f"'{root}' does not exist; datasets/README.md tells how to get it"
        if (entry.missing or options.missing) == 'error':
            raise InputError(f'datasets.{name}.dataroot_gt: {reason}, and `missing: skip` goes on without it')
        skipped.append({'dataset': name, 'picture': '', 'reason': reason})
    if not found:
        names = ', '.join(options.datasets)
        raise InputError(f'datasets: none of {names} exists here; datasets/README.md tells how to get them')
    return tuple(found), skipped


def _plan_metric(label: str, block: Block) -> MetricPlan:
    kind = block.get('type')
    if not isinstance(kind, str):
        raise InputError(f"metrics.{label}: expected 'type', the name of a metric such as calculate_psnr")
    metric = MetricPlan(label, kind, {key: value for key, value in block.items() if key != 'type'})
    check_metric(metric)
    return metric


def _plan_network(label: str, block: Block, scale: int) -> NetworkPlan:
    where = f'networks.{label}'
    name = check_known(block.get('type'), {name for name, _ in ARCH_REGISTRY}, where, 'arch')
    kind = ARCH_REGISTRY.get(name)
    arguments = {key: value for key, value in block.items() if key not in OWN_NETWORK_KEYS}
    for key in inspect.signature(kind).parameters:
        if key in _SCALE_ARGUMENTS and arguments.setdefault(key, scale) != scale:
            raise InputError(f'{where}: {key} is {arguments[key]}, but the test has scale {scale}; make them equal')
    check_arguments(kind, arguments, where, skip=OWN_NETWORK_KEYS)
    texts = {}
    for key in ('path', 'param_key'):
        texts[key] = block.get(key)
        if texts[key] is not None and not isinstance(texts[key], str):
            raise InputError(f'{where}: {key} must be text, got {texts[key]!r}')
    told = block.get('told', 'truth')
    for choice in TELLERS:
        if told == choice:
            weights = Path(str(texts['path'])) if texts['path'] is not None else None
            param_key = str(texts['param_key']) if texts['param_key'] is not None else None
            return NetworkPlan(label, name, arguments, weights, param_key, choice)
    raise InputError(f'{where}: told must be one of {", ".join(TELLERS)}, got {told!r}')


def test(argv: Sequence[str] | None = None) -> int:
    """What test.py runs: tests what an option file describes and writes the tables to the standard output.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        Exit code: 0, 1 if a cell failed, 2 for what the user got wrong, 130 after Ctrl-C.
    """
    arguments = parse_testing_arguments(argv)

    def work() -> int:
        report = run_test_file(arguments.options, arguments.overrides)
        sys.stdout.write(describe_report(report))
        return report.exit_code

    return run_guarded(work, arguments.debug)


test.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for a test


def describe_report(report: TestReport) -> str:
    """The tables, and a last line that says where the files are."""
    failures = f'; {report.failures} cells failed' if report.failures else ''
    return f'{report.console}\ntables, stored cells and pictures: {report.folder}{failures}\n'
