"""Components other than networks: timed beside a baseline, with the same results."""

import json

import pytest

from dasr_arch.benchmark.timing import components
from dasr_arch.benchmark.timing.components import format_components, measure_components
from dasr_arch.benchmark.timing.run import COMPONENTS, SpeedSettings, format_speed, list_cases, measure_speed

ROW = {
    'part': 'sharpening a pencil',
    'ours': 'a knife',
    'baseline': 'a file',
    'milliseconds': 2.0,
    'baseline_milliseconds': 5.0,
    'ratio': 2.5,
    'difference': 3e-7,
}


def test_table_names_both_ways_and_leaves_out_what_is_not_compared():
    head, row, other = format_components([ROW, {**ROW, 'difference': None}])
    assert head.split() == ['component', 'here', 'ms', 'baseline', 'ms', 'speedup', 'difference']
    assert row.split()[-4:] == ['file', '5.0', '2.50', '3.0e-07']
    assert other.endswith('2.50')


def test_components_alone_are_a_benchmark(monkeypatch):
    monkeypatch.setattr('dasr_arch.benchmark.timing.run.measure_components', lambda repeats, report: [])
    settings = SpeedSettings(operations=(COMPONENTS,))
    assert list_cases(settings) == []
    record = measure_speed(settings)
    assert record['rows'] == record['parts'] == []
    record['parts'] = [ROW]
    assert 'sharpening a pencil' in format_speed(json.loads(json.dumps(record)))
    assert 'network' not in format_speed(record).splitlines()[0]


def test_old_name_of_the_operation_is_understood():
    assert SpeedSettings(operations=('inference', 'parts')) == SpeedSettings(operations=('inference', COMPONENTS))


@pytest.mark.parametrize(
    'component', [*components._list_downsampling(), components._describe_ssim()], ids=lambda p: p.component
)
def test_both_ways_give_the_same(component):
    assert component.compare(component.ours[1](), component.baseline[1]()) < 1e-6


def test_patches_degraded_at_once_equal_those_degraded_one_by_one():
    component = components._describe_degrading()
    difference = component.compare(component.ours[1](), component.baseline[1]())
    assert difference < 1.01 / 255  # a value between two levels is rounded either way


@pytest.mark.slow
def test_every_component_is_measured():
    names = []
    rows = measure_components(3, names.append)
    assert [row['part'] for row in rows] == names
    assert all(row['milliseconds'] > 0 and row['ratio'] > 0 for row in rows)
    assert len(json.dumps(rows)) > 0
