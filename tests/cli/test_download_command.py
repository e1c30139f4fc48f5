import signal
import subprocess
import sys
from threading import Event

import pytest

from dasr_arch.data.public.public_datasets import PUBLIC_SETS
from dasr_cli.main import main
from tests.data.public.test_archives import encode_image_file, write_zip
from tests.file_server import serving

LARGE_BYTES = 40 << 20


@pytest.fixture
def server(tmp_path):
    with serving() as running:
        names = ('baby', 'bird', 'butterfly', 'head', 'woman')
        entries = {f'Set5/HR/{name}.png': encode_image_file(index) for index, name in enumerate(names)}
        archive = write_zip(tmp_path / 'archive', entries)
        running.files['/set.zip'] = archive.read_bytes()
        archive.unlink()
        yield running


def test_help_names_every_set(capsys):
    with pytest.raises(SystemExit):
        main(['download', '--help'])
    text = capsys.readouterr().out
    assert [name for name in PUBLIC_SETS if name not in text] == []


def test_set_arrives_where_the_option_files_look_for_it(server, tmp_path, capsys):
    assert main(['download', 'Set5', '--root', str(tmp_path), '--url', server.address('/set.zip')]) == 0
    captured = capsys.readouterr()
    assert captured.out == f'{tmp_path}/benchmark/Set5/HR: 5 images\n'
    assert len(list((tmp_path / 'benchmark/Set5/HR').glob('*.png'))) == 5


def test_archive_of_another_set_is_one_line(server, tmp_path, capsys):
    assert main(['download', 'Set14', '--root', str(tmp_path), '--url', server.address('/set.zip')]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr:')]
    assert 'expected 14 images in Set5/HR, found 5' in line
    assert not (tmp_path / 'benchmark' / 'Set14' / 'HR').exists()


def test_one_address_is_not_taken_for_two_sets(capsys):
    assert main(['download', 'Set5', 'Set14', '--url', 'http://127.0.0.1:1/set.zip']) == 2
    assert '--url gives the archive of one data set, got 2 names' in capsys.readouterr().err


def test_unknown_name_is_found_before_anything_is_fetched(server, tmp_path, capsys):
    assert main(['download', 'Set5', 'Nothing', '--root', str(tmp_path), '--url', server.address('/set.zip')]) == 2
    assert "unknown data set 'Nothing'" in capsys.readouterr().err
    assert server.seen == []


def test_interrupted_download_goes_on_when_run_again(server, tmp_path):
    # More than the buffers of a connection hold: when the server has sent it, the client has read most of it.
    server.files['/set.zip'] = bytes(LARGE_BYTES) + server.files['/set.zip']
    server.cuts, server.release = [LARGE_BYTES], Event()
    arguments = ['download', 'Set5', '--root', str(tmp_path), '--url', server.address('/set.zip')]
    with subprocess.Popen([sys.executable, '-m', 'dasr_cli', *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert server.reached.wait(timeout=60)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    server.release.set()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == 'dasr: interrupted'
    assert 'Traceback' not in errors
    (part,) = (tmp_path / '.downloads').glob('*.part')
    kept = part.stat().st_size
    assert 0 < kept <= LARGE_BYTES
    assert main(arguments) == 0
    assert server.seen == ['', f'bytes={kept}-']
    assert len(list((tmp_path / 'benchmark/Set5/HR').glob('*.png'))) == 5
