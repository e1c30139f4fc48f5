import fcntl
import hashlib
import json
import random
import socket

import pytest

from dasr_arch._errors import InputError
from dasr_arch.data.public.download import RemoteFile, RetryPolicy, SourceUnavailableError, fetch_file
from tests.file_server import serving

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = 'sha256:' + hashlib.sha256(CONTENT).hexdigest()
AT_ONCE = RetryPolicy(attempts=2, pause=0, timeout=5)


@pytest.fixture
def server():
    with serving() as running:
        running.files['/set.zip'] = CONTENT
        yield running


def test_file_arrives_whole_and_leaves_nothing_beside_it(server, tmp_path):
    target = fetch_file(RemoteFile(server.address('/set.zip'), SHA256, len(CONTENT)), tmp_path / 'new' / 'set.zip')
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ['set.zip']


def test_md5_checksums_are_understood(server, tmp_path):
    checksum = 'md5:' + hashlib.md5(CONTENT).hexdigest()
    assert fetch_file(RemoteFile(server.address('/set.zip'), checksum), tmp_path / 'set.zip').is_file()


def test_redirects_are_followed(server, tmp_path):
    assert fetch_file(RemoteFile(server.address('/moved'), SHA256), tmp_path / 'set.zip').read_bytes() == CONTENT


def test_present_file_is_not_fetched_again(server, tmp_path):
    (tmp_path / 'set.zip').write_bytes(CONTENT)
    fetch_file(RemoteFile(server.address('/set.zip'), SHA256), tmp_path / 'set.zip')
    assert server.seen == []


def test_cut_connections_continue_where_they_stopped(server, tmp_path):
    server.cuts = [100_000, 50_000]
    target = fetch_file(RemoteFile(server.address('/set.zip'), SHA256), tmp_path / 'set.zip', AT_ONCE)
    assert target.read_bytes() == CONTENT
    assert server.seen == ['', 'bytes=100000-', 'bytes=150000-']


def test_later_call_continues_an_earlier_one(server, tmp_path):
    server.cuts = [100_000, 0, 0]
    with pytest.raises(
        SourceUnavailableError, match=r'connection closed after 100000 of 300000 bytes; 100000 bytes are'
    ):
        fetch_file(RemoteFile(server.address('/set.zip'), SHA256), tmp_path / 'set.zip', AT_ONCE)
    assert not (tmp_path / 'set.zip').exists()
    assert fetch_file(RemoteFile(server.address('/set.zip'), SHA256), tmp_path / 'set.zip').read_bytes() == CONTENT
    assert server.seen[-1] == 'bytes=100000-'


def test_server_without_ranges_sends_everything_again(server, tmp_path):
    server.ranges = False
    server.cuts = [100_000]
    target = fetch_file(RemoteFile(server.address('/set.zip'), SHA256), tmp_path / 'set.zip', AT_ONCE)
    assert target.read_bytes() == CONTENT


def test_changed_file_is_fetched_from_its_start(server, tmp_path):
    server.cuts = [100_000, 0, 0]
    with pytest.raises(SourceUnavailableError):
        fetch_file(RemoteFile(server.address('/set.zip')), tmp_path / 'set.zip', AT_ONCE)
    server.etag, server.files['/set.zip'] = '"two"', CONTENT[::-1]
    assert fetch_file(RemoteFile(server.address('/set.zip')), tmp_path / 'set.zip').read_bytes() == CONTENT[::-1]


def test_part_of_another_address_is_not_continued(server, tmp_path):
    (tmp_path / 'set.zip.part').write_bytes(b'something else')
    (tmp_path / 'set.zip.part.json').write_text(json.dumps({'url': 'http://other/set.zip', 'validator': ''}))
    assert fetch_file(RemoteFile(server.address('/set.zip')), tmp_path / 'set.zip').read_bytes() == CONTENT
    assert server.seen == ['']


def test_part_that_was_complete_before_a_kill_is_kept(server, tmp_path):
    (tmp_path / 'set.zip.part').write_bytes(CONTENT)
    note = {'url': server.address('/set.zip'), 'validator': server.etag}
    (tmp_path / 'set.zip.part.json').write_text(json.dumps(note))
    assert fetch_file(RemoteFile(server.address('/set.zip'), SHA256), tmp_path / 'set.zip').read_bytes() == CONTENT
    assert server.seen == [f'bytes={len(CONTENT)}-']


def test_part_longer_than_the_file_is_dropped(server, tmp_path):
    (tmp_path / 'set.zip.part').write_bytes(CONTENT + b'more')
    note = {'url': server.address('/set.zip'), 'validator': server.etag}
    (tmp_path / 'set.zip.part.json').write_text(json.dumps(note))
    target = fetch_file(RemoteFile(server.address('/set.zip'), SHA256), tmp_path / 'set.zip', AT_ONCE)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize('claimed', ['bytes 7-299999/300000', 'pages 1-2'])
def test_part_from_another_place_is_not_used(server, tmp_path, claimed):
    server.cuts = [100_000]
    server.claimed_range = claimed
    target = fetch_file(RemoteFile(server.address('/set.zip'), SHA256), tmp_path / 'set.zip', AT_ONCE)
    assert target.read_bytes() == CONTENT
    assert server.seen == ['', 'bytes=100000-', '']


def test_file_of_unknown_length_is_measured_in_the_end(server, tmp_path):
    server.claimed_length = -1
    target = fetch_file(RemoteFile(server.address('/set.zip'), SHA256, len(CONTENT)), tmp_path / 'set.zip')
    assert target.read_bytes() == CONTENT
    with pytest.raises(InputError, match=r'got 300000 bytes, expected 299999; removed, download it again'):
        fetch_file(RemoteFile(server.address('/set.zip'), SHA256, 299_999), tmp_path / 'other.zip')
    assert not (tmp_path / 'other.zip').exists()


def test_host_that_does_not_exist_is_named(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(-2, 'Name or service not known')

    monkeypatch.setattr(socket, 'getaddrinfo', fail)
    with pytest.raises(SourceUnavailableError, match=r'set\.zip: host not found; is there a network\?'):
        fetch_file(RemoteFile('http://host.invalid/set.zip'), tmp_path / 'set.zip', AT_ONCE)


def test_busy_server_is_asked_again(server, tmp_path):
    server.failures = [503]
    assert fetch_file(RemoteFile(server.address('/set.zip'), SHA256), tmp_path / 'set.zip', AT_ONCE).is_file()
    assert len(server.seen) == 2


def test_missing_file_is_not_asked_for_twice(server, tmp_path):
    with pytest.raises(SourceUnavailableError, match=r'/gone\.zip: answered 404 Not Found'):
        fetch_file(RemoteFile(server.address('/gone.zip')), tmp_path / 'gone.zip', AT_ONCE)
    assert len(server.seen) == 1
    assert list(tmp_path.iterdir()) == []


def test_wrong_checksum_is_named_and_the_file_removed(server, tmp_path):
    wrong = 'sha256:' + '0' * 64
    with pytest.raises(InputError, match=r'sha256 checksum is [0-9a-f]{64}, expected 0{64}; removed') as error:
        fetch_file(RemoteFile(server.address('/set.zip'), wrong), tmp_path / 'set.zip')
    assert not isinstance(error.value, SourceUnavailableError)
    assert not (tmp_path / 'set.zip').exists()
    assert not (tmp_path / 'set.zip.part').exists()


def test_file_of_another_size_is_refused_before_it_is_read(server, tmp_path):
    with pytest.raises(SourceUnavailableError, match='holds 300000 bytes, expected 299999'):
        fetch_file(RemoteFile(server.address('/set.zip'), size=299_999), tmp_path / 'set.zip')


def test_file_larger_than_the_disk_is_refused_before_it_is_read(server, tmp_path):
    server.claimed_length = 10**17
    with pytest.raises(InputError, match=r'GB free, 100000000\.0 GB are needed'):
        fetch_file(RemoteFile(server.address('/set.zip')), tmp_path / 'set.zip')
    assert list(tmp_path.iterdir()) == []


def test_room_for_unpacking_is_counted(server, tmp_path):
    with pytest.raises(InputError, match=r'GB free, 300000000\.0 GB are needed'):
        fetch_file(RemoteFile(server.address('/set.zip')), tmp_path / 'set.zip', room=1e12)


def test_refused_connection_fails_at_once(tmp_path):
    with socket.socket() as unused:  # bound but not listening: connections are refused
        unused.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{unused.getsockname()[1]}/set.zip'
        with pytest.raises(SourceUnavailableError, match='Connection refused'):
            fetch_file(RemoteFile(url), tmp_path / 'set.zip', RetryPolicy(attempts=9, pause=60))


def test_silent_server_counts_as_cut(tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as silent:
        url = f'http://127.0.0.1:{silent.getsockname()[1]}/set.zip'
        with pytest.raises(SourceUnavailableError, match='no answer in time'):
            fetch_file(RemoteFile(url), tmp_path / 'set.zip', RetryPolicy(attempts=1, pause=0, timeout=0.2))


@pytest.mark.parametrize('url', ['file:///etc/passwd', 'ftp://host/set.zip', 'set.zip', 'http://', ''])
def test_addresses_other_than_http_are_refused(url, tmp_path):
    with pytest.raises(InputError, match='must start with http'):
        fetch_file(RemoteFile(url), tmp_path / 'set.zip')


def test_two_downloads_of_one_file_do_not_mix(server, tmp_path):
    with (tmp_path / 'set.zip.part').open('ab') as held:
        held.write(b'bytes of the other process')
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match='another process'):
            fetch_file(RemoteFile(server.address('/set.zip')), tmp_path / 'set.zip')
    assert (tmp_path / 'set.zip.part').read_bytes() == b'bytes of the other process'


def test_errors_of_the_disk_are_not_taken_for_those_of_the_line(server, tmp_path):
    (tmp_path / 'file').write_text('not a folder')
    with pytest.raises(OSError, match='file'):
        fetch_file(RemoteFile(server.address('/set.zip')), tmp_path / 'file' / 'set.zip', AT_ONCE)
