"""Tables of a test as LaTeX, for the packages booktabs and xcolor."""

import re

from dasr_arch.benchmark.tables.results_table import (
    FAILED,
    NOTHING,
    PUBLISHED_COSTS,
    Record,
    ResultsRow,
    ResultsTable,
    build_tables,
    digits_of,
    list_costs,
    list_published_costs,
    name_row,
)

COLUMNS = 9  # after the first
_ESCAPES = {'\\': r'\textbackslash{}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}'}
_SPECIAL = re.compile(r'[\\~^&%$#_{}]')
_PUBLISHED = 'published'


def format_latex(record: Record) -> str:
    """One table per data set and metric: the best in bold, the second underlined, published figures in a colour.

    Methods that are given the true degradation are below a rule and not ranked. The sources of published figures are
    below each table, costs in the last tables. The first line is a comment with the packages that a document needs.
    """
    lines = [
        r'% needs \usepackage{booktabs} and \usepackage{xcolor}',
        rf'\providecolor{{{_PUBLISHED}}}{{HTML}}{{9A5B13}}',
    ]
    for table in build_tables(record):
        for metric in table.metrics:
            for first in range(0, len(table.columns), COLUMNS):
                lines += ['', *_draw(table, metric, table.columns[first : first + COLUMNS], record)]
    lines += _draw_costs(list_costs(record), 'Costs of an image', 'll')
    lines += _draw_costs(list_published_costs(record), PUBLISHED_COSTS, 'l')
    return '\n'.join(lines) + '\n'


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], rf'\{found[0]}'), text)


def _draw(table: ResultsTable, metric: str, columns: tuple[str, ...], record: Record) -> list[str]:
    caption = f'{metric.upper()} on {table.dataset}, x{record["scale"]}, mean over {table.images} images.'
    head = ' & '.join(['System', *map(escape_latex, columns)])
    lines = [r'\begin{table}', r'\centering', rf'\caption{{{escape_latex(caption)}}}']
    lines += [rf'\begin{{tabular}}{{l{"r" * len(columns)}}}', r'\toprule', rf'{head} \\']
    sources: set[str] = set()
    for group in (
        [row for row in table.rows if not row.source and not row.upper_bound],
        [row for row in table.rows if not row.source and row.upper_bound],
        [row for row in table.rows if row.source],
    ):
        shown = [row for row in group if any(metric in row.values.get(c, {}) or c in row.failures for c in columns)]
        if shown:
            lines.append(r'\midrule')
        lines += [_draw_row(table, row, metric, columns) for row in shown]
        sources |= {row.source for row in shown if row.source}
    lines += [r'\bottomrule', r'\end{tabular}']
    known = record.get('published', {}).get('sources', {})
    lines += [
        rf'\par\footnotesize [{escape_latex(name)}]: {escape_latex(known[name]["source"])}'
        for name in sorted(sources & known.keys())
    ]
    return [*lines, r'\end{table}']


def _draw_costs(rows: list[list[str]], caption: str, texts: str) -> list[str]:
    """A table of costs; ``texts`` are the alignments of its first columns. Empty without rows."""
    if not rows:
        return []
    head, *body = [' & '.join(map(escape_latex, row)) for row in rows]
    lines = ['', r'\begin{table}', r'\centering', rf'\caption{{{caption}.}}']
    columns = texts.ljust(len(rows[0]), 'r')
    lines += [rf'\begin{{tabular}}{{{columns}}}', r'\toprule', rf'{head} \\', r'\midrule']
    return [*lines, *[rf'{line} \\' for line in body], r'\bottomrule', r'\end{tabular}', r'\end{table}']


def _draw_row(table: ResultsTable, row: ResultsRow, metric: str, columns: tuple[str, ...]) -> str:
    texts = [escape_latex(name_row(row)), *[_format(table, row, metric, column) for column in columns]]
    if row.source:
        texts = [rf'\textcolor{{{_PUBLISHED}}}{{{text}}}' for text in texts]
    return rf'{" & ".join(texts)} \\'


def _format(table: ResultsTable, row: ResultsRow, metric: str, column: str) -> str:
    if column in row.failures:
        return FAILED
    value = row.values.get(column, {}).get(metric)
    if value is None:
        return NOTHING * 2
    text = f'{value:.{digits_of(table.metrics[metric]["type"])}f}'
    best, second = table.rank(column, metric)
    if row.source or row.label not in {best, second}:
        return text
    return rf'\textbf{{{text}}}' if row.label == best else rf'\underline{{{text}}}'
