"""The table model: averages, ranks of methods without ground truth, and published rows."""

from typing import Any

import pytest

from dasr_arch.benchmark.tables.formats import format_console, format_csv, format_markdown, format_systems_csv
from dasr_arch.benchmark.tables.latex import escape_latex, format_latex
from dasr_arch.benchmark.tables.results_table import build_table, format_values, name_row

NAN = 'baby: ValueError: the output holds NaN'
COSTS: dict[str, Any] = {
    'size': 180,
    'parameters': 5_837_699,
    'multiply_adds': 104_400_000_000,
    'milliseconds': 1234.5,
    'peak_mib': 900.0,
    'base_mib': 300.0,
    'failure': '',
    'environment': {'device': 'Some CPU', 'threads': 2},
}


def make_comparison(**changes: Any) -> dict[str, Any]:
    """A record of four methods, one non-blind and one with a failure, with published figures."""
    psnr = {'Bicubic': (27.0, 25.0), 'DASR': (31.0, 30.0), 'A & B': (30.0, None), 'SRMD': (33.0, 32.0)}
    rows = []
    for network, values in psnr.items():
        for sigma, value in zip((1.2, 2.4), values, strict=True):
            means = {} if value is None else {'psnr': value, 'niqe': 40 - value}
            rows.append(
                {
                    'network': network,
                    'dataset': 'Set5',
                    'degradation': f'width {sigma}',
                    'specification': {'type': 'IsotropicGaussian', 'sigma': sigma, 'noise': 0.0},
                    'failure': NAN if value is None else '',
                    'means': means,
                    'pictures': [{'name': 'baby', **means}] if means else [],
                    'date': '2026-01-01T00:00:00+00:00',
                    'seconds': 0.5,
                    'environment': {},
                }
            )
    published = {
        'table': 'dasr_table2',
        'system': 'DASR',
        'dataset': 'Set5',
        'metric': 'psnr',
        'parameters': 5.8,
        'multiply_adds': None,
        'milliseconds': 70.0,
    }
    systems: dict[str, Any] = {
        label: {
            'type': 'X',
            'told': 'kernel' if label == 'SRMD' else 'nothing',
            'upper_bound': label == 'SRMD',
            'predictor': None,
            'denoiser': None,
            'adapts': False,
            'tile': None,
            'seconds_per_picture': 0.5,
            'costs': COSTS,
        }
        for label in psnr
    }
    return {
        'name': 'trial',
        'date': '2026-01-02T00:00:00+00:00',
        'environment': {'device': 'Some CPU', 'cores': 2, 'dasr': '1.0'},
        'protocol': 1,
        'scale': 4,
        'seed': 0,
        'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 4}, 'niqe': {'type': 'calculate_niqe'}},
        'options': {'name': 'trial'},
        'skipped': [{'network': 'RCAN', 'dataset': '', 'picture': '', 'reason': "'rcan.pth' does not exist"}],
        'averages': {'mean': ['width 1.2', 'width 2.4']},
        'systems': systems,
        'published': {
            'sources': {'dasr_table2': {'title': 'T', 'source': 'Wang et al.', 'remark': 'A remark.'}},
            'rows': [
                published | {'column': 'width 1.2', 'value': 31.92},
                published | {'column': 'width 2.4', 'value': 31.74},
            ],
        },
        'crops': [],
        'rows': rows,
        **changes,
    }


def test_average_exists_only_where_nothing_failed() -> None:
    rows = {(row.label, row.source): row for row in build_table(make_comparison(), 'Set5').rows}
    assert rows['DASR', ''].values['mean'] == {'psnr': 30.5, 'niqe': 9.5}
    assert 'mean' not in rows['A & B', ''].values
    assert rows['A & B', ''].failures == {'width 2.4': NAN}
    assert rows['DASR', 'dasr_table2'].values['mean'] == {'psnr': pytest.approx(31.83)}


def test_printed_average_is_not_computed_anew() -> None:
    record = make_comparison()
    record['published']['rows'].append({**record['published']['rows'][0], 'column': 'mean', 'value': 31.0})
    row = build_table(record, 'Set5').rows[-1]
    assert row.values['mean'] == {'psnr': 31.0}


def test_best_is_found_among_methods_without_the_true_degradation() -> None:
    table = build_table(make_comparison(), 'Set5')
    assert table.rank('width 1.2', 'psnr') == ('DASR', 'A & B')  # not SRMD, not the published DASR
    assert table.rank('width 1.2', 'niqe') == ('DASR', 'A & B')  # lower is better
    assert table.rank('width 2.4', 'psnr') == ('DASR', 'Bicubic')


def test_method_without_rivals_is_no_best_one() -> None:
    record = make_comparison()
    record['rows'] = [row for row in record['rows'] if row['network'] in {'DASR', 'SRMD'}]
    assert build_table(record, 'Set5').rank('width 1.2', 'psnr') == ('', '')


def test_values_of_failures_and_of_figures_that_are_not_printed() -> None:
    table = build_table(make_comparison(), 'Set5')
    rows = {name_row(row): row for row in table.rows}
    assert list(rows) == ['Bicubic', 'DASR', 'A & B', 'SRMD (kernel)', 'DASR [dasr_table2]']
    assert format_values(table, rows['A & B'], 'width 2.4') == 'failed'
    assert format_values(table, rows['A & B'], 'mean') == '-'
    assert format_values(table, rows['DASR [dasr_table2]'], 'width 1.2') == '31.92/-'
    assert format_values(table, rows['SRMD (kernel)'], 'mean') == '32.50/7.50'


def test_console_and_markdown_name_sources_and_costs() -> None:
    text = format_console(make_comparison())
    assert 'SRMD (kernel)' in text
    assert "skipped: RCAN: 'rcan.pth' does not exist" in text
    assert '[dasr_table2]: published, not measured here: Wang et al.. A remark.' in text
    markdown = format_markdown(make_comparison())
    assert '| DASR [dasr_table2] | 31.92/- | 31.74/- | 31.83/- |' in markdown
    assert '| DASR | nothing | 5.838 M | 104.4 G | 1234 | 600 | 0.50 |' in markdown


def test_csv_holds_averages_published_figures_and_costs() -> None:
    lines = format_csv(make_comparison()).splitlines()
    assert lines[0].endswith(',device,seconds,published')
    assert 'DASR,Set5,4,mean,,30.5,9.5,,,,,,,' in lines
    assert 'DASR,Set5,4,width 1.2,,31.92,,,,,,,,dasr_table2' in lines
    systems = format_systems_csv(make_comparison()).splitlines()
    assert systems[2] == 'DASR,X,nothing,False,,,False,,0.5,180,5837699,104400000000,1234.5,900.0,300.0,'


def test_latex_marks_the_best_and_sets_published_figures_apart() -> None:
    text = format_latex(make_comparison())
    assert r'DASR & \textbf{31.00} & \textbf{30.00} & \textbf{30.50} \\' in text
    assert r'A \& B & \underline{30.00} & failed & -- \\' in text
    assert r'SRMD (kernel) & 33.00 & 32.00 & 32.50 \\' in text
    assert r'\textcolor{published}{DASR [dasr\_table2]} & \textcolor{published}{31.92}' in text
    assert (
        text.count(r'\begin{tabular}{lrrr}') == text.count(r'\end{tabular}') - 1 == 3
    )  # metrics, published costs; costs
    assert text.count(r'\midrule') == 3 + 2 + 2  # nobody printed NIQE; costs


def test_latex_has_sources_of_published_figures_and_costs() -> None:
    text = format_latex(make_comparison())
    assert r'DASR [dasr\_table2]' in text
    assert r'\par\footnotesize [dasr\_table2]: ' in text
    assert r'DASR & nothing & 5.838 M & 104.4 G & 1234 & 600 & ' in text
    assert r'DASR [dasr\_table2] & 5.80 M & - & 70 \\' in text


def test_markdown_has_published_costs_in_a_table_of_their_own() -> None:
    text = format_markdown(make_comparison())
    assert '## Published costs, on the hardware of the authors' in text
    assert '| DASR [dasr_table2] | 5.80 M | - | 70 |' in text


def test_latex_finds_no_commands_in_names() -> None:
    assert escape_latex(r'a_b\c{%}~^') == r'a\_b\textbackslash{}c\{\%\}\textasciitilde{}\textasciicircum{}'


def test_old_tables_without_comparisons_can_still_be_read() -> None:
    record = make_comparison()
    for key in ('averages', 'systems', 'published', 'crops'):
        del record[key]
    assert 'DASR' in format_console(record)
    assert format_systems_csv(record).count('\n') == 1
