"""Merges tables of one test: `python tools/merge_tables.py A/table.json B/table.json -o FOLDER`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dasr_arch.benchmark.pages.results_page import write_results_page
from dasr_arch.benchmark.tables.formats import format_console, read_results, write_tables
from dasr_arch.benchmark.tables.merge_results import merge_records
from dasr_arch.pipelines.exit_codes import run_guarded


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


if __name__ == '__main__':
    sys.exit(main())
