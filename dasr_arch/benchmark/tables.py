"""Tables of a benchmark: one JSON file that holds every number, and console text, CSV and Markdown made from it."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write
from dasr_arch.benchmark.cells import PROTOCOL_VERSION, encode_number
from dasr_arch.benchmark.environment import now
from dasr_arch.benchmark.runner import Outcome
from dasr_arch.benchmark.suites import Benchmark

CONSOLE_WIDTH = 120  # characters
MARKDOWN_COLUMNS = 9  # beside the first
FAILED = 'failed'

Record = Mapping[str, Any]
"""Content of a ``table.json``, or a part of it."""


def record_results(
    benchmark: Benchmark,
    outcomes: Sequence[Outcome],
    skipped: Sequence[Mapping[str, str]],
    options: Mapping[str, object],
    environment: Mapping[str, object],
) -> dict[str, Any]:
    """Everything that reports need, ready for JSON.

    Args:
        benchmark: what was asked for.
        outcomes: what became of every cell.
        skipped: data sets and pictures that do not count: 'dataset', 'picture' (empty for a whole set), 'reason'.
        options: the option file as it was read, overrides included.
        environment: versions and hardware of this run; each row holds those of the run that computed it.

    Returns:
        The record; the means are arithmetic means over the pictures.
    """
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
        'rows': [_record_row(outcome) for outcome in outcomes],
    }


def write_tables(folder: Path, record: Record) -> None:
    """Writes ``table.json``, ``table.csv`` and ``table.md``.

    Args:
        folder: the results' folder.
        record: what `record_results` gave.

    Raises:
        OSError: if a file cannot be written.
    """
    texts = {
        'table.json': json.dumps(record, indent=1, allow_nan=False) + '\n',
        'table.csv': format_csv(record),
        'table.md': format_markdown(record),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding='utf-8', newline='')


def read_results(path: Path) -> dict[str, Any]:
    """Reads a ``table.json`` again, for reports.

    Args:
        path: the file.

    Returns:
        The record.

    Raises:
        InputError: if the file is missing or no such table.
    """
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
    """One block per data set: networks below each other, degradations side by side, or the reverse if those are many.

    Args:
        record: the record.
        width: characters in a line; columns that do not fit go into further blocks.

    Returns:
        Lines of text, the last one ended.
    """
    lines = []
    for dataset in _unique(record, 'dataset'):
        head = (
            f'{dataset} x{record["scale"]}, {_count_pictures(record, dataset)} pictures, {"/".join(record["metrics"])}'
        )
        table = _make_grid(record, dataset)
        if _measure_width(table) > width:
            table = _transpose(table)
        for block in _split_columns(table, width):
            widths = [max(map(len, column)) for column in zip(*block, strict=True)]
            lines.append(head)
            lines += ['  '.join(_align(row, widths)).rstrip() for row in block]
            lines.append('')
    return '\n'.join([*lines, *_list_remarks(record)]).rstrip('\n') + '\n'


def format_markdown(record: Record) -> str:
    """The same blocks as Markdown, with date, commit, versions, hardware and options.

    Args:
        record: the record.

    Returns:
        A Markdown document.
    """
    lines = [f'# {record["name"]}', '', *_describe_run(record), '']
    for dataset in _unique(record, 'dataset'):
        lines += [f'## {dataset} x{record["scale"]}, {_count_pictures(record, dataset)} pictures', '']
        table = _make_grid(record, dataset)
        if len(table[0]) > MARKDOWN_COLUMNS + 1:
            table = _transpose(table)
        for first in range(1, len(table[0]), MARKDOWN_COLUMNS):
            block = [[row[0], *row[first : first + MARKDOWN_COLUMNS]] for row in table]
            lines += [_markdown_row(block[0]), f'|---|{"---:|" * (len(block[0]) - 1)}']
            lines += [*map(_markdown_row, block[1:]), '']
    lines += [f'- {remark}' for remark in _list_remarks(record)]
    lines += ['', 'Options:', '', '```json', json.dumps(record['options'], indent=1), '```']
    return '\n'.join(lines) + '\n'


def format_csv(record: Record) -> str:
    """One line per cell: means, or the reason of a failure, and where and when the cell was computed.

    Args:
        record: the record.

    Returns:
        CSV text with a header.
    """
    metrics = list(record['metrics'])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(
        [
            'network',
            'dataset',
            'scale',
            'degradation',
            'pictures',
            *metrics,
            'failure',
            'date',
            'commit',
            'torch',
            'device',
        ]
    )
    for row in record['rows']:
        environment = row['environment']
        writer.writerow(
            [row['network'], row['dataset'], record['scale'], row['degradation'], len(row['pictures'])]
            + [row['means'].get(label, '') for label in metrics]
            + [row['failure'], row['date'], environment.get('commit') or '']
            + [environment.get('torch', ''), environment.get('device', '')]
        )
    return text.getvalue()


def _record_row(outcome: Outcome) -> dict[str, Any]:
    cell, result = outcome.cell, outcome.result
    row: dict[str, Any] = {
        'network': cell.network.label,
        'dataset': cell.suite.dataset.name,
        'degradation': cell.suite.degradation.label,
        'specification': cell.suite.degradation.specification(),
        'cell': cell.fingerprint,
        'weights': cell.weights_digest,
        'failure': outcome.reason,
    }
    if result is None:
        return {**row, 'means': {}, 'pictures': [], 'date': '', 'seconds': 0.0, 'environment': {}}
    return {
        **row,
        'means': {label: encode_number(value) for label, value in result.means().items()},
        'pictures': [
            {'name': name, **{label: encode_number(value) for label, value in scores.items()}}
            for name, scores in result.scores.items()
        ],
        'date': result.date,
        'seconds': result.seconds,
        'environment': dict(result.environment),
    }


def _make_grid(record: Record, dataset: str) -> list[list[str]]:
    """Header and rows of one data set: networks x degradations."""
    rows = {(row['network'], row['degradation']): row for row in record['rows'] if row['dataset'] == dataset}
    degradations = _unique(record, 'degradation')
    grid = [['network', *degradations]]
    for network in _unique(record, 'network'):
        grid.append([network, *[_format_cell(record, rows[network, label]) for label in degradations]])
    return grid


def _format_cell(record: Record, row: Record) -> str:
    if row['failure']:
        return FAILED
    return '/'.join(
        f'{float(row["means"][label]):.{_digits(options["type"])}f}' for label, options in record['metrics'].items()
    )


def _digits(metric_type: str) -> int:
    return 2 if 'psnr' in metric_type else 4


def _transpose(table: list[list[str]]) -> list[list[str]]:
    """Degradations below each other, networks side by side."""
    columns = [list(column) for column in zip(*table, strict=True)]
    columns[0][0] = 'degradation'
    return columns


def _measure_width(table: list[list[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in zip(*table, strict=True)) - 2


def _split_columns(table: list[list[str]], width: int) -> Iterator[list[list[str]]]:
    """Blocks that repeat the first column and hold as many others as fit into the width, one at least."""
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


def _markdown_row(row: Sequence[str]) -> str:
    return f'| {" | ".join(text.replace("|", "/") for text in row)} |'


def _unique(record: Record, key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in record['rows']))


def _count_pictures(record: Record, dataset: str) -> int:
    return max((len(row['pictures']) for row in record['rows'] if row['dataset'] == dataset), default=0)


def _describe_run(record: Record) -> list[str]:
    environment = record['environment']
    versions = [
        f'{key} {environment[key]}' for key in ('dasr', 'python', 'torch', 'basicsr', 'numpy') if key in environment
    ]
    commit = environment.get('commit') or 'not in a checkout'
    metrics = [f'{label} = {_describe_metric(options)}' for label, options in record['metrics'].items()]
    return [
        f'- date {record["date"]}, commit {commit}',
        f'- {environment.get("device", "unknown device")}, {environment.get("cores", "?")} cores',
        f'- {", ".join(versions)}',
        f'- {"; ".join(metrics)}; mean over pictures; noise seed {record["seed"]}; protocol {record["protocol"]}',
    ]


def _describe_metric(options: Record) -> str:
    arguments = ', '.join(f'{key}={value}' for key, value in options.items() if key != 'type')
    return f'{options["type"]}({arguments})'


def _list_remarks(record: Record) -> list[str]:
    """One line for everything that failed or does not count."""
    remarks = [
        f'failed: {row["network"]} on {row["dataset"]}, {row["degradation"]}: {row["failure"]}'
        for row in record['rows']
        if row['failure']
    ]
    for entry in record['skipped']:
        what = f'{entry["dataset"]}, {entry["picture"]}' if entry['picture'] else entry['dataset']
        remarks.append(f'skipped: {what}: {entry["reason"]}')
    return remarks
