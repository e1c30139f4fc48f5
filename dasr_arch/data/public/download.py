"""Download of one large file over HTTP with requests.

Neither `torchvision.datasets.utils` nor pooch continues a transfer that was cut, here or in a later call, and neither
checks the free space first; torchvision also leaves half a file under the final name and knows MD5 only. Files here
have up to 20 GB, so these parts are written out below.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
from urllib3.exceptions import HTTPError, ProtocolError

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch._files import synchronise

LOGGER = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 20
TRANSIENT_CODES = frozenset({408, 425, 429, 500, 502, 503, 504})
HOPELESS = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
UNSATISFIABLE_RANGE = 416
PARTIAL_CONTENT = 206


class SourceUnavailableError(InputError):
    """An address does not provide the file; another address may."""


@dataclass(frozen=True)
class RemoteFile:
    """Address of a file and its published properties."""

    url: str  # http or https
    checksum: str = ''  # 'md5:...' or 'sha256:...' in lower-case hexadecimal, '' if none is published
    size: int = 0  # bytes, 0 if not published


@dataclass(frozen=True)
class RetryPolicy:
    """Retries of a transfer."""

    attempts: int = 5  # consecutive tries without a new byte before giving up
    pause: float = 1.0  # seconds before the second try, doubled for each further one
    timeout: float = 60.0  # seconds without a byte after which a connection counts as cut


def fetch_file(remote: RemoteFile, target: Path, policy: RetryPolicy | None = None, room: float = 1.0) -> Path:
    """Downloads a file to ``target``, verified, unless it is present.

    An incomplete file is kept as `<name>.part`, and its address and version (ETag or date) in `<name>.part.json`. A
    later call requests only the rest. The download starts again if the server cannot continue or the file has changed.
    ``room`` is the required free space as a multiple of the file's size, for example 2 if it is unpacked afterwards.

    SourceUnavailableError if the host is unknown, the server refuses, or the transfer fails repeatedly. InputError if
    the address is not HTTP, the disk is too small, the checksum or the size is wrong, or another process downloads the
    same file. OSError if the file cannot be written.
    """
    if re.match(r'https?://[^/]', remote.url) is None:
        raise InputError(f"address '{remote.url}' must start with http:// or https://")
    if target.is_file():
        _verify(remote, target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f'{target.name}.part')
    with _lock(path) as stream:
        part = _PartialFile(path, stream, remote.url)
        _transfer(remote, part, policy or RetryPolicy(), room)
        synchronise(stream.fileno())
        _verify(remote, path)
        path.replace(target)
    part.origin_path.unlink(missing_ok=True)
    return target


def check_free_space(folder: Path, needed: int) -> None:
    """Checks that the disk of a folder can take a number of bytes; InputError if not."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f'{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed; '
            'free some or choose another folder'
        )


@contextmanager
def _lock(path: Path) -> Iterator[BinaryIO]:
    """Opens a partial file for appending, for one process at a time; removes it if it stays empty."""
    with path.open('ab') as stream:
        if sys.platform != 'win32':
            import fcntl  # noqa: PLC0415  (Windows has none)

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f'{path} is being downloaded by another process; wait for it or stop it') from None
        try:
            yield stream
        finally:
            stream.flush()
            if path.is_file() and path.stat().st_size == 0:
                path.unlink()
                path.with_name(f'{path.name}.json').unlink(missing_ok=True)


class _PartialFile:
    """Incomplete file, open for appending, with a JSON file for its address and version."""

    def __init__(self, path: Path, stream: BinaryIO, url: str) -> None:
        self.path = path
        self.stream = stream
        self.url = url
        self.origin_path = path.with_name(f'{path.name}.json')

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.stream.seek(0, os.SEEK_END)

    def clear(self) -> None:
        """Drops the bytes that have arrived."""
        self.stream.seek(0)
        self.stream.truncate()

    def read_version(self) -> str:
        """Version of the file, '' if the server named none; bytes of unknown origin are dropped."""
        try:
            origin = json.loads(self.origin_path.read_text(encoding='utf-8'))
            if origin['url'] == self.url:
                return str(origin['validator'])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        self.clear()
        return ''

    def write_version(self, version: str) -> None:
        """Records address and version."""
        self.origin_path.write_text(json.dumps({'url': self.url, 'validator': version}), encoding='utf-8')


def _transfer(remote: RemoteFile, part: _PartialFile, policy: RetryPolicy, room: float) -> None:
    """Completes the partial file; tries again as long as the tries bring new bytes."""
    idle = 0
    received = False
    while True:
        before = part.size
        try:
            _request_rest(remote, part, policy.timeout, room)
            return
        except (requests.RequestException, HTTPError) as error:
            grown = part.size > before
            received = received or grown
            idle = 0 if grown else idle + 1
            cause = _find_cause(error)
            reason = _describe(cause)
            if idle >= policy.attempts or (not received and isinstance(cause, HOPELESS)):
                kept = f'; {before} bytes are kept, run it again to go on' if before else ''
                raise SourceUnavailableError(f'{remote.url}: {reason}{kept}') from None
        LOGGER.info('%s: %s; trying again', remote.url, reason)
        time.sleep(policy.pause * 2**idle if idle else 0)


def _request_rest(remote: RemoteFile, part: _PartialFile, timeout: float, room: float) -> None:
    """Sends one request for the missing bytes; returns when the file is complete."""
    version = part.read_version()
    offset = part.size
    headers = {'User-Agent': 'dasr-representation-learning', 'Accept-Encoding': 'identity'}
    if offset:
        headers['Range'] = f'bytes={offset}-'
        if version:
            headers['If-Range'] = version
    with requests.get(remote.url, headers=headers, stream=True, timeout=timeout) as response:
        start, total = _read_extent(response)
        if response.status_code == UNSATISFIABLE_RANGE and offset:
            if total == offset:
                return
            part.clear()
            raise requests.ConnectionError('the file is shorter than what was kept of it')
        _check_status(remote, response)
        if start not in (0, offset):
            part.clear()
            raise requests.ConnectionError(f'sent bytes from {start} on instead of {offset}')
        if start < offset:
            LOGGER.info('%s: the server cannot continue or the file has changed; starting again', remote.url)
            part.clear()
        if total is not None:
            if remote.size and total != remote.size:
                raise SourceUnavailableError(
                    f'{remote.url}: holds {total} bytes, expected {remote.size}; it is another file'
                )
            check_free_space(part.path.parent, int(total * room) - start)
        etag = response.headers.get('ETag', 'W/')
        # A weak ETag does not promise the same bytes and may not be used to continue.
        part.write_version(response.headers.get('Last-Modified', '') if etag.startswith('W/') else etag)
        _copy_body(response, part.stream, start, total)


def _check_status(remote: RemoteFile, response: requests.Response) -> None:
    """Raises if the server refuses; only an error that may pass is tried again."""
    if response.ok:
        return
    reason = f'answered {response.status_code} {response.reason}'
    if response.status_code in TRANSIENT_CODES:
        raise requests.HTTPError(reason)
    raise SourceUnavailableError(f'{remote.url}: {reason}')


def _read_extent(response: requests.Response) -> tuple[int, int | None]:
    """First byte of the body, and size of the whole file (None if unknown)."""
    if response.status_code in (PARTIAL_CONTENT, UNSATISFIABLE_RANGE):
        found = re.match(r'bytes (?:(\d+)-\d+|\*)/(\d+)?', response.headers.get('Content-Range', ''))
        if found is None:
            return -1, None
        return int(found[1] or 0), int(found[2]) if found[2] else None
    length = response.headers.get('Content-Length', '')
    return 0, int(length) if length.isdigit() else None


def _copy_body(response: requests.Response, stream: BinaryIO, start: int, total: int | None) -> None:
    """Appends the body to the partial file."""
    name = Path(response.url.partition('?')[0]).name
    position = start
    with progress_bar(total=total, initial=start, unit='B', unit_scale=True, desc=name, leave=False) as bar:
        try:
            # read1 returns the bytes that have arrived, so that a cut or Ctrl-C loses none; iter_content drops a chunk.
            while position != total and (chunk := response.raw.read1(CHUNK_BYTES)):
                stream.write(chunk)
                position += len(chunk)
                bar.update(len(chunk))
        except ProtocolError:
            size = 'an unknown number of' if total is None else total
            raise requests.ConnectionError(f'connection closed after {position} of {size} bytes') from None
        finally:
            stream.flush()


def _find_cause(error: BaseException) -> BaseException:
    """The first of a chain of exceptions."""
    while (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        error = cause
    return error


def _describe(cause: BaseException) -> str:
    if isinstance(cause, socket.gaierror):
        return 'host not found; is there a network?'
    if isinstance(cause, TimeoutError):
        return 'no answer in time'
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return ' '.join(str(cause).split()) or type(cause).__name__


def _verify(remote: RemoteFile, path: Path) -> None:
    """Compares size and checksum with the published ones; removes a file that differs."""
    size = path.stat().st_size
    if remote.size and size != remote.size:
        path.unlink()
        raise InputError(f'{remote.url}: got {size} bytes, expected {remote.size}; removed, download it again')
    if not remote.checksum:
        return
    algorithm, _, expected = remote.checksum.partition(':')
    with path.open('rb') as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if found != expected:
        path.unlink()
        raise InputError(
            f'{remote.url}: {algorithm} checksum is {found}, expected {expected}; '
            'removed, download it again or give another address with --url'
        )
