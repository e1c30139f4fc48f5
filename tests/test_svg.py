"""Charts as inline SVG."""

import math
from xml.etree import ElementTree

import pytest

from dasr_arch._svg import (
    HEIGHT,
    WIDTH,
    Axes,
    Panel,
    Series,
    choose_powers,
    choose_ticks,
    draw_figure,
    draw_labelled_points,
    draw_legend,
    draw_lines,
    draw_scatter,
)

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


def test_hollow_lines_are_dashed_and_named() -> None:
    svg = draw_lines(
        [Series('a', '#111111', [(0, 1), (2, 3)]), Series('b', '#222222', [(0, 2), (2, 2)], hollow=True)], AXES
    )
    assert len(find(svg, 'polyline', 'line')) == len(find(svg, 'polyline', 'line hollow')) == 1
    assert [text.text for text in find(svg, 'text', 'name hollow')] == ['b']


def test_labelled_points_lie_on_a_logarithmic_axis_and_labels_do_not_overlap() -> None:
    series = [Series(f'system {index}', '#111111', [(10.0**index, 30.0)]) for index in range(3)]
    series += [Series('twin', '#222222', [(1.0, 30.0)])]
    svg = draw_labelled_points(series, Axes('s', 'dB', logarithmic=True))
    places = [float(str(dot.get('cx'))) for dot in find(svg, 'circle', 'dot')]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)
    spots = {(text.get('x'), text.get('y')) for text in find(svg, 'text', 'name')}
    assert len(spots) == 4
    ticks = [text.text for text in find(svg, 'text', 'tick')]
    assert {'1', '10', '100'} <= set(ticks)


def test_powers_are_refined_where_there_are_few() -> None:
    assert choose_powers(0.5, 2000) == [1, 10, 100, 1000]
    assert choose_powers(1.5, 30) == [2, 5, 10, 20]


def test_axis_need_not_start_at_zero() -> None:
    lines = [Series('a', '#111111', [(1.8, 1), (3.2, 2)])]
    first = [draw_lines(lines, Axes('x', 'y', from_zero=flag)) for flag in (True, False)]
    left = [float(str(find(svg, 'circle', 'node')[0].get('cx'))) for svg in first]
    assert left[0] > left[1]


def test_figure_of_several_charts_is_one_file_with_titles_and_legends() -> None:
    series = [Series('<a>', '#111111', [(0, 1), (2, 3)]), Series('b' * 60, '#222222', [(0, 2), (2, 2)])]
    panels = [Panel(f'chart {index}', draw_lines(series, AXES), series) for index in range(3)]
    root = ElementTree.fromstring(draw_figure(panels, columns=2))
    tag = '{http://www.w3.org/2000/svg}'
    assert root.tag == f'{tag}svg'
    assert (root.get('width'), float(str(root.get('height')))) == (str(2 * WIDTH), 2 * (HEIGHT + 3 * 20))
    texts = [text.text for text in root.iter(f'{tag}text')]
    assert [text for text in texts if text in {'chart 0', 'chart 1', 'chart 2'}] == ['chart 0', 'chart 1', 'chart 2']
    assert texts.count('<a>') == texts.count('b' * 60) == 3
    assert [group.get('transform') for group in root.findall(f'{tag}g')] == [
        'translate(0 0)',
        f'translate({WIDTH} 0)',
        f'translate(0 {HEIGHT + 60})',
    ]
