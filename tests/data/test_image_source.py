"""Reading images by name from folders and LMDB folders."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import encode_png, write_image
from dasr_arch.data.image_source import CachedSource, ImageSource, open_source


def make_images(count: int = 4) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    return {f'p{i}': generator.integers(0, 256, (12 + i, 20, 3), dtype=np.uint8) for i in range(count)}


def write_lmdb(root: Path, entries: dict[str, bytes], sizes: dict[str, tuple[int, int]]) -> None:
    with lmdb.open(str(root), map_size=1 << 24) as environment, environment.begin(write=True) as writing:
        for key, data in entries.items():
            writing.put(key.encode(), data)
    lines = [f'{key}.png ({height},{width},3) 1\n' for key, (height, width) in sizes.items()]
    (root / 'meta_info.txt').write_text(''.join(lines))


@pytest.fixture(params=['folder', 'lmdb'])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same images as a folder and as an LMDB."""
    images = make_images()
    if request.param == 'lmdb':
        path = tmp_path / 'set.lmdb'
        write_lmdb(path, {k: encode_png(p) for k, p in images.items()}, {k: p.shape[:2] for k, p in images.items()})
        return path
    for name, image in images.items():
        write_image(tmp_path / 'set' / f'{name}.png', image)
    return tmp_path / 'set'


def read_all(source: ImageSource) -> list[np.ndarray]:
    return [source.read(index) for index in range(len(source))]


class SourceDataset(Dataset[np.ndarray]):
    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.source.read(index)[:12]


def test_source_reads_every_image_by_sorted_name(root: Path) -> None:
    source = open_source(str(root))
    images = make_images()
    assert source.names == sorted(images)
    assert len(source) == 4
    assert source.root == root
    for index, name in enumerate(source.names):
        np.testing.assert_array_equal(source.read(index), images[name])
        assert source.size(index) == images[name].shape[:2]


def test_image_read_belongs_to_the_caller(root: Path) -> None:
    source = open_source(root)
    source.read(0)[:] = 7  # raises on a view of the map, spoils a cache
    np.testing.assert_array_equal(source.read(0), make_images()['p0'])


def test_two_sources_on_one_root_read_side_by_side(root: Path) -> None:
    first, second = open_source(root), open_source(root / '..' / root.name)
    for one, other in zip(read_all(first), read_all(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_read_side_by_side(root: Path) -> None:
    source = open_source(root)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(source.read, [0, 1, 2, 3] * 10))
    for index, image in enumerate(read):
        np.testing.assert_array_equal(image, make_images()[f'p{index % 4}'])


def test_source_pickles_after_it_has_read(root: Path) -> None:
    source = open_source(root)
    source.read(0)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(1), source.read(1))


def test_loader_workers_read_what_the_main_process_has_read_already(root: Path) -> None:
    source = open_source(root)
    expected = [image[:12] for image in read_all(source)]
    loader = DataLoader(SourceDataset(source), batch_size=None, num_workers=2)
    for _ in range(2):
        for read, image in zip(loader, expected, strict=True):
            np.testing.assert_array_equal(read, image)
    np.testing.assert_array_equal(source.read(0)[:12], expected[0])


@pytest.mark.slow
def test_spawned_process_reads_a_source_that_has_been_read(root: Path) -> None:
    source = open_source(root)
    source.read(0)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        np.testing.assert_array_equal(pool.submit(source.read, 1).result(), make_images()['p1'])


def test_missing_and_empty_roots_are_named(tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='empty: holds no images'):
        open_source(tmp_path / 'empty')
    with pytest.raises(InputError, match='missing: expected a folder of images, found nothing there'):
        open_source(tmp_path / 'missing')
    with pytest.raises(InputError, match=r'missing\.lmdb: no such LMDB folder'):
        open_source(tmp_path / 'missing.lmdb')


def test_lmdb_under_another_ending_is_named(tmp_path: Path) -> None:
    write_lmdb(tmp_path / 'set', {'a': b'x'}, {'a': (1, 1)})
    with pytest.raises(InputError, match=r'must end in \.lmdb'):
        open_source(tmp_path / 'set')


def test_two_files_of_one_stem_are_named(tmp_path: Path) -> None:
    for suffix in ('.jpg', '.png'):
        write_image(tmp_path / f'a{suffix}', make_images()['p0'])
    with pytest.raises(InputError, match=r"two images are called 'a' \(a\.jpg, a\.png\)"):
        open_source(tmp_path)


def test_damaged_image_in_a_folder_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / 'a.png', make_images()['p0'])
    (tmp_path / 'b.png').write_bytes(b'nothing')
    source = open_source(tmp_path)
    with pytest.raises(InputError, match=r'b\.png: cannot be read as an image'):
        source.read(1)
    with pytest.raises(InputError, match=r'b\.png'):
        source.size(1)
    (tmp_path / 'a.png').unlink()
    with pytest.raises(InputError, match=r'a\.png: cannot be read \(No such file'):
        source.read(0)


def test_damaged_entries_of_an_lmdb_are_named_with_key_and_path(tmp_path: Path) -> None:
    image = make_images()['p0']
    good = encode_png(image)
    entries = {'cut': good[: len(good) // 2], 'empty': b'', 'good': good, 'text': b'nothing', 'wrong_size': good}
    write_lmdb(tmp_path / 'a.lmdb', entries, dict.fromkeys(entries, (12, 20)) | {'wrong_size': (20, 12)})
    source = open_source(tmp_path / 'a.lmdb')
    for index, name in enumerate(source.names):
        if name == 'good':
            np.testing.assert_array_equal(source.read(index), image)
            continue
        with pytest.raises(InputError, match=rf"a\.lmdb, entry '{name}': "):
            source.read(index)


def test_lmdb_with_fewer_entries_than_it_lists_is_refused_at_once(tmp_path: Path) -> None:
    write_lmdb(tmp_path / 'a.lmdb', {'a': b'x'}, {'a': (1, 1), 'b': (1, 1)})
    with pytest.raises(InputError, match=r'lists 2 images, data\.mdb holds 1'):
        open_source(tmp_path / 'a.lmdb')


def test_missing_entry_is_named_when_it_is_read(tmp_path: Path) -> None:
    image = make_images()['p0']
    write_lmdb(tmp_path / 'a.lmdb', {'a': encode_png(image), 'other': b'x'}, {'a': (12, 20), 'b': (12, 20)})
    source = open_source(tmp_path / 'a.lmdb')
    with pytest.raises(InputError, match=r"a\.lmdb: has no entry 'b'"):
        source.read(1)


def test_lmdb_made_by_basicsr_is_read(tmp_path: Path) -> None:
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    images = make_images()
    for name, image in images.items():
        write_image(tmp_path / 'in' / f'{name}.png', image)
    cv2.imwrite(str(tmp_path / 'in' / 'q.png'), images['p0'][:, :, 0])
    names = [*(f'{name}.png' for name in images), 'q.png']
    keys = [name.removesuffix('.png') for name in names]
    make_lmdb_from_imgs(str(tmp_path / 'in'), str(tmp_path / 'a.lmdb'), names, keys, map_size=1 << 24)
    source = open_source(tmp_path / 'a.lmdb')
    assert source.names == keys
    for index, name in enumerate(images):
        np.testing.assert_array_equal(source.read(index), images[name])
    np.testing.assert_array_equal(source.read(4), np.repeat(images['p0'][:, :, :1], 3, axis=2))


# --- images kept in memory ---


def count_reads(source, monkeypatch):
    reads = []
    read = source.read
    monkeypatch.setattr(source, 'read', lambda index: (reads.append(index), read(index))[1])
    return reads


def test_cached_images_are_read_once_and_equal_the_source(root, monkeypatch):
    source = open_source(root)
    expected = [source.read(index) for index in range(len(source))]
    reads = count_reads(source, monkeypatch)
    cached = CachedSource(source, 1 << 30)
    for _ in range(2):
        for index, image in enumerate(expected):
            assert np.array_equal(cached.read(index), image)
    assert reads == list(range(len(source)))
    assert cached.names == source.names
    assert cached.size(0) == source.size(0)


def test_cache_stops_at_its_limit_and_drops_nothing(root, monkeypatch):
    source = open_source(root)
    reads = count_reads(source, monkeypatch)
    cached = CachedSource(source, source.read(0).nbytes)
    reads.clear()
    for _ in range(2):
        cached.read(0)
        cached.read(1)
    assert reads == [0, 1, 1]


def test_cached_images_cannot_be_changed_and_do_not_travel(root):
    cached = CachedSource(open_source(root), 1 << 30)
    with pytest.raises(ValueError, match='read-only'):
        cached.read(0)[0, 0] = 0
    assert len(pickle.dumps(cached)) < 4096
    assert np.array_equal(pickle.loads(pickle.dumps(cached)).read(0), cached.read(0))
