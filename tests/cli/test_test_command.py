"""Output and exit codes of `dasr test`."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dasr_cli.main import main
from tests.benchmark.making import make_options, write_images


@pytest.fixture
def option_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A test of Bicubic on two images, in an otherwise empty folder."""
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = make_options(write_images(Path('own')))
    path = tmp_path / 'trial.yml'
    path.write_text(yaml.safe_dump(options))
    return path


def test_command_prints_tables_and_writes_files(option_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['test', '-opt', str(option_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'Own x4, 2 images, psnr/ssim'
    assert lines[-1] == 'tables, cached results and images: results/trial'
    assert {path.name for path in Path('results/trial').iterdir()} == {
        'cells',
        'systems.csv',
        'table.csv',
        'table.json',
        'table.md',
        'table.tex',
    }


def test_overrides_reach_the_test(option_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['test', '-opt', str(option_file), '--set', 'name=renamed', '--set', 'metrics.ssim=~']) == 0
    assert capsys.readouterr().out.splitlines()[0] == 'Own x4, 2 images, psnr'
    assert Path('results/renamed/table.md').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['-opt', 'none.yml'], 'none.yml: the option file does not exist'),
        (['-opt', 'trial.yml', '--set', 'networks.DASR.path=none.pth'], 'networks.DASR'),
        (['-opt', 'trial.yml', '--set', 'scale=x'], "scale: expected a whole number of at least 1, got the text 'x'"),
    ],
)
@pytest.mark.usefixtures('option_file')
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['test', *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    (line,) = captured.err.splitlines()
    assert line.startswith('dasr: error: ')
    assert message in line
    assert not Path('results').exists()
