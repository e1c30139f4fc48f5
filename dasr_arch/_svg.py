"""Line charts and scatter plots as SVG, inside a page or as a file of their own.

Inside a page, text and axes take the colours of its style sheet. All labels are escaped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 480, 280  # units of the drawing; the page scales it
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 44  # margins
_TICKS = 5
_LETTER = 7.0  # width of a letter of a label, at most on average
_LINE = 20  # height of a line of text
_ROOM = 1.8  # a logarithmic axis is longer than its points by this factor on each side
_PADDING = 0.05  # free share of a linear axis on each side
_STYLE = """
text { fill: #555; font: 12px sans-serif; } .title { fill: #111; font-size: 14px; }
.grid { stroke: #ddd; } .axis, .frame { stroke: #aaa; fill: none; } .mark { stroke: #555; stroke-dasharray: 4 4; }
.line { fill: none; stroke-width: 2; } .line.hollow { stroke-dasharray: 5 4; } circle.hollow { fill: #fff; }
"""

_NOTHING = '<p class="note">Nothing was recorded.</p>'

_Box = tuple[float, float, float, float]  # left, top, right, bottom


class Series(NamedTuple):
    """One line of a chart, or one group of points of a scatter plot."""

    label: str  # its name in the legend
    colour: str  # CSS colour
    points: Sequence[tuple[float, float]]  # pairs x, y; those that are not finite are left out
    names: Sequence[str] = ()  # one tooltip for each point, or none
    hollow: bool = False  # drawn dashed and with empty points


@dataclass(frozen=True)
class Axes:
    """Axes of a chart."""

    x_label: str
    y_label: str
    marks: Sequence[tuple[float, str]] = ()  # vertical lines at x, each with a text
    description: str = ''  # text for screen readers
    logarithmic: bool = False  # horizontally; all x must be positive
    from_zero: bool = True  # starts a linear horizontal axis at 0 if all x are positive


class _Scale(NamedTuple):
    """The map from values [low, high] to positions [start, end], linear in the values or in their logarithms."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        low, high = self._measure(self.low), self._measure(self.high)
        return self.start + (self._measure(value) - low) / (high - low) * (self.end - self.start)

    def choose_ticks(self) -> list[float]:
        return choose_powers(self.low, self.high) if self.logarithmic else choose_ticks(self.low, self.high)

    def _measure(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def draw_lines(series: Sequence[Series], axes: Axes) -> str:
    """A line chart as an SVG element, without the series that have no points; a line of text if all have none."""
    shown = [entry for entry in map(_keep_finite, series) if entry.points]
    if not shown:
        return _NOTHING
    horizontal, vertical = _find_scales(shown, axes)
    parts = [_open(axes), *_draw_frame(horizontal, vertical, axes)]
    for entry in shown:
        kind = 'line hollow' if entry.hollow else 'line'
        path = ' '.join(f'{horizontal.place(x):.1f},{vertical.place(y):.1f}' for x, y in entry.points)
        title = f'<title>{escape(entry.label)}</title>'
        parts.append(f'<polyline class="{kind}" stroke="{escape(entry.colour)}" points="{path}">{title}</polyline>')
        for x, y in entry.points if len(entry.points) <= 60 else ():
            parts.append(_draw_point(horizontal.place(x), vertical.place(y), entry, f'{x:g}: {y:.4g}', 2))
    taken: list[_Box] = []
    for entry in shown:
        if entry.hollow:  # their colours are shades of one, so that they need names
            x, y = entry.points[-1]
            parts.append(_place_label(entry, horizontal.place(x), vertical.place(y), taken))
    return '\n'.join([*parts, '</svg>'])


def draw_labelled_points(series: Sequence[Series], axes: Axes) -> str:
    """Points between axes, finite and at least one, each with its series' label, as an SVG element."""
    horizontal, vertical = _find_scales(series, axes)
    parts = [_open(axes), *_draw_frame(horizontal, vertical, axes)]
    points = [(entry, x, y, horizontal.place(x), vertical.place(y)) for entry in series for x, y in entry.points]
    taken = [(left - 6, top - 6, left + 6, top + 6) for *_, left, top in points]
    for entry, x, y, left, top in points:
        parts.append(_draw_point(left, top, entry, f'{entry.label}: {x:.4g}, {y:.4g}', 5))
        parts.append(_place_label(entry, left, top, taken))
    return '\n'.join([*parts, '</svg>'])


def _place_label(entry: Series, left: float, top: float, taken: list[_Box]) -> str:
    """The label of a point, placed where it overlaps no other label or point if possible."""
    width = len(entry.label) * _LETTER
    sides = [(9.0, 4.0), (-9.0 - width, 4.0), (-width / 2, -11.0), (-width / 2, 19.0), (9.0, -9.0), (9.0, 17.0)]
    boxes = [(left + dx, top + dy - 11, left + dx + width, top + dy + 3) for dx, dy in sides]
    inside = [
        box for box in boxes if box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - _BOTTOM
    ]
    free = [box for box in inside if not any(_overlap(box, other) for other in taken)]
    box = (free or inside or boxes)[0]
    taken.append(box)
    kind = 'name hollow' if entry.hollow else 'name'
    return f'<text class="{kind}" x="{box[0]:.1f}" y="{box[3] - 3:.1f}">{escape(entry.label)}</text>'


def _overlap(first: _Box, second: _Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def draw_scatter(series: Sequence[Series], axes: Axes) -> str:
    """A scatter plot as an SVG element, without axes and marks, for maps whose coordinates have no meaning.

    Series without points are left out; it is a line of text if all have none.
    """
    shown = [entry for entry in map(_keep_finite, series) if entry.points]
    if not shown:
        return _NOTHING
    xs, ys = zip(*[point for entry in shown for point in entry.points], strict=True)
    horizontal = _Scale(*_widen(min(xs), max(xs)), 12, WIDTH - 12)
    vertical = _Scale(*_widen(min(ys), max(ys)), HEIGHT - 12, 12)
    parts = [_open(axes), f'<rect class="frame" x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}"/>']
    for entry in shown:
        names = entry.names or [entry.label] * len(entry.points)
        for (x, y), name in zip(entry.points, names, strict=True):
            parts.append(_draw_point(horizontal.place(x), vertical.place(y), entry, name, 5))
    return '\n'.join([*parts, '</svg>'])


def draw_legend(series: Sequence[Series]) -> str:
    """A legend as an HTML list."""
    entries = []
    for entry in series:
        kind, style = ('swatch hollow', 'border-color') if entry.hollow else ('swatch', 'background')
        swatch = f'<span class="{kind}" style="{style}:{escape(entry.colour)}"></span>'
        entries.append(f'<li>{swatch}{escape(entry.label)}</li>')
    return f'<ul class="legend">{"".join(entries)}</ul>'


class Panel(NamedTuple):
    """One chart of a figure."""

    title: str  # text above
    drawing: str  # SVG element of `draw_lines` or `draw_scatter`
    series: Sequence[Series]  # entries of the legend


def draw_figure(panels: Sequence[Panel], columns: int = 1) -> str:
    """The text of an SVG file of several charts with titles and legends, on white, in rows of ``columns``."""
    legends = [_draw_svg_legend(panel.series) for panel in panels]
    height = HEIGHT + _LINE * (1 + max(lines for _, lines in legends))
    rows = math.ceil(len(panels) / columns)
    size = f'width="{WIDTH * columns}" height="{height * rows}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>']
    parts.append('<rect width="100%" height="100%" fill="white"/>')
    for index, (panel, (entries, _)) in enumerate(zip(panels, legends, strict=True)):
        place = f'translate({index % columns * WIDTH} {index // columns * height})'
        title = f'<text class="title" x="{WIDTH / 2}" y="15" text-anchor="middle">{escape(panel.title)}</text>'
        drawing = panel.drawing.replace('<svg ', f'<svg y="{_LINE}" width="{WIDTH}" height="{HEIGHT}" ', 1)
        legend = f'<g transform="translate(0 {HEIGHT + _LINE})">{entries}</g>'
        parts.append(f'<g transform="{place}">{title}{drawing}{legend}</g>')
    return '\n'.join([*parts, '</svg>\n'])


def _draw_svg_legend(series: Sequence[Series]) -> tuple[str, int]:
    """A legend as SVG, and its number of lines."""
    parts, left, line = [], float(_LEFT), 1
    for entry in series:
        width = len(entry.label) * _LETTER + 30
        if left + width > WIDTH and left > _LEFT:
            left, line = float(_LEFT), line + 1
        top = line * _LINE - 7
        parts.append(f'<circle cx="{left:.1f}" cy="{top - 4}" r="5" fill="{escape(entry.colour)}"/>')
        parts.append(f'<text x="{left + 10:.1f}" y="{top}">{escape(entry.label)}</text>')
        left += width
    return ''.join(parts), line


def choose_ticks(low: float, high: float) -> list[float]:
    """About five round numbers in a range: multiples of 1, 2 or 5 times a power of ten.

    They are two at least unless the range is too narrow for floating point.
    """
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def choose_powers(low: float, high: float) -> list[float]:
    """Powers of ten in [low, high], both positive, with twice and five times these if there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            break
    return inside


def _keep_finite(series: Series) -> Series:
    names = series.names or [''] * len(series.points)
    kept = [(point, name) for point, name in zip(series.points, names, strict=True) if all(map(math.isfinite, point))]
    return series._replace(points=[point for point, _ in kept], names=[name for _, name in kept if name])


def _find_scales(series: Sequence[Series], axes: Axes) -> tuple[_Scale, _Scale]:
    xs, ys = zip(*[point for entry in series for point in entry.points], strict=True)
    xs = (*xs, *(x for x, _ in axes.marks))
    low, high = min(xs), max(xs)
    if axes.logarithmic:
        low, high = low / _ROOM, high * _ROOM
    elif axes.from_zero:
        low, high = min(0, low), high if high > min(0, low) else low + 1
    else:
        low, high = _widen(low, high)
    horizontal = _Scale(low, high, _LEFT, WIDTH - _RIGHT, axes.logarithmic)
    return horizontal, _Scale(*_widen(min(ys), max(ys)), HEIGHT - _BOTTOM, _TOP)


def _widen(low: float, high: float) -> tuple[float, float]:
    """A range with free space on both sides, never empty."""
    room = (high - low) * _PADDING or max(abs(high), 1.0) * _PADDING
    return low - room, high + room


def _draw_frame(horizontal: _Scale, vertical: _Scale, axes: Axes) -> list[str]:
    parts, right, base = [], WIDTH - _RIGHT, HEIGHT - _BOTTOM
    middle, centre = (_LEFT + right) / 2, (_TOP + base) / 2
    for tick in vertical.choose_ticks():
        y = f'{vertical.place(tick):.1f}'
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y}" dy="4" text-anchor="end">{tick:g}</text>')
    for tick in horizontal.choose_ticks():
        x = f'{horizontal.place(tick):.1f}'
        parts.append(f'<text class="tick" x="{x}" y="{base + 18}" text-anchor="middle">{tick:g}</text>')
    for value, text in axes.marks:
        place = horizontal.place(value)
        parts.append(f'<line class="mark" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{base}"/>')
        parts.append(f'<text class="tick" x="{place + 5:.1f}" y="{_TOP + 10}">{escape(text)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{base}" y2="{base}"/>')
    label = escape(axes.x_label)
    parts.append(f'<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text>')
    turned = f'transform="rotate(-90 14 {centre})"'
    parts.append(f'<text class="label" x="14" y="{centre}" text-anchor="middle" {turned}>{escape(axes.y_label)}</text>')
    return parts


def _draw_point(x: float, y: float, series: Series, name: str, radius: float) -> str:
    title = f'<title>{escape(series.label)}, {escape(name)}</title>' if name != series.label else ''
    kind = 'dot' if radius > 3 else 'node'
    colour = escape(series.colour)
    style = f'class="{kind} hollow" style="stroke:{colour}"' if series.hollow else f'class="{kind}" fill="{colour}"'
    return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>'


def _open(axes: Axes) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(axes.description or axes.y_label)}">'
