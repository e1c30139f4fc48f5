import subprocess
import sys
from pathlib import Path

import pytest

from dasr_arch.pipelines import training
from dasr_cli.main import build_parser, main

ROOT = Path(__file__).parents[2]


def test_arguments_are_parsed():
    line = '-opt a.yml --auto_resume --set train.total_iter=20 --set name=b --force_yml scale=2 num_gpu=0'
    args = build_parser().parse_args(['train', *line.split(), '--launcher', 'pytorch', '--debug'])
    assert args.options == Path('a.yml')
    assert (args.set, args.force_yml) == (['train.total_iter=20', 'name=b'], ['scale=2', 'num_gpu=0'])
    assert (args.auto_resume, args.smoke, args.launcher, args.debug) == (True, False, 'pytorch', True)


def test_arguments_reach_the_training(monkeypatch):
    calls = []
    monkeypatch.setattr(training, 'train', lambda *args, **options: calls.append((args, options)) or 0)
    line = ['--set', 'a=-1', '--set', 'b= x', '--force_yml', 'c:d=1', 'e=[1, 2]', '--launcher', 'pytorch', '--smoke']
    assert main(['train', '--options', 'a b.yml', *line]) == 0
    assert calls == [
        (
            (Path('a b.yml'), ('a=-1', 'b= x', 'c:d=1', 'e=[1, 2]')),
            {'launcher': 'pytorch', 'auto_resume': False, 'smoke': True},
        )
    ]


def test_local_rank_of_launchers_is_ignored():
    plain = vars(build_parser().parse_args(['train', '-opt', 'a.yml']))
    for option in ('--local_rank=1', '--local-rank=1'):
        assert vars(build_parser().parse_args(['train', '-opt', 'a.yml', option])) == {**plain, 'local_rank': 1}


@pytest.mark.parametrize('line', [[], ['-opt'], ['-opt', 'a.yml', '--auto'], ['-opt', 'a.yml', '--launcher', 'slurm']])
def test_wrong_arguments_end_with_code_two(line, capsys):
    with pytest.raises(SystemExit) as caught:
        main(['train', *line])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith('dasr: error: ')
    assert error.count('\n') == 1


@pytest.mark.parametrize('script', ['train.py', 'test.py'])
def test_errors_of_a_script_name_its_help(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [f'/some/folder/{script}'])
    with pytest.raises(SystemExit):
        main([script.removesuffix('.py')])
    assert f'see `python {script} --help`' in capsys.readouterr().err


@pytest.mark.parametrize('line', [['--debug', 'train'], ['train', '--debug']])
def test_debug_may_stand_before_the_subcommand(line, tmp_path, capsys):
    assert main([*line, '-opt', str(tmp_path / 'none.yml')]) == 2
    assert 'Traceback (most recent call last)' in capsys.readouterr().err


@pytest.mark.parametrize('command', [['train.py'], ['-m', 'dasr_cli', 'train']])
def test_wrong_option_file_ends_with_one_line_and_code_two(command, tmp_path):
    done = subprocess.run(
        [sys.executable, *command, '-opt', str(tmp_path / 'none.yml')],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith('dasr: error: ')]
    assert len(lines) == 1
    assert 'none.yml: the option file does not exist' in lines[0]
    assert 'Traceback' not in done.stderr
