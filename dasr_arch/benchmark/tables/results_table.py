"""One data set of a table of results: systems x degradations, with averages and published figures beside them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dasr_arch.benchmark.image_metrics import LOWER_IS_BETTER

Record = Mapping[str, Any]
"""Content of a ``table.json``, or a part of it."""


@dataclass(frozen=True)
class GridRow:
    """One system of a grid.

    Attributes:
        label: what tables call it.
        told: what it is told, in words; empty for published systems, where the name says it.
        source: name of the published table, empty for what was measured here.
        upper_bound: whether it is told something true that others must find out.
        values: metric's value by column and metric; what is missing was not computed or not printed.
        failures: reason by column.
    """

    label: str
    told: str = 'nothing'
    source: str = ''
    upper_bound: bool = False
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Systems x degradations of one data set.

    Attributes:
        dataset: its name.
        images: how many count.
        columns: labels of degradations and of averages.
        averages: the columns that are means over others.
        rows: measured systems in the order of the option file, then published ones.
        metrics: for each metric's label its type and options.
    """

    dataset: str
    images: int
    columns: tuple[str, ...]
    averages: frozenset[str]
    rows: tuple[GridRow, ...]
    metrics: Mapping[str, Mapping[str, Any]]

    def rank(self, column: str, metric: str) -> tuple[str, str]:
        """The best and the second best of the measured systems that are not told the truth.

        Args:
            column: a column.
            metric: label of a metric.

        Returns:
            Two labels, empty where there is none; a system without rivals is no best one.
        """
        lower = self.metrics[metric]['type'] in LOWER_IS_BETTER
        fair = [row for row in self.rows if not row.source and not row.upper_bound]
        valued = [(row.values[column][metric], row.label) for row in fair if metric in row.values.get(column, {})]
        ordered = sorted((pair for pair in valued if not math.isnan(pair[0])), reverse=not lower, key=lambda p: p[0])
        if len(ordered) < 2:
            return '', ''
        return ordered[0][1], ordered[1][1]


def list_datasets(record: Record) -> list[str]:
    """Names of the data sets, in the order of the test."""
    return unique(row['dataset'] for row in record['rows'])


def build_grid(record: Record, dataset: str) -> Grid:
    """The grid of one data set.

    Args:
        record: what `record_results` gave, or a file of it.
        dataset: name of the data set.

    Returns:
        The grid. An average exists for a system only where none of its columns failed.
    """
    rows = [row for row in record['rows'] if row['dataset'] == dataset]
    averages: Mapping[str, Sequence[str]] = record.get('averages', {})
    columns = (*unique(row['degradation'] for row in record['rows']), *averages)
    systems: Record = record.get('systems', {})
    grid_rows = []
    for label in unique(row['network'] for row in rows):
        own = {row['degradation']: row for row in rows if row['network'] == label}
        values = {key: _decode(row['means']) for key, row in own.items() if not row['failure']}
        means = {name: _average(values, members, record['metrics']) for name, members in averages.items()}
        facts = systems.get(label, {})
        grid_rows.append(
            GridRow(
                label,
                facts.get('told', 'nothing'),
                '',
                facts.get('upper_bound', False),
                {**values, **{name: mean for name, mean in means.items() if mean}},
                {key: row['failure'] for key, row in own.items() if row['failure']},
            )
        )
    grid_rows += _list_published(record, dataset)
    count = max((len(row['pictures']) for row in rows), default=0)
    return Grid(dataset, count, columns, frozenset(averages), tuple(grid_rows), record['metrics'])


def digits_of(metric_type: str) -> int:
    """How many decimals a metric is printed with."""
    return 2 if 'psnr' in metric_type or 'niqe' in metric_type else 4


def format_values(grid: Grid, row: GridRow, column: str) -> str:
    """The metrics of a cell, separated by slashes; 'failed', or a dash where there is nothing."""
    if column in row.failures:
        return FAILED
    values = row.values.get(column, {})
    texts = [
        f'{values[label]:.{digits_of(options["type"])}f}' if label in values else NOTHING
        for label, options in grid.metrics.items()
    ]
    if all(text == NOTHING for text in texts):
        return NOTHING
    return '/'.join(texts)


FAILED, NOTHING = 'failed', '-'
PUBLISHED_COSTS = 'Published costs, on the hardware of the authors, for images of another size'


def name_row(row: GridRow) -> str:
    """A system's name with what it is told, or that it was published."""
    if row.source:
        return f'{row.label} [{row.source}]'
    return row.label if row.told == 'nothing' else f'{row.label} ({row.told})'


def unique(values: Iterable[str]) -> list[str]:
    """Values without repetition, in their order."""
    return list(dict.fromkeys(values))


def _list_published(record: Record, dataset: str) -> list[GridRow]:
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for entry in record.get('published', {}).get('rows', ()):
        if entry['dataset'] == dataset:
            columns = found.setdefault((entry['table'], entry['system']), {})
            columns.setdefault(entry['column'], {})[entry['metric']] = entry['value']
    averages: Mapping[str, Sequence[str]] = record.get('averages', {})
    for values in found.values():  # what is not printed itself is the mean of what is
        means = {name: _average(values, members, record['metrics']) for name, members in averages.items()}
        values.update({name: mean for name, mean in means.items() if mean and name not in values})
    return [GridRow(system, '', table, False, values) for (table, system), values in found.items()]


def _average(
    values: Mapping[str, Mapping[str, float]], members: Sequence[str], metrics: Iterable[str]
) -> dict[str, float]:
    """Mean over columns of each metric that all of them have."""
    columns = [values.get(member, {}) for member in members]
    return {
        metric: sum(column[metric] for column in columns) / len(columns)
        for metric in metrics
        if all(metric in column for column in columns)
    }


def _decode(means: Mapping[str, float | str]) -> dict[str, float]:
    return {label: float(value) for label, value in means.items()}


def list_costs(record: Record) -> list[list[str]]:
    """What systems are told and cost, as texts: the heads, then a row for each; nothing if it was not asked for."""
    systems = {label: system for label, system in record.get('systems', {}).items() if system.get('costs')}
    if not systems:
        return []
    size = next(iter(systems.values()))['costs']['size']
    time = f'ms ({size} x {size})'
    rows = [['system', 'told', 'parameters', 'multiply-adds', time, 'memory, MiB', 's per test image']]
    for label, system in systems.items():
        costs = system['costs']
        memory = None if costs['peak_mib'] is None else costs['peak_mib'] - costs['base_mib']
        rows.append(
            [
                label,
                str(system.get('told', '')),
                f'{costs["parameters"] / 1e6:.3f} M',
                f'{costs["multiply_adds"] / 1e9:.1f} G' if costs['multiply_adds'] else NOTHING,
                NOTHING if costs['milliseconds'] is None else f'{costs["milliseconds"]:.0f}',
                NOTHING if memory is None else f'{memory:.0f}',
                NOTHING if system['seconds_per_picture'] is None else f'{system["seconds_per_picture"]:.2f}',
            ]
        )
    return rows


def list_published_costs(record: Record) -> list[list[str]]:
    """What papers print about costs, as texts: the heads, then a row for each system; nothing if they do not."""
    rows = [['system', 'parameters', 'multiply-adds', 'ms']]
    for (table, system), costs in find_published_costs(record).items():
        parameters, multiply_adds, milliseconds = costs
        rows.append(
            [
                f'{system} [{table}]',
                NOTHING if parameters is None else f'{parameters:.2f} M',
                NOTHING if multiply_adds is None else f'{multiply_adds:.1f} G',
                NOTHING if milliseconds is None else f'{milliseconds:.0f}',
            ]
        )
    return rows if len(rows) > 1 else []


def find_published_costs(record: Record) -> dict[tuple[str, str], tuple[float | None, ...]]:
    """Millions of parameters, 1e9 multiply-adds and milliseconds by table and system, where one of them is printed."""
    keys = ('parameters', 'multiply_adds', 'milliseconds')
    found = {
        (entry['table'], entry['system']): tuple(entry.get(key) for key in keys)
        for entry in record.get('published', {}).get('rows', ())
    }
    return {key: costs for key, costs in found.items() if any(cost is not None for cost in costs)}
