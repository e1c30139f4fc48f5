"""LMDB folders: the writer's batches and journal, and what damaged folders get."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import encode_png
from dasr_arch.data.lmdb_store import (
    LmdbWriter,
    Piece,
    _environments,
    count_entries,
    format_meta_line,
    open_entry,
    read_meta_info,
)

ROOT = Path(__file__).parents[2]


def write_store(root: Path, count: int = 3, side: int = 8) -> dict[str, bytes]:
    """An LMDB of noise images, and what is in it."""
    generator = np.random.default_rng(0)
    images = {
        f'p{i}': encode_png(generator.integers(0, 256, (side, side + i, 3), dtype=np.uint8)) for i in range(count)
    }
    writer = LmdbWriter(root)
    writer.put([Piece(key, side, side + i, data) for i, (key, data) in enumerate(images.items())], {0: 'all'})
    writer.drop_journal()
    writer.close()
    lines = [format_meta_line(f'p{i}', side, side + i, 1) for i in range(count)]
    (root / 'meta_info.txt').write_text('\n'.join(lines) + '\n')
    return images


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(tmp_path / 'a.lmdb')
    return tmp_path / 'a.lmdb'


@pytest.mark.skipif(shutil.which('gcc') is None, reason='needs gcc')
def test_a_file_system_without_synchronisation(tmp_path: Path) -> None:
    """LMDB itself flushes, so a library makes every flush of the command fail, as some FUSE file systems do."""
    (tmp_path / 'refuse.c').write_text(
        '#include <errno.h>\n'
        'int fsync(int file) { errno = EINVAL; return -1; }\n'
        'int fdatasync(int file) { errno = EINVAL; return -1; }\n'
    )
    library = tmp_path / 'refuse.so'
    subprocess.run(['gcc', '-shared', '-fPIC', '-o', library, tmp_path / 'refuse.c'], check=True)
    demo = ROOT / 'datasets' / 'demo'
    command = [
        sys.executable,
        '-m',
        'dasr_cli',
        'prepare',
        demo,
        '-o',
        tmp_path / 'a.lmdb',
        '--whole',
        '--workers',
        '1',
    ]
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'LD_PRELOAD': str(library)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert count_entries(tmp_path / 'a.lmdb') == 6


def test_entries_come_back_as_they_were_put(tmp_path: Path) -> None:
    images = write_store(tmp_path / 'a.lmdb')
    assert count_entries(tmp_path / 'a.lmdb') == 3
    for key, data in images.items():
        with open_entry(tmp_path / 'a.lmdb', key) as entry:
            assert bytes(entry) == data


def test_meta_line_has_the_form_that_basicsr_writes(store: Path) -> None:
    assert format_meta_line('000_1', 720, 1280, 1) == '000_1.png (720,1280,3) 1'
    assert read_meta_info(store) == {'p0': (8, 8), 'p1': (8, 9), 'p2': (8, 10)}


def test_meta_info_keeps_dots_and_folders_of_a_foreign_key(store: Path) -> None:
    (store / 'meta_info.txt').write_text('000/a.1.png (5,6,1) 3\n')
    assert read_meta_info(store) == {'000/a.1': (5, 6)}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'lists no images'),
        ('p0.png (8,8,3) 1\np1.png 8 9\n', 'line 2: expected `key.png'),
        ('p0.png (8,8,3) 1\np0.png (8,8,3) 1\n', "line 2: key 'p0' stands there twice"),
    ],
)
def test_bad_meta_info_is_named_with_its_line(store: Path, text: str, message: str) -> None:
    (store / 'meta_info.txt').write_text(text)
    with pytest.raises(InputError, match=message):
        read_meta_info(store)


def test_folder_that_is_no_lmdb_is_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(InputError, match=r'missing\.lmdb: no such LMDB folder; make it with `dasr prepare'):
        read_meta_info(tmp_path / 'missing.lmdb')
    with pytest.raises(InputError, match=r'must end in \.lmdb'):
        read_meta_info(tmp_path)
    for name in ('meta_info.txt', 'data.mdb'):
        (store / name).unlink()
        with pytest.raises(InputError, match=f'holds no {name}'):
            read_meta_info(store)


def test_missing_entry_is_named_with_key_and_path(store: Path) -> None:
    with pytest.raises(InputError, match=r"a\.lmdb: has no entry 'nobody'"), open_entry(store, 'nobody'):
        pass


def test_damaged_and_truncated_data_files_are_refused_without_a_crash(tmp_path: Path) -> None:
    write_store(tmp_path / 'cut.lmdb', side=64)
    os.truncate(tmp_path / 'cut.lmdb' / 'data.mdb', 12288)
    with pytest.raises(InputError, match=r'cut\.lmdb: data\.mdb is truncated \(12288 of \d+ bytes\)'):
        count_entries(tmp_path / 'cut.lmdb')
    write_store(tmp_path / 'bad.lmdb')
    (tmp_path / 'bad.lmdb' / 'data.mdb').write_bytes(b'\xff' * 16384)
    with pytest.raises(InputError, match=r'bad\.lmdb: cannot be opened as an LMDB'):
        count_entries(tmp_path / 'bad.lmdb')


def test_pages_of_a_wrong_type_are_refused_with_the_path(tmp_path: Path) -> None:
    write_store(tmp_path / 'bad.lmdb', side=64)
    key = next(iter(read_meta_info(tmp_path / 'bad.lmdb')))
    data = bytearray((tmp_path / 'bad.lmdb' / 'data.mdb').read_bytes())
    for page in range(2, len(data) // 4096):  # the first two describe the file; bytes 10 and 11 hold a page's type
        data[4096 * page + 10 : 4096 * page + 12] = bytes(2)
    (tmp_path / 'bad.lmdb' / 'data.mdb').write_bytes(data)
    expected = r'bad\.lmdb: data\.mdb is damaged \(.*\); prepare the LMDB again'
    with pytest.raises(InputError, match=expected), open_entry(tmp_path / 'bad.lmdb', key):
        pass


def test_reader_sees_an_lmdb_that_has_been_replaced(tmp_path: Path) -> None:
    write_store(tmp_path / 'a.lmdb', count=2)
    assert count_entries(tmp_path / 'a.lmdb') == 2
    write_store(tmp_path / 'b.lmdb', count=5)
    (tmp_path / 'a.lmdb').rename(tmp_path / 'old.lmdb')
    (tmp_path / 'b.lmdb').rename(tmp_path / 'a.lmdb')
    assert count_entries(tmp_path / 'a.lmdb') == 5


def test_removed_lmdb_is_named(store: Path) -> None:
    assert count_entries(store) == 3
    shutil.rmtree(store)
    with pytest.raises(InputError, match='the LMDB has been removed'):
        count_entries(store)


def test_folder_open_elsewhere_in_the_process_is_named(store: Path) -> None:
    environment = lmdb.open(str(store), readonly=True, lock=False)
    with pytest.raises(InputError, match='is open in this process by another reader'):
        count_entries(store)
    environment.close()
    assert count_entries(store) == 3


def test_closing_hands_a_folder_over_to_another_reader(store: Path) -> None:
    assert count_entries(store) == 3
    _environments.close_all()
    with lmdb.open(str(store), readonly=True, lock=False) as environment:
        assert environment.stat()['entries'] == 3


def test_child_of_a_fork_reads_what_its_parent_has_open(store: Path) -> None:
    with open_entry(store, 'p1') as entry:
        expected = bytes(entry)
    child = os.fork()
    if child == 0:
        with open_entry(store, 'p1') as entry:
            os._exit(0 if bytes(entry) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with open_entry(store, 'p1') as entry:
        assert bytes(entry) == expected


def test_journal_outlives_a_writer_and_leaves_nothing_when_dropped(tmp_path: Path) -> None:
    writer = LmdbWriter(tmp_path / 'a.lmdb')
    writer.put([Piece('x', 1, 1, b'1')], {0: 'zero', 1: 'one'})
    writer.close()
    writer = LmdbWriter(tmp_path / 'a.lmdb')
    assert writer.read_journal() == {0: 'zero', 1: 'one'}
    writer.put([Piece('y', 1, 1, b'2')], {2: 'two'})
    writer.drop_journal()
    writer.close()
    with lmdb.open(str(tmp_path / 'a.lmdb'), readonly=True, lock=False) as environment, environment.begin() as reading:
        assert list(reading.cursor()) == [(b'x', b'1'), (b'y', b'2')]


def test_map_grows_with_what_is_written(tmp_path: Path) -> None:
    writer = LmdbWriter(tmp_path / 'a.lmdb')
    for i in range(10):
        writer.put([Piece(f'k{i}', 1, 1, bytes(20 << 20))], {i: ''})
    writer.close()
    with lmdb.open(str(tmp_path / 'a.lmdb'), readonly=True, lock=False) as environment:
        assert environment.info()['map_size'] <= 1 << 30
        assert environment.stat()['entries'] == 11  # and the journal


def test_full_disk_is_an_error_that_names_the_folder_and_loses_no_earlier_batch(tmp_path: Path) -> None:
    program = (
        'import resource, sys; from pathlib import Path\n'
        'from dasr_arch.data.lmdb_store import LmdbWriter, Piece\n'
        'writer = LmdbWriter(Path(sys.argv[1]))\n'
        "writer.put([Piece('a', 1, 1, bytes(1 << 20))], {0: 'a'})\n"
        'resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))\n'
        'try:\n'
        "    writer.put([Piece('b', 1, 1, bytes(8 << 20))], {1: 'b'})\n"
        'except OSError as error:\n'
        '    sys.exit(str(error))\n'
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    run = subprocess.run(
        [sys.executable, '-c', program, str(tmp_path / 'a.lmdb')], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert 'LMDB cannot be written (' in run.stderr
    assert str(tmp_path / 'a.lmdb') in run.stderr
    writer = LmdbWriter(tmp_path / 'a.lmdb')
    assert writer.read_journal() == {0: 'a'}
    writer.close()
