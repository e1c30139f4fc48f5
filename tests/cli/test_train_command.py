import subprocess
import sys
from pathlib import Path

import pytest

from dasr_arch.config.arguments import TrainingArguments, parse_training_arguments
from dasr_cli.commands.train import rebuild_arguments
from dasr_cli.main import build_parser

ROOT = Path(__file__).parents[2]


def test_arguments_are_parsed():
    line = '-opt a.yml --auto_resume --set train.total_iter=20 --set name=b --force_yml scale=2 num_gpu=0'
    assert parse_training_arguments([*line.split(), '--launcher', 'pytorch', '--debug']) == TrainingArguments(
        options=Path('a.yml'),
        overrides=('train.total_iter=20', 'name=b', 'scale=2', 'num_gpu=0'),
        auto_resume=True,
        launcher='pytorch',
        debug=True,
    )


def test_local_rank_of_launchers_is_ignored():
    assert parse_training_arguments(['-opt', 'a.yml', '--local_rank=1']) == TrainingArguments(options=Path('a.yml'))
    assert parse_training_arguments(['-opt', 'a.yml', '--local-rank=1']) == TrainingArguments(options=Path('a.yml'))


@pytest.mark.parametrize('line', [[], ['-opt'], ['-opt', 'a.yml', '--auto'], ['-opt', 'a.yml', '--launcher', 'slurm']])
def test_wrong_arguments_end_with_code_two(line, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_training_arguments(line)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith('dasr: error: ')
    assert error.count('\n') == 1


@pytest.mark.parametrize(
    'line',
    [
        ['-opt', 'a.yml'],
        ['--options', 'a b.yml', '--auto_resume', '--debug'],
        [
            '-opt',
            'a.yml',
            '--set',
            'a=-1',
            '--set',
            'b= x',
            '--force_yml',
            'c:d=1',
            'e=[1, 2]',
            '--launcher',
            'pytorch',
        ],
    ],
)
def test_command_takes_what_the_script_takes(line):
    args = build_parser().parse_args(['train', *line])
    assert parse_training_arguments(rebuild_arguments(args)) == parse_training_arguments(line)


def test_debug_may_stand_before_the_subcommand():
    args = build_parser().parse_args(['--debug', 'train', '-opt', 'a.yml'])
    assert parse_training_arguments(rebuild_arguments(args)).debug


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
