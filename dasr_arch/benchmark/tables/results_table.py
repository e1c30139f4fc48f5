"""Table model of one data set: methods x degradations, with averages and published figures."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dasr_arch.metrics.facts import prefers_lower

Record = Mapping[str, Any]
"""Content of a ``table.json``, or a part of it."""


@dataclass(frozen=True)
class ResultsRow:
    """One method of a table."""

    label: str  # its name in tables
    known: str = 'nothing'  # inputs of a non-blind network in words; empty for published methods
    source: str = ''  # name of the published table, empty for measured methods
    upper_bound: bool = False  # is given the true degradation, which others must estimate
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # by column and metric, where there are any
    failures: Mapping[str, str] = field(default_factory=dict)  # reason by column


@dataclass(frozen=True)
class ResultsTable:
    """Table of one data set: methods x degradations."""

    dataset: str
    images: int  # number of images
    columns: tuple[str, ...]  # labels of degradations and of averages
    averages: frozenset[str]  # the columns that are means over others
    rows: tuple[ResultsRow, ...]  # measured methods in the order of the option file, then published ones
    metrics: Mapping[str, Mapping[str, Any]]  # type and options by label

    @property
    def main_column(self) -> str:
        """The column that methods are ranked by: the first average, else the last degradation."""
        return next((name for name in self.columns if name in self.averages), self.columns[-1])

    def rank(self, column: str, metric: str) -> tuple[str, str]:
        """The best and the second best measured method that is not given the true degradation; empty if below two."""
        fair = [row for row in self.rows if not row.source and not row.upper_bound]
        valued = [(row.values[column][metric], row.label) for row in fair if metric in row.values.get(column, {})]
        lower = prefers_lower(self.metrics[metric])
        ordered = sorted((pair for pair in valued if not math.isnan(pair[0])), reverse=not lower, key=lambda p: p[0])
        if len(ordered) < 2:
            return '', ''
        return ordered[0][1], ordered[1][1]


def build_tables(record: Record) -> list[ResultsTable]:
    """The tables of all data sets, in the order of the test."""
    return [build_table(record, dataset) for dataset in unique(row['dataset'] for row in record['rows'])]


def build_table(record: Record, dataset: str) -> ResultsTable:
    """The table of one data set; an average exists for a method only where none of its columns failed."""
    rows = [row for row in record['rows'] if row['dataset'] == dataset]
    averages: Iterable[str] = record.get('averages', {})
    columns = (*unique(row['degradation'] for row in record['rows']), *averages)
    systems: Record = record.get('systems', {})
    table_rows = []
    for label in unique(row['network'] for row in rows):
        own = {row['degradation']: row for row in rows if row['network'] == label}
        values = {
            key: {metric: float(value) for metric, value in row['means'].items()}
            for key, row in own.items()
            if not row['failure']
        }
        facts = systems.get(label, {})
        failures = {key: row['failure'] for key, row in own.items() if row['failure']}
        known, bound = known_degradation(facts) or 'nothing', facts.get('upper_bound', False)
        table_rows.append(ResultsRow(label, known, '', bound, _add_averages(values, record), failures))
    table_rows += _list_published(record, dataset)
    count = max((len(row['pictures']) for row in rows), default=0)
    return ResultsTable(dataset, count, columns, frozenset(averages), tuple(table_rows), record['metrics'])


def digits_of(metric_type: str) -> int:
    """Number of decimals of a metric in tables."""
    return 2 if 'psnr' in metric_type or 'niqe' in metric_type else 4


def describe_metric(options: Record) -> str:
    """Type of a metric with its options, written as a call."""
    arguments = ', '.join(f'{key}={value}' for key, value in options.items() if key not in {'type', 'better'})
    return f'{options["type"]}({arguments})'


def format_values(table: ResultsTable, row: ResultsRow, column: str) -> str:
    """The metrics of one row and column, separated by slashes; 'failed', or a dash without values."""
    if column in row.failures:
        return FAILED
    values = row.values.get(column, {})
    texts = [
        f'{values[label]:.{digits_of(options["type"])}f}' if label in values else NOTHING
        for label, options in table.metrics.items()
    ]
    if all(text == NOTHING for text in texts):
        return NOTHING
    return '/'.join(texts)


FAILED, NOTHING = 'failed', '-'
PUBLISHED_COSTS = 'Published costs, on the hardware of the authors, for images of another size'


def name_row(row: ResultsRow) -> str:
    """A method's name with its non-blind inputs, or with the table that published it."""
    if row.source:
        return f'{row.label} [{row.source}]'
    return row.label if row.known == 'nothing' else f'{row.label} ({row.known})'


def unique(values: Iterable[str]) -> list[str]:
    """Values without repetition, in their order."""
    return list(dict.fromkeys(values))


def _list_published(record: Record, dataset: str) -> list[ResultsRow]:
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for entry in record.get('published', {}).get('rows', ()):
        if entry['dataset'] == dataset:
            columns = found.setdefault((entry['table'], entry['system']), {})
            columns.setdefault(entry['column'], {})[entry['metric']] = entry['value']
    return [
        ResultsRow(system, '', table, False, _add_averages(values, record)) for (table, system), values in found.items()
    ]


def _add_averages(values: Mapping[str, Mapping[str, float]], record: Record) -> dict[str, Mapping[str, float]]:
    """Values by column and metric, with averages that are not there yet, of each metric that all members have."""
    found = dict(values)
    for name, members in record.get('averages', {}).items():
        columns = [values.get(member, {}) for member in members]
        metrics = [metric for metric in record['metrics'] if all(metric in column for column in columns)]
        if metrics and name not in found:
            found[name] = {metric: sum(column[metric] for column in columns) / len(columns) for metric in metrics}
    return found


def list_costs(record: Record) -> list[list[str]]:
    """Non-blind inputs and costs as texts: the heads, then a row for each method; empty if no costs were measured."""
    systems = {label: system for label, system in record.get('systems', {}).items() if system.get('costs')}
    if not systems:
        return []
    size = next(iter(systems.values()))['costs']['size']
    time = f'ms ({size} x {size})'
    rows = [['system', 'known', 'parameters', 'multiply-adds', time, 'memory, MiB', 's per test image']]
    for label, system in systems.items():
        texts = map(_format_cost, find_costs(system), (3, 1, 0, 0, 2), (' M', ' G', '', '', ''))
        rows.append([label, known_degradation(system), *texts])
    return rows


def find_costs(system: Record) -> tuple[float | None, ...]:
    """Parameters (1e6), multiply-adds (1e9), milliseconds, MiB and seconds per test image; None if not measured."""
    costs = system.get('costs') or {}
    parameters, multiply_adds = costs.get('parameters'), costs.get('multiply_adds')
    peak = costs.get('peak_mib')
    return (
        None if parameters is None else parameters / 1e6,
        multiply_adds / 1e9 if multiply_adds else None,
        costs.get('milliseconds'),
        None if peak is None else peak - costs['base_mib'],
        system.get('seconds_per_picture'),
    )


def known_degradation(system: Record) -> str:
    """The non-blind inputs of a method in words, also from older tables with the key 'told'."""
    return str(system.get('known', system.get('told', '')))


def list_published_costs(record: Record) -> list[list[str]]:
    """Published costs as texts: the heads, then a row for each method; empty if there are none."""
    rows = [['system', 'parameters', 'multiply-adds', 'ms']]
    for (table, system), costs in find_published_costs(record).items():
        rows.append([f'{system} [{table}]', *map(_format_cost, costs, (2, 1, 0), (' M', ' G', ''))])
    return rows if len(rows) > 1 else []


def find_published_costs(record: Record) -> dict[tuple[str, str], tuple[float | None, ...]]:
    """Millions of parameters, 1e9 multiply-adds and milliseconds by table and method, where one of them is printed."""
    keys = ('parameters', 'multiply_adds', 'milliseconds')
    found = {
        (entry['table'], entry['system']): tuple(entry.get(key) for key in keys)
        for entry in record.get('published', {}).get('rows', ())
    }
    return {key: costs for key, costs in found.items() if any(cost is not None for cost in costs)}


def _format_cost(value: float | None, digits: int, unit: str) -> str:
    return NOTHING if value is None else f'{value:.{digits}f}{unit}'
