from pathlib import Path

import pytest

from tests.tools.conftest import import_tool

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_checkout_is_compared_with_itself(capsys):
    arguments = ['--networks', 'Bicubic', '--operations', 'inference', '--rounds', '2']
    assert import_tool('compare_speed').main([str(ROOT), str(ROOT), *arguments]) == 0
    head, line, row = capsys.readouterr().out.splitlines()
    assert head.count('|') == line.count('|') == row.count('|') == 6
    assert row.startswith('| Bicubic auto, inference |')
    assert all(float(cell) > 0 for cell in row.split('|')[2:6])
