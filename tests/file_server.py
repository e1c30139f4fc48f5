"""A web server on this machine that misbehaves on request, for the tests of downloads."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


class FileServer(ThreadingHTTPServer):
    """Serves bytes from memory.

    Attributes:
        files: content by path.
        cuts: for each coming request, after how many bytes of the body the connection is closed.
        failures: for each coming request, a status code to answer with instead.
        ranges: whether parts can be asked for.
        etag: version of all files, not sent if empty.
        claimed_length: length to announce in place of the true one; -1 announces none.
        claimed_range: Content-Range of a part in place of the true one.
        release: if set, a cut connection stays open and silent until this event.
        reached: set when a connection has fallen silent.
        seen: the Range header of each request, '' for none.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.failures: list[int] = []
        self.ranges = True
        self.etag = '"one"'
        self.claimed_length: int | None = None
        self.claimed_range = ''
        self.release: Event | None = None
        self.reached = Event()
        self.seen: list[str] = []

    def address(self, path):
        return f'http://127.0.0.1:{self.server_port}{path}'


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self):
        server = self.server
        asked = self.headers.get('Range', '')
        server.seen.append(asked)
        if server.failures:
            self.send_error(server.failures.pop(0))
            return
        if self.path == '/moved':
            self.send_response(302)
            self.send_header('Location', '/set.zip')
            self.end_headers()
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        self._send_file(server.files[self.path], asked)

    def _send_file(self, content, asked):
        server = self.server
        start = int(re.fullmatch(r'bytes=(\d+)-', asked).group(1)) if asked and server.ranges else 0
        if self.headers.get('If-Range', server.etag) != server.etag:
            start = 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(content)}')
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                'Content-Range', server.claimed_range or f'bytes {start}-{len(content) - 1}/{len(content)}'
            )
        if server.etag:
            self.send_header('ETag', server.etag)
        if server.claimed_length != -1:
            self.send_header('Content-Length', str(server.claimed_length or len(content) - start))
        self.end_headers()
        body = content[start:]
        if not server.cuts:
            self.wfile.write(body)
            return
        self.wfile.write(body[: server.cuts.pop(0)])
        if server.release is not None:
            self.wfile.flush()
            server.reached.set()
            server.release.wait(timeout=60)

    def log_message(self, *_):
        pass


@contextmanager
def serving() -> Iterator[FileServer]:
    """A running server on a free port of this machine."""
    with FileServer() as server:
        thread = Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(timeout=10)
