"""Several folders and stores behind one index."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from dasr_arch import InputError
from dasr_arch.data.image_io import write_image
from dasr_arch.data.image_source import FolderSource, JoinedSource, open_source


@pytest.fixture
def roots(tmp_path) -> list[Path]:
    """Folders of one, two and three images of different sizes."""
    for number in (1, 2, 3):
        for i in range(number):
            write_image(tmp_path / str(number) / f'p{i}.png', np.full((number, 5 + i, 3), 10 * number + i, np.uint8))
    return [tmp_path / str(number) for number in (1, 2, 3)]


def test_images_come_in_the_order_of_the_sources(roots):
    source = open_source(roots)
    assert isinstance(source, JoinedSource)
    assert len(source) == 6
    assert source.names == ['p0', 'p0-2', 'p1', 'p0-3', 'p1-2', 'p2']
    assert [int(source.read(i)[0, 0, 0]) for i in range(6)] == [10, 20, 21, 30, 31, 32]
    assert [source.size(i) for i in range(6)] == [(1, 5), (2, 5), (2, 6), (3, 5), (3, 6), (3, 7)]


def test_index_beyond_the_end_raises(roots):
    with pytest.raises(IndexError):
        open_source(roots).read(6)


def test_one_root_needs_no_joining(roots):
    assert isinstance(open_source(roots[0]), FolderSource)
    assert isinstance(open_source([str(roots[0])]), FolderSource)


def test_one_root_may_come_twice(roots):
    assert len(open_source([roots[2], roots[2]])) == 6


def test_joined_source_pickles(roots):
    source = pickle.loads(pickle.dumps(open_source(roots)))
    assert int(source.read(5)[0, 0, 0]) == 32


def test_missing_root_is_named(roots, tmp_path):
    with pytest.raises(InputError, match='nowhere'):
        open_source([roots[0], tmp_path / 'nowhere'])


def test_empty_list_is_refused():
    with pytest.raises(InputError, match='name at least one folder or LMDB'):
        open_source([])
