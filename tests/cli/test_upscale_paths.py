"""`dasr upscale` on real folders: its own results, pipes, endings, permissions, and what it leaves out."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from dasr_cli.main import main, run_guarded
from tests.cli.test_upscale_command import FIXED, ROOT, folder, run_dasr

__all__ = ['folder']


def files(root: str = '.') -> set[str]:
    return {str(path) for path in Path(root).rglob('*') if path.is_file() and path.suffix != '.pth'}


@pytest.mark.parametrize('option', ['--resume', '--force'])
def test_a_pattern_run_twice_takes_no_result_as_input(folder, option, capsys):
    for _ in range(2):
        assert main(['upscale', 'in/*.png', option, *FIXED]) == 0
    assert files() == {'in/a.png', 'in/b.png', 'in/a_x2.png', 'in/b_x2.png'}
    assert '2 left out (2 .png)' in capsys.readouterr().err


def test_a_list_of_the_shell_run_twice_takes_no_result_as_input(folder):
    Image.open('in/a.png').save('in/c.png')  # the last of two would be taken for the output
    for _ in range(2):
        names = sorted(str(path) for path in Path('in').glob('*.png'))
        assert main(['upscale', *names, '--force', *FIXED]) == 0
    assert files() == {f'in/{name}{mark}.png' for name in 'abc' for mark in ('', '_x2')}


def test_a_result_in_another_format_is_no_input(folder):
    for _ in range(2):
        assert main(['upscale', 'in/*.*', '--format', 'jpg', '--resume', *FIXED]) == 0
    assert files() == {'in/a.png', 'in/b.png', 'in/a_x2.jpg', 'in/b_x2.jpg'}


@pytest.mark.parametrize(
    'before', [['--format', 'webp'], ['--to', '40x40'], ['--long-side', '30'], ['--short-side', '30']]
)
@pytest.mark.parametrize('target', [[], ['-o', 'out']])
def test_results_of_other_options_are_no_inputs(folder, before, target, capsys):
    assert main(['upscale', 'in/*.png', *before, *FIXED]) == 0
    made = files() - {'in/a.png', 'in/b.png'}
    assert len(made) == 2
    assert main(['upscale', 'in/*', *target, *FIXED]) == 0
    ending = '2 .webp' if 'webp' in before else '2 .png'
    assert f'2 upscaled; 2 left out ({ending})' in capsys.readouterr().err
    new = {'out/a.png', 'out/b.png'} if target else {'in/a_x2.png', 'in/b_x2.png'}
    assert files() == made | new | {'in/a.png', 'in/b.png'}


def test_a_name_like_that_of_a_result_is_an_input_if_its_size_does_not_fit(folder):
    Image.open('in/a.png').save('in/a_x4.png')
    assert main(['upscale', 'in', *FIXED]) == 0
    assert files('in_x2') == {'in_x2/a.png', 'in_x2/b.png', 'in_x2/a_x4.png'}


@pytest.mark.parametrize('source', [['in', '--recursive'], ['in/**/*.png']])
def test_a_folder_of_results_inside_the_input_does_not_grow(folder, source):
    for _ in range(3):
        assert main(['upscale', *source, '-o', 'in/out', '--force', *FIXED]) == 0
    assert files() == {'in/a.png', 'in/b.png', 'in/out/a.png', 'in/out/b.png'}


def test_a_result_alone_is_an_input(folder):
    assert main(['upscale', 'in/a.png', *FIXED]) == 0
    assert main(['upscale', 'in/a_x2.png', *FIXED]) == 0
    assert Path('in/a_x2_x2.png').is_file()


@pytest.mark.parametrize('ending', ['.jfif', '.jpe', '.JFIF', '.dib'])
def test_usual_endings_are_images(folder, ending):
    kind = 'BMP' if ending == '.dib' else 'JPEG'
    Image.open('in/a.png').save(f'in/c{ending}', kind)
    assert main(['upscale', 'in', *FIXED]) == 0
    assert Image.open(f'in_x2/c{ending}').format == kind
    assert main(['upscale', 'in/a.png', f'out{ending}', *FIXED]) == 0
    assert Image.open(f'out{ending}').format == kind


def test_what_a_folder_run_leaves_out_is_counted_and_named(folder, capsys):
    for name in ('a.heic', 'b.heic', 'notes.txt', '.hidden'):
        Path('in', name).write_bytes(b'x')
    assert main(['upscale', 'in', *FIXED]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == '2 upscaled; 3 left out (2 .heic, 1 .txt): not images, or results of this command'


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='named pipes are a matter of POSIX')
def test_a_named_pipe(folder):
    os.mkfifo('pipe')
    data = Path('in/a.png').read_bytes()
    writer = threading.Thread(target=lambda: Path('pipe').write_bytes(data))
    writer.start()
    assert main(['upscale', 'pipe', 'out.png', *FIXED]) == 0
    writer.join()
    assert Image.open('out.png').size == (48, 40)


@pytest.mark.skipif(not Path('/dev/fd').exists(), reason='there is no /dev/fd')
@pytest.mark.parametrize(
    ('source', 'target'),
    [
        ('<(cat in/a.png)', '-o /dev/stdout | cat > out.png'),
        ('in/a.png', '-o /dev/stdout > out.png'),
        ('/dev/stdin', '< in/a.png > out.png'),
    ],
)
def test_the_substitution_of_a_shell_and_dev_stdout(folder, source, target):
    words = ' '.join(FIXED)
    command = f"'{sys.executable}' -m dasr_cli upscale {source} {words} {target}"
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(['bash', '-c', command], capture_output=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr.decode()
    assert Image.open('out.png').size == (48, 40)


@pytest.mark.parametrize('words', [[''], ['in/a.png', '--out='], ['in/a.png', '-o='], ['in/a.png', '--mask=']])
def test_an_empty_argument_is_refused(folder, words, capsys):
    assert main(['upscale', *words, *FIXED]) == 2
    assert 'an argument is empty; is a variable of the script unset?' in capsys.readouterr().err
    assert files() == {'in/a.png', 'in/b.png'}


def test_a_target_that_cannot_be_written_is_found_before_the_work(folder, capsys):
    Path('file').write_text('')
    assert main(['upscale', 'in', '-o', 'file/out', *FIXED]) == 2
    error = capsys.readouterr().err
    assert 'file is a file; choose another folder' in error
    assert 'px' not in error  # the bar of the work


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read and write everything')
def test_permissions(folder, capsys):
    Path('in/a.png').chmod(0)
    assert main(['upscale', 'in/a.png', 'out.png', *FIXED]) == 2
    assert 'cannot be read (Permission denied); check its permissions' in capsys.readouterr().err
    Path('locked').mkdir()
    Path('locked').chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert main(['upscale', 'in/b.png', 'locked/out.png', *FIXED]) == 2
    assert 'locked/out.png: cannot be written (Permission denied)' in capsys.readouterr().err


@pytest.mark.parametrize('closed', ['in', 'in/inner'])
def test_a_folder_that_may_not_be_listed_is_named(folder, closed, monkeypatch, capsys):
    Path('in/inner').mkdir()
    listing = os.scandir

    def refuse(path):
        if str(path) == closed:
            raise PermissionError(errno.EACCES, 'Permission denied', closed)
        return listing(path)

    monkeypatch.setattr(os, 'scandir', refuse)  # root may list every folder
    assert main(['upscale', 'in', '--recursive', *FIXED]) == 2
    error = capsys.readouterr().err
    assert f'dasr: error: {closed}: cannot be listed (Permission denied); check its permissions' in error
    assert 'holds no images' not in error


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP'])
def test_a_signal_to_end_leaves_nothing_half_written(folder, name):
    if not hasattr(signal, name):
        pytest.skip('Windows has no SIGHUP')
    Image.open('in/a.png').resize((1200, 900)).save('in/large.png')
    command = [sys.executable, '-m', 'dasr_cli', 'upscale', 'in/large.png', '-o', 'out.png', '--scale', '4']
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    before = signal.signal(getattr(signal, name), signal.SIG_DFL)  # under nohup, it would stay ignored
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    signal.signal(getattr(signal, name), before)
    assert process.stderr is not None
    printed = ''
    while 'px/s' not in printed:  # the bar, behind the imports
        assert process.poll() is None
        printed += process.stderr.read(1)
    time.sleep(1)
    process.send_signal(getattr(signal, name))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'Traceback' not in error
    assert files() == {'in/a.png', 'in/b.png', 'in/large.png'}
    assert [path.name for path in Path().iterdir() if path.name.startswith('.')] == []
    assert run_dasr('upscale', 'in/a.png', *FIXED).returncode == 0


@pytest.mark.skipif(not hasattr(signal, 'SIGHUP'), reason='Windows has no SIGHUP')
def test_nohup_is_obeyed():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_guarded(lambda: int(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)) == 1
    finally:
        signal.signal(signal.SIGHUP, before)


ODD_NAMES = [
    'a%20b',
    '#x',
    '[1]',
    'new\nline',
    '\u6f22\u5b57 \U0001f642',
    ' space ',
    "quo'te",
    'a.b.c',
    '-dash',
    'caf\udce9',
]


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems refuse some of these names')
@pytest.mark.parametrize('name', ODD_NAMES)
def test_odd_names_are_kept(folder, name):
    Image.open('in/a.png').save(f'in/{name}.png')
    assert main(['upscale', f'in/{name}.png', *FIXED]) == 0
    assert Path(f'in/{name}_x2.png').is_file()


def test_a_name_that_becomes_too_long_does_not_stop_the_others(folder, capsys):
    name = 'x' * 250
    Image.open('in/a.png').save(f'in/{name}.png')
    assert main(['upscale', 'in/*.png', *FIXED]) == 2
    assert files() == {'in/a.png', 'in/b.png', 'in/a_x2.png', 'in/b_x2.png', f'in/{name}.png'}
    assert 'its result cannot be written (File name too long); shorten its name' in capsys.readouterr().err


@pytest.mark.parametrize('target', ['nothing.png', 'link.png'], ids=['nowhere', 'itself'])
def test_a_link_to_nothing_does_not_stop_the_others(folder, target, capsys):
    Path('in/link.png').symlink_to(target)
    assert main(['upscale', 'in', '-o', 'out', *FIXED]) == 2
    assert main(['upscale', 'in/link.png', *FIXED]) == 2
    assert capsys.readouterr().err.count('in/link.png: is a link that leads nowhere; give the image itself') == 2
    assert {path.name for path in Path('out').iterdir()} == {'a.png', 'b.png'}
