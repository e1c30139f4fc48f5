"""Merges tables of one test: `python tools/merge_tables.py A/table.json B/table.json -o FOLDER`."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from dasr_arch import InputError
from dasr_arch.benchmark.config import update_label
from dasr_arch.benchmark.environment import now
from dasr_arch.benchmark.pages.results_page import write_results_page
from dasr_arch.benchmark.tables.formats import format_console, read_results, write_tables
from dasr_arch.benchmark.tables.results_table import Record, unique
from dasr_cli.main import run_guarded

_SHARED = ('protocol', 'scale', 'seed', 'metrics', 'averages')


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the arguments and writes tables and page; 2 for bad input."""
    parser = argparse.ArgumentParser(
        description='Merge tables of one test that was run on several machines or with some methods at a time.'
    )
    parser.add_argument('tables', nargs='+', type=Path, help='table.json files; the last result counts')
    parser.add_argument('-o', '--output', type=Path, required=True, help='folder for tables and comparison.html')
    args = parser.parse_args(argv)

    def work() -> int:
        record = merge_records([read_results(path) for path in args.tables])
        args.output.mkdir(parents=True, exist_ok=True)
        write_tables(args.output, record)
        write_results_page(args.output, args.output / 'comparison.html')
        sys.stdout.write(f'{format_console(record)}\ntables: {args.output}\n')
        return 0

    return run_guarded(work)


def merge_records(records: Sequence[Record]) -> dict[str, Any]:
    """Merges one or more ``table.json`` of one test, each with any methods, into a record named after the last one.

    Where two have the same evaluation, the later one counts unless it failed. Methods are in the order of the option
    file with most of them. Crops are left out, because their images are beside the single tables.

    Raises InputError if the records are not of one test: other metrics, averages, scale or seed, another degradation
    under the same name, or other images in a data set.
    """
    records = list(map(_update_labels, records))
    last = records[-1]
    for record in records:
        for key in _SHARED:
            if record.get(key) != last.get(key):
                raise InputError(
                    f"{_name(record)} and {_name(last)} differ in '{key}': {record.get(key)} and {last.get(key)}; "
                    'merge tables of one test file alone'
                )
    rows: dict[tuple[str, str, str], Record] = {}
    for record in records:
        for row in record['rows']:
            place = row['network'], row['dataset'], row['degradation']
            if place not in rows or not row['failure'] or rows[place]['failure']:
                rows[place] = row
    _check_same(rows.values())
    largest = max(records, key=lambda record: len(record['rows']))
    degradations = unique(row['degradation'] for record in (largest, *records) for row in record['rows'])
    places = product(_order(records, 'networks'), _order(records, 'datasets'), degradations)
    ordered = [rows[place] for place in places if place in rows]
    systems: dict[str, dict[str, Any]] = {}
    for record in records:
        for label, system in record.get('systems', {}).items():
            kept = {key: value for key, value in system.items() if key != 'costs' or value is not None}
            systems[label] = {**systems.get(label, {}), **kept}
    found = {(row['network'], row['dataset']) for row in ordered}
    skipped = [
        entry
        for entry in last.get('skipped', [])
        if not any(
            entry.get('network', '') in {'', network} and entry['dataset'] in {'', dataset} and not entry['picture']
            for network, dataset in found
        )
    ]
    published: Record = next((one['published'] for one in reversed(records) if one.get('published')), {})
    return {
        **last,
        'date': now(),
        'options': {**last['options'], **{entry: _join(records, entry) for entry in ('networks', 'datasets')}},
        'skipped': skipped,
        'systems': {label: systems.get(label, {}) for label in unique(row['network'] for row in ordered)},
        'published': published,
        'crops': [],
        'rows': ordered,
    }


def _update_labels(record: Record) -> dict[str, Any]:
    """A record with the present labels of degradations, so that older tables can be merged with newer ones."""
    published = record.get('published') or {}
    figures = [{**row, 'column': update_label(row['column'])} for row in published.get('rows', ())]
    changed: dict[str, Any] = {
        'rows': [{**row, 'degradation': update_label(row['degradation'])} for row in record['rows']],
        'averages': {name: list(map(update_label, names)) for name, names in record.get('averages', {}).items()},
        'published': {**published, 'rows': figures} if published else published,
    }
    return {**record, **{key: value for key, value in changed.items() if key in record}}


def _name(record: Record) -> str:
    return f"the table '{record.get('name', '')}' of {record.get('date', 'no date')}"


def _order(records: Sequence[Record], entry: str) -> list[str]:
    """Names of networks or data sets: those of the option file with most of them, then all others."""
    listed = sorted((list(record['options'].get(entry) or {}) for record in records), key=len, reverse=True)
    rows = (row[entry[:-1]] for record in records for row in record['rows'])
    return unique([*(name for names in listed for name in names), *rows])


def _join(records: Sequence[Record], entry: str) -> dict[str, Any]:
    """Networks or data sets of all option files; of two with one name the later one."""
    found: dict[str, Any] = {}
    for record in records:
        found |= record['options'].get(entry) or {}
    return {name: found[name] for name in _order(records, entry) if name in found}


def _check_same(rows: Iterable[Record]) -> None:
    """Refuses rows in which one label stands for two degradations, or one name for two sets of images."""
    specifications: dict[str, Any] = {}
    images: dict[str, list[str]] = {}
    for row in rows:
        name, dataset = row['degradation'], row['dataset']
        if specifications.setdefault(name, row['specification']) != row['specification']:
            raise InputError(f"'{name}' is {specifications[name]} in one table and {row['specification']} in another")
        if row['failure']:
            continue
        names = sorted(image['name'] for image in row['pictures'])
        if images.setdefault(dataset, names) != names:
            raise InputError(
                f"'{dataset}' is {len(images[dataset])} images in one table and {len(names)}, or others, in "
                'another; test on the same ones'
            )


if __name__ == '__main__':
    sys.exit(main())
