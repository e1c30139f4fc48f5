import argparse
import importlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import dasr_cli
from dasr_arch import version
from dasr_arch._errors import InputError
from dasr_cli.main import MODULES, build_parser, describe_error, main, read_version, run_guarded


def run_dasr(*arguments, **options):
    command = [sys.executable, '-m', 'dasr_cli', *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_oddities_of_a_file_are_no_warnings_of_python(tmp_path):
    """Pillow warns of cut EXIF, at every step."""
    Image.new('RGB', (40, 40)).save(tmp_path / 'a.jpg', exif=b'Exif\0\0MM\0*\0\0\0\x08\x00\x02\x01\x0f')
    done = run_dasr('degrade', 'a.jpg', 'out.png', '--sigma', '1', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'Warning' not in done.stderr
    loud = {**os.environ, 'PYTHONWARNINGS': 'default'}
    assert 'Warning' in run_dasr('degrade', 'a.jpg', 'other.png', '--sigma', '1', cwd=tmp_path, env=loud).stderr


@pytest.mark.skipif(os.name != 'posix', reason='shell')
@pytest.mark.parametrize('closed', ['2>&-', '>&-', '<&-', '<&- >&- 2>&-'])
def test_streams_that_are_closed_lose_nothing(tmp_path, closed):
    Image.new('RGB', (40, 40)).save(tmp_path / 'a.png')
    command = f'{sys.executable} -m dasr_cli degrade a.png b.png --sigma 1 {closed}'
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, 'Traceback' in done.stderr) == (0, False)
    assert Image.open(tmp_path / 'b.png').size == (10, 10)


@pytest.mark.skipif(os.name != 'posix', reason='shell')
def test_messages_do_not_go_into_an_image_on_stdout(tmp_path):
    """The line about the model is not for the file, whatever is closed."""
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    command = f'{sys.executable} -m dasr_cli upscale a.png - --scale 2 --device cpu 2>&- > b.png'
    assert subprocess.run(command, shell=True, cwd=tmp_path, timeout=120, check=False).returncode == 0
    assert Image.open(tmp_path / 'b.png').size == (16, 16)


@pytest.mark.skipif(os.name != 'posix', reason='shell')
def test_processes_that_are_started_have_the_streams_too():
    code = """
import subprocess, sys
from dasr_cli.main import open_closed_streams
open_closed_streams()
print(subprocess.run([sys.executable, '-c', 'import sys; sys.exit(sys.stderr is None)']).returncode)
"""
    command = f'{sys.executable} -c "$CODE" 2>&-'
    environment = {**os.environ, 'CODE': code}
    done = subprocess.run(command, shell=True, env=environment, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.stdout == b'0\n'


def test_help_loads_the_standard_library_alone():
    code = """
import sys
before = {name.partition('.')[0] for name in sys.modules}  # also those of an editable install
import dasr_cli.main
dasr_cli.main.build_parser()
new = {name.partition('.')[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
print(sorted(new))
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "['dasr_cli']"


def test_help_lists_every_subcommand():
    text = build_parser().format_help()
    lines = [f'{line} ' for line in text.splitlines()]  # a long name has a line of its own
    assert [name for name in MODULES if not any(line.startswith(f'    {name} ') for line in lines)] == []


def test_every_module_with_a_subcommand_is_listed():
    folder = Path(dasr_cli.__file__).parent / 'commands'
    names = [path.stem for path in folder.glob('*.py') if 'def add_arguments(' in path.read_text(encoding='utf-8')]
    assert sorted(names) == sorted(name.replace('-', '_') for name in MODULES)


@pytest.mark.parametrize('name', MODULES)
def test_every_subcommand_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, '--help'])
    assert stop.value.code == 0
    assert f'dasr {name}' in capsys.readouterr().out
    assert callable(importlib.import_module(f'dasr_cli.commands.{name.replace("-", "_")}').run)


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['--version'])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f'dasr {version.__version__}\n'


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        ([], 'required: COMMAND'),
        (['trian'], "invalid choice: 'trian'"),
        (['doctor', '--jsn'], 'unrecognized arguments: --jsn'),
    ],
)
def test_wrong_usage_is_one_line_with_the_way_out(arguments, expected, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dasr: error: ')
    assert expected in line
    assert '--help`' in line


def test_wrong_input_is_one_line_and_exit_code_two(capsys):
    assert main(['download', 'Set6']) == 2
    assert capsys.readouterr().err.startswith("dasr: error: unknown data set 'Set6'; did you mean 'Set5'?")


def test_errors_of_the_system_name_the_file(tmp_path, capsys):
    (tmp_path / 'file').write_text('not a folder')
    code = main(['download', 'Set5', '--root', str(tmp_path / 'file'), '--url', 'http://127.0.0.1:1/set.zip'])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'dasr: error: {tmp_path}/file')
    assert 'Not a directory' in line or 'File exists' in line


@pytest.mark.parametrize('arguments', [['--debug', 'download', 'Set6'], ['download', 'Set6', '--debug']])
def test_debug_shows_the_traceback_wherever_it_stands(arguments, capsys):
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert 'Traceback (most recent call last)' in errors
    assert errors.splitlines()[-1].startswith('dasr: error: unknown data set')


def test_only_what_the_user_can_mend_is_described():
    assert describe_error(InputError('two\nlines')) == 'two lines'
    assert (
        describe_error(FileNotFoundError(2, 'No such file or directory', 'a.yml')) == 'a.yml: No such file or directory'
    )
    assert describe_error(OSError('short')) == 'short'
    assert describe_error(KeyError('lost')) is None
    assert describe_error(ValueError('ours')) is None


def test_reader_that_closes_the_pipe_early_sees_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, '-m', 'dasr_cli', 'doctor']
        result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    finally:
        os.close(writing)
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    assert 'Exception ignored' not in result.stderr


def test_parsers_are_of_the_kind_that_answers_in_one_line():
    parser = build_parser()
    (action,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    assert {type(subparser) for subparser in action.choices.values()} == {type(parser)}


def test_package_without_a_version_is_refused(tmp_path, monkeypatch):
    (tmp_path / 'version.py').write_text('__version__ = 1\n')
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr('importlib.util.find_spec', lambda name: spec)
    with pytest.raises(RuntimeError, match=r"version\.py holds no line of the form: __version__ = '1\.2\.3'"):
        read_version()


def test_commands_run_in_any_thread(capsys):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(main, ['download', 'Set6']).result() == 2
        assert pool.submit(run_guarded, lambda: 7).result() == 7
    assert "unknown data set 'Set6'" in capsys.readouterr().err


def test_bug_shows_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_guarded(lambda: 1 // 0)
