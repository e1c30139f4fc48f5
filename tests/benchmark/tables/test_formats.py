"""Tables hold every number once, in JSON; the other forms are made from it."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from dasr_arch._errors import InputError
from dasr_arch.benchmark.tables.formats import format_console, format_csv, format_markdown, read_results, write_tables

ENVIRONMENT = {'dasr': '1.0', 'commit': 'abc', 'python': '3.11', 'torch': '2.14', 'device': 'Some CPU', 'cores': 2}


def make_row(network: str, degradation: str, psnr: float | str, failure: str = '') -> dict[str, Any]:
    row = {'network': network, 'dataset': 'Set5', 'degradation': degradation, 'failure': failure, 'specification': {}}
    if failure:
        return {**row, 'means': {}, 'pictures': [], 'date': '', 'environment': {}}
    means = {'psnr': psnr, 'ssim': 0.81234}
    return {
        **row,
        'means': means,
        'pictures': [{'name': 'baby', **means}, {'name': 'bird', **means}],
        'date': '2026-01-01T00:00:00+00:00',
        'environment': ENVIRONMENT,
    }


def make_record(degradations: int = 2) -> dict[str, Any]:
    labels = [f'sigma {index}' for index in range(degradations)]
    rows = [make_row('Bicubic', label, 28.4262 + index) for index, label in enumerate(labels)]
    rows += [make_row('DASR', label, 31.9) for label in labels[:-1]]
    rows.append(make_row('DASR', labels[-1], 0, failure='baby: ValueError: the output holds NaN'))
    return {
        'name': 'trial',
        'date': '2026-01-02T00:00:00+00:00',
        'environment': ENVIRONMENT,
        'protocol': 1,
        'scale': 4,
        'seed': 0,
        'metrics': {
            'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True},
            'ssim': {'type': 'calculate_ssim', 'crop_border': 4},
        },
        'options': {'name': 'trial', 'scale': 4},
        'skipped': [{'dataset': 'Urban100', 'picture': '', 'reason': "'x' does not exist"}],
        'rows': rows,
    }


def test_console_has_a_block_per_set_with_networks_and_degradations() -> None:
    assert format_console(make_record()).splitlines() == [
        'Set5 x4, 2 images, psnr/ssim',
        'network       sigma 0       sigma 1',
        'Bicubic  28.43/0.8123  29.43/0.8123',
        'DASR     31.90/0.8123        failed',
        '',
        'failed: DASR on Set5, sigma 1: baby: ValueError: the output holds NaN',
        "skipped: Urban100: 'x' does not exist",
    ]


def test_many_degradations_stand_below_each_other() -> None:
    lines = format_console(make_record(degradations=27)).splitlines()
    assert lines[1] == 'degradation       Bicubic          DASR'
    assert lines[2] == 'sigma 0      28.43/0.8123  31.90/0.8123'
    assert lines[28] == 'sigma 26     54.43/0.8123        failed'
    assert '| sigma 26 | 54.43/0.8123 | failed |' in format_markdown(make_record(degradations=27))


def test_console_blocks_fit_the_width_and_lose_no_column() -> None:
    text = format_console(make_record(degradations=27), width=30)
    lines = [line for line in text.splitlines() if not line.startswith(('failed', 'skipped', 'Set5'))]
    assert max(map(len, lines)) <= 30
    assert [line.split() for line in lines if line.startswith('degradation')] == [
        ['degradation', 'Bicubic'],
        ['degradation', 'DASR'],
    ]
    assert sum(line.startswith('sigma') for line in lines) == 2 * 27


def test_markdown_names_date_commit_versions_hardware_protocol_and_options() -> None:
    text = format_markdown(make_record())
    for fact in ('2026-01-02', 'commit abc', 'Some CPU', 'torch 2.14', 'crop_border=4', 'noise seed 0', '"scale": 4'):
        assert fact in text
    assert '| Bicubic | 28.43/0.8123 | 29.43/0.8123 |' in text
    assert '- failed: DASR on Set5, sigma 1: baby' in text


def test_csv_has_a_line_per_evaluation_with_full_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(format_csv(make_record()))))
    assert len(rows) == 4
    assert rows[0]['psnr'] == '28.4262'
    assert (rows[0]['commit'], rows[0]['device'], rows[0]['pictures']) == ('abc', 'Some CPU', '2')
    assert rows[3]['psnr'] == ''
    assert rows[3]['failure'].startswith('baby: ValueError')


def test_infinite_psnr_is_printed_as_such() -> None:
    record = make_record()
    record['rows'][0]['means']['psnr'] = 'inf'
    assert 'inf/0.8123' in format_console(record)


def test_written_json_is_read_again_as_it_was(tmp_path: Path) -> None:
    record = make_record()
    write_tables(tmp_path / 'results', record)
    assert sorted(path.name for path in (tmp_path / 'results').iterdir()) == [
        'systems.csv',
        'table.csv',
        'table.json',
        'table.md',
        'table.tex',
    ]
    assert read_results(tmp_path / 'results' / 'table.json') == record


def test_all_forms_can_be_made_from_the_file_alone(tmp_path: Path) -> None:
    write_tables(tmp_path, make_record())
    record = read_results(tmp_path / 'table.json')
    assert format_csv(record) == (tmp_path / 'table.csv').read_text()
    assert format_markdown(record) == (tmp_path / 'table.md').read_text()


@pytest.mark.parametrize('content', ['', '{', '[]', '{"rows": []}'])
def test_file_that_is_no_table_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / 'table.json').write_text(content)
    with pytest.raises(InputError, match=r'table\.json.* cannot be read'):
        read_results(tmp_path / 'table.json')


def test_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'table\.json.* does not exist'):
        read_results(tmp_path / 'table.json')


def test_tables_are_plain_json(tmp_path: Path) -> None:
    write_tables(tmp_path, make_record())
    json.loads((tmp_path / 'table.json').read_text(), parse_constant=pytest.fail)
