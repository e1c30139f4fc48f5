"""`dasr upscale` with --shard and --manifest: together the shards do what one run does, each file once."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dasr_arch import InputError
from dasr_arch.data.input_lists import Shard
from dasr_arch.inference.output_paths import PathSettings, plan_videos
from dasr_cli.main import main
from tests.cli.test_upscale_command import FIXED, folder

__all__ = ['folder']
NAMES = (
    'a.png',
    'a.jpg',
    'a-2.png',
    'b.webp',
    'c.png',
    'd.png',
    'g.png',
    'h.png',
    'sub/a.png',
    'sub/e.png',
    'sub/deep/f.png',
    'ü.png',
)


@pytest.fixture
def images(folder):
    """A current folder with twelve images in `images` and its subfolders, and weights."""
    for index, name in enumerate(NAMES):
        path = Path('images', name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(path)
    Path('images/notes.txt').write_text('no image')
    return folder


def contents(root):
    """Bytes of all files below a folder."""
    return {path.relative_to(root): path.read_bytes() for path in Path(root).rglob('*') if path.is_file()}


def count(err, name):
    """Sum of a number in the lines of totals."""
    return sum(int(number) for number in re.findall(rf'(?:; |: )(\d+) {name}', err))


SPELLINGS = {
    'folder': ['images', '--recursive'],
    'pattern': ['images/**/*.*'],
    'files': [f'images/{name}' for name in NAMES],
    'format': ['images', '--recursive', '--format', 'webp'],
    'folders': ['images', 'images/sub', 'images/sub/deep'],
}
CASES = [(name, 'out') for name in SPELLINGS] + [(name, None) for name in SPELLINGS if name != 'folders']


@pytest.mark.parametrize(('spelling', 'target'), CASES)
def test_shards_together_write_what_one_run_writes(images, capsys, spelling, target):
    """Also where two images want one name: a.png and a.jpg as WebP, beside a-2.png."""
    shutil.copytree('images', 'copy')
    options = [*SPELLINGS[spelling], *(['-o', f'{target}/'] if target else []), *FIXED]
    for number in (1, 2, 3):
        assert main(['upscale', *options, '--shard', f'{number}/3']) == 0
    shards = {name: data for name, data in contents('.').items() if name.parts[0] != 'copy'}
    printed = capsys.readouterr()
    assert re.findall(r'shard \d/3', printed.err) == ['shard 1/3', 'shard 2/3', 'shard 3/3']
    made = count(printed.err, 'upscaled')
    assert made == len(printed.out.splitlines()) > 5
    for name in ('images', 'images_x2', 'out'):
        shutil.rmtree(name, ignore_errors=True)
    Path('copy').rename('images')
    assert main(['upscale', *options]) == 0
    assert contents('.') == shards
    assert len(capsys.readouterr().out.splitlines()) == made


def test_shards_share_no_work_and_resume(images, capsys):
    command = ['upscale', 'images', '-o', 'out', '--recursive', '--resume', *FIXED]
    assert main([*command, '--shard', '1/2']) == 0
    first = contents('out')
    assert 0 < len(first) < len(NAMES)
    times = {path: path.stat().st_mtime_ns for path in Path('out').rglob('*.*')}
    assert main([*command, '--shard', '2/2']) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    capsys.readouterr()
    assert main([*command, '--shard', '1/2']) == 0
    assert capsys.readouterr().err.startswith(f'shard 1/2: {len(first)} already done')


def test_a_file_that_is_added_moves_no_other(images):
    command = ['upscale', 'images', '-o', 'out', '--recursive', '--resume', *FIXED]
    assert main([*command, '--shard', '1/2']) == 0
    before = set(contents('out'))
    for index in range(8):
        shutil.copy('images/b.webp', f'images/0{index}.webp')
    assert main([*command, '--shard', '2/2']) == 0
    old = {name for name in contents('out') if not name.name.startswith('0')}
    assert old == {Path(name) for name in NAMES}
    assert before < old


def test_a_shard_without_files_is_a_success(images, capsys):
    codes = [main(['upscale', 'images/c.png', '-o', 'out/', '--shard', f'{n}/3', *FIXED]) for n in (1, 2, 3)]
    assert codes == [0, 0, 0]
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.endswith('/3: none of the inputs, nothing to do') for line in lines) == 2
    assert list(contents('out')) == [Path('c.png')]


def test_what_fails_and_what_is_left_out_is_told_by_one_shard(images, capsys):
    Path('images/bad.png').write_bytes(b'no image')
    Path('images/link.png').symlink_to('nowhere.png')
    codes = [main(['upscale', 'images', '-o', 'out', '--shard', f'{n}/4', *FIXED]) for n in (1, 2, 3, 4)]
    printed = capsys.readouterr().err
    assert set(codes) <= {0, 2}
    assert codes.count(2) in (1, 2)
    assert (printed.count('bad.png: '), printed.count('link.png: ')) == (1, 1)
    assert (count(printed, 'failed'), count(printed, 'left out')) == (2, 1)


@pytest.mark.parametrize('text', ['0/16', '17/16', '3', 'a/b'])
def test_a_wrong_shard_is_one_line_before_the_work(images, capsys, text):
    assert main(['upscale', 'images', '-o', 'out', '--shard', text, *FIXED]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dasr: error: shard')
    assert not Path('out').exists()


def test_videos_are_split_by_name():
    clips = [f'clips/{number}.{ending}' for number in range(40) for ending in ('mp4', 'mov')]
    plans = [plan_videos(clips, 'out/', PathSettings(2, shard=Shard(n, 4))) for n in range(1, 5)]
    assert sorted(str(job.source) for plan in plans for job in plan.jobs) == sorted(clips)
    assert all(plan.jobs for plan in plans)
    with pytest.raises(InputError, match='two videos would get this name'):  # in whichever shard they are
        plan_videos([*clips, 'other/1.avi', 'other/1.mkv'], 'out/', PathSettings(2, shard=Shard(1, 4)))


def test_videos_of_a_pattern_and_of_a_manifest_are_split(folder, capsys):
    Path('clips').mkdir()
    names = [f'clips/{number}.mp4' for number in range(9)]
    for name in names:
        Path(name).write_bytes(b'no video')
    for index, inputs in enumerate((['clips/*.mp4'], ['--manifest', 'list.txt'])):
        Path('list.txt').write_text('\n'.join([*names, 'clips/none.mp4'] if index else names))
        for number in (1, 2):
            assert main(['upscale', *inputs, '-o', 'out/', '--shard', f'{number}/2', *FIXED]) == 2
        printed = capsys.readouterr().err
        assert [printed.count(f'dasr: error: {name}: ') for name in names] == [1] * 9
        assert count(printed, 'failed') == 9 + index
    assert 'clips/none.mp4: expected a file, found nothing there; line 10 of list.txt' in printed


def write_manifest(name, rows):
    Path(name).write_text('\n'.join(rows) + '\n')
    return name


@pytest.mark.parametrize('total', [1, 3])
def test_a_manifest_names_inputs_and_results(images, capsys, total):
    rows = [
        'path,out',
        'images/a.png,',
        'images/a.jpg,new/first.webp',
        'images/sub/a.png,new/deep/a.png',
        'images/d.png',
    ]
    write_manifest('list.csv', rows)
    for number in range(1, total + 1):
        shard = ['--shard', f'{number}/{total}'] if total > 1 else []
        assert main(['upscale', '--manifest', 'list.csv', '-o', 'out', *shard, *FIXED]) == 0
    made = {'out/a.png', 'out/d.png', 'new/first.webp', 'new/deep/a.png'}
    assert set(capsys.readouterr().out.split()) == made
    assert all(Image.open(name).size == (16, 18) for name in made)
    assert Image.open('new/first.webp').format == 'WEBP'


def test_a_manifest_without_o_writes_beside_the_images(images):
    write_manifest('list.txt', ['images/a.png', 'images/sub/a.png', './images/d.png'])
    assert main(['upscale', '--manifest', 'list.txt', *FIXED]) == 0
    assert {str(path) for path in Path('images').rglob('*_x2*')} == {
        'images/a_x2.png',
        'images/sub/a_x2.png',
        'images/d_x2.png',
    }


def test_a_missing_file_of_a_manifest_is_named_and_the_rest_goes_on(images, capsys):
    write_manifest('list.txt', ['images/a.png', 'images/none.png', 'images/d.png', 'images/notes.txt'])
    assert main(['upscale', '--manifest', 'list.txt', '-o', 'out', *FIXED]) == 2
    printed = capsys.readouterr()
    assert printed.out.split() == ['out/a.png', 'out/d.png']
    error = 'dasr: error: images/none.png: expected a file, found nothing there; line 2 of list.txt'
    assert printed.err.splitlines().count(error) == 1
    assert 'images/notes.txt: ' in printed.err
    assert printed.err.splitlines()[-1] == '2 upscaled; 2 failed'


@pytest.mark.parametrize(
    ('arguments', 'rows', 'message'),
    [
        ([], [], 'list.csv: lists no inputs'),
        ([], None, "list.csv: has no column 'path'"),
        (['images'], ['images/a.png,'], '--manifest lists the inputs; leave images out'),
        ([], ['images/a.png,', 'images/sub/a.png,'], 'list.csv, line 3: a.png is the result of an earlier line, too'),
        ([], ['images/a.png,', 'images/d.png,out/a.png'], 'line 3: a.png is the result of an earlier line, too'),
        ([], ['images/a.png,x.png', 'images/d.png,./x.png'], 'x.png is the result of an earlier line, too'),
        (['--shard', '2/2'], ['images/a.png,x.png', 'images/d.png,x.png'], 'is the result of an earlier line, too'),
        (['--shard', '1/2'], ['images/a.png,x.png', 'images/d.png,x.png'], 'is the result of an earlier line, too'),
        (['--force'], ['images/a.png,images/d.png', 'images/d.png,x.png'], 'images/d.png: is one of the originals'),
        ([], ['images/a.png,x.xyz'], "x.xyz: unknown image ending '.xyz'"),
        ([], ['images/a.png,images'], 'images: is a folder'),
        ([], ['images/a.png,', 'clip.mp4,'], 'line 3: images and videos need a manifest each'),
        (['-o', 'out.png'], ['images/a.png,'], 'out.png: expected a folder for several images'),
        (['-o', '-'], ['images/a.png,'], '-: expected a folder for the results of a manifest'),
        (['--shard', '3/2'], ['images/a.png,'], 'shard 3/2: N of N/M must be 1 to M'),
    ],
)
def test_a_wrong_manifest_is_one_line_before_the_work(images, capsys, arguments, rows, message):
    Path('clip.mp4').touch()
    write_manifest('list.csv', ['images/a.png'] if rows is None else ['path,out', *rows])
    before = contents('.')
    assert main(['upscale', '-o', 'out', '--manifest', 'list.csv', *arguments, *FIXED]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dasr: error: ')
    assert message in line
    assert contents('.') == before
    assert not Path('out').exists()


def test_force_replaces_no_input_of_another_shard(images, capsys):
    rows = [f'images/{name},' for name in ('c.png', 'g.png', 'h.png')]
    write_manifest('list.csv', ['path,out', *rows, 'images/a.png,images/c.png'])
    before = contents('images')
    command = ['upscale', '--manifest', 'list.csv', '-o', 'out', '--force', *FIXED]
    assert sorted(main([*command, '--shard', f'{number}/3']) for number in (1, 2, 3)) == [0, 0, 2]
    assert 'images/c.png: is one of the originals' in capsys.readouterr().err
    assert contents('images') == before


def test_results_of_a_manifest_below_o_and_beside_it_are_different_files(images):
    write_manifest('list.csv', ['path,out', 'images/a.png,', 'images/c.png,a.png'])
    for number in (1, 2):
        main(['upscale', '--manifest', 'list.csv', '-o', 'out', '--shard', f'{number}/2', *FIXED])
    assert Path('out/a.png').is_file()
    assert Path('a.png').is_file()


def test_two_lines_whose_results_get_one_name_by_their_content(images, capsys):
    """Found when the files are opened, whatever the number of shards: a PNG that is called .jpg."""
    Path('other').mkdir()
    shutil.copy('images/a.png', 'other/c.jpg')
    write_manifest('list.txt', ['images/c.png', 'other/c.jpg'])
    for number in (1, 2):
        main(['upscale', '--manifest', 'list.txt', '-o', 'out', '--shard', f'{number}/2', *FIXED])
    assert 'other/c.jpg: out/c.png is the result of another line' in capsys.readouterr().err
    assert list(contents('out')) == [Path('c.png')]


def test_inputs_are_required(folder, capsys):
    assert main(['upscale', *FIXED]) == 2
    assert 'the following arguments are required: IN' in capsys.readouterr().err
