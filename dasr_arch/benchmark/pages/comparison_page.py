"""One HTML page that shows a comparison: sortable tables, curves, costs, crops side by side, published figures.

It reads what a test has saved and computes no image; the page holds everything itself and needs no network to be
seen.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dasr_arch._files import atomic_write
from dasr_arch.benchmark.config import folder_name
from dasr_arch.benchmark.crops import Crop, read_result_crop
from dasr_arch.benchmark.image_metrics import LOWER_IS_BETTER
from dasr_arch.benchmark.pages.demo_page import embed_image, fill_template
from dasr_arch.benchmark.pages.svg import Axes, Series, draw_labelled_points, draw_legend, draw_lines
from dasr_arch.benchmark.tables.formats import list_remarks, read_results
from dasr_arch.benchmark.tables.results_table import (
    FAILED,
    NOTHING,
    PUBLISHED_COSTS,
    Grid,
    GridRow,
    Record,
    build_grid,
    digits_of,
    find_published_costs,
    list_datasets,
    unique,
)
from dasr_arch.data.image_io import read_image

PALETTE = (
    '#2f6fc4',
    '#d1495b',
    '#2a9d8f',
    '#8f5bb5',
    '#6b7780',
    '#3f8f4f',
    '#c2528b',
    '#5a7d2a',
    '#00869e',
    '#7a5c43',
    '#5b5bd6',
    '#b0413e',
    '#b8860b',
    '#4a90a4',
    '#a0527a',
    '#6a9a1f',
    '#d2691e',
    '#3d6b6b',
    '#8b3fa8',
    '#4f5d9a',
)
"""One colour for each measured system, the same in every chart; readable on light and dark."""

AMBERS = (
    '#c98a2b',
    '#9a5b13',
    '#e0a35a',
    '#7d6a2f',
    '#b5713a',
    '#d9b44a',
    '#8a4b08',
    '#bf9000',
    '#a67c52',
    '#e0b080',
    '#6e5a1e',
    '#c77f4a',
)
"""Colours of published systems, apart from those of PALETTE."""

_GROUPS = (
    ('Not told the degradation', False, False),
    ('Told the truth about it: upper bounds, not ranked', False, True),
    ('Published, not measured here', True, False),
)


def write_comparison(results: Path, target: Path) -> None:
    """Writes the page.

    Args:
        results: folder that a test has left: ``table.json``, ``crops/`` and ``visualization/``.
        target: the HTML file.

    Raises:
        InputError: if a saved result is missing or damaged.
        OSError: if the file cannot be written.
    """
    page = render_comparison(results)
    with atomic_write(target) as temporary:
        temporary.write_text(page, encoding='utf-8')


def render_comparison(results: Path) -> str:
    """The page as text; arguments and errors as in ``write_comparison``."""
    page = _Page(results, read_results(results / 'table.json'))
    record = page.record
    return fill_template(
        'comparison.html',
        title=escape(f'{record["name"]}: {len(page.systems)} systems at x{record["scale"]}'),
        lead=page.describe_lead(),
        controls=page.render_controls(),
        sections='\n'.join(page.render_dataset(grid) for grid in page.grids),
        costs_caption=escape(page.describe_costs()),
        costs=page.render_costs(),
        crops=page.render_crops(),
        remarks=page.render_remarks(),
        sources=page.render_sources(),
        facts='\n'.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in page.list_facts()),
        options=escape(json.dumps(record['options'], indent=1)),
    )


class _Page:
    """The parts of one page.

    Args:
        results: the folder of results.
        record: its table.
    """

    def __init__(self, results: Path, record: Record) -> None:
        self.results = results
        self.record = record
        self.metrics = list(record['metrics'])
        self.systems = unique(row['network'] for row in record['rows'])
        self.grids = [build_grid(record, dataset) for dataset in list_datasets(record)]
        self.specifications = {row['degradation']: row['specification'] for row in record['rows']}
        self.main = next(
            (label for label, options in record['metrics'].items() if 'psnr' in options['type']), self.metrics[0]
        )
        published = unique(row.label for grid in self.grids for row in grid.rows if row.source)
        self.colours = _assign(self.systems, PALETTE)
        self.ambers = _assign(published, AMBERS)

    # --- numbers ---

    def describe_lead(self) -> str:
        """Who leads where, in a few words."""
        leads = []
        for grid in self.grids:
            column = next((name for name in grid.columns if name in grid.averages), grid.columns[-1])
            best = grid.rank(column, self.main)[0]
            if best:
                row = next(row for row in grid.rows if row.label == best and not row.source)
                value = _format_value(grid, self.main, row.values[column][self.main])
                leads.append(f'{escape(grid.dataset)}: <b>{escape(best)}</b> with {value}')
        unit = ' dB' if 'psnr' in self.record['metrics'][self.main]['type'] else ''
        first = next((name for grid in self.grids for name in grid.columns if name in grid.averages), None)
        where = f', {escape(first)}' if first else ''
        what = f'Best {escape(self.main.upper())}{where}, of the systems that are not told the degradation'
        return f'{what}: {"; ".join(f"{lead}{unit}" for lead in leads)}.' if leads else 'Nothing could be ranked.'

    def render_controls(self) -> str:
        """Buttons for data set, metric and published figures."""
        groups = [_render_buttons('data set', 'dataset', [(grid.dataset, grid.dataset) for grid in self.grids])]
        metrics = [(str(index), metric.upper()) for index, metric in enumerate(self.metrics)]
        groups.append(_render_buttons('metric', 'metric', metrics))
        if self.ambers:
            groups.append(_render_buttons('', 'published', [('shown', 'published figures')]))
        return ''.join(groups)

    def render_dataset(self, grid: Grid) -> str:
        """Table and charts of one data set."""
        count = f'{grid.images} image{"s" if grid.images != 1 else ""}'
        head = f'<h2>{escape(grid.dataset)}</h2><p class="note">Mean over {count}; best and second best are marked.</p>'
        charts = ''.join(self._draw_charts(grid))
        return (
            f'<section data-dataset="{escape(grid.dataset)}">{head}'
            f'<div class="panel scroll">{self._render_table(grid)}</div><div class="pair">{charts}</div></section>'
        )

    def _render_table(self, grid: Grid) -> str:
        columns = ''.join(
            f'<th data-sort="number"{_class("average" if name in grid.averages else "")}>{escape(name)}</th>'
            for name in grid.columns
        )
        bodies = []
        for title, published, bound in _GROUPS:
            rows = [row for row in grid.rows if bool(row.source) == published and row.upper_bound == bound]
            if rows:
                kind = _class('published-group' if published else '')
                span = len(grid.columns) + 1
                group = f'<tr class="group"><th colspan="{span}">{title}</th></tr>'
                bodies.append(f'<tbody{kind}>{group}{"".join(self._render_row(grid, row) for row in rows)}</tbody>')
        head = f'<thead><tr><th data-sort="text">system</th>{columns}</tr></thead>'
        return f'<table>{head}{"".join(bodies)}</table>'

    def _render_row(self, grid: Grid, row: GridRow) -> str:
        badge = f'<span class="badge">{escape(row.told)}</span>' if row.told not in {'', 'nothing'} else ''
        if row.source:
            badge = f'<span class="badge">{escape(row.source)}</span>'
        cells = ''.join(self._render_cell(grid, row, column) for column in grid.columns)
        return f'<tr{_class("published" if row.source else "")}><td>{escape(row.label)}{badge}</td>{cells}</tr>'

    def _render_cell(self, grid: Grid, row: GridRow, column: str) -> str:
        side = 'average' if column in grid.averages else ''
        if column in row.failures:
            return f'<td class="failed {side}" title="{escape(row.failures[column])}">{FAILED}</td>'
        values = row.values.get(column, {})
        attributes, first = [], NOTHING
        for index, metric in enumerate(self.metrics):
            value = values.get(metric)
            text = _format_value(grid, metric, value) if value is not None else NOTHING
            best, second = grid.rank(column, metric)
            mark = '' if row.source else 'best' if row.label == best else 'second' if row.label == second else ''
            kind = ' '.join(filter(None, (side, mark)))
            number = '' if value is None else f'{value:.6g}'.replace('inf', 'Infinity')  # as JavaScript reads it
            attributes.append(f'data-m{index}="{text}" data-v{index}="{number}" data-c{index}="{kind}"')
            if index == 0:
                first, shown = text, kind
        return f'<td{_class(shown)} {" ".join(attributes)}>{first}</td>'

    # --- charts ---

    def _draw_charts(self, grid: Grid) -> Iterator[str]:
        for index, metric in enumerate(self.metrics):
            hidden = '' if index == 0 else ' hidden'
            for title, axis, columns in _find_axes(self.specifications):
                curves = [self._make_curve(row, metric, columns) for row in grid.rows]
                curves = [curve for curve in curves if len(curve.points) > 1]
                if curves:
                    drawing = draw_lines(curves, Axes(axis, metric.upper(), description=title, from_zero=False))
                    caption = f'{metric.upper()} against {title}'
                    caption += '. Dashed: published.' if any(curve.hollow for curve in curves) else '.'
                    legend = draw_legend([curve for curve in curves if not curve.hollow])
                    yield _panel(drawing + legend, caption, f'data-only="{index}"{hidden}')
        points = self._list_times(grid)
        if points:
            axes = Axes('seconds for an image', self.main.upper(), description='time', logarithmic=True)
            caption = (
                f'{self.main.upper()} ({escape(_main_column(grid))}) against the mean time for a test image of this '
                'set on this machine, training on the image included. Up and left is better.'
            )
            if any(entry.hollow for entry in points):
                caption += ' Hollow: published, on the hardware of the authors, for images of another size.'
            yield _panel(draw_labelled_points(points, axes), caption, '')

    def _make_curve(self, row: GridRow, metric: str, columns: Sequence[tuple[float, Sequence[str]]]) -> Series:
        points = []
        for x, labels in columns:
            values = [row.values[label][metric] for label in labels if metric in row.values.get(label, {})]
            if len(values) == len(labels):
                points.append((x, sum(values) / len(values)))
        colour = self.ambers[row.label] if row.source else self.colours[row.label]
        return Series(row.label, colour, points, hollow=bool(row.source))

    def _list_times(self, grid: Grid) -> list[Series]:
        """One point for each system that has a value and a time."""
        column = _main_column(grid)
        published = find_published_costs(self.record)
        seconds: dict[str, list[float]] = {}
        for row in self.record['rows']:
            if row['dataset'] == grid.dataset and row['pictures']:
                seconds.setdefault(row['network'], []).append(row.get('seconds', 0.0) / len(row['pictures']))
        points = []
        for row in grid.rows:
            value = row.values.get(column, {}).get(self.main)
            if row.source:
                *_, milliseconds = published.get((row.source, row.label), (None,))
                time = (milliseconds or 0) / 1000
                colour = self.ambers[row.label]
            else:
                times = seconds.get(row.label, [])
                time = sum(times) / len(times) if times else 0
                colour = self.colours[row.label]
            if value is not None and math.isfinite(value) and time > 0:
                points.append(Series(row.label, colour, [(time, value)], hollow=bool(row.source)))
        return points

    # --- costs ---

    def describe_costs(self) -> str:
        """How they were measured."""
        measured = [system['costs'] for system in self._systems().values() if system.get('costs')]
        if not measured:
            return 'Costs were not measured; `costs: {size: 180}` in the option file does that.'
        size, environment = measured[0]['size'], measured[0]['environment']
        return (
            f'For one image of {size} x {size} LR pixels on {environment.get("device")}, '
            f'{environment.get("threads")} threads: multiply-adds of convolutions and matrix products in one pass, '
            'median milliseconds after a warm-up, and the most memory that a process of its own held beyond Python and '
            'its libraries. ZSSR, which trains on the image for long, is timed in the test alone; its memory is '
            'that of a few steps.'
        )

    def render_costs(self) -> str:
        """Systems below each other; what papers print about costs stands in a table of its own."""
        heads = ('system', 'told', 'parameters, M', 'multiply-adds, G', 'ms', 'memory, MiB', 's per test image')
        rows = []
        for label, system in self._systems().items():
            costs = system.get('costs') or {}
            own = None
            if costs.get('peak_mib') is not None:
                own = costs['peak_mib'] - costs['base_mib']
            numbers = [
                (_scaled(costs.get('parameters'), 1e6), 3),
                (_scaled(costs.get('multiply_adds') or None, 1e9), 1),
                (costs.get('milliseconds'), 0),
                (own, 0),
                (system.get('seconds_per_picture'), 2),
            ]
            cells = ''.join(_render_number(value, digits) for value, digits in numbers)
            extra = [f'after {system["denoiser"]}'] if system.get('denoiser') else []
            extra += [f'{system["predictor"]} guesses'] if system.get('predictor') else []
            extra += ['trains on the image'] if system.get('adapts') else []
            badges = ''.join(f'<span class="badge">{escape(text)}</span>' for text in extra)
            told = escape(str(system.get('told', '')))
            rows.append(f'<tr><td>{escape(label)}{badges}</td><td class="text">{told}</td>{cells}</tr>')
        return _draw_table(heads, 2, rows) + self._render_published_costs()

    def _render_published_costs(self) -> str:
        rows = []
        for (table, system), costs in find_published_costs(self.record).items():
            cells = ''.join(_render_number(value, digits) for value, digits in zip(costs, (2, 1, 0), strict=True))
            badge = f'<span class="badge">{escape(table)}</span>'
            rows.append(f'<tr class="published"><td>{escape(system)}{badge}</td>{cells}</tr>')
        if not rows:
            return ''
        heads = ('system', 'parameters, M', 'multiply-adds, G', 'ms')
        return f'<div class="published-group"><p>{escape(PUBLISHED_COSTS)}.</p>{_draw_table(heads, 1, rows)}</div>'

    def _systems(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.record.get('systems', {})
        return found

    # --- images ---

    def render_crops(self) -> str:
        """One block for each image; buttons choose the degradation."""
        crops = [Crop.decode(entry) for entry in self.record.get('crops', ())]
        if not crops:
            return ''
        note = (
            'The part of each image with the most detail, pixel for pixel as computed, without further compression. '
            f'Numbers are {self.main.upper()} of the whole image. Point at a result to see the original in its place.'
        )
        return f'<h2>Side by side</h2><p>{note}</p>{"".join(map(self._render_crop, crops))}'

    def _render_crop(self, crop: Crop) -> str:
        degradations = list(self.specifications)
        first = degradations[min(2, len(degradations) - 1)]
        buttons = ''.join(
            f'<button type="button" data-value="{escape(label)}">{escape(label)}</button>' for label in degradations
        )
        choices = f'<div class="choices" hidden>{buttons}</div>'
        grids = ''.join(self._render_crop_grid(crop, label) for label in degradations)
        head = f'<h3>{escape(crop.dataset)}, {escape(crop.image)}</h3>'
        return (
            f'<div class="panel crop-block" data-dataset="{escape(crop.dataset)}" '
            f'data-first="{escape(first)}">{head}{choices}{grids}</div>'
        )

    def _render_crop_grid(self, crop: Crop, degradation: str) -> str:
        folder = self.results / 'crops' / folder_name(crop.dataset) / folder_name(crop.image)
        small = embed_image(read_image(folder / f'{folder_name(degradation)}.png'))
        figures = [
            _figure(embed_image(read_image(folder / 'hr.png')), 'original', '', 'class="truth"'),
            _figure(small, 'low resolution', degradation, ''),
        ]
        scores = {
            row['network']: image[self.main]
            for row in self.record['rows']
            if (row['dataset'], row['degradation']) == (crop.dataset, degradation)
            for image in row['pictures']
            if image['name'] == crop.image
        }
        fair = [label for label in scores if not self._systems().get(label, {}).get('upper_bound')]
        lower = self.record['metrics'][self.main]['type'] in LOWER_IS_BETTER
        best = (min if lower else max)(fair, key=lambda label: float(scores[label]), default='')
        digits = digits_of(self.record['metrics'][self.main]['type'])
        measured = {
            row['network']
            for row in self.record['rows']
            if (row['dataset'], row['degradation']) == (crop.dataset, degradation)
        }
        for label in self.systems:
            if label not in measured:  # it is not tested on this data set
                continue
            labels = (label, crop.dataset, degradation)
            part = read_result_crop(self.results / 'visualization', labels, crop) if label in scores else None
            if part is None:
                figures.append(f'<figure><figcaption><b>{escape(label)}</b><br>{FAILED}</figcaption></figure>')
                continue
            kind = 'class="best" data-swap' if label == best and len(fair) > 1 else 'data-swap'
            figures.append(_figure(embed_image(part), label, f'{float(scores[label]):.{digits}f}', kind))
        return f'<div class="crops" data-degradation="{escape(degradation)}">{"".join(figures)}</div>'

    # --- the rest ---

    def render_remarks(self) -> str:
        """What failed or was left out, one line each."""
        lines = list_remarks(self.record, published=False)
        if not lines:
            return '<p class="note">Nothing.</p>'
        return f'<ul class="sources">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'

    def render_sources(self) -> str:
        """Where the published figures come from."""
        sources = self.record.get('published', {}).get('sources', {})
        if not sources:
            return '<p class="note">None were asked for, or none belong to what was measured.</p>'
        items = ''.join(
            f'<li><b class="source">{escape(name)}</b>: {escape(source["source"])}. {escape(source["remark"])}</li>'
            for name, source in sources.items()
        )
        return f'<ul class="sources">{items}</ul>'

    def list_facts(self) -> list[tuple[str, str]]:
        """Date, machine, versions and protocol."""
        record, environment = self.record, self.record['environment']
        versions = [f'{key} {environment[key]}' for key in ('dasr', 'python', 'torch', 'basicsr') if key in environment]
        metrics = [
            f'{label} = {options["type"]}({", ".join(f"{k}={v}" for k, v in options.items() if k != "type")})'
            for label, options in record['metrics'].items()
        ]
        return [
            ('date', str(record['date'])),
            ('commit', str(environment.get('commit') or 'not in a checkout')),
            ('machine', f'{environment.get("device", "unknown")}, {environment.get("cores", "?")} cores'),
            ('versions', ', '.join(versions)),
            ('metrics', '; '.join(metrics)),
            ('protocol', f'{record["protocol"]}; noise seed {record["seed"]}; whole images, 8 bit'),
        ]


def _find_axes(
    specifications: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, str, list[tuple[float, Sequence[str]]]]]:
    """Title, label of the axis, and positions with the degradations whose mean stands there."""
    for key, axis, title in (('sigma', 'blur width, HR pixels', 'blur width'), ('noise', 'noise level', 'noise level')):
        places: dict[float, list[str]] = {}
        for label, values in specifications.items():
            if isinstance(values.get(key, 0 if key == 'noise' else None), int | float):
                places.setdefault(float(values.get(key, 0)), []).append(label)
        complete = sum(map(len, places.values())) == len(specifications)
        if len(places) > 1 and complete:
            others = len(specifications) > len(places)
            name = f'{title}, mean over all else' if others else title
            yield name, axis, sorted((x, labels) for x, labels in places.items())


def _main_column(grid: Grid) -> str:
    """The column that a system is judged by: the first average, else the last degradation."""
    return next((name for name in grid.columns if name in grid.averages), grid.columns[-1])


def _render_buttons(title: str, kind: str, values: Sequence[tuple[str, str]]) -> str:
    buttons = ''.join(
        f'<button type="button" data-kind="{kind}" data-value="{escape(value)}">{escape(text)}</button>'
        for value, text in values
    )
    return f'<div class="choices">{f"<span>{title}</span>" if title else ""}{buttons}</div>'


def _draw_table(heads: Sequence[str], texts: int, rows: Sequence[str]) -> str:
    """A table that can be sorted, whose first columns are texts."""
    kinds = [('text', _class('text')) if index < texts else ('number', '') for index in range(len(heads))]
    head = ''.join(
        f'<th data-sort="{kind}"{style}>{escape(text)}</th>' for text, (kind, style) in zip(heads, kinds, strict=True)
    )
    return f'<table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _render_number(value: float | None, digits: int) -> str:
    if value is None:
        return f'<td data-value="">{NOTHING}</td>'
    return f'<td data-value="{value:.6g}">{value:,.{digits}f}</td>'


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _figure(uri: str, name: str, note: str, attributes: str) -> str:
    caption = f'<b>{escape(name)}</b><br>{escape(note) or "&nbsp;"}'
    return f'<figure {attributes}><img src="{uri}" alt="{escape(name)}"><figcaption>{caption}</figcaption></figure>'


def _panel(content: str, caption: str, attributes: str) -> str:
    return f'<figure class="panel" {attributes}>{content}<figcaption>{caption}</figcaption></figure>'


def _format_value(grid: Grid, metric: str, value: float) -> str:
    return f'{value:.{digits_of(grid.metrics[metric]["type"])}f}'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ''


def _assign(names: Sequence[str], colours: Sequence[str]) -> dict[str, str]:
    return {name: colours[index % len(colours)] for index, name in enumerate(names)}
