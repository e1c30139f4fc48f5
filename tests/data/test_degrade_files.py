"""LR images of files and folders, and the JSON that makes them again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dasr_arch._errors import InputError
from dasr_arch.data.degrade_files import (
    RECORD_NAME,
    DegradeSettings,
    degrade_files,
    read_degradation_record,
)
from dasr_arch.data.image_io import read_image, write_image
from dasr_arch.degradations import build_degradation, degrade_image

QUIET = DegradeSettings(seed=3, progress=False)
NOISY = {'type': 'AnisotropicGaussian', 'lambda_1': 3.2, 'lambda_2': 1.0, 'theta_deg': 45.0, 'noise': 10.0, 'jpeg': 60}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one of which is grey, and a text file in `in`."""
    generator = np.random.default_rng(0)
    for name, shape in (('a.png', (41, 50)), ('b.1.bmp', (32, 32)), ('c.jpg', (60, 33))):
        image = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
        write_image(tmp_path / 'in' / name, image)
    (tmp_path / 'in' / 'notes.txt').write_text('no image')
    return tmp_path


def degradation(**changes):
    return build_degradation({**NOISY, **changes}, 4)


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file()}


@pytest.mark.parametrize(
    'specification',
    [
        NOISY,
        {'type': 'IsotropicGaussian', 'sigma': 2.4, 'noise': 5.0},
        {'type': 'IsotropicGaussian', 'sigma': 0.0},
        {'type': 'IsotropicGaussian', 'sigma': 1.2, 'downsample': 's_fold', 'border': 'mirror', 'kernel_size': 15},
    ],
)
def test_record_makes_the_same_images_again(folder: Path, specification: dict[str, object]) -> None:
    report = degrade_files(folder / 'in', folder / 'low', build_degradation(specification, 4), QUIET)
    record = read_degradation_record(report.record)
    assert sorted(record.names) == ['a', 'b.1', 'c']
    for path, name in zip(sorted((folder / 'in').glob('*.[bjp]*')), ('a', 'b.1', 'c'), strict=True):
        again = degrade_image(record.degradation, read_image(path), record.seed, name)
        assert np.array_equal(read_image(folder / 'low' / record.names[name]), again)
        assert again.shape == (read_image(path).shape[0] // 4, read_image(path).shape[1] // 4, 3)


def test_folder_holds_images_and_record_and_nothing_else(folder: Path) -> None:
    report = degrade_files(folder / 'in', folder / 'new' / 'low', degradation(), QUIET)
    assert [path.name for path in report.images] == ['a.png', 'b.1.png', 'c.png']
    assert sorted(path.name for path in (folder / 'new').rglob('*')) == [
        'a.png',
        'b.1.png',
        'c.png',
        RECORD_NAME,
        'low',
    ]
    assert report.failed == []


def test_record_of_a_single_image_has_its_name(folder: Path) -> None:
    report = degrade_files(folder / 'in' / 'a.png', folder / 'low.png', degradation(), QUIET)
    assert report.record == folder / 'low.json'
    content = json.loads(report.record.read_text())
    assert content['scale'] == 4
    assert content['seed'] == 3
    assert content['specification'] == degradation().specification()
    assert content['pictures']['a']['file'] == 'low.png'
    assert content['pictures']['a']['noise_level'] == 10
    assert read_image(folder / 'low.png').shape == (10, 12, 3)


def test_image_is_the_same_alone_and_in_its_folder(folder: Path) -> None:
    degrade_files(folder / 'in', folder / 'low', degradation(), QUIET)
    degrade_files(folder / 'in' / 'c.jpg', folder / 'alone', degradation(), QUIET)
    assert (folder / 'alone' / 'c.png').read_bytes() == (folder / 'low' / 'c.png').read_bytes()


def test_seed_changes_the_noise(folder: Path) -> None:
    degrade_files(folder / 'in', folder / 'one', degradation(), DegradeSettings(seed=1, progress=False))
    degrade_files(folder / 'in', folder / 'two', degradation(), DegradeSettings(seed=2, progress=False))
    assert not np.array_equal(read_image(folder / 'one' / 'a.png'), read_image(folder / 'two' / 'a.png'))


def test_images_with_one_stem_are_told_apart(folder: Path) -> None:
    write_image(folder / 'in' / 'a.bmp', np.zeros((16, 16, 3), np.uint8))
    write_image(folder / 'in' / 'a-2.bmp', np.full((16, 16, 3), 9, np.uint8))
    report = degrade_files(folder / 'in', folder / 'low', degradation(), QUIET)
    assert sorted(path.stem for path in report.images) == ['a', 'a-2', 'a-3', 'b.1', 'c']


def test_bad_images_are_left_out_and_named(folder: Path) -> None:
    (folder / 'in' / 'broken.png').write_bytes(b'\x89PNG\r\n')
    (folder / 'in' / 'empty.jpg').write_bytes(b'')
    write_image(folder / 'in' / 'tiny.png', np.zeros((3, 50, 3), np.uint8))
    (folder / 'in' / 'link.png').symlink_to('missing.png')
    report = degrade_files(folder / 'in', folder / 'low', degradation(), QUIET)
    assert [failure.path.name for failure in report.failed] == ['broken.png', 'empty.jpg', 'link.png', 'tiny.png']
    assert 'No such file' in report.failed[2].reason
    assert 'smaller than the scale 4' in report.failed[3].reason
    assert sorted(read_degradation_record(report.record).names) == ['a', 'b.1', 'c']


def test_only_bad_images_leave_nothing(folder: Path) -> None:
    (folder / 'bad').mkdir()
    (folder / 'bad' / 'broken.png').write_bytes(b'no image')
    with pytest.raises(InputError, match=r'broken\.png: .*no LR image was made'):
        degrade_files(folder / 'bad', folder / 'low', degradation(), QUIET)
    assert sorted(path.name for path in folder.iterdir()) == ['bad', 'in']


def test_existing_files_stay_unless_forced(folder: Path) -> None:
    degrade_files(folder / 'in', folder / 'low', degradation(), QUIET)
    (folder / 'low' / 'own.txt').write_text('mine')
    before = snapshot(folder)
    with pytest.raises(InputError, match='exists already'):
        degrade_files(folder / 'in', folder / 'low', degradation(noise=0.0), QUIET)
    assert snapshot(folder) == before
    degrade_files(folder / 'in', folder / 'low', degradation(noise=0.0), DegradeSettings(force=True, progress=False))
    after = snapshot(folder)
    assert after.keys() == before.keys()
    assert after['low/own.txt'] == b'mine'
    assert after['low/a.png'] != before['low/a.png']


@pytest.mark.parametrize(('source', 'target'), [('in', 'in'), ('in/a.png', 'in/a.png'), ('in/a.png', 'in')])
def test_originals_are_never_replaced(folder: Path, source: str, target: str) -> None:
    before = snapshot(folder)
    with pytest.raises(InputError, match='never replaced'):
        degrade_files(folder / source, folder / target, degradation(), DegradeSettings(force=True, progress=False))
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ('source', 'target', 'message'),
    [
        ('nothing', 'low', 'found nothing there'),
        ('in/notes.txt', 'low', 'expected an image'),
        ('in', 'low.png', 'looks like an image'),
        ('in', 'in/a.png', 'is a file, expected a folder'),
        ('in/a.png', 'low.jpg', 'a JPEG file would alter'),
        ('in/a.png', 'low.jfif', 'a JPEG file would alter'),
        ('in/a.png', 'low.JPE', 'a JPEG file would alter'),
        ('in/a.png', 'in/notes.txt/low.png', 'notes.txt is a file; choose another folder'),
        ('in', 'in/notes.txt/low', 'notes.txt is a file; choose another folder'),
        ('in/a.png', 'low.gif', "unknown image ending '.gif'"),
        ('empty', 'low', 'holds no images'),
    ],
)
def test_bad_paths_are_named(folder: Path, source: str, target: str, message: str) -> None:
    (folder / 'empty').mkdir()
    before = snapshot(folder)
    with pytest.raises(InputError, match=message):
        degrade_files(folder / source, folder / target, degradation(), QUIET)
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    'content',
    ['', '[]', '{"scale": 4}', '{"scale": 4, "seed": 0, "pictures": {}, "specification": {"type": "Foo"}}'],
)
def test_other_files_are_no_specification(tmp_path: Path, content: str) -> None:
    path = tmp_path / 'degradation.json'
    path.write_text(content)
    with pytest.raises(InputError, match=r'degradation\.json: '):
        read_degradation_record(path)


def test_seed_that_is_no_whole_number_is_named(folder: Path) -> None:
    path = degrade_files(folder / 'in', folder / 'low', degradation(), QUIET).record
    path.write_text(json.dumps({**json.loads(path.read_text()), 'seed': '3'}))
    with pytest.raises(InputError, match="seed must be a whole number, got '3'"):
        read_degradation_record(path)


def test_folder_in_place_of_an_image_is_named(folder: Path) -> None:
    (folder / 'low' / 'a.png').mkdir(parents=True)
    with pytest.raises(InputError, match=r'a\.png: is a folder'):
        degrade_files(folder / 'in', folder / 'low', degradation(), DegradeSettings(force=True, progress=False))


def test_interrupted_run_leaves_nothing(folder: Path) -> None:
    generator = np.random.default_rng(1)
    for index in range(200):
        write_image(folder / 'in' / f'many{index}.bmp', generator.integers(0, 256, (300, 300, 3), dtype=np.uint8))
    process = subprocess.Popen(
        [sys.executable, '-m', 'dasr_cli', 'degrade', str(folder / 'in'), str(folder / 'low'), '--sigma', '2'],
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(folder.glob('.degrade-*/many1*.png')):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'Traceback' not in printed
    assert [path.name for path in folder.iterdir()] == ['in']
