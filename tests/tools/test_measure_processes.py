import sys

import pytest

from tests.pipelines.test_training import tiny_options, write_options
from tests.tools.conftest import import_tool


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='training by processes is for Linux')
@pytest.mark.parametrize('stage', [1, 2])
def test_threads_and_processes_are_compared(tmp_path, capsys, stage):
    path = write_options(tmp_path, tiny_options())
    line = ['-opt', str(path), '--stage', str(stage), '--rounds', '1', '--steps', '1']
    assert import_tool('measure_processes').main(line) == 0
    *table, empty, scaling = capsys.readouterr().out.splitlines()
    assert [row.split('|')[1].strip() for row in table[2:]] == ['one thread, one share', '2 threads', '2 processes']
    assert all(float(row.split('|')[2]) > 0 for row in table[2:])
    assert scaling.startswith('Weak scaling, one thread against 2 processes: ')
    assert empty == ''
