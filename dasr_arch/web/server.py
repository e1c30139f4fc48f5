"""HTTP server of `dasr serve`: binding, running and stopping."""

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from urllib.parse import quote

import uvicorn

from dasr_arch._errors import InputError
from dasr_arch.web.api import make_app
from dasr_arch.web.jobs import JobQueue
from dasr_arch.web.model_store import ModelStore
from dasr_arch.web.security import describe_exposure
from dasr_arch.web.settings import ServeSettings

_BACKLOG = 128
_HEADER_BYTES = 32 * 1024
_GRACE = 5  # seconds for unfinished responses when the server stops


def serve(settings: ServeSettings, report: Callable[[str], object]) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP; a second signal does not wait for unfinished responses.

    ``report`` is called with lines for the terminal. Raises InputError if the address cannot be bound, or there are no
    weights.
    """
    with listen(settings.host, settings.port) as listener:
        models = ModelStore(settings)
        queue = JobQueue(settings.limits)

        def announce() -> None:
            names = ', '.join(f'{entry.name} (x{entry.scale})' for entry in models.entries)
            report(f'models: {names}; on {models.device}')
            warning = describe_exposure(settings)
            if warning is not None:
                report(warning)
            report(f'open {format_address(settings, listener)} (Ctrl-C stops)')

        try:
            asyncio.run(Server(settings, models, queue, announce).serve([listener]))
        finally:
            queue.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises InputError if the address is not local, or the port is in use or not allowed."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(f"--host: '{host}' is not an address of this machine") from error
    family, address = found[0][0], found[0][4]
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # '::' takes IPv4, too
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f'port {port} is in use; choose another with --port, or 0 for any that is free',
            errno.EACCES: f'port {port} is not allowed for this user; choose one above 1023 with --port',
        }
        other = f"--host: '{host}' cannot be bound ({os.strerror(error.errno or 0)})"
        raise InputError(reasons.get(error.errno or 0, other)) from error


def format_address(settings: ServeSettings, listener: socket.socket) -> str:
    """The address of the page, with the token if there is one."""
    port = listener.getsockname()[1]
    host = settings.host
    if host in ('0.0.0.0', '::', ''):
        host = socket.gethostname()
    host = f'[{host}]' if ':' in host else host
    token = f'?token={quote(settings.token, safe="")}' if settings.token else ''
    return f'http://{host}:{port}/{token}'


class Server(uvicorn.Server):
    """Cancels all jobs at the first signal, so that waiting requests are answered, and returns."""

    def __init__(
        self, settings: ServeSettings, models: ModelStore, queue: JobQueue, ready: Callable[[], object]
    ) -> None:
        config = uvicorn.Config(
            make_app(settings, models, queue),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE,
            lifespan='on',
            ws='none',
            h11_max_incomplete_event_size=_HEADER_BYTES,
        )
        logging.getLogger('uvicorn.error').setLevel(logging.ERROR)
        super().__init__(config)
        self._queue = queue
        self._ready = ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Records a signal, without taking a lock: the interrupted thread may hold it."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and calls ``ready``; a lost terminal (SIGHUP) stops the server as Ctrl-C does."""
        await super().startup(sockets)
        hang_up = getattr(signal, 'SIGHUP', None)
        main = threading.current_thread() is threading.main_thread()
        if hang_up is not None and main and signal.getsignal(hang_up) != signal.SIG_IGN:
            signal.signal(hang_up, self.handle_exit)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cancels all jobs, so that waiting requests are answered, then stops."""
        self._queue.cancel_all()
        await super().shutdown(sockets)
