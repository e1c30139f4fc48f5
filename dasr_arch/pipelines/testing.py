"""Tests of an option file: checks everything, runs the evaluations and writes tables and the page."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from msgspec import Meta

from dasr_arch._errors import InputError, naming, suggest
from dasr_arch._memory import keep_freed_memory
from dasr_arch.benchmark.claims import Claims
from dasr_arch.benchmark.complexity import CostPlan, Costs, measure_costs
from dasr_arch.benchmark.config import (
    Benchmark,
    Block,
    DatasetPlan,
    MetricPlan,
    Missing,
    NetworkPlan,
    build_degradations,
    check_folder_names,
    find_missing_file,
    plan_network,
    update_label,
)
from dasr_arch.benchmark.crops import write_crops
from dasr_arch.benchmark.environment import describe_environment
from dasr_arch.benchmark.image_metrics import check_metric
from dasr_arch.benchmark.methods import build_method, describe_method, probe_method
from dasr_arch.benchmark.pages.results_page import write_results_page
from dasr_arch.benchmark.published_figures import read_published
from dasr_arch.benchmark.result_cache import ImageFacts
from dasr_arch.benchmark.runner import Runner, inspect_dataset
from dasr_arch.benchmark.tables.formats import Extras, format_console, record_results, write_tables
from dasr_arch.config.registry_checks import import_modules
from dasr_arch.config.train_schema import Count, ImportOptions, Name, Options, WholeNumber
from dasr_arch.config.typed import convert
from dasr_arch.config.yaml_reader import read_yaml
from dasr_arch.degradations import Degradation
from dasr_arch.metrics.facts import smallest_side

RESULTS_FOLDER = Path('results')  # below the current folder
REPORT_NAME = 'comparison.html'

_LOGGER = logging.getLogger(__name__)


class DatasetOptions(Options, kw_only=True, frozen=True):
    """One set of HR images."""

    dataroot_gt: Annotated[str, Meta(min_length=1)]
    missing: Missing | None = None  # the file's `missing` if absent


class CropOptions(Options, kw_only=True, frozen=True):
    """Crops of images for the page."""

    renamed: ClassVar[dict[str, str]] = {'pictures': 'images'}

    images: Annotated[int, Meta(ge=1)] | dict[str, list[str]] = 1  # number per data set, or names by data set
    size: Annotated[int, Meta(ge=16)] = 96  # HR pixels


class TestOptions(ImportOptions, kw_only=True, frozen=True):
    """A test file."""

    __test__ = False  # pytest takes the name for a test

    name: Name
    scale: Count
    num_gpu: Literal['auto'] | WholeNumber = 'auto'
    seed: WholeNumber = 0
    missing: Missing = 'skip'
    missing_weights: Missing = 'error'
    datasets: dict[str, DatasetOptions]
    degradations: list[Block]
    networks: dict[str, Block]
    metrics: dict[str, Block]
    averages: dict[str, Literal['all'] | list[str]] | None = None
    published: list[str] | None = None
    save_img: bool = False
    crops: CropOptions | None = None
    costs: CostPlan | None = None
    report: bool = False

    def __post_init__(self) -> None:
        for key in ('datasets', 'degradations', 'networks', 'metrics'):
            if not getattr(self, key):
                raise ValueError(f'{key}: expected at least one entry, got none')


class TestReport(NamedTuple):
    """Result of a test."""

    console: str  # the tables
    folder: Path  # of the results
    failures: int  # number of failed evaluations


class _Prepared(NamedTuple):
    """A test whose networks and data sets have been checked."""

    benchmark: Benchmark
    images: dict[str, tuple[ImageFacts, ...]]
    digests: dict[str, str]
    skipped: list[dict[str, str]]
    extras: Extras


def run_test_file(path: Path, overrides: Sequence[str] = ()) -> TestReport:
    """Runs the test of an option file, ``key=value`` overrides applied; its files are in ``results/<name>``.

    Raises InputError if the file, a network or a data set is wrong, before anything is computed, and OSError if results
    cannot be written.
    """
    return run_test(read_yaml(path, overrides), str(path))


def run_test(options: Mapping[str, object], where: str = 'options') -> TestReport:
    """Runs a test from the content of its file, which is not altered; cached evaluations are not computed again.

    ``where`` is the name of the file in messages. Raises InputError and OSError as `run_test_file`.
    """
    import_modules(options, where)
    checked = convert(_leave_out(options), TestOptions, where)
    device = choose_device(checked.num_gpu, where)
    prepared = _prepare(checked, where)
    benchmark, extras = prepared.benchmark, prepared.extras
    folder = RESULTS_FOLDER / checked.name
    folder.mkdir(parents=True, exist_ok=True)
    if device.type == 'cpu':
        keep_freed_memory()
    outcomes = Runner(benchmark, prepared.images, prepared.digests, folder, device).run()
    with Claims(folder / 'cells').wait_for('table', alone=checked.costs is not None):  # one process after the other
        if checked.crops is not None:
            extras.crops = write_crops(benchmark, benchmark.shown, checked.crops.size, folder / 'crops')
        if checked.costs is not None:
            extras.costs = _measure_costs(benchmark, checked.costs, folder, device)
        record = record_results(benchmark, outcomes, prepared.skipped, options, describe_environment(device), extras)
        write_tables(folder, record)
        if checked.report:
            write_results_page(folder, folder / REPORT_NAME)
    return TestReport(format_console(record), folder, sum(bool(outcome.reason) for outcome in outcomes))


def _measure_costs(benchmark: Benchmark, plan: CostPlan, folder: Path, device: torch.device) -> dict[str, Costs]:
    """The costs of every method, by label."""
    costs = {}
    for network in benchmark.networks:
        _LOGGER.info('measuring the costs of %s', network.label)
        method = build_method(network, benchmark.scale)
        costs[network.label] = measure_costs(method, benchmark.scale, plan, device, folder / 'costs')
    return costs


def choose_device(num_gpu: int | Literal['auto'], where: str) -> torch.device:
    """The device of a test, one GPU at most: 'auto' takes one if there is one, 0 takes the CPU.

    Raises InputError if a GPU is asked for where there is none.
    """
    present = torch.cuda.device_count()
    if num_gpu != 'auto' and num_gpu > present:
        raise InputError(f'{where}: num_gpu: expected at most {present} (GPUs here), got {num_gpu}; 0 runs on the CPU')
    if num_gpu != 'auto' and num_gpu > 1:
        _LOGGER.warning('num_gpu is %d; a test uses one GPU', num_gpu)
    return torch.device('cuda' if present and num_gpu != 0 else 'cpu')


def _prepare(options: TestOptions, where: str) -> _Prepared:
    """Plans the test, runs every network on a small image and reads every image once."""
    with naming(where):
        degradations = build_degradations(options.degradations, options.scale)
        metrics = tuple(_plan_metric(label, block) for label, block in options.metrics.items())
        networks, absent = _find_networks(options)
        check_folder_names('networks', list(options.networks))
        check_folder_names('datasets', list(options.datasets))
        check_folder_names('degradations', [degradation.label for degradation in degradations])
        averages = _find_averages(options, degradations)
        for name in options.published or ():
            read_published(name, options.scale)
        datasets, skipped = _find_datasets(options)
        skipped += absent
        digests, systems = {}, {}
        for plan in networks:
            method = build_method(plan, options.scale)
            probe_method(method, degradations[0])
            digests[plan.label], systems[plan.label] = method.digest, describe_method(method)
            del method
        images: dict[str, tuple[ImageFacts, ...]] = {}
        smallest = smallest_side({'type': metric.type, **metric.options} for metric in metrics)
        for dataset in datasets:
            images[dataset.name], small = inspect_dataset(dataset, options.scale, smallest)
            skipped += [{'dataset': dataset.name, 'picture': name, 'reason': reason} for name, reason in small]
        shown = _choose_shown(options, images)
    for entry in skipped:
        what = ' '.join(filter(None, (entry.get('network'), entry['dataset'], entry['picture'])))
        _LOGGER.warning('skipped: %s: %s', what, entry['reason'])
    benchmark = Benchmark(
        options.name, options.scale, options.seed, datasets, degradations, networks, metrics, options.save_img, shown
    )
    return _Prepared(benchmark, images, digests, skipped, Extras(systems, averages, options.published or ()))


def _find_networks(options: TestOptions) -> tuple[tuple[NetworkPlan, ...], list[dict[str, str]]]:
    """The methods whose weights exist, and entries for those that are skipped."""
    found, skipped = [], []
    for label, block in options.networks.items():
        plan = plan_network(label, block, options.scale)
        for dataset in plan.datasets or ():
            if dataset not in options.datasets:
                known = suggest(dataset, options.datasets)
                raise InputError(f"networks.{label}.datasets: no data set is called '{dataset}'{known}")
        path = find_missing_file(plan)
        missing = block.get('missing') or options.missing_weights
        if path is None or missing == 'error':
            found.append(plan)
            continue
        reason = f"'{path}' does not exist; train it, or give its path"
        skipped.append({'network': label, 'dataset': '', 'picture': '', 'reason': reason})
    if not found:
        raise InputError(f'networks: no weights of {", ".join(options.networks)} exist here; train one of them first')
    return tuple(found), skipped


def _find_averages(options: TestOptions, degradations: Sequence[Degradation]) -> dict[str, tuple[str, ...]]:
    """The columns that are means over others, with the labels of those."""
    labels = [degradation.label for degradation in degradations]
    averages = {}
    for name, members in (options.averages or {}).items():
        if name in labels:
            raise InputError(f"averages: '{name}' is a degradation already; choose another name")
        chosen = labels if members == 'all' else list(map(update_label, members))
        for label in chosen:
            if label not in labels:
                raise InputError(f"averages.{name}: no degradation is called '{label}'{suggest(label, labels)}")
        if not chosen:
            raise InputError(f'averages.{name}: expected at least one degradation, or all')
        averages[name] = tuple(chosen)
    return averages


def _choose_shown(options: TestOptions, images: Mapping[str, Sequence[ImageFacts]]) -> dict[str, tuple[str, ...]]:
    """The images that the page shows, by data set; unknown names are left out with a warning."""
    if options.crops is None:
        return {}
    names = {dataset: [facts.name for facts in group] for dataset, group in images.items()}
    wanted_of = options.crops.images
    if isinstance(wanted_of, int):
        return {dataset: tuple(group[:wanted_of]) for dataset, group in names.items()}
    shown = {}
    for dataset, wanted in wanted_of.items():
        if dataset not in options.datasets:
            _LOGGER.warning("crops.images: no data set is called '%s'%s", dataset, suggest(dataset, options.datasets))
        group = names.get(dataset, [])
        for name in wanted:
            if group and name not in group:
                _LOGGER.warning("crops.images.%s: there is no image '%s'%s", dataset, name, suggest(name, group))
        shown[dataset] = tuple(name for name in wanted if name in group)
    return shown


def _leave_out(options: Mapping[str, object]) -> dict[str, object]:
    """The options without entries set to null, as `networks.DASR=~` does."""
    kept = dict(options)
    for key in ('networks', 'datasets', 'metrics'):
        entries = kept.get(key)
        if isinstance(entries, Mapping):
            kept[key] = {label: entry for label, entry in entries.items() if entry is not None}
    return kept


def _find_datasets(options: TestOptions) -> tuple[tuple[DatasetPlan, ...], list[dict[str, str]]]:
    """The data sets that exist, and entries for those that are skipped."""
    found, skipped = [], []
    for name, entry in options.datasets.items():
        root = Path(entry.dataroot_gt).expanduser()
        if root.exists():
            found.append(DatasetPlan(name, root))
            continue
        reason = f"'{root}' does not exist; datasets/README.md tells how to get it"
        if (entry.missing or options.missing) == 'error':
            raise InputError(f'datasets.{name}.dataroot_gt: {reason}, and `missing: skip` leaves it out')
        skipped.append({'dataset': name, 'picture': '', 'reason': reason})
    if not found:
        names = ', '.join(f'{name} ({entry.dataroot_gt})' for name, entry in options.datasets.items())
        raise InputError(f'datasets: none of {names} exists here; datasets/README.md tells how to get them')
    return tuple(found), skipped


def _plan_metric(label: str, block: Block) -> MetricPlan:
    kind = block.get('type')
    if not isinstance(kind, str):
        raise InputError(f"metrics.{label}: expected 'type', the name of a metric such as calculate_psnr")
    metric = MetricPlan(label, kind, {key: value for key, value in block.items() if key != 'type'})
    check_metric(metric)
    return metric
