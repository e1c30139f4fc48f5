"""Output, exit codes and files of `dasr prepare`."""

import os
import signal
import subprocess
import sys
import time
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest

from dasr_arch.data.image_io import write_image
from dasr_arch.data.image_source import open_source
from dasr_cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with two usable images, a small and a broken one in `in`."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, side in (('a', 64), ('b.1', 70), ('small', 20)):
        write_image(Path('in') / f'{name}.png', generator.integers(0, 256, (side, 64, 3), dtype=np.uint8))
    Path('in/broken.jpg').write_bytes(b'\xff\xd8\xff')
    return tmp_path


def prepare(*arguments: str) -> int:
    return main(['prepare', 'in', '-o', 'out.lmdb', '--size', '48', '--step', '24', '--min-size', '32', *arguments])


def test_command_tells_what_it_made_renamed_and_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare() == 0
    printed = capsys.readouterr()
    assert 'out.lmdb: 8 entries from 2 images' in printed.out
    assert 'in/b.1.png: b_1-' in printed.out
    assert 'images left out: 2' in printed.out
    assert 'in/small.png: 64 x 20 pixels, expected sides of at least 32' in printed.out
    assert 'in/broken.jpg: cannot be read as an image' in printed.out
    assert '4/4' in printed.err  # the progress bar
    assert len(open_source('out.lmdb')) == 8


@pytest.mark.parametrize(('arguments', 'count'), [([], 1), (['--recursive'], 2)])
def test_files_that_are_no_images_are_counted_and_named(
    folder: Path, arguments: list[str], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Path('in/inner').mkdir()
    (Path('in/small.png')).rename('in/inner/small.png')
    for name in ('a.heic', 'inner/b.heic'):
        Path('in', name).write_bytes(b'x')
    assert prepare(*arguments) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f'{count} left out ({count} .heic): not PNG, JPEG, BMP, TIFF or WebP'


def test_target_that_cannot_be_written_is_found_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path('file').write_text('')
    assert main(['prepare', 'in', '-o', 'file/out.lmdb']) == 2
    assert 'file is a file; choose another folder' in capsys.readouterr().err


def test_second_run_refuses_to_overwrite_and_force_replaces(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare() == 0
    assert prepare('--whole') == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        'dasr: error: out.lmdb: exists already; choose another name, or replace it with --force'
    )
    assert prepare('--whole', '--force') == 0
    assert len(open_source('out.lmdb')) == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--step', '60'], 'step must be 1 to size (48)'),
        (['--workers', '0'], 'workers must be at least 1'),
        (['--min-images', '3'], '2 of 4 images can be used, expected at least 3'),
        (['-o', 'out'], 'must end in .lmdb'),
        (['-o', 'in/a.png/out.lmdb'], 'in/a.png'),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert prepare(*arguments) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: error: ')]
    assert len(error) == 1
    assert message in error[0]
    assert [path.name for path in folder.iterdir()] == ['in']


def test_missing_folder_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['prepare', 'in', 'nowhere', '-o', 'out.lmdb']) == 2
    assert capsys.readouterr().err == (
        'dasr: error: nowhere: expected a folder of images, found nothing there; check the path\n'
    )


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_folder_that_may_not_be_written_gets_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path('closed').mkdir(mode=0o500)
    assert prepare('-o', 'closed/out.lmdb') == 2
    assert 'Permission denied' in capsys.readouterr().err


def test_file_names_that_a_terminal_cannot_show_are_printed_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / 'in' / os.fsdecode(b'bad\xff\nname.png')).write_bytes(b'x')
    (folder / 'in' / 'b.1.png').rename(folder / 'in' / 'é.png')
    terminal = TextIOWrapper(BytesIO(), encoding='ascii')
    monkeypatch.setattr(sys, 'stdout', terminal)
    assert prepare() == 0
    terminal.seek(0)
    printed = terminal.read().splitlines()
    assert any(line.startswith(r'  in/bad\udcff?name.png: cannot be read as an image') for line in printed)
    assert any(line.startswith(r'  in/\xe9.png: e-') for line in printed)


def test_continued_run_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(workspace: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr('dasr_arch.data.prepare._publish', stop)
        assert prepare() == 130
    assert 'stopped; run the same command again to continue' in capsys.readouterr().err
    assert prepare() == 0
    assert capsys.readouterr().out.startswith('continued an interrupted run; images already done: 4\n')


def test_long_list_of_keys_is_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(21):  # and b.1
        write_image(Path('in') / f'c.{index}.png', np.full((48, 48, 3), index, np.uint8))
    assert prepare() == 0
    printed = capsys.readouterr().out.splitlines()
    assert 'keys that differ from the file name: 22' in printed
    assert sum(line.startswith('  in/') and '-' in line for line in printed) == 20
    assert any(line.startswith('  and 2 more, see ') for line in printed)


@pytest.mark.slow
def test_ctrl_c_exits_with_130_and_says_how_to_continue(folder: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    for index in range(40):
        write_image(folder / 'in' / f'big{index}.bmp', noise)
    process = subprocess.Popen(
        [sys.executable, '-m', 'dasr_cli', 'prepare', 'in', '-o', 'out.lmdb', '--step', '24'],
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / '.out.lmdb.partial/store.lmdb/data.mdb').exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'run the same command again to continue' in printed
    assert 'Traceback' not in printed
    assert not (folder / 'out.lmdb').exists()
