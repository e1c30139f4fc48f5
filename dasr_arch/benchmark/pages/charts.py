"""Charts of a page: metrics against the degradation and against time, training curves, maps of representations."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from dasr_arch._svg import Axes, Series, draw_labelled_points, draw_legend, draw_lines, draw_scatter
from dasr_arch.benchmark.tables.results_table import Record, ResultsRow, ResultsTable, find_published_costs, unique
from dasr_arch.metrics.facts import prefers_lower
from dasr_arch.probe.tsne import RepresentationMap

PALETTE = (
    '#2f6fc4', '#d1495b', '#2a9d8f', '#8f5bb5', '#6b7780', '#3f8f4f', '#c2528b', '#5a7d2a', '#00869e', '#7a5c43',
    '#5b5bd6', '#b0413e', '#b8860b', '#4a90a4', '#a0527a', '#6a9a1f', '#d2691e', '#3d6b6b', '#8b3fa8', '#4f5d9a',
)  # fmt: skip
"""One colour for each measured method or degradation, the same in every chart; readable on light and dark."""

AMBERS = (
    '#c98a2b', '#9a5b13', '#e0a35a', '#7d6a2f', '#b5713a', '#d9b44a', '#8a4b08', '#bf9000', '#a67c52', '#e0b080',
    '#6e5a1e', '#c77f4a',
)  # fmt: skip
"""Colours of published methods, apart from those of PALETTE."""

_LOSSES = {'l_contrast': 'contrastive loss', 'l_pix': 'reconstruction loss, grey levels'}


class Chart(NamedTuple):
    """A chart of a page."""

    drawing: Markup  # SVG, and a legend
    caption: str  # text below
    metric: int | None = None  # index of the metric whose button shows it; None shows it always


class Colours:
    """The colours of the methods of all tables of a page, measured and published."""

    def __init__(self, rows: Iterable[ResultsRow]) -> None:
        listed = list(rows)
        self.measured = assign(unique(row.label for row in listed if not row.source), PALETTE)
        self.published = assign(unique(row.label for row in listed if row.source), AMBERS)

    def of(self, row: ResultsRow) -> str:
        """The colour of a row."""
        return (self.published if row.source else self.measured)[row.label]


def assign(names: Sequence[str], colours: Sequence[str]) -> dict[str, str]:
    """A colour for each name, repeated where there are more names than colours."""
    return {name: colours[index % len(colours)] for index, name in enumerate(names)}


def draw_curves(
    table: ResultsTable, specifications: Mapping[str, Mapping[str, Any]], colours: Colours
) -> Iterator[Chart]:
    """Every metric of a data set against kernel width and noise level, where the degradations differ in these."""
    for index, metric in enumerate(table.metrics):
        for title, axis, columns in _find_axes(specifications):
            curves = [
                Series(row.label, colours.of(row), _average_points(row, metric, columns), hollow=bool(row.source))
                for row in table.rows
            ]
            curves = [curve for curve in curves if len(curve.points) > 1]
            if curves:
                drawing = draw_lines(curves, Axes(axis, metric.upper(), description=title, from_zero=False))
                legend = draw_legend([curve for curve in curves if not curve.hollow])
                dashed = ' Dashed: published.' if any(curve.hollow for curve in curves) else ''
                yield Chart(Markup(drawing + legend), f'{metric.upper()} against {title}.{dashed}', index)


def draw_times(record: Record, table: ResultsTable, metric: str, colours: Colours) -> Iterator[Chart]:
    """A metric in the main column against seconds per test image; none if no times were measured."""
    points = []
    for row in table.rows:
        value = row.values.get(table.main_column, {}).get(metric, math.nan)
        seconds = _find_seconds(record, table.dataset, row)
        if math.isfinite(value) and seconds > 0:
            points.append(Series(row.label, colours.of(row), [(seconds, value)], hollow=bool(row.source)))
    if not points:
        return
    axes = Axes('seconds for an image', metric.upper(), description='time', logarithmic=True)
    caption = (
        f'{metric.upper()} ({table.main_column}) against the mean time for a test image of this set on this machine, '
        f'test-time training included. {"Down" if prefers_lower(table.metrics[metric]) else "Up"} and left is better.'
    )
    if any(entry.hollow for entry in points):
        caption += ' Hollow: published, on the hardware of the authors, for images of another size.'
    yield Chart(Markup(draw_labelled_points(points, axes)), caption)


def draw_training(
    history: Sequence[Mapping[str, Any]], stages: Sequence[tuple[int, str]], metric: str, colours: Mapping[str, str]
) -> Iterator[Chart]:
    """Losses and validation by iteration; ``stages`` are iterations and name of each, the colours by degradation."""
    starts = [float(sum(count for count, _ in stages[:index])) for index in range(len(stages))]
    marks = [(start, name.partition(',')[0]) for start, (_, name) in zip(starts, stages, strict=True)]
    for key, title in _LOSSES.items():
        points = [(float(line['iter']), float(line[key])) for line in history if key in line]
        drawing = draw_lines([Series(title, PALETTE[0], points)], Axes('iteration', title, marks))
        yield Chart(Markup(drawing), title)
    validation: dict[str, list[tuple[float, float]]] = {label: [] for label in colours}
    for line in history:
        for rows in line.get('validation', {}).values():
            for label, values in rows.items():
                if label in colours and metric in values:
                    validation[label].append((float(line['iter']), float(values[metric])))
    curves = [Series(label, colours[label], points) for label, points in validation.items() if points]
    if curves:
        title = f'{metric.upper()} on the test images'
        drawing = draw_lines(curves, Axes('iteration', title, marks)) + draw_legend(curves)
        yield Chart(Markup(drawing), title)


def draw_map(saved: RepresentationMap, colours: Mapping[str, str]) -> Chart:
    """A map of representations, coloured by degradation."""
    groups = []
    for label in unique(point.degradation for point in saved.points):
        own = [point for point in saved.points if point.degradation == label]
        colour = colours.get(label, PALETTE[-1])
        groups.append(Series(label, colour, [(point.x, point.y) for point in own], [point.image for point in own]))
    drawing = draw_scatter(groups, Axes('', '', description=saved.title)) + draw_legend(groups)
    return Chart(Markup(drawing), f'{saved.title[:1].upper()}{saved.title[1:]}. {saved.method}')


def _find_axes(
    specifications: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, str, list[tuple[float, Sequence[str]]]]]:
    """Title, axis label, and positions with the labels of the degradations to average there."""
    for key, axis, title in (
        ('sigma', 'kernel width, HR pixels', 'kernel width'),
        ('noise', 'noise level', 'noise level'),
    ):
        places: dict[float, list[str]] = {}
        for label, values in specifications.items():
            if isinstance(values.get(key, 0 if key == 'noise' else None), int | float):
                places.setdefault(float(values.get(key, 0)), []).append(label)
        complete = sum(map(len, places.values())) == len(specifications)
        if len(places) > 1 and complete:
            others = len(specifications) > len(places)
            name = f'{title}, mean over all else' if others else title
            yield name, axis, sorted((x, labels) for x, labels in places.items())


def _average_points(
    row: ResultsRow, metric: str, columns: Sequence[tuple[float, Sequence[str]]]
) -> list[tuple[float, float]]:
    """The points of a curve, where all values that are averaged are there."""
    points = []
    for x, labels in columns:
        values = [row.values[label][metric] for label in labels if metric in row.values.get(label, {})]
        if len(values) == len(labels):
            points.append((x, sum(values) / len(values)))
    return points


def _find_seconds(record: Record, dataset: str, row: ResultsRow) -> float:
    """Mean seconds per image of a data set, or the published time; 0 if there is none."""
    if row.source:
        *_, milliseconds = find_published_costs(record).get((row.source, row.label), (None,))
        return (milliseconds or 0) / 1000
    times = [
        one['seconds'] / len(one['pictures'])
        for one in record['rows']
        if (one['network'], one['dataset']) == (row.label, dataset) and one['pictures'] and one.get('seconds')
    ]
    return sum(times) / len(times) if times else 0.0
