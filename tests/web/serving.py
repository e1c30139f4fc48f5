"""Tools for tests of the server: a tiny network, test images, and a gate that holds the network."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image

from tests.inference.making import make_network

if TYPE_CHECKING:
    from dasr_arch.web.jobs import JobQueue
    from dasr_arch.web.model_store import ModelStore
    from dasr_arch.web.settings import ServeSettings


class Running(NamedTuple):
    """A running server: address of its page, its networks and its jobs."""

    address: str
    models: 'ModelStore'
    queue: 'JobQueue'


@contextmanager
def serving(settings: 'ServeSettings') -> Iterator[Running]:
    """Serves from a thread within a ``with`` block; raises InputError as ``serve``."""
    from dasr_arch.web.jobs import JobQueue  # the extra serve may be missing
    from dasr_arch.web.model_store import ModelStore
    from dasr_arch.web.server import Server, format_address, listen

    with listen(settings.host, settings.port) as listener:
        models = ModelStore(settings)
        queue = JobQueue(settings.limits)
        ready = threading.Event()
        server = Server(settings, models, queue, ready.set)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), name='dasr-serve')
        thread.start()
        try:
            ready.wait()
            yield Running(format_address(settings, listener), models, queue)
        finally:
            server.should_exit = True
            thread.join()
            queue.close()


def write_weights(folder: Path, scale: int = 2) -> Path:
    """Writes the weights of a tiny network to net.pth."""
    path = folder / 'net.pth'
    torch.save({'params': make_network(scale).state_dict()}, path)
    return path


@contextmanager
def no_installed_weights(folder: Path) -> Iterator[None]:
    """Hides the installed weights behind an empty manifest."""
    (folder / 'manifest.json').write_text(json.dumps({'format': 1, 'files': []}))
    before = os.environ.get('DASR_WEIGHTS')
    os.environ['DASR_WEIGHTS'] = str(folder)
    try:
        yield
    finally:
        del os.environ['DASR_WEIGHTS']
        if before is not None:
            os.environ['DASR_WEIGHTS'] = before


def make_image(width: int = 40, height: int = 32, mode: str = 'RGB', seed: int = 0) -> Image.Image:
    """An image with smooth and rough parts."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encode(image: Image.Image, kind: str = 'PNG', **options: object) -> bytes:
    """An image as the bytes of a file."""
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


class Gate:
    """Holds the threads that run a network until it is opened."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._handle = network.register_forward_pre_hook(self._hold)

    def _hold(self, *_: object) -> None:
        self.reached.set()
        assert self.opened.wait(60)

    def __enter__(self) -> 'Gate':
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.set()
        self._handle.remove()
