"""Tables of a test: one JSON file with every number, and console text, CSV, Markdown and LaTeX made from it."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch.benchmark.complexity import Costs
from dasr_arch.benchmark.config import Benchmark
from dasr_arch.benchmark.crops import Crop
from dasr_arch.benchmark.environment import list_versions, now
from dasr_arch.benchmark.published_figures import METRIC_TYPES, describe_published, key_of, read_published
from dasr_arch.benchmark.result_cache import PROTOCOL_VERSION, encode_scores
from dasr_arch.benchmark.runner import EvaluationOutcome
from dasr_arch.benchmark.tables.latex import format_latex
from dasr_arch.benchmark.tables.results_table import (
    PUBLISHED_COSTS,
    Record,
    ResultsTable,
    build_tables,
    describe_metric,
    format_values,
    known_degradation,
    list_costs,
    list_published_costs,
    name_row,
)

CONSOLE_WIDTH = 120  # characters
MARKDOWN_COLUMNS = 9  # after the first


@dataclass
class Extras:
    """Contents of a table other than the results of evaluations."""

    systems: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # results of `describe_method`, by label
    averages: Mapping[str, Sequence[str]] = field(default_factory=dict)  # columns that are means over degradations
    published: Sequence[str] = ()  # names of the files of published figures
    costs: Mapping[str, Costs] = field(default_factory=dict)  # by label
    crops: Sequence[Crop] = ()  # for the page


def record_results(
    benchmark: Benchmark,
    outcomes: Sequence[EvaluationOutcome],
    skipped: Sequence[Mapping[str, str]],
    options: Mapping[str, object],
    environment: Mapping[str, object],
    extras: Extras,
) -> dict[str, Any]:
    """The content of ``table.json``; the means are arithmetic means over the images.

    ``skipped`` lists networks, data sets and images that were left out: 'network' (may be absent), 'dataset', 'picture'
    (empty for a whole set), 'reason'. ``options`` are those of the option file, overrides included. ``environment`` is
    that of this run; each row has that of the run which computed it.
    """
    rows = [_record_row(outcome) for outcome in outcomes]
    return {
        'name': benchmark.name,
        'date': now(),
        'environment': dict(environment),
        'protocol': PROTOCOL_VERSION,
        'scale': benchmark.scale,
        'seed': benchmark.seed,
        'metrics': {metric.label: {'type': metric.type, **metric.options} for metric in benchmark.metrics},
        'options': dict(options),
        'skipped': [dict(entry) for entry in skipped],
        'averages': {name: list(members) for name, members in extras.averages.items()},
        'systems': {
            label: _record_system(label, extras, rows) for label in dict.fromkeys(row['network'] for row in rows)
        },
        'published': _record_published(benchmark, extras),
        'crops': msgspec.to_builtins(extras.crops),
        'rows': rows,
    }


def write_tables(folder: Path, record: Record) -> None:
    """Writes ``table.json``, ``table.csv``, ``table.md``, ``table.tex`` and ``systems.csv``; OSError if that fails."""
    texts = {
        'table.json': json.dumps(record, indent=1, allow_nan=False) + '\n',
        'table.csv': format_csv(record),
        'table.md': format_markdown(record),
        'table.tex': format_latex(record),
        'systems.csv': format_systems_csv(record),
    }
    for name, text in texts.items():
        write_whole(folder / name, text)


def read_results(path: Path) -> dict[str, Any]:
    """Reads a ``table.json``; raises InputError if the file is missing or no such table."""
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(record, dict) or not {'rows', 'metrics', 'scale', 'options'} <= record.keys():
            raise ValueError('it is no table of results')
    except FileNotFoundError as error:
        raise InputError(f"results file '{path}' does not exist; run test.py first") from error
    except ValueError as error:
        raise InputError(f"results file '{path}' cannot be read: {error}; run test.py again") from error
    return record


def format_console(record: Record, width: int = CONSOLE_WIDTH) -> str:
    """One block per data set, or several if columns exceed ``width`` characters: networks x degradations or reverse."""
    lines = []
    for results in build_tables(record):
        head = f'{results.dataset} x{record["scale"]}, {results.images} images, {"/".join(record["metrics"])}'
        table = _make_grid(results)
        if sum(max(map(len, column)) + 2 for column in zip(*table, strict=True)) - 2 > width:
            table = _transpose(table)
        for block in _split_columns(table, width):
            widths = [max(map(len, column)) for column in zip(*block, strict=True)]
            lines.append(head)
            lines += ['  '.join(_align(row, widths)).rstrip() for row in block]
            lines.append('')
    return '\n'.join([*lines, *list_remarks(record)]).rstrip('\n') + '\n'


def format_markdown(record: Record) -> str:
    """The same blocks as a Markdown document, with date, commit, versions, hardware and options."""
    lines = [f'# {record["name"]}', '', *_describe_run(record), '']
    for results in build_tables(record):
        lines += [f'## {results.dataset} x{record["scale"]}, {results.images} images', '']
        table = _make_grid(results)
        if len(table[0]) > MARKDOWN_COLUMNS + 1:
            table = _transpose(table)
        for first in range(1, len(table[0]), MARKDOWN_COLUMNS):
            lines += _draw_markdown([[row[0], *row[first : first + MARKDOWN_COLUMNS]] for row in table])
    lines += _list_costs(record)
    lines += [f'- {remark}' for remark in list_remarks(record)]
    lines += ['', 'Options:', '', '```json', json.dumps(record['options'], indent=1), '```']
    return '\n'.join(lines) + '\n'


def format_csv(record: Record) -> str:
    """CSV with a line per evaluation: means, or the reason of a failure, with date and environment."""
    first = ('network', 'dataset', 'scale', 'degradation', 'pictures')
    last = ('failure', 'date', 'commit', 'torch', 'device', 'seconds', 'published')
    lines = []
    for row in record['rows']:
        numbers = {'scale': record['scale'], 'pictures': len(row['pictures'])}
        seconds = '' if row.get('seconds', 0.0) is None else f'{row.get("seconds", 0.0):.3f}'
        lines.append({**row['means'], **row['environment'], **row, **numbers, 'seconds': seconds})
    for table in build_tables(record):
        for row in table.rows:
            place = {'network': row.label, 'dataset': table.dataset, 'scale': record['scale'], 'published': row.source}
            for column, values in row.values.items():
                if row.source or column in record.get('averages', {}):
                    lines.append({**values, **place, 'degradation': column})
    return _write_csv((*first, *record['metrics'], *last), lines)


def format_systems_csv(record: Record) -> str:
    """CSV with a line per method: non-blind inputs and costs; those that were not measured are empty."""
    facts = ('type', 'known', 'upper_bound', 'predictor', 'denoiser', 'adapts', 'tile', 'seconds_per_picture')
    costs = ('size', 'parameters', 'multiply_adds', 'milliseconds', 'peak_mib', 'base_mib', 'failure')
    lines = [
        {**(system.get('costs') or {}), **system, 'system': label, 'known': known_degradation(system)}
        for label, system in record.get('systems', {}).items()
    ]
    return _write_csv(('system', *facts, *costs), lines)


def _write_csv(columns: Sequence[str], lines: Sequence[Record]) -> str:
    """CSV with a head; a line's other entries are left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction='ignore', lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _record_row(outcome: EvaluationOutcome) -> dict[str, Any]:
    evaluation, result = outcome.evaluation, outcome.result
    row: dict[str, Any] = {
        'network': evaluation.network.label,
        'dataset': evaluation.suite.dataset.name,
        'degradation': evaluation.suite.degradation.label,
        'specification': evaluation.suite.degradation.specification(),
        'cell': evaluation.fingerprint,
        'weights': evaluation.weights_digest,
        'failure': outcome.reason,
    }
    if result is None:
        return {**row, 'means': {}, 'pictures': [], 'date': '', 'seconds': 0.0, 'environment': {}}
    return {
        **row,
        'means': encode_scores(result.means()),
        'pictures': [{'name': name, **encode_scores(scores)} for name, scores in result.scores.items()],
        'date': result.date,
        'seconds': result.seconds,
        'environment': dict(result.environment),
    }


def _make_grid(table: ResultsTable) -> list[list[str]]:
    """Header and rows of one data set: networks x degradations."""
    rows = [[name_row(row), *[format_values(table, row, column) for column in table.columns]] for row in table.rows]
    return [['network', *table.columns], *rows]


def _record_system(label: str, extras: Extras, rows: Sequence[Record]) -> dict[str, Any]:
    """Facts of a method, with its costs and its mean time for a test image."""
    own = [row for row in rows if row['network'] == label and not row['failure'] and row['seconds'] is not None]
    images = sum(len(row['pictures']) for row in own)
    costs = extras.costs.get(label)
    return {
        **extras.systems.get(label, {}),
        'seconds_per_picture': sum(row['seconds'] for row in own) / images if images else None,
        'costs': asdict(costs) if costs is not None else None,
    }


def _record_published(benchmark: Benchmark, extras: Extras) -> dict[str, Any]:
    """The published figures that match a column of this table."""
    keys = {degradation.label: key_of(degradation.specification()) for degradation in benchmark.degradations}
    columns = {frozenset({key}): label for label, key in keys.items()}
    columns |= {frozenset(keys[member] for member in members): name for name, members in extras.averages.items()}
    metrics = {
        name: metric.label
        for name, kind in METRIC_TYPES.items()
        for metric in benchmark.metrics
        if metric.type == kind
        and metric.options.get('test_y_channel')
        and metric.options.get('crop_border') == benchmark.scale
    }
    datasets = {dataset.name for dataset in benchmark.datasets}
    rows = []
    for name in extras.published:
        for figure in read_published(name, benchmark.scale):
            column = columns.get(figure.degradations)
            if column is not None and figure.dataset in datasets and figure.metric in metrics:
                entry = figure._asdict() | {'column': column, 'metric': metrics[figure.metric]}
                del entry['degradations']
                rows.append(entry)
    used = dict.fromkeys(row['table'] for row in rows)
    return {'sources': {name: describe_published(name) for name in used}, 'rows': rows}


def _list_costs(record: Record) -> list[str]:
    """Measured and published costs as Markdown tables; empty if there are none."""
    lines = []
    measured, published = list_costs(record), list_published_costs(record)
    if measured:
        size = next(system['costs']['size'] for system in record['systems'].values() if system.get('costs'))
        lines = [f'## Costs for {size} x {size} LR pixels', '', *_draw_markdown(measured, texts=2)]
        lines += ['Memory is the peak of the process, without Python and its libraries.', '']
    if published:
        lines += [f'## {PUBLISHED_COSTS}', '', *_draw_markdown(published)]
    return lines


def _transpose(table: list[list[str]]) -> list[list[str]]:
    """Degradations below each other, networks side by side."""
    columns = [list(column) for column in zip(*table, strict=True)]
    columns[0][0] = 'degradation'
    return columns


def _split_columns(table: list[list[str]], width: int) -> Iterator[list[list[str]]]:
    """Blocks that repeat the first column and hold as many others as fit into the width, at least one."""
    sizes = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    start = 1
    while start < len(sizes):
        end = start + 1
        while end < len(sizes) and sizes[0] + sum(size + 2 for size in sizes[start : end + 1]) <= width:
            end += 1
        yield [[row[0], *row[start:end]] for row in table]
        start = end


def _align(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = list(zip(row, widths, strict=True))
    return [pairs[0][0].ljust(pairs[0][1]), *[text.rjust(size) for text, size in pairs[1:]]]


def _draw_markdown(table: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """A Markdown table and an empty line; the columns after the first ``texts`` hold numbers."""
    lines = [f'| {" | ".join(text.replace("|", "/") for text in row)} |' for row in table]
    return [lines[0], '|---' * texts + '|---:' * (len(table[0]) - texts) + '|', *lines[1:], '']


def _describe_run(record: Record) -> list[str]:
    environment = record['environment']
    commit = environment.get('commit') or 'not in a checkout'
    metrics = [f'{label} = {describe_metric(options)}' for label, options in record['metrics'].items()]
    return [
        f'- date {record["date"]}, commit {commit}',
        f'- {environment.get("device", "unknown device")}, {environment.get("cores", "?")} cores',
        f'- {list_versions(environment, ("dasr", "python", "torch", "basicsr", "numpy"))}',
        f'- {"; ".join(metrics)}; mean over images; noise seed {record["seed"]}; protocol {record["protocol"]}',
    ]


def list_remarks(record: Record, published: bool = True) -> list[str]:
    """One line for every failure and omission, and for the sources of published figures if wanted."""
    remarks = [
        f'failed: {row["network"]} on {row["dataset"]}, {row["degradation"]}: {row["failure"]}'
        for row in record['rows']
        if row['failure']
    ]
    for label, system in record.get('systems', {}).items():
        if system.get('costs') and system['costs']['failure']:
            remarks.append(f'costs of {label} were not measured: {system["costs"]["failure"]}')
    for entry in record['skipped']:
        what = ', '.join(filter(None, (entry.get('network'), entry['dataset'], entry['picture'])))
        remarks.append(f'skipped: {what}: {entry["reason"]}')
    for name, source in record.get('published', {}).get('sources', {}).items() if published else ():
        remarks.append(f'[{name}]: published, not measured here: {source["source"]}. {source["remark"]}')
    return remarks
