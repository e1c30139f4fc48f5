"""Writes the page of test coverage: `python tools/write_coverage.py COVERAGE.json PAGE.md`; run by `make coverage`."""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from dasr_arch.benchmark.environment import name_device, now, read_commit

LOW = 90  # percent; files below it are listed one by one
TEXT = """# Coverage

Statements and branches that all tests run, commands started by tests included. Files below {low} % are listed.

```
make coverage
```

{date}, commit {commit}, {device}. Tests that need a GPU or a network run only where there is one.

| Folder | Statements | Not run | Covered |
| --- | ---: | ---: | ---: |
{folders}

| File below {low} % | Statements | Not run | Covered |
| --- | ---: | ---: | ---: |
{files}
"""


def format_page(report: dict[str, Any], date: str, commit: str, device: str) -> str:
    """The page as Markdown.

    Args:
        report: what `coverage json` writes.
        date: ISO 8601.
        commit: of the measured code.
        device: name of the processor.
    """
    folders: dict[str, list[dict[str, Any]]] = defaultdict(list)
    low = []
    for name, file in report['files'].items():
        folders['/'.join(Path(name).parts[:2]) if len(Path(name).parts) > 2 else Path(name).parts[0]].append(
            file['summary']
        )
        if file['summary']['percent_covered'] < LOW:
            low.append(_row(f'`{name}`', [file['summary']]))
    rows = [_row(f'`{name}/`', summaries) for name, summaries in sorted(folders.items())]
    rows.append(_row('all', [file['summary'] for file in report['files'].values()]))
    return TEXT.format(
        low=LOW,
        date=date,
        commit=commit,
        device=device,
        folders='\n'.join(rows),
        files='\n'.join(low) or '| none | | | |',
    )


def _row(name: str, summaries: list[dict[str, Any]]) -> str:
    """Table row of some files together; `covered` counts statements and branches, as coverage does."""
    total = {
        key: sum(s.get(key, 0) for s in summaries)
        for key in ('num_statements', 'missing_lines', 'covered_lines', 'num_branches', 'covered_branches')
    }
    parts = total['num_statements'] + total['num_branches']
    covered = 100 * (total['covered_lines'] + total['covered_branches']) / parts if parts else 100
    return f'| {name} | {total["num_statements"]:,} | {total["missing_lines"]:,} | {covered:.1f} % |'


def main() -> None:
    """Reads the report and writes the page."""
    source, page = map(Path, sys.argv[1:])
    report = json.loads(source.read_text(encoding='utf-8'))
    text = format_page(report, now()[:10], read_commit() or 'unknown', name_device(torch.device('cpu')))
    page.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
