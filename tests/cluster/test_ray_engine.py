"""`dasr upscale --engine ray` on a real cluster of this machine: results, rows, further runs, kills, wrong input."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dasr_arch import InputError
from dasr_arch.cluster import ray_engine as cluster_module
from dasr_arch.cluster.pool_options import PoolOptions
from dasr_arch.cluster.ray_engine import Worker, Workers, upscale_with_ray
from dasr_arch.inference.upscale_files import FileSettings
from dasr_arch.version import __version__
from dasr_cli.main import main
from tests.inference.making import make_faithful

ray = pytest.importorskip('ray', reason='the extra ray is not installed')
parquet = pytest.importorskip('pyarrow.parquet')

ROOT = Path(__file__).parents[2]
OPTIONS = PoolOptions('net.pth', 2, 'cpu', 'fp32')
COMMAND = [
    'upscale',
    'in',
    '-o',
    'out/',
    '--scale',
    '2',
    '--model',
    'net.pth',
    '--device',
    'cpu',
    '--precision',
    'fp32',
]
ON_RAY = ['--engine', 'ray', '--results', 'rows']


@pytest.fixture(scope='module')
def _cluster():
    """A Ray cluster of two cores, shared by the tests of this module."""
    ray.init(address='local', num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with images of several formats in `in`, one of them damaged, and weights."""
    monkeypatch.chdir(tmp_path)
    Path('in').mkdir()
    for index, name in enumerate(('a.png', 'b.jpg', 'c.webp', 'd.png', 'e.png')):
        pixels = np.random.default_rng(index).integers(0, 256, (10 + index, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path('in', name))
    Path('in/damaged.png').write_bytes(b'no image')
    Path('in/notes.txt').write_text('no image')
    torch.save({'params': make_faithful().state_dict()}, 'net.pth')
    return tmp_path


@pytest.fixture
def work(folder):
    """A function that calls a worker with an image, without a cluster, and returns the row."""

    def work(since=1, **changes):
        Path('rows/tries').mkdir(parents=True, exist_ok=True)
        worker = Worker(OPTIONS, FileSettings(), Path('rows'), 0, 1, __version__)
        row = {'id': 'i', 'path': 'in/a.png', 'out': 'out/a.png', 'since': since, 'work': 1, **changes}
        (table,) = worker(worker._arrow.Table.from_pylist([row]))
        return table.to_pylist()[0]

    return work


def read_rows():
    return {Path(row['path']).name: row for row in parquet.read_table('rows/rows.parquet').to_pylist()}


def contents(root):
    return {path.name: path.read_bytes() for path in Path(root).iterdir()}


def upscale(**changes):
    return upscale_with_ray(OPTIONS, ['in'], 'out/', 'rows', FileSettings(**changes), Workers(2))


@pytest.mark.usefixtures('_cluster', 'folder')
def test_results_are_those_of_the_command(capsys):
    """Same files byte for byte, a row each, and the damaged image is a row with an error."""
    assert main([*COMMAND[:2], '-o', 'alone/', *COMMAND[4:]]) == 2
    assert main([*COMMAND, *ON_RAY]) == 2
    printed = capsys.readouterr()
    assert contents('out') == contents('alone')
    rows = read_rows()
    assert sorted(rows) == ['a.png', 'b.jpg', 'c.webp', 'd.png', 'damaged.png', 'e.png']
    failed = rows.pop('damaged.png')
    assert 'cannot be read as an image' in failed['error']
    assert (failed['out'], failed['sha256'], failed['size']) == ('', None, None)
    for name, row in rows.items():
        data = Path('out', name).read_bytes()
        assert (row['path'], row['out']) == (os.path.abspath(f'in/{name}'), os.path.abspath(f'out/{name}'))
        assert (row['sha256'], row['size']) == (hashlib.sha256(data).hexdigest(), len(data))
        assert row['seconds'] > 0
        assert row['model'].endswith('net.pth x2')
        assert (row['error'], row['notes']) == ('', [])
    assert len({row['id'] for row in rows.values()}) == 5
    assert printed.out.splitlines()[-1] == os.path.abspath('rows/rows.parquet')
    assert '5 upscaled; 1 failed; 1 left out (1 .txt)' in printed.err
    assert not list(Path('rows/parts').iterdir())
    assert not list(Path('rows/tries').iterdir())


@pytest.mark.usefixtures('_cluster', 'folder')
def test_further_run_does_what_is_missing():
    """Changed, removed and failed images are worked on again; the others are not touched."""
    first = upscale()
    assert (first.made, first.done, [image.path.name for image in first.failed]) == (5, 0, ['damaged.png'])
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in Path('out').iterdir()}
    Path('out/c.webp').unlink()
    shutil.copy('in/a.png', 'in/damaged.png')
    shutil.copy('in/b.jpg', 'in/new.jpg')
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save('in/d.png')
    os.utime('in/d.png', (1, 1))  # an older file in the place of a newer one
    second = upscale()
    assert (second.made, second.done, second.failed) == (4, 3, [])
    after = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in Path('out').iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {'c.webp', 'd.png', 'damaged.png', 'new.jpg'}
    rows = read_rows()
    assert len(rows) == 7
    assert not any(row['error'] for row in rows.values())
    assert Image.open('out/d.png').size == (18, 18)
    assert upscale() == second._replace(made=0, done=7)
    Path('in/e.png').write_bytes(b'damaged')
    third = upscale()
    assert (third.made, third.done, [image.path.name for image in third.failed]) == (0, 6, ['e.png'])
    assert len(parquet.read_table('rows/rows.parquet')) == 7
    assert read_rows()['e.png']['error']


@pytest.mark.slow
@pytest.mark.usefixtures('_cluster', 'folder')
def test_results_without_rows_are_kept():
    """As after a kill of the driver: they are newer than the job and their images."""
    Path('in/damaged.png').unlink()
    upscale()
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in Path('out').iterdir()}
    sums = {name: row['sha256'] for name, row in read_rows().items()}
    Path('rows/rows.parquet').unlink()
    again = upscale()
    assert (again.made, again.done) == (0, 5)
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in Path('out').iterdir()} == before
    assert {name: row['sha256'] for name, row in read_rows().items()} == sums


@pytest.mark.slow
@pytest.mark.usefixtures('_cluster', 'folder')
def test_files_in_the_place_of_results():
    """Refused before the work; kept with resume if their size fits; replaced with force, which forgets all rows."""
    Path('in/damaged.png').unlink()
    Path('out').mkdir()
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save('out/a.png')
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save('out/d.png')
    old = contents('out')
    with pytest.raises(InputError, match=r'^out/a.png: exists already; --resume leaves it out, --force replaces it'):
        upscale()
    assert contents('out') == old
    assert not Path('rows').exists()  # the job has not begun, so that no file can pass for its result
    kept = upscale(resume=True)
    assert (kept.made, kept.done) == (3, 1)
    assert [(image.path.name, image.reason) for image in kept.failed] == [
        ('d.png', 'out/d.png exists but is not x2 of it; replace it with --force')
    ]
    assert {name: contents('out')[name] for name in old} == old
    forced = upscale(force=True)
    assert (forced.made, forced.done, forced.failed) == (5, 0, [])
    assert contents('out')['a.png'] != old['a.png']
    assert len(read_rows()) == 5


@pytest.mark.slow
@pytest.mark.usefixtures('_cluster', 'folder')
def test_killed_worker_is_replaced():
    """Its images are given out again."""
    Path('in/damaged.png').unlink()
    done = upscale_with_ray(OPTIONS, ['in'], 'out/', 'rows', None, Workers(1))
    assert done.made == 5
    for path in Path('in').glob('[a-e].*'):
        for index in range(60):
            shutil.copy(path, f'in/{path.stem}{index}{path.suffix}')
    code = (
        'import os, signal, sys, threading, time\n'
        'from pathlib import Path\n'
        'def kill():\n'
        '    while len(list(Path("out").iterdir())) < 30: time.sleep(0.01)\n'
        '    for entry in Path("/proc").glob("[0-9]*/cmdline"):\n'
        '        try: found = entry.read_bytes().startswith(b"ray::MapWorker(MapBatches(Worker))")\n'
        '        except OSError: continue\n'
        '        if found and Path(entry.parent, "cwd").resolve() == Path.cwd():\n'
        '            os.kill(int(entry.parent.name), signal.SIGKILL); print("killed"); return\n'
        'threading.Thread(target=kill, daemon=True).start()\n'
        'from dasr_cli.main import main\n'
        'sys.exit(main())\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, *COMMAND, *ON_RAY, '--workers', '2'],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'RAY_ADDRESS': 'local'},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.returncode, 'killed' in done.stdout) == (0, True), done.stderr
    assert len(read_rows()) == 305
    assert len(contents('out')) == 305


def test_row_of_a_worker(work):
    row = work()
    assert (row['error'], row['size']) == ('', Path('out/a.png').stat().st_size)
    assert not list(Path('rows/tries').iterdir())


@pytest.mark.parametrize(
    ('changes', 'error'),
    [
        ({'path': 'in/damaged.png'}, 'cannot be read as an image'),
        ({'path': 'in/gone.png'}, 'No such file'),
        ({'out': 'in/a.png/a.png'}, 'in/a.png/a.png: File exists'),
    ],
)
def test_errors_are_rows(work, changes, error):
    row = work(**changes)
    assert error in row['error']
    assert (row['sha256'], row['size'], row['seconds']) == (None, None, None)
    assert not list(Path('rows/tries').iterdir())


def test_unexpected_error_is_a_row(work, monkeypatch):
    def fail(*arguments, **options):
        raise ZeroDivisionError('of a test')

    monkeypatch.setattr('dasr_arch.cluster.ray_engine.upscale_image', fail)
    assert work()['error'] == 'ZeroDivisionError: of a test; please report it with the image'


def test_image_that_kills_its_worker_is_a_row(work):
    """After three kills, which leave a byte each, it is not tried again in this run."""
    Path('rows/tries').mkdir(parents=True)
    Path('rows/tries/i').write_bytes(b'...')
    assert work()['error'] == 'its worker was killed three times, probably for lack of memory'
    assert not Path('out').exists()
    assert work()['error'] == ''


def test_time_decides_whether_a_result_is_complete(work):
    assert work()['seconds'] > 0
    first = Path('out/a.png').stat()
    kept = work(since=first.st_mtime_ns)
    assert (kept['seconds'], kept['size'], Path('out/a.png').stat().st_ino) == (None, first.st_size, first.st_ino)
    assert work(since=first.st_mtime_ns + 1)['seconds'] > 0
    assert Path('out/a.png').stat().st_ino != first.st_ino


def test_worker_refuses_another_version(folder):
    with pytest.raises(InputError, match=rf'dasr {__version__} is installed on a machine of the cluster, 0.0 on the'):
        Worker(OPTIONS, FileSettings(), Path('rows'), 0, 1, '0.0')


@pytest.mark.usefixtures('_cluster', 'folder')
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--engine', 'spark', '--results', 'rows'], "there is no engine 'spark'"),
        (['--engine', 'ray'], 'give it with --results'),
        (['--results', 'rows'], '--results is for clusters'),
        (['--workers', '2'], '--workers is for clusters'),
        ([*ON_RAY, '--workers', '0'], 'workers must be at least 1, got 0'),
        ([*ON_RAY, '--cpus', '0'], 'cpus of a worker must be at least 1, got 0'),
        ([*ON_RAY, '--gpus', '-1'], 'gpus of a worker must be 0 or more, got -1.0'),
        ([*ON_RAY, '--cpus', '3'], 'no machine of the cluster has 3 cores and 0 GPUs for a worker, the largest has 2'),
        ([*ON_RAY, '--crf', '3'], '--crf is for video'),
        (['--engine', 'ray', '--results', 'in'], 'in: holds files, but no results of a job'),
        (['--engine', 'ray', '--results', 'in/a.png'], 'in/a.png is a file'),
    ],
)
def test_wrong_input(arguments, message, capsys):
    """One line, exit code 2, and nothing written."""
    assert main([*COMMAND, *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: error:')]
    assert len(lines) == 1
    assert message in lines[0]
    assert not Path('out').exists()


@pytest.mark.slow
@pytest.mark.usefixtures('_cluster', 'folder')
def test_folder_of_another_job_is_refused():
    upscale()
    shutil.copy('in/a.png', 'in/new.png')
    before = contents('out')
    for changes, name in (({'format': 'WEBP'}, 'format'), ({'quality': 80}, 'quality')):
        output = replace(FileSettings().output, **changes)
        with pytest.raises(InputError, match=f'rows: holds the results of another job, with other {name}; choose'):
            upscale_with_ray(OPTIONS, ['in'], 'other/', 'rows', FileSettings(output=output))
    torch.save({'params': make_faithful().state_dict(), 'more': 1}, 'net.pth')
    with pytest.raises(InputError, match='with other weights'):
        upscale()
    assert contents('out') == before


@pytest.mark.slow
@pytest.mark.usefixtures('_cluster', 'folder')
def test_worker_that_cannot_start_ends_the_run(monkeypatch):
    """Weights that are gone when the workers load them, as on a machine that does not share the folder."""
    described = cluster_module._describe_job

    def describe_and_remove(*arguments):
        job = described(*arguments)
        Path('net.pth').unlink()
        return job

    monkeypatch.setattr(cluster_module, '_describe_job', describe_and_remove)
    with pytest.raises(InputError, match=r"^a worker could not start or work: weights file '.*net.pth' does not exist"):
        upscale()
    assert not Path('out').exists()


@pytest.mark.slow
@pytest.mark.usefixtures('_cluster', 'folder')
def test_more_workers_than_cores():
    assert upscale_with_ray(OPTIONS, ['in'], 'out/', 'rows', None, Workers(5)).made == 5


def test_videos_and_pipes_are_refused(folder, capsys):
    for source, message in (('clip.mp4', 'for videos leave it out'), ('-', 'for pipes leave it out')):
        assert main(['upscale', source, *ON_RAY]) == 2
        assert message in capsys.readouterr().err


def test_missing_extra_is_named(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert main([*COMMAND, *ON_RAY]) == 2
    assert "ray is not installed, it belongs to the extra 'ray'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures('folder')
def test_interrupted_run_is_continued():
    """Ctrl-C: exit code 130, one line, whole files; the same command does the rest."""
    Path('in/damaged.png').unlink()
    for index in range(400):
        shutil.copy('in/a.png', f'in/{index}.png')
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'RAY_ADDRESS': 'local'}
    command = [sys.executable, '-m', 'dasr_cli', *COMMAND, *ON_RAY, '--workers', '1']
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not (Path('out').exists() and len(contents('out')) > 20):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert 'stopped; what is finished is whole, the same command goes on' in error
    assert 'Traceback' not in error
    assert 20 < len(contents('out')) < 405
    again = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr
    assert 'already done' in again.stderr
    assert len(contents('out')) == len(read_rows()) == 405
