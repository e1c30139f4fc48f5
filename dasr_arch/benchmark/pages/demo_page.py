"""One HTML page that shows a test: images side by side, numbers, curves and the map of representations.

It reads what was saved and computes nothing new; the page holds everything itself and needs no network to be seen.
"""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write
from dasr_arch.benchmark.config import folder_name
from dasr_arch.benchmark.image_metrics import LOWER_IS_BETTER
from dasr_arch.benchmark.pages.svg import Axes, Series, draw_legend, draw_lines, draw_scatter
from dasr_arch.benchmark.tables.formats import read_results
from dasr_arch.data.image_io import read_image
from dasr_arch.probe.tsne import read_maps

PALETTE = ('#3b4cc0', '#2a9d8f', '#d99a00', '#d1495b', '#8f5bb5', '#6b7780', '#3f8f4f', '#b5651d')
"""One colour for each degradation, in the order of the test, the same in every chart; readable on light and dark."""

DEGRADED, TRUTH = 'low resolution', 'original'
_ACCENT = '#2f7dd1'


@dataclass(frozen=True)
class ReportSources:
    """What a report is made from.

    Attributes:
        title: heading of the page.
        results: folder that a test has left: ``table.json`` and ``visualization/``.
        hr: folder of the HR images.
        lq: folder that holds a folder of LR images for each degradation.
        against: label of the network that others are compared with.
        network: label of the network that the page is about.
        shown: label of the network that the movable divider shows; None is ``network``.
        history: lines of a training's history, empty without one.
        stages: number of iterations of each training stage, with a name.
        representations: file of the maps, None without one.
        facts: pairs of name and value about how it was made.
        credits: one line for each image that is shown or was trained on.
    """

    title: str
    results: Path
    hr: Path
    lq: Path
    against: str = 'Bicubic'
    network: str = 'DASR'
    shown: str | None = None
    history: Sequence[Mapping[str, Any]] = ()
    stages: Sequence[tuple[int, str]] = ()
    representations: Path | None = None
    facts: Sequence[tuple[str, str]] = ()
    credits: Sequence[str] = field(default_factory=tuple)


def write_report(sources: ReportSources, target: Path) -> None:
    """Writes the page.

    Args:
        sources: what it is made from.
        target: the HTML file.

    Raises:
        InputError: if a saved result is missing or damaged.
        OSError: if the file cannot be written.
    """
    page = render_report(sources)
    with atomic_write(target) as temporary:
        temporary.write_text(page, encoding='utf-8')


def render_report(sources: ReportSources) -> str:
    """The page as text; arguments and errors as in ``write_report``."""
    record = read_results(sources.results / 'table.json')
    view = _View(sources, record)
    return fill_template(
        'report.html',
        title=escape(sources.title),
        lead=view.describe_gain(),
        comparison=view.render_comparison(),
        table_caption=escape(view.describe_table()),
        table=view.render_table(),
        remarks=view.render_remarks(),
        images_caption=escape(view.describe_images()),
        images=view.render_images(),
        training_caption=escape(view.describe_training()),
        charts=view.render_charts(),
        map_caption=escape(view.describe_map()),
        maps=view.render_maps(),
        facts='\n'.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in sources.facts),
        credits='<br>\n'.join(escape(line) for line in sources.credits),
    )


def fill_template(name: str, **parts: str) -> str:
    """A page from its template and the style that all pages share.

    Args:
        name: file in the folder ``templates``.
        parts: what stands for the template's names.

    Returns:
        The page, which needs nothing but itself.
    """
    folder = files('dasr_arch.benchmark') / 'templates'
    style = (folder / 'page.css').read_text(encoding='utf-8')
    return Template((folder / name).read_text(encoding='utf-8')).substitute(style=style, **parts)


class _View:
    """The parts of one page.

    Args:
        sources: what the page is made from.
        record: the table of results.
    """

    def __init__(self, sources: ReportSources, record: Mapping[str, Any]) -> None:
        self.sources = sources
        self.record = record
        self.metrics = list(record['metrics'])
        self.networks = _unique(row['network'] for row in record['rows'])
        self.dataset = next(iter(_unique(row['dataset'] for row in record['rows'])), '')
        rows = [row for row in record['rows'] if row['dataset'] == self.dataset]
        self.rows = {(row['network'], row['degradation']): row for row in rows}
        self.degradations = _unique(row['degradation'] for row in rows)
        self.colours = dict(zip(self.degradations, _repeat(PALETTE, len(self.degradations)), strict=True))
        self.images = _unique(image['name'] for row in rows for image in row['pictures'])
        self.shown = sources.shown or sources.network
        for label in (sources.network, self.shown, sources.against):
            if label not in self.networks:
                raise InputError(f"the table of results holds no network '{label}'; it holds {self.networks}")

    # --- numbers ---

    def describe_gain(self) -> str:
        """The first metric's gain over the comparison, one sentence for each network."""
        ours = [label for label in (self.shown, self.sources.network) if label != self.sources.against]
        return '<br>'.join(map(self._describe_one, _unique(ours)))

    def _describe_one(self, network: str) -> str:
        metric = self.metrics[0]
        gains = []
        for degradation in self.degradations:
            pair = [self.rows[label, degradation] for label in (network, self.sources.against)]
            if all(not row['failure'] for row in pair):
                ours, theirs = (float(row['means'][metric]) for row in pair)
                gains.append(f'<b>{_signed(ours - theirs, metric)}</b> at {escape(degradation)}')
        unit = ' dB' if 'psnr' in metric.lower() else ''
        names = f'{escape(network)} against {escape(self.sources.against)}, {escape(metric.upper())}'
        return f'{names}{f" in{unit}" if unit else ""}: {", ".join(gains) or "nothing could be computed"}.'

    def describe_table(self) -> str:
        """What the numbers mean."""
        kinds = ', '.join(
            f'{metric.upper()} ({_describe_arguments(self.record["metrics"][metric])})' for metric in self.metrics
        )
        count = len(self.images)
        return f'{kinds}; mean over {count} test images, x{self.record["scale"]}. The best one is marked.'

    def render_table(self) -> str:
        """Networks below each other, degradations side by side."""
        head = ''.join(f'<th>{escape(label)}</th>' for label in ('', *self.degradations))
        body = []
        for network in self.networks:
            cells = [self._render_cell(network, degradation) for degradation in self.degradations]
            body.append(f'<tr><td>{escape(network)}</td>{"".join(cells)}</tr>')
        return f'<table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'

    def _render_cell(self, network: str, degradation: str) -> str:
        row = self.rows[network, degradation]
        if row['failure']:
            return '<td>failed</td>'
        metric = self.metrics[0]
        values = [self.rows[label, degradation]['means'].get(metric) for label in self.networks]
        lower = self.record['metrics'][metric]['type'] in LOWER_IS_BETTER
        best = (min if lower else max)((float(value) for value in values if value is not None), default=math.nan)
        mark = ' class="best"' if float(row['means'][metric]) == best and len(self.networks) > 1 else ''
        first, *rest = (_format(metric, row['means'][metric]) for metric in self.metrics)
        return f'<td{mark}>{first}<br><small>{" / ".join(rest)}</small></td>'

    def render_remarks(self) -> str:
        """What failed or was left out."""
        lines = [
            f'{row["network"]}, {row["dataset"]}, {row["degradation"]} failed: {row["failure"]}'
            for row in self.record['rows']
            if row['failure']
        ]
        lines += [
            f'{entry["dataset"]} {entry["picture"]} left out: {entry["reason"]}' for entry in self.record['skipped']
        ]
        return '\n'.join(f'<p class="note">{escape(line)}</p>' for line in lines)

    # --- images ---

    def render_comparison(self) -> str:
        """The two networks on either side of a bar that can be moved; JavaScript takes the images from below."""
        if not self.images or not self.degradations:
            return ''
        blurred = self.degradations[min(2, len(self.degradations) - 1)]
        choices = self._render_choices('image', self.images) + self._render_choices('degradation', self.degradations)
        data = (
            f'data-image="{escape(self.images[0])}" data-degradation="{escape(blurred)}" '
            f'data-network="{escape(self.sources.against)}" data-against="{escape(self.shown)}"'
        )
        return (
            f'<div class="panel" id="compare" {data} hidden>{choices}'
            '<div class="viewer"><img class="under" src="data:," alt=""><img class="over" src="data:," alt="">'
            '<div class="bar"></div><span class="tag left"></span><span class="tag right"></span></div>'
            '<input class="slider" type="range" min="0" max="100" value="50" aria-label="divider"></div>'
        )

    def _render_choices(self, kind: str, values: Sequence[str]) -> str:
        buttons = ''.join(
            f'<button type="button" data-kind="{kind}" data-value="{escape(value)}">{escape(value)}</button>'
            for value in values
        )
        return f'<div class="choices"><span>{kind}</span>{buttons}</div>'

    def describe_images(self) -> str:
        """What is shown."""
        metrics = ' / '.join(metric.upper() for metric in self.metrics)
        return (
            f'Pixel for pixel as computed, without further compression. Below each image stands {metrics}. '
            'Low resolution is enlarged by repeating pixels.'
        )

    def render_images(self) -> str:
        """One block for each test image: degradations below each other, networks side by side."""
        blocks = []
        columns = len(self.networks) + 2
        for index, name in enumerate(self.images):
            truth = read_image(_find_image(self.sources.hr, name))
            uri = embed_image(truth)
            rows = ''.join(self._render_row(name, degradation, uri) for degradation in self.degradations)
            grid = f'<div class="grid" style="grid-template-columns:repeat({columns},minmax(0,1fr))">{rows}</div>'
            opened = ' open' if index == 0 else ''
            blocks.append(f'<details class="panel"{opened}><summary>{escape(name)}</summary>{grid}</details>')
        return '\n'.join(blocks)

    def _render_row(self, name: str, degradation: str, truth: str) -> str:
        low = read_image(self.sources.lq / folder_name(degradation) / f'{name}.png')
        figures = [_figure(embed_image(low), f'{name}, {degradation}', f'<b>{DEGRADED}</b>', 'class="raw"')]
        for network in self.networks:
            row = self.rows[network, degradation]
            scores = next((image for image in row['pictures'] if image['name'] == name), None)
            if scores is None:
                figures.append(f'<figure><figcaption><b>{escape(network)}</b><br>failed</figcaption></figure>')
                continue
            values = ' / '.join(_format(metric, scores[metric]) for metric in self.metrics)
            data = {
                'network': network,
                'image': name,
                'degradation': degradation,
                'caption': f'{network} {_format(self.metrics[0], scores[self.metrics[0]])}',
            }
            attributes = ' '.join(f'data-{key}="{escape(value)}"' for key, value in data.items())
            uri = embed_image(read_image(self._find_result(network, degradation, name)))
            caption = f'<b>{escape(network)}</b><br>{values}'
            figures.append(_figure(uri, f'{name}, {degradation}, {network}', caption, attributes))
        figures.append(_figure(truth, name, f'<b>{TRUTH}</b>', ''))
        return f'<div class="row-label">{escape(degradation)}</div>{"".join(figures)}'

    def _find_result(self, network: str, degradation: str, name: str) -> Path:
        folder = self.sources.results / 'visualization'
        return folder.joinpath(*map(folder_name, (network, self.dataset, degradation))) / f'{name}.png'

    # --- training ---

    def describe_training(self) -> str:
        """The stages."""
        if not self.sources.history:
            return 'No training was recorded.'
        stages = '; '.join(f'{name}: {count} iterations' for count, name in self.sources.stages)
        return f'{stages}. Losses are those of single batches, hence the scatter.'

    def render_charts(self) -> str:
        """Losses and validation by iteration."""
        if not self.sources.history:
            return ''
        marks, passed = [], 0
        for count, name in self.sources.stages:
            marks.append((float(passed), name.partition(',')[0]))
            passed += count
        charts = []
        for key, title in (('l_contrast', 'contrastive loss'), ('l_pix', 'reconstruction loss, grey levels')):
            points = [(float(line['iter']), float(line[key])) for line in self.sources.history if key in line]
            axes = Axes('iteration', title, marks)
            charts.append(_panel(draw_lines([Series(title, _ACCENT, points)], axes), title))
        curves = self._gather_validation()
        if curves:
            title = f'{self.metrics[0].upper()} on the test images'
            charts.append(_panel(draw_lines(curves, Axes('iteration', title, marks)) + draw_legend(curves), title))
        return '\n'.join(charts)

    def _gather_validation(self) -> list[Series]:
        metric = self.metrics[0]
        curves: dict[str, list[tuple[float, float]]] = {}
        for line in self.sources.history:
            for rows in line.get('validation', {}).values():
                for degradation, values in rows.items():
                    if degradation in self.colours and metric in values:
                        curves.setdefault(degradation, []).append((float(line['iter']), float(values[metric])))
        return [Series(label, self.colours[label], curves[label]) for label in self.degradations if label in curves]

    # --- representations ---

    def describe_map(self) -> str:
        """How to read the maps."""
        if self.sources.representations is None:
            return 'No map was saved.'
        return (
            f'Each dot is the degradation representation that {self.shown} finds for one patch of a test image, '
            'coloured by its degradation, which the network is not told.'
        )

    def render_maps(self) -> str:
        """The maps, coloured by degradation."""
        if self.sources.representations is None:
            return ''
        panels = []
        for saved in read_maps(self.sources.representations):
            groups = []
            for label in _unique(point.degradation for point in saved.points):
                own = [point for point in saved.points if point.degradation == label]
                colour = self.colours.get(label, PALETTE[-1])
                groups.append(Series(label, colour, [(p.x, p.y) for p in own], [p.image for p in own]))
            drawing = draw_scatter(groups, Axes('', '', description=saved.title)) + draw_legend(groups)
            panels.append(_panel(drawing, f'{_capitalise(saved.title)}. {saved.method}'))
        return '\n'.join(panels)


def _figure(uri: str, alt: str, caption: str, attributes: str) -> str:
    image = f'<img src="{uri}" alt="{escape(alt)}" {attributes}>'
    return f'<figure>{image}<figcaption>{caption}</figcaption></figure>'


def _panel(content: str, caption: str) -> str:
    return f'<figure class="panel">{content}<figcaption>{escape(caption)}</figcaption></figure>'


def embed_image(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as a data address, without loss."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, format='WEBP', lossless=True, quality=70)
    return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode("ascii")}'


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def _find_image(folder: Path, name: str) -> Path:
    """The file of an image in a folder, whatever its format."""
    for path in sorted(folder.glob('*')):
        if path.stem == name:
            return path
    raise InputError(f"{folder}: holds no image '{name}'; the test that is reported used one")


def _describe_arguments(options: Mapping[str, Any]) -> str:
    luma = 'BT.601 luma' if options.get('test_y_channel') else 'RGB'
    return f'{luma}, {options.get("crop_border", 0)} pixels cut off'


def _format(metric: str, value: Any) -> str:
    return f'{float(value):.{_digits(metric)}f}'


def _signed(value: float, metric: str) -> str:
    return f'{value:+.{_digits(metric)}f}'.replace('-', '\N{MINUS SIGN}')


def _digits(metric: str) -> int:
    return 2 if 'psnr' in metric.lower() else 4


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _repeat(values: Sequence[str], count: int) -> list[str]:
    return [values[index % len(values)] for index in range(count)]
