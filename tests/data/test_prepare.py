"""Preparing data sets: what the LMDB holds, who can read it, and what interruptions and bad input do."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkProcess
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from PIL import Image

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import read_image, write_image
from dasr_arch.data.image_source import open_source
from dasr_arch.data.lmdb_store import _environments
from dasr_arch.data.prepare import PrepareReport, RunSettings, prepare
from dasr_arch.data.prepare_sources import _find_images, collect_sources, make_keys
from dasr_arch.data.sub_images import Cutting, cut_image, window_starts
from dasr_arch.data.worker_pool import map_in_order

SMALL = Cutting(size=48, step=24, min_size=32)
QUIET = RunSettings(workers=1, progress=False)
LARGE = Cutting(size=256, step=64, min_size=32)


def make_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images of different sizes, the last one narrower than a sub-image."""
    for index, size in enumerate([(100, 131), (48, 48), (90, 40)]):
        write_image(tmp_path / 'in' / f'p{index}.png', make_image(*size, seed=index))
    return tmp_path / 'in'


def read_store(root: Path) -> dict[str, bytes]:
    """Everything in an LMDB folder but LMDB's own files' bytes."""
    with lmdb.open(str(root), readonly=True, lock=False) as environment, environment.begin() as reading:
        content = {bytes(key).decode(): bytes(value) for key, value in reading.cursor()}
    return content | {name: (root / name).read_bytes() for name in ('meta_info.txt', 'prepare.json')}


def run_quietly(inputs: list[Path], output: Path, cutting: Cutting = SMALL) -> PrepareReport:
    return prepare(inputs, output, cutting, QUIET)


# the grid


@pytest.mark.parametrize(
    ('length', 'size', 'step'), [(480, 480, 240), (2040, 480, 240), (481, 480, 240), (1000, 64, 64)]
)
def test_windows_lie_where_basicsr_puts_them(length: int, size: int, step: int) -> None:
    expected = np.arange(0, length - size + 1, step)
    if length - (expected[-1] + size) > 0:
        expected = np.append(expected, length - size)
    assert window_starts(length, size, step) == expected.tolist()


def test_windows_cover_every_pixel_and_stay_inside() -> None:
    for length in range(1, 200):
        starts = window_starts(length, 48, 30)
        covered = np.zeros(length, bool)
        for start in starts:
            covered[start : start + 48] = True
        assert covered.all()
        assert len(set(starts)) == len(starts)
        assert starts[-1] + 48 <= max(length, 48)


def test_sub_images_are_the_windows_of_the_image(images: Path, tmp_path: Path) -> None:
    report = run_quietly([images], tmp_path / 'out.lmdb')
    source = open_source(tmp_path / 'out.lmdb')
    expected = {}
    for index in range(3):
        image = read_image(images / f'p{index}.png')
        windows = [
            image[top : top + 48, left : left + 48]
            for top in window_starts(image.shape[0], 48, 24)
            for left in window_starts(image.shape[1], 48, 24)
        ]
        expected |= {f'p{index}_s{number:03d}': window for number, window in enumerate(windows, start=1)}
    assert source.names == sorted(expected)
    for index, name in enumerate(source.names):
        np.testing.assert_array_equal(source.read(index), expected[name])
    assert report.images == 3
    assert report.sub_images == len(expected)
    assert (report.skipped, report.renamed, report.continued) == ([], {}, 0)


def test_whole_images_keep_their_names(images: Path, tmp_path: Path) -> None:
    run_quietly([images], tmp_path / 'out.lmdb', Cutting(whole=True, min_size=1))
    source = open_source(tmp_path / 'out.lmdb')
    assert source.names == ['p0', 'p1', 'p2']
    np.testing.assert_array_equal(source.read(0), make_image(100, 131))


def test_images_of_every_kind_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / 'in'
    rgb = make_image(40, 50)
    for suffix in ('.bmp', '.jpg', '.png', '.tif', '.webp'):
        write_image(folder / f'{suffix[1:]}{suffix}', rgb)
    cv2.imwrite(str(folder / 'deep.png'), rgb.astype(np.uint16) * 257)
    Image.fromarray(rgb).convert('L').save(folder / 'grey.png')
    Image.fromarray(rgb).quantize(16).save(folder / 'palette.PNG')
    Image.fromarray(np.dstack([rgb, rgb[:, :, :1]])).save(folder / 'alpha.png')
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(rgb).save(folder / 'turned.jpeg', exif=exif.tobytes())
    report = run_quietly([folder], tmp_path / 'out.lmdb', Cutting(whole=True, min_size=32))
    assert report.images == 10
    source = open_source(tmp_path / 'out.lmdb')
    stored = {path.stem: read_image(path) for path in folder.iterdir()}
    for index, name in enumerate(source.names):
        np.testing.assert_array_equal(source.read(index), stored[name])
    assert source.size(source.names.index('turned')) == (50, 40)


# BasicSR


def test_basicsr_reads_the_result_as_a_paired_data_set(images: Path, tmp_path: Path) -> None:
    from basicsr.data.data_util import paired_paths_from_lmdb
    from basicsr.data.paired_image_dataset import PairedImageDataset

    roots = {}
    for name in ('lq', 'gt'):
        roots[name] = tmp_path / f'{name}.lmdb'
        run_quietly([images], roots[name])
    paths = paired_paths_from_lmdb([str(roots['lq']), str(roots['gt'])], ['lq', 'gt'])
    source = open_source(roots['gt'])
    assert [path['gt_path'] for path in paths] == source.names
    expected = [source.read(index) for index in range(len(source))]
    _environments.close_all()
    dataset = PairedImageDataset(
        {
            'dataroot_lq': str(roots['lq']),
            'dataroot_gt': str(roots['gt']),
            'io_backend': {'type': 'lmdb'},
            'scale': 1,
            'phase': 'val',
        }
    )
    assert len(dataset) == len(expected)
    for sample, image in zip(dataset, expected, strict=False):
        for key in ('lq', 'gt'):
            np.testing.assert_allclose(sample[key].permute(1, 2, 0).numpy() * 255, image, atol=1e-3)


def test_meta_info_equals_the_one_that_basicsr_writes(images: Path, tmp_path: Path) -> None:
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    run_quietly([images], tmp_path / 'ours.lmdb', Cutting(whole=True, min_size=1))
    keys = ['p0', 'p1', 'p2']
    root = tmp_path / 'theirs.lmdb'
    make_lmdb_from_imgs(str(images), str(root), [f'{key}.png' for key in keys], keys, map_size=1 << 24)
    assert (tmp_path / 'ours.lmdb/meta_info.txt').read_bytes() == (root / 'meta_info.txt').read_bytes()
    with lmdb.open(str(root), readonly=True, lock=False) as environment, environment.begin() as reading:
        theirs = {bytes(key).decode(): bytes(value) for key, value in reading.cursor()}
    ours = read_store(tmp_path / 'ours.lmdb')
    assert {key: ours[key] for key in keys} == theirs


# keys


def test_keys_are_safe_and_unique() -> None:
    stems = ['a', 'a', 'b.1', 'b.2', 'b_1', 'été', 'ete', '写真', '图片', 'x y', 'x_y', 'n' * 255, 'n' * 254, 'a-2', '']
    keys = make_keys(stems)
    assert len(set(keys)) == len(stems)
    assert all(key.isascii() and key.replace('-', '').replace('_', '').isalnum() and len(key) <= 210 for key in keys)
    kept = {'a', 'b_1', 'ete', 'x_y', 'a-2'}
    assert kept <= set(keys)
    assert [key for stem, key in zip(stems, keys, strict=True) if stem in kept - {'a'}] == ['b_1', 'ete', 'x_y', 'a-2']


def test_key_of_an_unsafe_name_does_not_depend_on_its_neighbours() -> None:
    assert make_keys(['b.1'])[0] == make_keys(['a', 'b.2', 'b.1'])[2]


def test_same_name_in_two_folders_and_two_endings_stays_apart(tmp_path: Path) -> None:
    paths = ['one/a.png', 'two/a.png', 'one/a.bmp', 'one/b.1.png', 'one/b.2.png', 'one/日本.png']
    for seed, path in enumerate(paths):
        write_image(tmp_path / path, make_image(40, 40, seed))
    report = run_quietly([tmp_path / 'one', tmp_path / 'two'], tmp_path / 'out.lmdb', Cutting(whole=True, min_size=1))
    assert report.images == 6
    source = open_source(tmp_path / 'out.lmdb')
    read = {source.read(index).tobytes() for index in range(6)}
    assert read == {make_image(40, 40, seed).tobytes() for seed in range(6)}
    assert len(report.renamed) == 5
    for key, path in report.renamed.items():
        np.testing.assert_array_equal(source.read(source.names.index(key)), read_image(path))


def test_file_reached_twice_counts_once(images: Path) -> None:
    assert len(collect_sources([images, images / 'p0.png', images / '..' / 'in'])) == 3


def test_folders_inside_are_searched_only_when_asked(tmp_path: Path) -> None:
    write_image(tmp_path / 'in/deep/er/a.png', make_image(40, 40))
    with pytest.raises(InputError, match=r'in: holds no images .* need --recursive'):
        collect_sources([tmp_path / 'in'])
    assert [source.key for source in collect_sources([tmp_path / 'in'], recursive=True)] == ['a']


# what is left out


def test_unusable_images_are_left_out_and_listed(images: Path, tmp_path: Path) -> None:
    good = (images / 'p0.png').read_bytes()
    (images / 'cut.png').write_bytes(good[: len(good) // 2])
    (images / 'empty.jpg').write_bytes(b'')
    (images / 'text.tif').write_bytes(b'not an image')
    (images / 'notes.txt').write_bytes(b'not looked at')
    write_image(images / 'narrow.png', make_image(200, 31))
    report = run_quietly([images], tmp_path / 'out.lmdb')
    reasons = {image.path.name: image.reason for image in report.skipped}
    assert list(reasons) == ['cut.png', 'empty.jpg', 'narrow.png', 'text.tif']
    assert reasons['narrow.png'] == '31 x 200 pixels, expected sides of at least 32'
    assert reasons['empty.jpg'].startswith('is empty')
    assert all(reasons[name].startswith('cannot be read as an image') for name in ('cut.png', 'text.tif'))
    stored = json.loads((tmp_path / 'out.lmdb/prepare.json').read_text())
    assert {Path(entry['file']).name: entry['reason'] for entry in stored['skipped']} == reasons
    assert stored['pictures'] == report.images == 3
    assert stored['parameters'] == {'size': 48, 'step': 24, 'min_size': 32, 'whole': False, 'compress_level': 1}


def test_too_few_usable_images_make_nothing(images: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r'2 of 3 images can be used, expected at least 3; the first .*p2\.png: 40 x 90'
    ):
        prepare([images], tmp_path / 'out.lmdb', Cutting(min_size=48), RunSettings(min_images=3, progress=False))
    assert [path.name for path in tmp_path.iterdir()] == ['in']


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'step': 481}, r'step must be 1 to size \(480\)'),
        ({'step': 0}, 'step must be 1'),
        ({'size': 100}, 'size must be at least min-size'),
        ({'min_size': 0}, 'min-size must be at least 1'),
        ({'compress_level': 10}, 'compress-level must be 0'),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Cutting(**settings)


def test_numbers_of_workers_and_images_below_one_are_refused() -> None:
    with pytest.raises(InputError, match='workers must be at least 1, got 0'):
        RunSettings(workers=0)
    with pytest.raises(InputError, match='min-images must be at least 1, got -1'):
        RunSettings(min_images=-1)


# what is in the way


def test_existing_output_is_replaced_only_by_force_and_only_if_it_is_an_lmdb(images: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out.lmdb'
    run_quietly([images / 'p0.png'], output)
    before = read_store(output)
    with pytest.raises(InputError, match=r'out\.lmdb: exists already; .* --force'):
        run_quietly([images], output)
    assert read_store(output) == before
    prepare([images / 'p1.png'], output, SMALL, RunSettings(workers=1, force=True, progress=False))
    assert open_source(output).names == ['p1_s001']
    (tmp_path / 'mine.lmdb').mkdir()
    (tmp_path / 'mine.lmdb/diary.txt').touch()
    with pytest.raises(InputError, match='is no LMDB folder, so --force does not replace it'):
        prepare([images], tmp_path / 'mine.lmdb', SMALL, RunSettings(workers=1, force=True, progress=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'mine.lmdb', 'out.lmdb']


def test_failed_replacement_leaves_the_old_lmdb(images: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out.lmdb'
    run_quietly([images], output)
    before = read_store(output)
    settings = RunSettings(workers=1, force=True, progress=False, min_images=2)
    with pytest.raises(InputError, match='1 of 3 images'):
        prepare([images], output, Cutting(min_size=90), settings)
    assert read_store(output) == before


def test_run_killed_between_the_two_renames_of_a_replacement_loses_nothing(images: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out.lmdb'
    run_quietly([images], output)
    before = read_store(output)
    (tmp_path / '.out.lmdb.partial').mkdir()
    output.rename(tmp_path / '.out.lmdb.partial/replaced.lmdb')
    with pytest.raises(InputError, match='exists already'):
        run_quietly([images], output)
    assert read_store(output) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'out.lmdb']


def test_run_killed_before_its_last_renaming_is_continued(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(workspace: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr('dasr_arch.data.prepare._publish', stop)
        run_quietly([images], tmp_path / 'out.lmdb')
    assert not (tmp_path / 'out.lmdb').exists()
    assert run_quietly([images], tmp_path / 'out.lmdb').continued == 3
    run_quietly([images], tmp_path / 'other.lmdb')
    assert read_store(tmp_path / 'out.lmdb') == read_store(tmp_path / 'other.lmdb')


def test_names_and_inputs_that_cannot_be_are_named(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'out: the name of an LMDB folder must end in \.lmdb; use .*out\.lmdb'):
        run_quietly([images], tmp_path / 'out')
    with pytest.raises(InputError, match='missing: expected a folder of images, found nothing there'):
        run_quietly([tmp_path / 'missing'], tmp_path / 'out.lmdb')
    (tmp_path / 'file.txt').touch()
    with pytest.raises(InputError, match=r'file\.txt: expected a folder or an image'):
        run_quietly([tmp_path / 'file.txt'], tmp_path / 'out.lmdb')
    with pytest.raises(OSError, match=r'file\.txt'):
        run_quietly([images], tmp_path / 'file.txt' / 'out.lmdb')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file.txt', 'in']


# interruptions


def start_run(folder: Path, output: Path) -> ForkProcess:
    """A run in a process of its own with two workers; a fork, so that it is at work at once."""
    settings = RunSettings(workers=2, progress=False)
    process = multiprocessing.get_context('fork').Process(target=prepare, args=([folder], output, LARGE, settings))
    process.start()
    return process


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(Path(f'/proc/{number}').exists() for number in processes):
        assert time.monotonic() < deadline, 'workers outlive their parent'
        time.sleep(0.05)


def children_of(parent: int) -> list[int]:
    found = []
    for status in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = status.read_text().rpartition(')')[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == parent:
            found.append(int(status.parent.name))
    return found


@pytest.fixture
def large_images(tmp_path: Path) -> Path:
    """Enough noise for several batches: 8 images of 49 sub-images, 77 MB in all, and a broken one."""
    rows = make_image(640, 640, seed=9)
    for index in range(8):
        write_image(tmp_path / 'in' / f'p{index}.bmp', np.roll(rows, index, axis=0))
    (tmp_path / 'in' / 'bad.png').write_bytes(b'bad')
    return tmp_path / 'in'


@pytest.mark.slow
def test_run_killed_at_many_moments_ends_with_the_result_of_an_uninterrupted_one(
    large_images: Path, tmp_path: Path
) -> None:
    started = time.monotonic()
    prepare([large_images], tmp_path / 'whole.lmdb', LARGE, RunSettings(workers=2, progress=False))
    longest = (time.monotonic() - started) / 2
    generator = np.random.default_rng(5)
    output = tmp_path / 'killed.lmdb'
    kills = 0
    while not output.exists():
        process = start_run(large_images, output)
        process.join(generator.uniform(0, longest * (1 + kills / 10)))  # longer ones, should the machine slow down
        if process.is_alive():
            workers = children_of(process.pid)
            process.kill()
            process.join(10)
            wait_until_gone(workers)
            kills += 1
        else:
            assert process.exitcode == 0
        assert kills < 100
    assert kills >= 3
    assert read_store(output) == read_store(tmp_path / 'whole.lmdb')
    assert (output / 'data.mdb').stat().st_size == (tmp_path / 'whole.lmdb' / 'data.mdb').stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'killed.lmdb', 'whole.lmdb']


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_the_next_run_continues(large_images: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out.lmdb'
    process = start_run(large_images, output)
    store = tmp_path / '.out.lmdb.partial' / 'store.lmdb' / 'data.mdb'
    while not store.exists() or store.stat().st_size < 16 << 20:
        assert process.is_alive()
        time.sleep(0.01)
    workers = children_of(process.pid)
    assert len(workers) == 2
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 1
    wait_until_gone(workers)
    assert not output.exists()
    report = prepare([large_images], output, LARGE, QUIET)
    assert report.continued >= 1
    assert report.images == 8


def test_second_run_on_one_output_is_refused_while_the_first_is_at_work(large_images: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out.lmdb'
    process = start_run(large_images, output)
    try:
        while not (tmp_path / '.out.lmdb.partial' / 'plan.json').exists():
            assert process.is_alive()
            time.sleep(0.01)
        with pytest.raises(InputError, match='another run is writing there'):
            run_quietly([large_images], output)
    finally:
        process.kill()
        process.join(10)


def run_until_third_image(images: Path, output: Path) -> None:
    """Runs as a process of its own that commits every image and is killed at its third."""
    module = sys.modules[prepare.__module__]
    module._BATCH_BYTES = 1
    module.cut_image = lambda task: os.kill(os.getpid(), signal.SIGKILL) if task.key == 'p2' else cut_image(task)
    run_quietly([images], output)


def interrupt(images: Path, output: Path) -> None:
    """Leaves the unfinished run of a process that has really been killed."""
    process = multiprocessing.get_context('fork').Process(target=run_until_third_image, args=(images, output))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


def test_unfinished_run_is_continued_only_with_the_same_settings_and_images(images: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out.lmdb'
    interrupt(images, output)
    with pytest.raises(InputError, match=r'\.out\.lmdb\.partial: holds an unfinished run of other settings or images'):
        run_quietly([images], output, Cutting(whole=True, min_size=32))
    with pytest.raises(InputError, match='holds an unfinished run'):
        run_quietly([images / 'p0.png'], output)
    report = run_quietly([images], output)
    assert report.continued == 2
    run_quietly([images], tmp_path / 'other.lmdb')
    assert read_store(output) == read_store(tmp_path / 'other.lmdb')


def test_force_discards_an_unfinished_run_of_other_settings(images: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out.lmdb'
    interrupt(images, output)
    settings = RunSettings(workers=1, force=True, progress=False)
    report = prepare([images], output, Cutting(whole=True, min_size=32), settings)
    assert report.continued == 0
    assert open_source(output).names == ['p0', 'p1', 'p2']


def test_number_of_workers_does_not_change_a_byte(images: Path, tmp_path: Path) -> None:
    run_quietly([images], tmp_path / 'one.lmdb')
    prepare([images], tmp_path / 'three.lmdb', SMALL, RunSettings(workers=3, progress=False))
    for name in ('data.mdb', 'meta_info.txt', 'prepare.json'):
        assert (tmp_path / 'one.lmdb' / name).read_bytes() == (tmp_path / 'three.lmdb' / name).read_bytes()


def run_on_full_disk(images: Path, output: Path) -> None:
    """Runs in a process of its own whose files cannot grow beyond 100 kB; succeeds if the error is the right one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with pytest.raises(OSError, match='LMDB cannot be written'):
        run_quietly([images], output)


def test_full_disk_leaves_nothing_under_the_final_name_and_can_be_continued(images: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out.lmdb'
    process = multiprocessing.get_context('fork').Process(target=run_on_full_disk, args=(images, output))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert not output.exists()
    run_quietly([images], output)
    assert len(open_source(output)) > 3


# the pool


def hold_pid(task: int) -> tuple[int, int]:
    return task, os.getpid()


def die_at_three(task: int) -> int:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_pool_keeps_the_order_and_takes_tasks_only_as_it_goes() -> None:
    taken = []

    def tasks():
        for number in range(50):
            taken.append(number)
            yield number

    results = map_in_order(hold_pid, tasks(), workers=2)
    first = next(results)
    assert first[0] == 0
    assert first[1] != os.getpid()
    assert len(taken) <= 4
    assert [task for task, _ in results] == list(range(1, 50))


def test_killed_worker_is_an_error_and_no_endless_wait() -> None:
    with pytest.raises(InputError, match='a worker process was killed, probably for lack of memory'):
        list(map_in_order(die_at_three, range(10), workers=2))


FORKED = """
import os, signal, sys
from dasr_arch.data.worker_pool import map_in_order

number = getattr(signal, sys.argv[1])
if number != signal.SIGINT:
    signal.signal(number, signal.default_int_handler)
os.register_at_fork(after_in_parent=lambda: signal.raise_signal(number))
try:
    list(map_in_order(abs, range(10), workers=2))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='workers are spawned')
@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
def test_signal_during_the_fork_of_a_worker_stops_the_work(name: str) -> None:
    done = subprocess.run([sys.executable, '-c', FORKED, name], timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert 'Exception ignored' not in done.stderr


def test_hidden_folders_and_links_to_listed_folders_are_left_out(tmp_path):
    for name in ('photos/a', 'photos/.thumbs'):
        (tmp_path / name).mkdir(parents=True)
        write_image(tmp_path / name / 'x.png', np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'other').mkdir()
    write_image(tmp_path / 'other/y.png', np.ones((8, 8, 3), np.uint8))
    (tmp_path / 'photos/again').symlink_to('.')
    (tmp_path / 'photos/linked').symlink_to(tmp_path / 'other')
    found = _find_images(tmp_path / 'photos', recursive=True)
    assert [path.relative_to(tmp_path / 'photos').as_posix() for path in found] == ['a/x.png', 'linked/y.png']
