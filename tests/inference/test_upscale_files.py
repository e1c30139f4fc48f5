"""Upscaling of files, folders and patterns: output paths, atomic writes, errors."""

import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dasr_arch import AdaptationOptions, InputError, Upscaler
from dasr_arch.inference.images.io import OutputSettings
from dasr_arch.inference.output_paths import split_paths
from dasr_arch.inference.upscale_files import FileSettings, upscale_bytes, upscale_files
from tests.inference.making import make_faithful

ROOT = Path(__file__).parents[2]
QUIET = FileSettings(progress=False)


@pytest.fixture(scope='module')
def upscaler():
    return Upscaler(2, make_faithful(), device='cpu', precision='fp32')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with images in `in`."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(('in/a.png', 'in/b.jpg', 'in/deep/c.webp')):
        write(name, index)
    return tmp_path


def write(name: str, seed: int = 0, size: tuple[int, int] = (12, 10)) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(name)


def files(path: str = '.') -> list[str]:
    return sorted(str(file.relative_to(path)) for file in Path(path).rglob('*') if file.is_file())


def run(upscaler, *sources, target=None, **settings):
    return upscale_files(upscaler, sources, target, FileSettings(progress=False, **settings))


def test_result_lies_beside_the_image(folder, upscaler):
    assert run(upscaler, 'in/a.png').made == [Path('in/a_x2.png')]
    with Image.open('in/a_x2.png') as image:
        assert image.size == (24, 20)


def test_images_of_a_folder_get_a_folder(folder, upscaler):
    report = run(upscaler, 'in')
    assert report.made == [Path('in_x2/a.png'), Path('in_x2/b.jpg')]
    assert report.failed == []


@pytest.mark.parametrize('name', ['.', '../in', 'in/'])
def test_folder_of_any_spelling_gets_a_folder_beside_it(folder, upscaler, monkeypatch, name):
    if name != 'in/':
        monkeypatch.chdir('in')
    run(upscaler, name)
    assert files(str(folder / 'in_x2')) == ['a.png', 'b.jpg']


def test_folders_inside_are_taken_when_asked_for(folder, upscaler):
    run(upscaler, 'in', target='out', recursive=True)
    assert files('out') == ['a.png', 'b.jpg', 'deep/c.webp']


@pytest.mark.parametrize(
    ('sources', 'target', 'expected'),
    [
        (['in/a.png'], 'new.png', ['new.png']),
        (['in/a.png'], 'new.jpg', ['new.jpg']),
        (['in/a.png'], 'new/', ['new/a.png']),
        (['in/a.png'], 'new', ['new/a.png']),
        (['in/*.[pj]*g'], 'new', ['new/a.png', 'new/b.jpg']),
        (['in/**/*'], 'new', ['new/a.png', 'new/b.jpg', 'new/c.webp']),
        (['in/a.png', 'in/deep'], 'new', ['new/a.png', 'new/c.webp']),
        (['in/a.png'], 'in', ['in/a_x2.png']),
        (['in/a.png', 'in/b.jpg'], None, ['in/a_x2.png', 'in/b_x2.jpg']),
    ],
)
def test_targets(folder, upscaler, sources, target, expected):
    assert run(upscaler, *sources, target=target).made == list(map(Path, expected))
    for name in expected:
        with Image.open(name) as image:
            assert image.format == {'.png': 'PNG', '.jpg': 'JPEG', '.webp': 'WEBP'}[Path(name).suffix]


def test_format_is_followed_in_the_names(folder, upscaler):
    run(upscaler, 'in', output=OutputSettings('WEBP'))
    assert files('in_x2') == ['a.webp', 'b.webp']


def test_names_do_not_collide(folder, upscaler):
    write('in/a.jpg')
    run(upscaler, 'in', output=OutputSettings('PNG'))
    assert files('in_x2') == ['a-2.png', 'a.png', 'b.png']


def test_file_with_the_wrong_ending_gets_the_right_one(folder, upscaler):
    Path('in/a.png').rename('in/wrong.jpg')
    assert run(upscaler, 'in/wrong.jpg').made == [Path('in/wrong_x2.png')]


@pytest.mark.parametrize(
    ('sources', 'target', 'settings', 'message'),
    [
        (['none.png'], None, {}, 'none.png: expected an image or a folder, found nothing there'),
        (['*.gif'], None, {}, "'*.gif' matches no image"),
        (['empty'], None, {}, 'empty: holds no images'),
        ([''], None, {}, 'an empty path was given; is a variable of the script unset?'),
        (['in/a.png'], 'taken.png/', {}, 'taken.png/a.png: is a folder, expected room for a file; choose another'),
        (['in'], 'out.png', {}, 'out.png: expected a folder for several images'),
        (['in/a.png'], 'out.xyz', {}, "out.xyz: unknown image ending '.xyz'"),
        (['in/a.png'], 'out.jpg', {'output': OutputSettings('PNG')}, 'its ending says JPEG, --format says PNG'),
        (['in/a.png'], 'in/b.jpg', {}, 'in/b.jpg: exists already; --resume leaves it out, --force replaces it'),
        (['in/a.png'], 'in/a.png', {'force': True}, 'in/a.png: is one of the originals'),
        (['in/a.png', 'in/b.jpg'], 'empty/../in/a.png', {}, 'expected a folder for several images'),
    ],
)
def test_errors_come_before_the_work(folder, upscaler, sources, target, settings, message):
    Path('empty').mkdir()
    Path('taken.png/a.png').mkdir(parents=True)
    before = files()
    with pytest.raises(InputError) as error:
        run(upscaler, *sources, target=target, **settings)
    assert message in str(error.value)
    assert files() == before


def test_nothing_is_replaced_unless_forced(folder, upscaler):
    run(upscaler, 'in', target='out')
    Path('out/a.png').write_bytes(b'mine')
    with pytest.raises(InputError, match=r'out/a\.png: exists already'):
        run(upscaler, 'in', target='out')
    assert Path('out/a.png').read_bytes() == b'mine'
    run(upscaler, 'in', target='out', force=True)
    assert Image.open('out/a.png').size == (24, 20)


def test_image_that_is_given_twice_is_upscaled_once(folder, upscaler):
    for resume in (False, True):
        report = run(upscaler, 'in/*.png', 'in/a.png', './in/a.png', target='out', resume=resume)
        assert not report.failed
    assert not Path('out', 'a-2.png').exists()
    assert run(upscaler, 'in/a.png', './in/a.png', target='one.png').made == [Path('one.png')]


def test_resume_makes_what_is_missing_and_distrusts_other_sizes(folder, upscaler):
    run(upscaler, 'in', target='out')
    Path('out/b.jpg').unlink()
    kept = Path('out/a.png').stat().st_mtime_ns
    report = run(upscaler, 'in', target='out', resume=True)
    assert (report.made, report.done, report.failed) == ([Path('out/b.jpg')], [Path('out/a.png')], [])
    assert Path('out/a.png').stat().st_mtime_ns == kept
    write('out/a.png', size=(5, 5))
    (failure,) = run(upscaler, 'in', target='out', resume=True).failed
    assert failure == (Path('in/a.png'), 'out/a.png exists but is not x2 of it; replace it with --force')


def test_bad_files_are_reported_and_the_rest_goes_on(folder, upscaler):
    Path('in/0.png').write_bytes(b'')
    Path('in/cut.png').write_bytes(Path('in/a.png').read_bytes()[:-40])
    Path('in/text.jpg').write_text('no image')
    Path('in/gone.png').symlink_to('nowhere')
    report = run(upscaler, 'in', target='out')
    assert files('out') == ['a.png', 'b.jpg']
    reasons = {failure.path.name: failure.reason for failure in report.failed}
    assert set(reasons) == {'0.png', 'cut.png', 'text.jpg', 'gone.png'}
    assert reasons['0.png'] == 'is empty, expected an image; replace or remove it'
    assert all('\n' not in reason and 'in/' not in reason for reason in reasons.values())


def test_links_that_leave_the_folder_are_refused(folder, upscaler):
    write('secret.png')
    Path('in/link.png').symlink_to(folder / 'secret.png')
    Path('in/inner.png').symlink_to('a.png')
    Path('in/up').symlink_to(folder)
    report = run(upscaler, 'in', target='out', recursive=True)
    assert files('out') == ['a.png', 'b.jpg', 'deep/c.webp', 'inner.png']
    (failure,) = report.failed
    assert failure.path.name == 'link.png'
    assert 'leads out of the folder' in failure.reason


def test_transparent_image_does_not_become_a_jpeg(folder, upscaler):
    Image.new('RGBA', (4, 4), (1, 2, 3, 4)).save('in/z.png')
    report = run(upscaler, 'in', output=OutputSettings('JPEG'))
    assert files('in_x2') == ['a.jpg', 'b.jpg']
    assert report.failed[0].reason == 'is transparent, which JPEG cannot be; use --format png or webp'


def test_adaptation_options_reach_the_network(folder, upscaler):
    run(upscaler, 'in/a.png', target='plain.png')
    run(upscaler, 'in/a.png', target='turned.png', adaptation=AdaptationOptions(ensemble=True))
    assert not np.array_equal(np.array(Image.open('plain.png')), np.array(Image.open('turned.png')))


def test_animation_is_upscaled_frame_by_frame(upscaler):
    frames = [Image.new('RGB', (8, 6), (60 * index, 20, 200)) for index in range(4)]
    stream = BytesIO()
    frames[0].save(stream, 'WEBP', save_all=True, append_images=frames[1:], duration=[50, 60, 70, 80], loop=2)
    with Image.open(BytesIO(upscale_bytes(upscaler, stream.getvalue(), 'clip', QUIET))) as out:
        assert (out.size, out.n_frames, out.info['loop']) == ((16, 12), 4, 2)


@pytest.mark.parametrize(('size', 'seen'), [((1, 1), (2, 2)), ((1, 30), (2, 60))])
def test_tiny_files_work(upscaler, size, seen):
    stream = BytesIO()
    Image.new('L', size, 7).save(stream, 'PNG')
    with Image.open(BytesIO(upscale_bytes(upscaler, stream.getvalue(), 'dot', QUIET))) as out:
        assert (out.size, out.mode) == (seen, 'L')


@pytest.mark.parametrize(
    ('paths', 'out', 'expected'),
    [
        (['in/a.png'], None, (['in/a.png'], None)),
        (['in/a.png', 'new.png'], None, (['in/a.png'], 'new.png')),
        (['in/a.png', 'in'], None, (['in/a.png'], 'in')),
        (['in/a.png', 'in/b.jpg'], 'new', (['in/a.png', 'in/b.jpg'], 'new')),
        (['in/a.png', 'in/b.jpg', 'in/deep/c.webp'], None, (['in/a.png', 'in/b.jpg', 'in/deep/c.webp'], None)),
        (['in/a.png', 'in/b.jpg', 'in'], None, (['in/a.png', 'in/b.jpg'], 'in')),
    ],
)
def test_output_path_is_separated_from_inputs(folder, paths, out, expected):
    assert split_paths(paths, out, 2) == expected


def test_second_image_of_a_pattern_is_not_taken_for_the_output_path(folder, upscaler):
    with pytest.raises(InputError, match=r'in/b\.jpg: is there already; to replace it write -o in/b\.jpg --force'):
        split_paths(['in/a.png', 'in/b.jpg'], None, 2)
    run(upscaler, 'in/a.png', target='out.png')
    assert split_paths(['in/a.png', 'out.png'], None, 2) == (['in/a.png'], 'out.png')
    for damaged in ('out.png', 'in/a.png'):
        Path(damaged).write_bytes(b'not an image')
        with pytest.raises(InputError, match=r'out\.png: is there already'):
            split_paths(['in/a.png', 'out.png'], None, 2)


def test_notes_of_a_folder_name_the_image(folder, upscaler, capsys):
    Image.new('RGB', (4, 4)).save('in/b.jpg', comment=b'mine')
    upscale_files(upscaler, ['in'], None, FileSettings(output=OutputSettings('WEBP')))
    assert 'dasr: in/b.jpg: the comment is left out: WEBP cannot hold it\n' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('error', 'expected', 'message'),
    [
        (MemoryError(), InputError, r'^a\.png: not enough memory; close other programs or cut the image$'),
        (RuntimeError('a bug'), RuntimeError, '^a bug$'),
    ],
)
def test_failure_of_an_image_is_told_from_a_lack_of_memory(folder, upscaler, monkeypatch, error, expected, message):
    def fail(*_):
        raise error

    monkeypatch.setattr('dasr_arch.inference.upscale_files.encode_image_file', fail)
    with pytest.raises(expected, match=message):
        upscale_bytes(upscaler, Path('in/a.png').read_bytes(), 'a.png')


def test_interrupted_run_leaves_only_whole_files_and_is_resumed(folder, upscaler):
    for index in range(12):
        write(f'many/{index:02}.png', index, (120, 100))
    torch.save({'params': make_faithful().state_dict()}, 'net.pth')
    line = 'upscale many --scale 2 --model net.pth --device cpu --precision fp32 --tile 16'
    process = subprocess.Popen(
        [sys.executable, '-m', 'dasr_cli', *line.split()],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stderr is not None
    while not Path('many_x2/01.png').exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert 'Traceback' not in rest
    assert 'stopped; what is finished is whole, --resume goes on' in rest
    made = files('many_x2')
    assert 2 <= len(made) < 12
    for name in made:
        with Image.open(Path('many_x2', name)) as image:
            image.load()
    report = run(upscaler, 'many', resume=True)
    assert len(report.done) == len(made)
    assert len(files('many_x2')) == 12
