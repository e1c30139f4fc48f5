"""The report about a missing browser at the end of a test run."""

from pathlib import Path

import pytest

pytest_plugins = ('pytester',)


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        (
            'import pytest\n@pytest.mark.parametrize("x", [1, 2])\ndef test_it(x): pytest.skip("no Chromium")',
            'no browser: 2 tests',
        ),
        ('import pytest\npytest.importorskip("not_there")', 'no browser: all tests'),
    ],
)
def test_run_without_a_browser_says_so_in_its_last_lines(pytester, content, expected):
    pytester.makeconftest('from tests.conftest import pytest_terminal_summary')
    path = Path(pytester.path, 'tests', 'web', 'test_page.py')
    path.parent.mkdir(parents=True)
    path.write_text(content)
    lines = pytester.runpytest_inprocess('-q', '-ra').outlines
    assert lines[-2].startswith(f'{expected} of pages did not run')
    assert 'skipped' in lines[-1]


def test_run_with_a_browser_says_nothing(pytester):
    pytester.makeconftest('from tests.conftest import pytest_terminal_summary')
    pytester.makepyfile('def test_it(): pass')
    assert not [line for line in pytester.runpytest_inprocess('-q').outlines if 'no browser' in line]
