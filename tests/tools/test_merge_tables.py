"""Tables of one test become one table; what is not of one test is refused."""

from pathlib import Path
from typing import Any

import pytest

from dasr_arch._errors import InputError
from dasr_arch.benchmark.tables.formats import read_results
from dasr_arch.benchmark.tables.results_table import build_table
from dasr_arch.pipelines.testing import run_test
from tests.benchmark.making import make_options, save_weights, small_dasr, write_images
from tests.benchmark.tables.test_formats import make_record, make_row
from tests.tools.conftest import import_tool

TOOL = import_tool('merge_tables')
merge_records = TOOL.merge_records


def list_places(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(row['network'], row['degradation'], row['failure']) for row in record['rows']]


def test_later_rows_count_unless_they_failed() -> None:
    first, second = make_record(), make_record()
    second['rows'] = [make_row('DASR', 'sigma 1', 30.0), make_row('DASR', 'sigma 0', 0, failure='no memory')]
    merged = merge_records([first, second])
    assert list_places(merged) == [
        (network, f'sigma {number}', '') for network in ('Bicubic', 'DASR') for number in (0, 1)
    ]
    assert [row['means']['psnr'] for row in merged['rows']] == [28.4262, 29.4262, 31.9, 30.0]
    assert merge_records([first])['rows'] == first['rows']


def test_older_tables_have_other_labels_and_another_key() -> None:
    first, second = make_record(), make_record()
    first['averages'] = {'mean': ['width 0', 'width 1']}
    first['systems'] = {'Bicubic': {'told': 'nothing'}}
    first['rows'] = [make_row('Bicubic', f'width {number}', 20.0) for number in (0, 1)]
    second['averages'] = {'mean': ['sigma 0', 'sigma 1']}
    second['rows'] = [make_row('Bicubic', 'sigma 1', 21.0)]
    merged = merge_records([first, second])
    values = {row['degradation']: row['means']['psnr'] for row in merged['rows']}
    assert values == {'sigma 0': 20.0, 'sigma 1': 21.0}
    (row,) = build_table(merged, 'Set5').rows
    assert (row.known, row.values['mean']['psnr']) == ('nothing', 20.5)


def test_methods_are_in_the_order_of_the_longest_option_file() -> None:
    records = []
    for names in (['B'], ['A', 'B', 'C'], ['D', 'A']):
        record = make_record()
        record['options'] = {'networks': {name: {} for name in names}}
        record['rows'] = [make_row(name, 'sigma 0', 1.0) for name in names if name != 'C']
        records.append(record)
    merged = merge_records(records)
    assert [network for network, _, _ in list_places(merged)] == ['A', 'B', 'D']
    assert list(merged['options']['networks']) == ['A', 'B', 'C', 'D']
    assert list(merge_records([merged, records[0]])['options']['networks']) == ['A', 'B', 'C', 'D']


def test_costs_stay_and_what_was_skipped_before_is_no_longer() -> None:
    first, second = make_record(), make_record()
    first['systems'] = {'Bicubic': {'told': 'nothing', 'costs': {'size': 120}}, 'DASR': {'told': 'nothing'}}
    second['systems'] = {'Bicubic': {'told': 'nothing', 'costs': None}}
    second['rows'] = second['rows'][:2]
    second['skipped'] += [{'network': 'DASR', 'dataset': '', 'picture': '', 'reason': 'no weights'}]
    merged = merge_records([first, second])
    assert merged['systems']['Bicubic']['costs'] == {'size': 120}
    assert set(merged['systems']) == {'Bicubic', 'DASR'}
    assert merged['skipped'] == first['skipped']  # Urban100


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'scale': 2}, "differ in 'scale': 4 and 2; merge tables of one test file alone"),
        ({'averages': {'mean': ['sigma 0']}}, "differ in 'averages'"),
        ({'rows': [{**make_row('C', 'sigma 0', 1.0), 'specification': {'sigma': 1}}]}, "'sigma 0' is {} in one table"),
        ({'rows': [{**make_row('C', 'sigma 0', 1.0), 'pictures': []}]}, "'Set5' is 2 images in one table and 0"),
    ],
)
def test_tables_of_different_tests_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        merge_records([make_record(), {**make_record(), **change}])
    assert message in str(caught.value)


def test_tool_makes_of_two_tests_what_one_would_have_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from basicsr.utils.registry import ARCH_REGISTRY

    monkeypatch.chdir(tmp_path)
    weights = save_weights(ARCH_REGISTRY.get('DASR')(**small_dasr()), tmp_path / 'a.pth')
    options = make_options(write_images(tmp_path / 'own'), averages={'mean': 'all'})
    arguments = {key: value for key, value in small_dasr().items() if key != 'scale'}
    networks = {'Bicubic': {'type': 'Bicubic'}, 'DASR': {'type': 'DASR', 'path': str(weights), **arguments}}
    tables = []
    for name, chosen in (('b', ['DASR']), ('a', ['Bicubic']), ('whole', ['Bicubic', 'DASR'])):
        report = run_test({**options, 'name': name, 'networks': {label: networks[label] for label in chosen}})
        tables.append(report.folder / 'table.json')
    assert TOOL.main([*map(str, tables[:2]), '-o', 'merged']) == 0
    merged, whole = read_results(tmp_path / 'merged' / 'table.json'), read_results(tables[2])
    assert {(r['network'], r['degradation'], r['means']['psnr']) for r in merged['rows']} == {
        (r['network'], r['degradation'], r['means']['psnr']) for r in whole['rows']
    }
    assert 'DASR' in (tmp_path / 'merged' / 'comparison.html').read_text(encoding='utf-8')
    assert 'tables: merged' in capsys.readouterr().out
    assert TOOL.main([str(tables[0]), 'absent.json', '-o', 'other']) == 2
    assert not (tmp_path / 'other').exists()
