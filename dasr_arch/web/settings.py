"""Settings of `dasr serve`: address, token, networks and limits."""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from dasr_arch._errors import InputError
from dasr_arch.backends.precision import Precision

_ROOT_PATH = re.compile(r'(/[\w.~-]+)+')
_HOST_NAME = re.compile(r'[\w-]+(\.[\w-]+)*|([0-9a-f]*:){2,}[0-9a-f.]*', re.ASCII | re.IGNORECASE)  # or IPv6

LEAST_TOKEN = 12
"""Minimum length of a token."""


@dataclass(frozen=True)
class Limits:
    """Limits of requests, jobs and results. Raises InputError if a number is not positive (the queue may be 0)."""

    upload_megabytes: float = 64.0  # largest body of a request, 10^6 bytes
    megapixels: float = 16.0  # largest image in 10^6 LR pixels, all frames together
    jobs: int = 1  # number of jobs that run at the same time
    queue: int = 8  # number of jobs that may wait
    keep_minutes: float = 15.0  # lifetime of a result
    kept_megabytes: float = 2000.0  # files on the disk, 10^6 bytes; beyond that the oldest results are deleted
    body_seconds: float = 30.0  # longest pause within the body of a request

    def __post_init__(self) -> None:
        positive = ('upload_megabytes', 'megapixels', 'jobs', 'keep_minutes', 'kept_megabytes', 'body_seconds')
        for name in positive:
            if not 0 < getattr(self, name) < float('inf'):
                raise InputError(f'{name.replace("_", " ")} must be a positive number, got {getattr(self, name)}')
        if self.queue < 0:
            raise InputError(f'queue must be 0 or more jobs, got {self.queue}')

    @property
    def upload_bytes(self) -> int:
        """Largest body in bytes."""
        return int(self.upload_megabytes * 1e6)

    @property
    def pixels(self) -> int:
        """Largest image in LR pixels."""
        return int(self.megapixels * 1e6)


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a server. Raises InputError if a port, token, host name or path cannot be used."""

    host: str = '127.0.0.1'
    port: int = 7860  # 0 picks a free one
    token: str | None = None  # secret of the clients; None allows all
    weights: tuple[Path, ...] = ()  # files served besides the installed weights, named by their stems
    allowed_hosts: tuple[str, ...] = ()  # further host names, such as that of a reverse proxy
    root_path: str = ''  # path below which a reverse proxy shows the server: /tool
    forwarded: bool = False  # trust X-Forwarded-Host and X-Forwarded-Proto, which a reverse proxy must set
    device: str = 'auto'  # as for dasr_arch.Upscaler, like the precision
    precision: Precision = 'auto'
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.root_path and not _ROOT_PATH.fullmatch(self.root_path):
            raise InputError(f"--root-path must be a path such as /tool, without / at its end, got '{self.root_path}'")
        for name in self.allowed_hosts:
            if not _HOST_NAME.fullmatch(name):
                expected = 'a host name such as sr.example.org, without scheme, port or path'
                raise InputError(f"--allow-host must be {expected}, got '{name}'")
        if not 0 <= self.port <= 65535:
            raise InputError(f'port must be a whole number in [0, 65535], got {self.port}')
        if self.token is not None and len(self.token) < LEAST_TOKEN:
            raise InputError(f'a token needs at least {LEAST_TOKEN} characters; --token without a value generates one')
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise InputError('a token may hold only printable ASCII characters')

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the server."""
        if self.host == 'localhost':
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
