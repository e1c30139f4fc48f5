"""The commands of docs/scale.md, as a shell runs them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from dasr_arch.data.image_io import write_image
from dasr_arch.data.input_lists import Shard
from dasr_cli.main import main
from tests.benchmark.making import make_options

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'scale.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'^```(?:bash|text)\n(.*?)^```', PAGE, flags=re.DOTALL | re.MULTILINE)
NAMES = ('a', 'b', 'g', 'h', '1')
pytestmark = pytest.mark.slow


def find_block(*words):
    """The one code block of the page that holds all words."""
    (block,) = (block for block in BLOCKS if all(word in block for word in words))
    return block


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A function that runs a script in a folder with `photos/`, where `dasr` is this package's command."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in NAMES:
        write_image(f'photos/{name}.jpg', generator.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    Path('bin').mkdir()
    Path('bin/dasr').write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dasr_cli "$@"\n')
    Path('bin/dasr').chmod(0o755)
    search = f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}'
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PATH': search}

    def run(script, **variables):
        command = ['bash', '-e', '-o', 'pipefail', '-c', script]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=250, check=False, env={**env, **variables}
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


def images(folder):
    return {path.stem: path.read_bytes() for path in Path(folder).iterdir()}


def upscale_alone():
    assert main(['upscale', 'photos', '-o', 'alone']) == 0
    return images('alone')


def test_xargs(shell):
    assert shell(find_block('xargs', 'upscale')).stderr.count('shard ') == 4
    assert images('large') == upscale_alone()


def test_slurm(shell):
    """All tasks that hold an image, and one that holds none."""
    script = find_block('#SBATCH', 'upscale')
    held = {number for number in range(1, 17) for name in NAMES if Shard(number, 16).holds(name)}
    empty = min(set(range(1, 17)) - held)
    for number in (*held, empty):
        last = shell(script, SLURM_ARRAY_TASK_ID=str(number)).stderr.splitlines()[-1]
        assert last.startswith(f'shard {number}/16: ')
    assert last == f'shard {empty}/16: none of the inputs, nothing to do'
    assert images('large') == upscale_alone()


def test_cron(shell):
    """Also while another run holds the lock."""
    line = find_block('flock').strip()
    Path('photos').rename('incoming')
    command = line.split(maxsplit=5)[5].replace('/srv/photos', '.')
    assert line.split()[:5] == ['*/10', '*', '*', '*', '*']
    for number in (1, 2):
        shell(command.replace('1/2', f'{number}/2').replace('upscale-1', f'upscale-{number}'))
    Path('incoming').rename('photos')
    assert images('large') == upscale_alone()
    touch = command.replace('dasr upscale', 'touch ran #')
    shell(f'flock .upscale-1.lock bash -c {shlex.quote(touch)} || true')
    assert not Path('ran').exists()
    shell(touch)
    assert Path('ran').exists()


def test_manifest(shell):
    script = find_block('find photos')
    for number in (1, 2, 3, 4):
        shell(script.replace('1/4', f'{number}/4'))
    assert images('large') == upscale_alone()


def test_comparison(shell):
    """The command in two shells, then the array of Slurm, whose eight tasks run at once."""
    command, array = find_block('OMP_NUM_THREADS=1', 'compare/table2_x4.yml'), find_block('sbatch')
    Path('options/compare').mkdir(parents=True)
    Path('options/compare/table2_x4.yml').write_text(yaml.safe_dump(make_options('photos')))
    shell(f'{command.strip()} > first.txt & {command.strip()} > second.txt; wait $!')
    table = Path('first.txt').read_text()
    assert table == Path('second.txt').read_text() != ''
    assert main(['test', '-opt', 'options/compare/table2_x4.yml', '--set', 'name=alone']) == 0
    cells = {path.name for path in Path('results/alone/cells').iterdir()}
    assert {path.name for path in Path('results/trial/cells').iterdir()} == cells
    Path('results/trial').rename('results/before')
    Path('bin/sbatch').write_text('#!/bin/bash\nseq 8 | xargs -P 8 -I{} bash -c "${@: -1} > task_{}.txt"\n')
    Path('bin/sbatch').chmod(0o755)
    assert re.search('--array=1-8 .*--wrap', array)
    shell(array)
    assert [path.read_text() for path in Path().glob('task_*.txt')] == [table] * 8
    assert {path.name for path in Path('results/trial/cells').iterdir()} == cells


def test_merged_lmdbs(shell):
    for name in NAMES:
        write_image(f'photos/{name}.jpg', np.full((200, 240, 3), 90, np.uint8))
    shell(find_block('part_*.lmdb'))
    assert main(['prepare', 'photos', '-o', 'alone.lmdb', '--workers', '1']) == 0
    for name in ('meta_info.txt', 'prepare.json'):
        assert Path('photos.lmdb', name).read_bytes() == Path('alone.lmdb', name).read_bytes()
    assert len(Path('photos.lmdb/meta_info.txt').read_text().splitlines()) == len(NAMES)


def test_parts_of_three_commands(shell):
    for name in NAMES:
        write_image(f'photos/{name}.jpg', np.full((200, 240, 3), 90, np.uint8))
    block = find_block('dasr degrade', '3/16')
    done = [shell(line.replace('3/16', '16/16').replace('large/ ', 'large/ --scale 2 ')) for line in block.splitlines()]
    told = [re.findall(r'shard 16/16: (\S+)', run.stdout + run.stderr) for run in done]
    expected = sum(Shard(16, 16).holds(name) for name in NAMES)
    assert told == [[str(expected)]] * 3
