"""`dasr prepare` with --shard and --manifest, and the merging of its LMDBs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from dasr_arch import InputError
from dasr_arch.data.image_io import write_image
from dasr_arch.data.image_source import open_source
from dasr_arch.data.prepare import merge
from dasr_cli.main import main

ROOT = Path(__file__).parents[2]
NAMES = ('a', 'a_b', 'a-2', 'b.1', 'c', 'sub/a', 'sub/d', 'sub/deep/ü', 'z')
CUT = ['--size', '48', '--step', '24', '--min-size', '32', '--workers', '1', '--recursive']


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with nine usable images, two small and two broken ones in `in` and its subfolders."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        write_image(f'in/{name}.png', generator.integers(0, 256, (48 + 12 * index, 64, 3), dtype=np.uint8))
    for name in ('small', 'sub/small'):
        write_image(f'in/{name}.png', generator.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    for name in ('broken', 'sub/aa'):
        Path(f'in/{name}.jpg').write_bytes(b'\xff\xd8\xff')
    return tmp_path


def prepare(output, *arguments):
    return main(['prepare', 'in', '-o', output, *CUT, *arguments])


def prepare_parts(total, *arguments):
    names = [f'part_{number:02d}.lmdb' for number in range(1, total + 1)]
    for number, name in enumerate(names, start=1):
        assert prepare(name, '--shard', f'{number}/{total}', *arguments) == 0
    return names


def entries(root):
    """All of an LMDB, with tables of its own, read by LMDB alone."""
    with lmdb.open(root, readonly=True, lock=False) as environment, environment.begin() as transaction:
        return [(bytes(key), bytes(value)) for key, value in transaction.cursor()]


def texts(root):
    return {path.name: path.read_text() for path in Path(root).iterdir() if path.suffix in ('.txt', '.json')}


@pytest.mark.parametrize('arguments', [(), ('--whole', '--compress-level', '0')])
@pytest.mark.parametrize('total', [2, 5, 20])
def test_merged_shards_are_the_lmdb_of_one_run(folder, capsys, arguments, total):
    """With keys whose sub-images sort in another order than the images: a_b_s001 comes before a_s001."""
    assert prepare('whole.lmdb', *arguments) == 0
    parts = prepare_parts(total, *arguments)
    capsys.readouterr()
    assert main(['prepare', *parts[::-1], '-o', 'all.lmdb']) == 0
    whole = entries('whole.lmdb')
    assert entries('all.lmdb') == whole
    assert texts('all.lmdb') == texts('whole.lmdb')
    printed = capsys.readouterr().out
    assert f'all.lmdb: {len(whole)} entries from 9 images' in printed
    assert 'images left out: 4' in printed
    assert len(open_source('all.lmdb')) == len(whole)
    assert not list(folder.glob('.*'))


def test_images_of_more_than_999_sub_images_are_merged(folder):
    names = ['in/a.png', 'in/c.png']
    options = ['-o', 'whole.lmdb', '--size', '32', '--step', '1', '--min-size', '32', '--workers', '1']
    assert main(['prepare', *names, *options]) == 0
    for name in names:
        options[1] = f'{Path(name).stem}.lmdb'
        assert main(['prepare', name, *options]) == 0
    assert main(['prepare', 'c.lmdb', 'a.lmdb', '-o', 'all.lmdb']) == 0
    assert entries('all.lmdb') == entries('whole.lmdb')
    assert texts('all.lmdb') == texts('whole.lmdb')
    assert 'c_s1000.png' in texts('all.lmdb')['meta_info.txt']


def test_shards_hold_different_images_and_tell_their_number(folder, capsys):
    parts = prepare_parts(3)
    keys = [key for part in parts for key, _ in entries(part)]
    assert len(keys) == len(set(keys))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('shard')]
    assert [line.split(': ')[0] for line in lines] == ['shard 1/3', 'shard 2/3', 'shard 3/3']
    assert sum(int(line.split()[2]) for line in lines) == 13
    assert [json.loads(Path(part, 'prepare.json').read_text())['shard'] for part in parts] == ['1/3', '2/3', '3/3']


def test_a_shard_without_images_is_a_success_and_merged(folder, capsys):
    shutil.rmtree('in/sub')
    for path in Path('in').glob('*'):
        if path.stem != 'c':
            path.unlink()
    assert prepare('whole.lmdb') == 0
    parts = prepare_parts(3)
    assert capsys.readouterr().out.count(': none of the inputs, nothing to do') == 2
    assert main(['prepare', *parts, '-o', 'all.lmdb']) == 0
    assert entries('all.lmdb') == entries('whole.lmdb')


def test_the_minimum_is_asked_of_all_images(folder, capsys):
    parts = prepare_parts(3, '--min-images', '9')
    assert main(['prepare', *parts, '-o', 'all.lmdb', '--min-images', '10']) == 2
    assert '9 of 13 images can be used, expected at least 10' in capsys.readouterr().err
    assert not Path('all.lmdb').exists()
    assert not list(folder.glob('.*'))
    assert main(['prepare', *parts, '-o', 'all.lmdb', '--min-images', '9']) == 0


def test_lmdbs_of_different_images_are_merged(folder):
    for name in ('in/c.png', 'in/sub/d.png'):
        assert main(['prepare', name, '-o', f'{Path(name).stem}.lmdb', *CUT]) == 0
    assert main(['prepare', 'in/c.png', 'in/sub/d.png', '-o', 'whole.lmdb', *CUT]) == 0
    assert main(['prepare', 'd.lmdb', 'c.lmdb', '-o', 'all.lmdb']) == 0
    assert entries('all.lmdb') == entries('whole.lmdb')
    assert texts('all.lmdb') == texts('whole.lmdb')


def remove(name):
    Path(name).unlink()


def lose_lines(name):
    path = Path(name, 'meta_info.txt')
    path.write_text(path.read_text().partition('\n')[2])


@pytest.mark.parametrize(
    ('damage', 'arguments', 'message'),
    [
        (
            lambda: shutil.rmtree('part_02.lmdb'),
            ['part_01.lmdb', 'part_03.lmdb'],
            'shard 2/3 is missing, 2 of 3 are given',
        ),
        (None, ['part_01.lmdb', 'part_02.lmdb', 'part_03.lmdb', 'part_02.lmdb'], 'is shard 2/3, as part_02.lmdb is'),
        (None, ['part_01.lmdb', 'other.lmdb'], 'other.lmdb: is no shard, expected one of 3'),
        (None, ['other.lmdb', './other.lmdb'], 'holds an image'),
        (None, ['other.lmdb', 'small.lmdb'], 'small.lmdb: was prepared with other settings than other.lmdb'),
        (None, ['part_01.lmdb', 'in'], 'part_01.lmdb: LMDBs and images cannot be mixed'),
        (None, ['other.lmdb', '--size', '64'], '--size is for images, but other.lmdb is an LMDB'),
        (None, ['other.lmdb', '--min-size', '64'], '--min-size is for images'),
        (None, ['other.lmdb', '--shard', '1/2'], '--shard is for images'),
        (None, ['other.lmdb', '-o', 'other.lmdb', '--force'], 'other.lmdb: is an input and the output'),
        (None, ['none.lmdb'], 'none.lmdb: no such LMDB folder'),
        (lambda: remove('other.lmdb/prepare.json'), ['other.lmdb'], 'other.lmdb: holds no prepare.json'),
        (lambda: remove('other.lmdb/data.mdb'), ['other.lmdb'], 'other.lmdb: holds no data.mdb'),
        (lambda: lose_lines('other.lmdb'), ['other.lmdb'], 'other.lmdb: meta_info.txt lists'),
        (None, ['part_01.lmdb', '-o', 'all'], 'must end in .lmdb'),
        (lambda: Path('all.lmdb').mkdir(), ['other.lmdb'], 'all.lmdb: exists already'),
    ],
)
def test_parts_that_do_not_fit_are_one_line(folder, capsys, damage, arguments, message):
    prepare_parts(3)
    assert prepare('other.lmdb') == 0
    assert prepare('small.lmdb', '--compress-level', '2') == 0
    if damage is not None:
        damage()
    before = sorted(path.name for path in folder.iterdir())
    capsys.readouterr()
    assert main(['prepare', '-o', 'all.lmdb', *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_wrong_shard_is_one_line(folder, capsys):
    assert prepare('part.lmdb', '--shard', '4/3') == 2
    assert capsys.readouterr().err.startswith('dasr: error: shard 4/3: N of N/M must be 1 to M')
    assert [path.name for path in folder.iterdir()] == ['in']


def test_parts_that_share_a_key_leave_nothing(folder):
    """As if images of one name had been added between two tasks of an array."""
    parts = prepare_parts(2)
    for part, other in zip(parts, parts[::-1], strict=True):
        shutil.copytree(part, f'copy_of_{part}')
        report = json.loads(Path(other, 'prepare.json').read_text())
        path = Path(f'copy_of_{part}', 'prepare.json')
        path.write_text(json.dumps({**json.loads(path.read_text()), 'shard': report['shard']}))
    with pytest.raises(InputError, match=r"copy_of_part_01.lmdb: holds an image '.+', as part_01.lmdb does"):
        merge([parts[0], 'copy_of_part_01.lmdb'], 'all.lmdb')
    assert not list(folder.glob('.*'))


def test_a_merge_that_is_killed_is_repeated(folder):
    assert prepare('whole.lmdb') == 0
    parts = prepare_parts(2)
    code = (
        'import sys, time; from dasr_arch.data import prepare\n'
        'prepare._write_texts = lambda *_: (print("copied", flush=True), time.sleep(60))\n'
        'prepare.merge(sys.argv[1:], "all.lmdb")'
    )
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen([sys.executable, '-c', code, *parts], stdout=subprocess.PIPE, env=env, text=True)
    assert process.stdout.readline() == 'copied\n'
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    assert not Path('all.lmdb').exists()
    assert merge(parts, 'all.lmdb').images == 9
    assert entries('all.lmdb') == entries('whole.lmdb')
    assert texts('all.lmdb') == texts('whole.lmdb')
    assert not list(folder.glob('.*'))


def test_a_manifest_lists_images_and_folders(folder, capsys):
    Path('list.txt').write_text('in/c.png\nin/sub\n')
    assert main(['prepare', '--manifest', 'list.txt', '-o', 'listed.lmdb', *CUT]) == 0
    assert main(['prepare', 'in/c.png', 'in/sub', '-o', 'given.lmdb', *CUT]) == 0
    assert entries('listed.lmdb') == entries('given.lmdb')
    for number in (1, 2):
        command = ['prepare', '--manifest', 'list.txt', '-o', f'{number}.lmdb', *CUT, '--shard', f'{number}/2']
        assert main(command) == 0
    assert main(['prepare', '1.lmdb', '2.lmdb', '-o', 'all.lmdb']) == 0
    assert entries('all.lmdb') == entries('given.lmdb')


@pytest.mark.parametrize(
    ('arguments', 'rows', 'message'),
    [
        ('', 'path\nin/c.png\nnone.png', 'list.csv, line 3: found nothing at none.png'),
        ('', 'path,out\nin/c.png,x.png', 'list.csv, line 2: only `dasr upscale` takes the column out'),
        ('in', 'path\nin/c.png', '--manifest lists the inputs; leave in out'),
        ('', 'name\nin/c.png', "list.csv: has no column 'path'"),
    ],
)
def test_a_wrong_manifest_is_one_line(folder, capsys, arguments, rows, message):
    Path('list.csv').write_text(rows)
    assert main(['prepare', *arguments.split(), '--manifest', 'list.csv', '-o', 'out.lmdb']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert sorted(path.name for path in folder.iterdir()) == ['in', 'list.csv']


def test_inputs_are_required(folder, capsys):
    assert main(['prepare', '-o', 'out.lmdb']) == 2
    assert 'the following arguments are required: IN' in capsys.readouterr().err
