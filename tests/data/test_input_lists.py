"""Shards split any list into disjoint parts that stay as they are; manifests are read row by row."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from dasr_arch import InputError
from dasr_arch.data.input_lists import WHOLE, Manifest, ManifestRow, Shard

NAMES = [f'{folder}/IMG_{number:04d}.jpg' for folder in ('a', 'b/c', 'ü') for number in range(2000)]


@pytest.mark.parametrize('total', [1, 2, 3, 16, 250])
def test_shards_cover_all_names_and_share_none(total):
    shards = [Shard(number, total) for number in range(1, total + 1)]
    names = NAMES[:: 1 + total // 10]
    holders = [[shard for shard in shards if shard.holds(name)] for name in names]
    assert {len(shards) for shards in holders} == {1}
    sizes = Counter(shard for (shard,) in holders)
    assert max(sizes.values()) < len(names) / total + 6 * (len(names) / total) ** 0.5


def test_the_shard_of_a_name_is_the_same_in_every_version():
    """Recorded: tasks of one array may run for weeks, and the package may be updated meanwhile."""
    names = ('a.png', 'b/c.png', 'ü.png')
    assert [number for name in names for number in range(1, 17) if Shard(number, 16).holds(name)] == [16, 4, 8]


def test_the_ending_has_no_effect():
    assert {Shard(1, 2).holds(f'a{ending}') for ending in ('.png', '.jpg', '')} == {Shard(1, 2).holds('a')}


def test_names_that_are_no_text_are_taken(tmp_path):
    assert [Shard(number, 2).holds('\udcff.png') for number in (1, 2)].count(True) == 1


def test_texts_are_parsed():
    assert Shard.parse('3/16') == Shard(3, 16)
    assert str(Shard(3, 16)) == '3/16'
    assert (Shard(3, 16).label, WHOLE.label) == ('shard 3/16: ', '')


@pytest.mark.parametrize(
    'text', ['0/16', '17/16', '0/0', '3', 'a/b', '/16', '3/', '1.0/2', '-1/2', ' 1/2', '1/2/3', '²/3']
)
def test_texts_that_are_no_shard_are_refused(text):
    with pytest.raises(InputError, match='shard') as error:
        Shard.parse(text)
    assert text in str(error.value)


def test_text_is_read_line_by_line(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes(b'\xef\xbb\xbfa b.png\r\n\n#c.png\r\n \xff.png')
    rows = [ManifestRow(1, 'a b.png', ''), ManifestRow(3, '#c.png', ''), ManifestRow(4, ' \udcff.png', '')]
    assert list(Manifest(str(path))) == rows
    assert Manifest(str(path)).first == 'a b.png'


def test_csv_is_read_by_its_columns(tmp_path):
    path = tmp_path / 'list.CSV'
    path.write_bytes(b'\xef\xbb\xbfid,out,path\r\n1,x.png,"a, ""b"".png"\r\n\r\n2,,c.png\r\n3,y.png,"d\ne.png"\r\n')
    assert [row[1:] for row in Manifest(str(path))] == [
        ('a, "b".png', 'x.png'),
        ('c.png', ''),
        ('d\ne.png', 'y.png'),
    ]
    assert [row.line for row in Manifest(str(path))] == [2, 4, 6]  # the last line of each row


def test_the_column_out_may_be_missing(tmp_path):
    path = tmp_path / 'list.csv'
    path.write_text('path,size\na.png,1\nb.png\n')
    assert list(Manifest(str(path))) == [ManifestRow(2, 'a.png', ''), ManifestRow(3, 'b.png', '')]


def write_parquet(file: Path, **columns: list[str | None]) -> str:
    parquet = pytest.importorskip('pyarrow.parquet', reason='the extra parquet is not installed')
    parquet.write_table(sys.modules['pyarrow'].table(columns), file, row_group_size=2)
    return str(file)


def test_parquet_is_read_row_by_row(tmp_path):
    both = write_parquet(tmp_path / 'both.parquet', id=['x'] * 3, path=['a', 'b', 'c'], out=['1', None, ''])
    assert list(Manifest(both)) == [(1, 'a', '1'), (2, 'b', ''), (3, 'c', '')]
    paths = write_parquet(tmp_path / 'paths.parquet', path=['a', 'b', 'c'])
    assert list(Manifest(paths)) == [(1, 'a', ''), (2, 'b', ''), (3, 'c', '')]


def test_wrong_parquet_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no column 'path' but 'name,out'"):
        Manifest(write_parquet(tmp_path / 'a.parquet', name=['a'], out=['b']))
    with pytest.raises(InputError, match='line 1: holds an empty path'):
        Manifest(write_parquet(tmp_path / 'a.parquet', path=[None]))
    with pytest.raises(InputError, match='lists no inputs'):
        Manifest(write_parquet(tmp_path / 'a.parquet', path=[]))
    (tmp_path / 'a.parquet').write_text('path\na\n')
    with pytest.raises(InputError, match='is no Parquet file'):
        Manifest(str(tmp_path / 'a.parquet'))


def test_a_missing_pyarrow_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
    path = tmp_path / 'a.parquet'
    path.write_bytes(b'PAR1')
    with pytest.raises(InputError, match=r"pip install 'dasr-representation-learning\[parquet\]'"):
        Manifest(str(path))


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.txt', b'', 'lists no inputs'),
        ('a.txt', b'\n\r\n', 'lists no inputs'),
        ('a.csv', b'path,out\n', 'lists no inputs'),
        ('a.csv', b'', "has no column 'path' but ''"),
        (
            'a.csv',
            b'in/a.png\nin/b.png\n',
            "has no column 'path' but 'in/a.png'; rename one, or list one path a line in a .txt",
        ),
        ('a.csv', b'path;out\na.png;b.png\n', "has no column 'path' but 'path;out'"),
        ('a.csv', b'out,path\nb.png,\n', 'line 2: holds an empty path'),
        ('a.csv', b'out,path\nb.png\n', 'line 2: holds an empty path'),
        ('a.csv', b'path\n"a.png\nb.png\n', 'line 3: is no CSV'),
        ('a.txt', b'\x89PNG\r\n\x1a\n\x00\x00', 'line 3: holds no text'),
    ],
)
def test_wrong_manifests_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        list(Manifest(str(tmp_path / name)))
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / name))


def test_a_manifest_is_a_file(tmp_path):
    for path in (tmp_path, tmp_path / 'none.txt'):
        with pytest.raises(InputError, match='expected a manifest'):
            Manifest(str(path))


def test_files_of_a_shard_and_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in 'abcdef':
        Path(name).touch()
    Path('list.txt').write_text('a\nb\nc\nd\nnone\n.\ne\nf\n')
    found, failed = [], []
    for number in (1, 2, 3):
        rows, missing = Manifest('list.txt').find_files(Shard(number, 3), lambda row: f'{row.path}_x4')
        found += [row.path for row in rows]
        failed += [(str(image.path), image.reason) for image in missing]
    assert sorted(found) == list('abcdef')
    assert sorted(failed) == [
        ('.', 'expected a file, found a folder; line 6 of list.txt'),
        ('none', 'expected a file, found nothing there; line 5 of list.txt'),
    ]


@pytest.mark.parametrize('shard', [Shard(1, 2), Shard(2, 2), WHOLE])
def test_two_rows_with_one_result_are_refused_in_every_shard(tmp_path, shard):
    path = tmp_path / 'list.csv'
    path.write_text('path,out\na,x\nb,y\nc,x\n')
    with pytest.raises(InputError, match='line 4: x is the result of an earlier line, too'):
        Manifest(str(path)).find_files(shard, lambda row: row.out)


def test_listed_paths_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('a').touch()
    Path('list.txt').write_text('a\n.\n')
    assert Manifest('list.txt').list_paths() == [Path('a'), Path()]
    Path('list.txt').write_text('a\nnone\n')
    with pytest.raises(InputError, match=r'list.txt, line 2: found nothing at none'):
        Manifest('list.txt').list_paths()
