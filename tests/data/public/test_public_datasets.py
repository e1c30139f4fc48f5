import re
from dataclasses import replace

import pytest

from dasr_arch._errors import InputError
from dasr_arch.data.public.download import RemoteFile, RetryPolicy
from dasr_arch.data.public.public_datasets import PUBLIC_SETS, ImageFolder, PublicSet, download_set, find_public_set
from tests.data.public.test_archives import IMAGES, place, write_zip
from tests.file_server import serving

AT_ONCE = RetryPolicy(attempts=1, pause=0, timeout=5)


@pytest.fixture
def server(tmp_path):
    with serving() as running:
        archive = write_zip(tmp_path / 'archive', place('Set/HR') | place('Other/HR'))
        running.files['/set.zip'] = archive.read_bytes()
        archive.unlink()
        yield running


def make_set(*urls, names=('Set',)):
    sources = tuple(RemoteFile(url) for url in urls)
    return PublicSet(tuple(ImageFolder(f'benchmark/{name}/HR', 3, (f'{name}/HR',), sources) for name in names))


@pytest.mark.parametrize('name', PUBLIC_SETS)
def test_every_set_names_folders_sources_and_well_formed_checksums(name):
    public_set = find_public_set(name)
    for folder in public_set.folders:
        assert folder.images > 0
        assert folder.sources or public_set.note
        for source in folder.sources:
            assert source.url.startswith('https://')
            assert re.fullmatch(r'|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}', source.checksum)


def test_unknown_set_suggests_the_nearest():
    with pytest.raises(InputError, match=r"unknown data set 'Flicker2K'; did you mean 'Flickr2K'"):
        find_public_set('Flicker2K')


def test_set_that_may_not_be_passed_on_tells_where_to_ask(tmp_path):
    with pytest.raises(InputError, match=r'manga109\.org.*--url'):
        download_set(find_public_set('Manga109'), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_one_archive_fetch_it_once(server, tmp_path):
    public_set = make_set(server.address('/set.zip'), names=('Set', 'Other'))
    counts = download_set(public_set, tmp_path)
    assert counts == {tmp_path / 'benchmark/Set/HR': 3, tmp_path / 'benchmark/Other/HR': 3}
    assert {path.name for path in (tmp_path / 'benchmark/Other/HR').iterdir()} == set(IMAGES)
    assert [path.name for path in tmp_path.iterdir()] == ['benchmark']
    assert len(server.seen) == 1


def test_archive_stays_on_request(server, tmp_path):
    download_set(make_set(server.address('/set.zip')), tmp_path, keep_archives=True)
    (archive,) = (tmp_path / '.downloads').iterdir()
    assert archive.read_bytes() == server.files['/set.zip']


def test_present_folders_are_not_fetched_again(server, tmp_path):
    public_set = make_set(server.address('/set.zip'))
    download_set(public_set, tmp_path)
    download_set(public_set, tmp_path)
    assert len(server.seen) == 1


def test_second_address_is_used_when_the_first_gives_nothing(server, tmp_path):
    counts = download_set(make_set(server.address('/gone.zip'), server.address('/set.zip')), tmp_path, policy=AT_ONCE)
    assert list(counts.values()) == [3]


def test_every_address_that_failed_is_named(server, tmp_path):
    with pytest.raises(InputError, match=r'/a\.zip: answered 404.*/b\.zip: answered 404.*--url'):
        download_set(make_set(server.address('/a.zip'), server.address('/b.zip')), tmp_path, policy=AT_ONCE)
    assert list(tmp_path.iterdir()) == []


def test_wrong_checksum_does_not_fall_back_silently(server, tmp_path):
    public_set = make_set(server.address('/set.zip'), server.address('/set.zip'))
    folder = public_set.folders[0]
    sources = (replace(folder.sources[0], checksum='md5:' + '0' * 32), folder.sources[1])
    with pytest.raises(InputError, match='md5 checksum'):
        download_set(PublicSet((replace(folder, sources=sources),)), tmp_path)


def test_given_address_replaces_the_published_ones(server, tmp_path):
    public_set = make_set('https://127.0.0.1:1/never-asked.zip')
    download_set(public_set, tmp_path, url=server.address('/set.zip'))
    assert len(list((tmp_path / 'benchmark/Set/HR').iterdir())) == 3


def test_folder_with_another_number_of_images_is_left_alone(server, tmp_path):
    folder = tmp_path / 'benchmark/Set/HR'
    folder.mkdir(parents=True)
    (folder / 'mine.png').write_bytes(b'mine')
    with pytest.raises(InputError, match=r'holds 1 images, expected 3; move it away'):
        download_set(make_set(server.address('/set.zip')), tmp_path)
    assert (folder / 'mine.png').read_bytes() == b'mine'
    assert server.seen == []


def test_damaged_archive_is_removed_so_that_the_next_run_fetches_it(server, tmp_path):
    whole = server.files['/set.zip']
    server.files['/set.zip'] = whole[: len(whole) // 2]
    public_set = make_set(server.address('/set.zip'))
    with pytest.raises(InputError, match='removed, run this again'):
        download_set(public_set, tmp_path)
    assert list(tmp_path.rglob('*.zip')) == []
    server.files['/set.zip'] = whole
    assert list(download_set(public_set, tmp_path).values()) == [3]
