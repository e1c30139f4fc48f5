def summary(statements, missing, branches, covered_branches):
    lines = statements - missing
    parts = statements + branches
    return {
        'summary': {
            'num_statements': statements,
            'missing_lines': missing,
            'covered_lines': lines,
            'num_branches': branches,
            'covered_branches': covered_branches,
            'percent_covered': 100 * (lines + covered_branches) / parts,
        }
    }


def test_page_has_a_row_for_each_folder_and_each_file_with_low_coverage(load_tool):
    report = {
        'files': {
            'dasr_arch/version.py': summary(1, 0, 0, 0),
            'dasr_arch/archs/a.py': summary(100, 0, 20, 20),
            'dasr_arch/archs/layers/b.py': summary(50, 30, 10, 5),
        }
    }
    page = load_tool('write_coverage').format_page(report, '2026-11-29', 'abc', 'a processor')
    assert '2026-11-29, commit abc, a processor.' in page
    assert '| `dasr_arch/` | 1 | 0 | 100.0 % |' in page
    assert '| `dasr_arch/archs/` | 150 | 30 | 80.6 % |' in page
    assert '| all | 151 | 30 | 80.7 % |' in page
    assert '| `dasr_arch/archs/layers/b.py` | 50 | 30 | 41.7 % |' in page
    assert 'a.py`' not in page
