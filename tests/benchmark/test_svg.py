"""Charts as inline SVG."""

import math
from xml.etree import ElementTree

import pytest

from dasr_arch.benchmark.svg import HEIGHT, WIDTH, Axes, Series, choose_ticks, draw_legend, draw_lines, draw_scatter

AXES = Axes('iteration', 'loss', [(0, 'one'), (5, 'two')])


def find(svg: str, tag: str, kind: str) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(svg).iter(tag) if element.get('class') == kind]


def test_line_chart_is_well_formed_and_lies_inside_its_frame() -> None:
    svg = draw_lines([Series('a', '#123456', [(0, 1), (5, -2), (10, 30)])], AXES)
    (line,) = find(svg, 'polyline', 'line')
    points = [tuple(map(float, pair.split(','))) for pair in str(line.get('points')).split()]
    assert len(points) == 3
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[2][1] < points[0][1] < points[1][1]  # larger is further up
    assert len(find(svg, 'line', 'mark')) == 2


def test_scatter_plot_shows_every_point_with_its_name() -> None:
    svg = draw_scatter([Series('a', '#111111', [(0, 0), (1, 1)], ['left', 'right'])], AXES)
    dots = find(svg, 'circle', 'dot')
    assert [dot[0].text for dot in dots] == ['a, left', 'a, right']


def test_points_that_are_no_numbers_are_left_out() -> None:
    points = [(0.0, math.nan), (1.0, 2.0), (2.0, math.inf)]
    assert len(find(draw_scatter([Series('a', '#111111', points)], AXES), 'circle', 'dot')) == 1
    assert 'nan' not in draw_lines([Series('a', '#111111', points)], AXES)


@pytest.mark.parametrize('draw', [draw_lines, draw_scatter])
def test_nothing_to_draw_is_said(draw) -> None:
    assert 'Nothing was recorded' in draw([Series('a', '#111111', [])], AXES)


@pytest.mark.parametrize('draw', [draw_lines, draw_scatter])
def test_one_point_and_equal_values_can_be_drawn(draw) -> None:
    ElementTree.fromstring(draw([Series('a', '#111111', [(0, 0)])], AXES))
    ElementTree.fromstring(draw([Series('a', '#111111', [(3, 7), (4, 7)])], AXES))


def test_names_from_outside_are_escaped() -> None:
    series = [Series('<script>', '#111111', [(0, 0), (1, 1)], ['"&', '<b>'])]
    for text in (draw_lines(series, AXES), draw_scatter(series, AXES), draw_legend(series)):
        assert '<script>' not in text
        ElementTree.fromstring(text)


@pytest.mark.parametrize(('low', 'high'), [(0, 1), (-3, 11), (24.1, 28.9), (0, 480), (1e-4, 3e-4)])
def test_ticks_are_round_and_inside_the_range(low: float, high: float) -> None:
    ticks = choose_ticks(low, high)
    assert 2 <= len(ticks) <= 11
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    step = ticks[1] - ticks[0]
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 5, 10)
