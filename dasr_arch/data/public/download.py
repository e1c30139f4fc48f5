"""Fetching one large file over HTTP: continued where it was cut, checked, and whole or not there."""

import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError

LOGGER = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 20
SMALL_BYTES = 100 << 20
TRANSIENT_CODES = frozenset({408, 425, 429, 500, 502, 503, 504})
UNSATISFIABLE_RANGE = 416
PARTIAL_CONTENT = 206


class SourceUnavailableError(InputError):
    """An address that gives nothing: another one may."""


class _InterruptedTransferError(Exception):
    """A transfer that ended early; the next attempt goes on where it stopped."""


@dataclass(frozen=True)
class RemoteFile:
    """An address and what is known about the file there.

    Attributes:
        url: http or https address.
        checksum: 'md5:...' or 'sha256:...' in lower-case hexadecimal, '' if none is published.
        size: bytes, 0 if not published.
    """

    url: str
    checksum: str = ''
    size: int = 0


@dataclass(frozen=True)
class Patience:
    """How a transfer treats a poor line.

    Attributes:
        attempts: tries in a row that bring no byte before it gives up.
        pause: seconds before the second try, doubled for each further one.
        timeout: seconds without a byte after which a connection counts as cut.
    """

    attempts: int = 5
    pause: float = 1.0
    timeout: float = 60.0


@dataclass(frozen=True)
class _Answer:
    """What a server says before the body: where it starts, how large the whole file is (None: unknown), its version."""

    start: int
    total: int | None
    validator: str


def fetch_file(remote: RemoteFile, target: Path, patience: Patience | None = None, room: float = 1.0) -> Path:
    """Downloads a file unless it is there already.

    What has arrived is kept beside the target as `<name>.part`, with the version that the server named in
    `<name>.part.json`; a later call asks for the rest only. A server that cannot continue, or whose file has changed,
    sends everything again.

    Args:
        remote: what to fetch.
        target: where it goes; parent folders are made.
        patience: how often and how long to try.
        room: free disk needed, as a multiple of the file's size; more than 1 leaves room to unpack it.

    Returns:
        The target, complete and checked.

    Raises:
        SourceUnavailableError: if the address is unknown, refuses, or keeps cutting the transfer.
        InputError: if the address is not HTTP, the disk is too small, the checksum or the size is wrong, or another
            process is downloading the same file.
        OSError: if the file cannot be written.
    """
    if re.match(r'https?://[^/]', remote.url) is None:
        raise InputError(f"address '{remote.url}' must start with http:// or https://")
    if target.is_file():
        _check_content(remote, target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f'{target.name}.part')
    with _open_alone(part) as stream:
        _fetch_all(remote, part, stream, patience or Patience(), room)
        stream.flush()
        os.fsync(stream.fileno())
        _check_content(remote, part)
        part.replace(target)
    _note_path(part).unlink(missing_ok=True)
    return target


def _clear(stream: BinaryIO) -> None:
    """Empties a partial file."""
    stream.seek(0)
    stream.truncate()


def _note_path(part: Path) -> Path:
    return part.with_name(f'{part.name}.json')


@contextmanager
def _open_alone(part: Path) -> Iterator[BinaryIO]:
    """Opens a partial file for appending and keeps other processes from doing the same."""
    with part.open('ab') as stream:
        if sys.platform != 'win32':
            import fcntl  # noqa: PLC0415  (Windows has none)

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f'{part} is being downloaded by another process; wait for it or stop it') from None
        try:
            yield stream
        finally:
            stream.flush()
            if part.is_file() and part.stat().st_size == 0:
                part.unlink()
                _note_path(part).unlink(missing_ok=True)


def _fetch_all(remote: RemoteFile, part: Path, stream: BinaryIO, patience: Patience, room: float) -> None:
    """Fills the partial file, in as many attempts as it takes while each brings something."""
    idle = 0
    received = False
    while True:
        before = stream.seek(0, os.SEEK_END)
        try:
            _fetch_rest(remote, part, stream, patience, room)
            return
        except (_InterruptedTransferError, http.client.HTTPException, OSError) as error:
            if isinstance(error, OSError) and not _is_network_error(error):
                raise
            grown = stream.seek(0, os.SEEK_END) > before
            received = received or grown
            idle = 0 if grown else idle + 1
            reason = _describe_network_error(error)
            if idle >= patience.attempts or (not received and _is_hopeless(error)):
                kept = f'; {before} bytes are kept, run it again to go on' if before else ''
                raise SourceUnavailableError(f'{remote.url}: {reason}{kept}') from None
            LOGGER.info('%s: %s; trying again', remote.url, reason)
            time.sleep(patience.pause * 2**idle if idle else 0)


def _fetch_rest(remote: RemoteFile, part: Path, stream: BinaryIO, patience: Patience, room: float) -> None:
    """One request for what is missing; returns when the file is complete."""
    offset = stream.seek(0, os.SEEK_END)
    validator = _read_validator(part, remote.url)
    if offset and validator is None:  # nothing tells which version of which file these bytes belong to
        _clear(stream)
        offset = 0
    try:
        response = _send_request(remote.url, offset, validator or '', patience.timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == UNSATISFIABLE_RANGE and offset:
                if _read_total(error.headers.get('Content-Range', '')) == offset:
                    return
                _clear(stream)
                raise _InterruptedTransferError('the file is shorter than what was kept of it') from None
            if error.code in TRANSIENT_CODES:
                raise _InterruptedTransferError(f'answered {error.code} {error.reason}') from None
            raise SourceUnavailableError(f'{remote.url}: answered {error.code} {error.reason}') from None
    with response:
        answer = _read_answer(response.status, response.headers)
        if answer.start not in (0, offset):
            _clear(stream)
            raise _InterruptedTransferError(f'sent bytes from {answer.start} on instead of {offset}')
        if answer.start < offset:
            LOGGER.info('%s: the server cannot continue or the file has changed; starting again', remote.url)
            _clear(stream)
        _check_size(remote, answer.total)
        _check_room(part, answer, room)
        _note_path(part).write_text(json.dumps({'url': remote.url, 'validator': answer.validator}), encoding='utf-8')
        _copy_body(response, stream, answer, Path(remote.url.partition('?')[0]).name)


def _send_request(url: str, offset: int, validator: str, timeout: float) -> http.client.HTTPResponse:
    headers = {'User-Agent': 'dasr-representation-learning', 'Accept-Encoding': 'identity'}
    if offset:
        headers['Range'] = f'bytes={offset}-'
        if validator:
            headers['If-Range'] = validator
    request = urllib.request.Request(url, headers=headers)
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    return response


def _read_validator(part: Path, url: str) -> str | None:
    """What the server called the version of a kept file; '' if it named none, None if it came from elsewhere."""
    try:
        note = json.loads(_note_path(part).read_text(encoding='utf-8'))
        return str(note['validator']) if note['url'] == url else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _read_answer(status: int, headers: http.client.HTTPMessage) -> _Answer:
    etag = headers.get('ETag', '')
    # A weak tag promises the same meaning, not the same bytes, and may not be used to continue.
    validator = etag if etag and not etag.startswith('W/') else headers.get('Last-Modified', '')
    if status == PARTIAL_CONTENT:
        described = headers.get('Content-Range', '')
        found = re.match(r'bytes (\d+)-', described)
        return _Answer(int(found.group(1)) if found else -1, _read_total(described), validator)
    length = headers.get('Content-Length', '')
    return _Answer(0, int(length) if length.isdigit() else None, validator)


def _read_total(content_range: str) -> int | None:
    found = re.search(r'/(\d+)$', content_range)
    return int(found.group(1)) if found else None


def _copy_body(response: http.client.HTTPResponse, stream: BinaryIO, answer: _Answer, name: str) -> None:
    """Appends the body to the file; raises if it ends before the length that the server announced."""
    position = answer.start
    with progress_bar(total=answer.total, initial=position, unit='B', unit_scale=True, desc=name, leave=False) as bar:
        # read1 hands over what has arrived, so that a cut or a Ctrl-C loses nothing; read would wait for a full chunk.
        while position != answer.total and (chunk := response.read1(CHUNK_BYTES)):
            stream.write(chunk)
            position += len(chunk)
            bar.update(len(chunk))
    stream.flush()
    if answer.total is not None and position != answer.total:
        raise _InterruptedTransferError(f'connection closed after {position} of {answer.total} bytes')


def _is_network_error(error: OSError) -> bool:
    """Whether an OSError comes from the line; those of the disk carry on to the caller."""
    return isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError | socket.gaierror | ssl.SSLError)


def _is_hopeless(error: Exception) -> bool:
    """Whether trying again at once is pointless: unknown host, refused connection, wrong certificate."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(cause, socket.gaierror | ConnectionRefusedError | ssl.SSLCertVerificationError)


def _describe_network_error(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror):
        return 'host not found; is there a network?'
    if isinstance(cause, TimeoutError):
        return 'no answer in time'
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return ' '.join(str(cause).split()) or type(cause).__name__


def _check_size(remote: RemoteFile, total: int | None) -> None:
    if remote.size and total is not None and total != remote.size:
        raise SourceUnavailableError(f'{remote.url}: holds {total} bytes, expected {remote.size}; it is another file')


def _check_room(part: Path, answer: _Answer, room: float) -> None:
    """Raises if the disk cannot hold the rest of the file and what will be made of it."""
    if answer.total is None:
        return
    needed = int(answer.total * room) - answer.start
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise InputError(
            f'{part.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed; '
            'free some or choose another folder'
        )


def _check_content(remote: RemoteFile, path: Path) -> None:
    """Compares size and checksum with the published ones; removes a file that differs."""
    size = path.stat().st_size
    if remote.size and size != remote.size:
        path.unlink()
        raise InputError(f'{remote.url}: got {size} bytes, expected {remote.size}; removed, download it again')
    if not remote.checksum:
        return
    algorithm, _, expected = remote.checksum.partition(':')
    found = _digest(path, algorithm)
    if found != expected:
        path.unlink()
        raise InputError(
            f'{remote.url}: {algorithm} checksum is {found}, expected {expected}; '
            'removed, download it again or give another address with --url'
        )


def _digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file, with a progress bar if it is large."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    size = path.stat().st_size
    with (
        path.open('rb') as stream,
        progress_bar(
            total=size, unit='B', unit_scale=True, desc='checksum', leave=False, disable=size < SMALL_BYTES
        ) as bar,
    ):
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
