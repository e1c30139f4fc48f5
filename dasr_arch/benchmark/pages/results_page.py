"""The HTML page of results: sortable tables, curves, costs, images side by side, published figures.

The page of the demo adds a slider between two networks, the training and maps of representations. Everything is read
from saved results; nothing is computed again.
"""

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch.benchmark.config import folder_name
from dasr_arch.benchmark.crops import Crop, read_result_crop
from dasr_arch.benchmark.environment import list_versions
from dasr_arch.benchmark.pages import charts
from dasr_arch.benchmark.tables.formats import list_remarks, read_results
from dasr_arch.benchmark.tables.results_table import (
    FAILED,
    NOTHING,
    PUBLISHED_COSTS,
    Record,
    ResultsRow,
    ResultsTable,
    build_tables,
    describe_metric,
    digits_of,
    find_costs,
    find_published_costs,
    known_degradation,
    unique,
)
from dasr_arch.data.image_io import read_image
from dasr_arch.metrics.facts import prefers_lower
from dasr_arch.probe.tsne import read_maps

_GROUPS = (
    ('Not given the true degradation', False, False),
    ('Given the true degradation: upper bounds, not ranked', False, True),
    ('Published, not measured here', True, False),
)
ENVIRONMENT = Environment(
    loader=PackageLoader('dasr_arch.benchmark'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_COST_HEADS = ('parameters, M', 'multiply-adds, G', 'ms')


@dataclass(frozen=True)
class DemoContent:
    """The parts of a page that only the demo has."""

    title: str  # heading of the page
    network: str = 'DASR'  # that was trained
    shown: str | None = None  # that the slider shows; None is ``network``
    against: str = 'Bicubic'  # with which both are compared
    history: Sequence[Mapping[str, Any]] = ()  # lines of the training's history
    stages: Sequence[tuple[int, str]] = ()  # iterations and name of each
    representations: Path | None = None  # file of the maps
    facts: Sequence[tuple[str, str]] = ()  # name and value: how the page was made
    credits: Sequence[str] = field(default_factory=tuple)  # a line for each image that is shown or was trained on


class Number(NamedTuple):
    """A number of a table: as text, as JavaScript reads it for sorting, and its CSS classes."""

    text: str
    value: str
    kind: str = ''


class PageCell(NamedTuple):
    """A cell of a table of metrics: the reason of a failure, or one number for each metric."""

    kind: str
    failure: str = ''
    values: Sequence[Number] = ()


class PageRow(NamedTuple):
    """A row of a table."""

    label: str
    badges: Sequence[str]
    cells: Sequence[PageCell] = ()
    texts: Sequence[str] = ()
    numbers: Sequence[Number] = ()
    kind: str = ''


class Figure(NamedTuple):
    """An image with its caption; ``data`` are attributes for the slider, of results alone."""

    address: str
    name: str
    note: str
    kind: str = ''
    raw: bool = False
    data: Mapping[str, str] = {}


class Section(NamedTuple):
    """Further charts under a heading."""

    title: str
    text: str
    charts: Sequence[charts.Chart]


def write_results_page(results: Path, target: Path, demo: DemoContent | None = None) -> None:
    """Writes the page of a test's folder; InputError if a result is missing or damaged, OSError if writing fails."""
    write_whole(target, render_results_page(results, demo))


def render_results_page(results: Path, demo: DemoContent | None = None) -> str:
    """The page as text; arguments and errors as in ``write_results_page``."""
    view = _View(results, read_results(results / 'table.json'))
    record = view.record
    extra = _DemoView(view, demo) if demo is not None else None
    return ENVIRONMENT.get_template('page.html').render(
        title=demo.title if demo else f'{record["name"]}: {len(view.systems)} methods at x{record["scale"]}',
        lead=extra.describe_gains() if extra else view.describe_best(),
        slider=extra.make_slider() if extra else None,
        metrics=[metric.upper() for metric in view.metrics],
        has_published=bool(view.colours.published),
        datasets=[view.make_dataset(table) for table in view.tables],
        costs=view.make_costs(),
        blocks=[view.make_block(crop) for crop in msgspec.convert(record.get('crops', ()), list[Crop])],
        sections=extra.list_sections() if extra else (),
        remarks=list_remarks(record, published=False),
        sources=None if demo else record.get('published', {}).get('sources', {}),
        facts=demo.facts if demo else view.list_facts(),
        credits=demo.credits if demo else (),
        options=json.dumps(record['options'], indent=1),
    )


class _View:
    """The parts of a page that every test has."""

    def __init__(self, results: Path, record: Record) -> None:
        self.results = results
        self.record = record
        self.metrics: Mapping[str, Mapping[str, Any]] = record['metrics']
        self.systems = unique(row['network'] for row in record['rows'])
        self.facts: Mapping[str, Any] = record.get('systems', {})
        self.tables = build_tables(record)
        self.degradations = {row['degradation']: row['specification'] for row in record['rows']}
        psnr = [label for label, options in self.metrics.items() if 'psnr' in options['type']]
        self.main = [*psnr, *self.metrics][0]
        self.colours = charts.Colours(row for table in self.tables for row in table.rows)

    def format(self, metric: str, value: float) -> str:
        """A metric's value as text."""
        return f'{value:.{digits_of(self.metrics[metric]["type"])}f}'

    @property
    def unit(self) -> str:
        """The unit of the main metric, with a space before it."""
        return ' dB' if 'psnr' in self.metrics[self.main]['type'] else ''

    def describe_best(self) -> Markup:
        """The best method of each data set in one sentence."""
        leads = []
        for table in self.tables:
            best = table.rank(table.main_column, self.main)[0]
            if best:
                row = next(row for row in table.rows if row.label == best and not row.source)
                value = self.format(self.main, row.values[table.main_column][self.main])
                leads.append(Markup('{}: <b>{}</b> with {}').format(table.dataset, best, value + self.unit))
        average = next((name for table in self.tables for name in table.columns if name in table.averages), None)
        where = f', {average}' if average else ''
        head = f'Best {self.main.upper()}{where}, of the methods that are not given the true degradation: '
        return Markup('{}{}.').format(head, Markup('; ').join(leads)) if leads else Markup('Nothing could be ranked.')

    def make_dataset(self, table: ResultsTable) -> dict[str, object]:
        """Table and charts of one data set."""
        groups = []
        for title, published, bound in _GROUPS:
            chosen = [row for row in table.rows if bool(row.source) == published and row.upper_bound == bound]
            rows = [self._make_row(table, row) for row in chosen]
            if rows:
                groups.append({'title': title, 'published': published, 'rows': rows})
        curves = charts.draw_curves(table, self.degradations, self.colours)
        return {
            'name': table.dataset,
            'images': table.images,
            'columns': table.columns,
            'averages': table.averages,
            'groups': groups,
            'charts': [*curves, *charts.draw_times(self.record, table, self.main, self.colours)],
        }

    def _make_row(self, table: ResultsTable, row: ResultsRow) -> PageRow:
        badge = row.source or (row.known if row.known != 'nothing' else '')
        cells = [self._make_cell(table, row, name) for name in table.columns]
        return PageRow(row.label, [badge] if badge else [], cells)

    def _make_cell(self, table: ResultsTable, row: ResultsRow, column: str) -> PageCell:
        side = 'average' if column in table.averages else ''
        if column in row.failures:
            return PageCell(side, row.failures[column])
        numbers = []
        for metric in self.metrics:
            value = row.values.get(column, {}).get(metric)
            ranks = dict(zip(table.rank(column, metric), ('best', 'second'), strict=True))
            kind = f'{side} {"" if row.source else ranks.get(row.label, "")}'.strip()
            if value is None:
                numbers.append(Number(NOTHING, '', kind))
                continue
            sorting = f'{value:.6g}'.replace('inf', 'Infinity')  # as JavaScript reads it
            numbers.append(Number(self.format(metric, value), sorting, kind))
        return PageCell(side, '', numbers)

    def make_costs(self) -> dict[str, object]:
        """Known degradation and costs of the methods, and published costs."""
        rows = []
        for label, system in self.facts.items():
            badges = [f'after {system["denoiser"]}'] if system.get('denoiser') else []
            badges += [f'estimated by {system["predictor"]}'] if system.get('predictor') else []
            badges += ['test-time training'] if system.get('adapts') else []
            numbers = list(map(_format_number, find_costs(system), (3, 1, 0, 0, 2)))
            rows.append(PageRow(label, badges, texts=[known_degradation(system)], numbers=numbers))
        published = [
            PageRow(system, [table], numbers=list(map(_format_number, costs, (2, 1, 0))), kind='published')
            for (table, system), costs in find_published_costs(self.record).items()
        ]
        return {
            'caption': self._describe_costs(),
            'heads': ('method', 'known', *_COST_HEADS, 'memory, MiB', 's per test image'),
            'rows': rows,
            'published_caption': PUBLISHED_COSTS,
            'published_heads': ('method', *_COST_HEADS),
            'published': published,
        }

    def _describe_costs(self) -> str:
        measured = [system['costs'] for system in self.facts.values() if system.get('costs')]
        if not measured:
            return 'Costs were not measured; `costs: {size: 180}` in the option file does that.'
        size, environment = measured[0]['size'], measured[0]['environment']
        return (
            f'For one image of {size} x {size} LR pixels on {environment.get("device")}, '
            f'{environment.get("threads")} threads: multiply-adds of convolutions and matrix products in one pass, '
            'median milliseconds after a warm-up, and peak memory of a process of its own beyond Python and its '
            'libraries. ZSSR trains for long on each image: its time is measured in the test alone, its memory over a '
            'few steps.'
        )

    def make_block(self, crop: Crop) -> dict[str, object]:
        """The crops of one image, by degradation."""
        labels = list(self.degradations)
        return {
            'dataset': crop.dataset,
            'image': crop.image,
            'first': labels[min(2, len(labels) - 1)],
            'grids': [(label, list(self._list_figures(crop, label))) for label in labels],
        }

    def _list_figures(self, crop: Crop, degradation: str) -> Iterator[Figure]:
        """HR crop, LR crop, and the result of every method that is tested on the data set."""
        folder = self.results / 'crops' / folder_name(crop.dataset) / folder_name(crop.image)
        low = read_image(folder / f'{folder_name(degradation)}.png')
        yield Figure(embed_image(read_image(folder / 'hr.png')), 'original', '', 'truth')
        yield Figure(embed_image(low), 'low resolution', degradation, raw=True)
        rows = [
            row for row in self.record['rows'] if (row['dataset'], row['degradation']) == (crop.dataset, degradation)
        ]
        scores = {row['network']: image for row in rows for image in row['pictures'] if image['name'] == crop.image}
        best = self._find_best(scores)
        for row in rows:
            label = row['network']
            labels = (label, crop.dataset, degradation)
            part = read_result_crop(self.results / 'visualization', labels, crop) if label in scores else None
            if part is None:
                yield Figure('', label, FAILED)
                continue
            values = [self.format(metric, float(scores[label][metric])) for metric in self.metrics]
            data = {'network': label, 'image': crop.image, 'degradation': degradation}
            data['caption'] = f'{label} {self.format(self.main, float(scores[label][self.main]))}{self.unit}'
            yield Figure(embed_image(part), label, ' / '.join(values), 'best' if label == best else '', data=data)

    def _find_best(self, scores: Mapping[str, Mapping[str, Any]]) -> str:
        """The best method on one image, of at least two that are not given the true degradation."""
        fair = [label for label in scores if not self.facts.get(label, {}).get('upper_bound')]
        choose = min if prefers_lower(self.metrics[self.main]) else max
        return choose(fair, key=lambda label: float(scores[label][self.main])) if len(fair) > 1 else ''

    def list_facts(self) -> list[tuple[str, str]]:
        """Date, machine, versions and protocol."""
        record, environment = self.record, self.record['environment']
        metrics = [f'{label} = {describe_metric(options)}' for label, options in self.metrics.items()]
        return [
            ('date', str(record['date'])),
            ('commit', str(environment.get('commit') or 'not in a checkout')),
            ('machine', f'{environment.get("device", "unknown")}, {environment.get("cores", "?")} cores'),
            ('versions', list_versions(environment, ('dasr', 'python', 'torch', 'basicsr'))),
            ('metrics', '; '.join(metrics)),
            ('protocol', f'{record["protocol"]}; noise seed {record["seed"]}; whole images, 8 bit'),
        ]


class _DemoView:
    """The parts of a page that only the demo has; raises InputError if the table lacks a network that it names."""

    def __init__(self, view: _View, demo: DemoContent) -> None:
        self.view, self.demo = view, demo
        self.shown = demo.shown or demo.network
        self.colours = charts.assign(list(view.degradations), charts.PALETTE)
        for label in (demo.network, self.shown, demo.against):
            if label not in view.systems:
                raise InputError(f"the table of results holds no network '{label}'; it holds {view.systems}")

    def describe_gains(self) -> Markup:
        """The gain of each network over the one to compare with, one sentence each."""
        ours = [label for label in unique([self.shown, self.demo.network]) if label != self.demo.against]
        return Markup('<br>').join(map(self._describe_gain, ours))

    def _describe_gain(self, network: str) -> Markup:
        view, gains = self.view, []
        values = {row.label: row.values for row in view.tables[0].rows if not row.source}
        for label in view.degradations:
            pair = [values[name].get(label, {}).get(view.main, math.nan) for name in (network, self.demo.against)]
            if all(map(math.isfinite, pair)):
                text = f'{pair[0] - pair[1]:+.{digits_of(view.metrics[view.main]["type"])}f}'
                gains.append(Markup('<b>{}</b> at {}').format(text.replace('-', '\N{MINUS SIGN}'), label))
        unit = f' in{view.unit}' if view.unit else ''
        head = f'{network} against {self.demo.against}, {view.main.upper()}{unit}: '
        return Markup('{}{}.').format(head, Markup(', ').join(gains) if gains else 'nothing could be computed')

    def make_slider(self) -> dict[str, object] | None:
        """Two networks on either side of a divider; None without images."""
        images = unique(crop['picture'] for crop in self.view.record.get('crops', ()))
        labels = list(self.view.degradations)
        if not images:
            return None
        blurred = labels[min(2, len(labels) - 1)]
        names = {'left': self.demo.against, 'right': self.shown}
        return {'images': images, 'degradations': labels, 'degradation': blurred, **names}

    def list_sections(self) -> list[Section]:
        """Training curves and maps of representations."""
        demo = self.demo
        training = Section('Training', 'No training was recorded.', [])
        if demo.history:
            stages = '; '.join(f'{name}: {count} iterations' for count, name in demo.stages)
            curves = list(charts.draw_training(demo.history, demo.stages, self.view.main, self.colours))
            text = f'{stages}. Losses are those of single batches, hence the scatter.'
            training = training._replace(text=text, charts=curves)
        maps = Section('Degradation representations', 'No map was saved.', [])
        if demo.representations is not None:
            text = (
                f'Each dot is the degradation representation that {self.shown} computes from one patch of a test '
                'image, coloured by its degradation, which the network is not given.'
            )
            drawn = [charts.draw_map(saved, self.colours) for saved in read_maps(demo.representations)]
            maps = maps._replace(text=text, charts=drawn)
        return [training, maps]


def _format_number(value: float | None, digits: int) -> Number:
    return Number(NOTHING, '') if value is None else Number(f'{value:,.{digits}f}', f'{value:.6g}')


def embed_image(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as a data URL, lossless."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, format='WEBP', lossless=True, quality=70)
    return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode("ascii")}'
