"""Output and exit codes of `dasr bench`."""

import json
from pathlib import Path

import pytest

from dasr_cli.main import main


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('--networks DASR-X', "networks: unknown 'DASR-X'"),
        ('--repeats 1', 'repeats must be at least 3, got 1'),
        ('--baseline RCAN', "baseline: no row is called 'RCAN'"),
        ('--scales 5', 'scales: expected some of 2, 3, 4, got 5'),
        ('--size big', 'invalid int value'),
    ],
)
def test_wrong_arguments_get_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(['bench', *arguments.split()])
    except SystemExit as stop:
        code = int(str(stop.code))
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dasr: error: ')
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_command_prints_a_table_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = 'bench --quick --networks Bicubic --operations inference --size 8 --baseline'
    assert main([*line.split(), 'Bicubic auto fp32']) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].startswith('operation')
    assert printed.out.splitlines()[-1] == 'numbers: results/bench/bench.json'
    (row,) = json.loads(Path('results/bench/bench.json').read_text())['rows']
    assert (row['network'], row['size'], row['scale'], row['ratio']) == ('Bicubic', 8, 4, 1.0)


@pytest.mark.parametrize('kind', ['folder', 'image', 'other JSON'])
def test_other_files_are_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == 'folder':
        Path('x.json').mkdir()
    else:
        Path('x.json').write_bytes(b'\x89PNG' if kind == 'image' else b'[1, 2]')
    assert main(['bench', '--quick', '--out', 'x.json']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ('is a folder' if kind == 'folder' else 'x.json: exists and holds no measurements') in line
