"""Backends: the interface of a way to compute a network, and the choice between them.

A network is written once, in ``archs/``, with PyTorch's modules. A backend computes the same values, up to rounding, in
less time on some hardware. It runs the methods of the network on values of its own kind (``__torch_function__``), so
it knows convolutions and activations, but no network. CONTRIBUTING.md says how to add one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from dasr_arch.backends.cache import DerivedWeights

Implementation = Literal['auto', 'reference', 'fast', 'ncnn', 'openvino']

BACKENDS = {
    'openvino': 'dasr_arch.backends.openvino_net',
    'ncnn': 'dasr_arch.backends.ncnn_net',
    'onednn': 'dasr_arch.backends.onednn',
    'channels_last': 'dasr_arch.backends.channels_last',
}
"""Name and module of every backend but the reference. Each module has a class ``BACKEND``."""

ALLOWED: dict[str, tuple[str, ...]] = {
    'auto': ('openvino', 'ncnn', 'onednn', 'channels_last', 'reference'),
    'reference': ('reference',),
    'fast': ('onednn', 'channels_last', 'reference'),
    'ncnn': ('ncnn', 'onednn', 'channels_last', 'reference'),
    'openvino': ('openvino', 'onednn', 'channels_last', 'reference'),
}
"""Backends that each value of ``implementation`` chooses from: the first that does not refuse."""


class Backend:
    """The reference: runs the modules as they are written, in contiguous memory, as the authors' code does.

    Every other backend is a subclass that overrides :meth:`refuse` and the parts that it computes faster. It calls the
    modules of the network in their order, so hooks on them report the progress, and an exception in a hook ends it; one
    that computes an image in a single call runs all hooks before it.
    """

    name = 'reference'
    summary = "the authors' formulation"
    memory_format = torch.contiguous_format

    def refuse(self, network: 'AcceleratedNetwork', x: Tensor) -> str | None:
        """The reason why this backend cannot or should not compute an input (B, 3, h, w); None if it should.

        The network's mode, autocast and the recording of gradients are as in the computation.
        """
        del network, x
        return None

    def require(self) -> None:
        """Raises InputError if a package is missing that the backend needs."""

    def encode(self, network: 'AcceleratedNetwork', x: Tensor) -> Tensor:
        """Representations (B, D) of images (B, 3, h, w), as ``network.encoder(x)``."""
        out: Tensor = network.encoder(x)
        return out

    def extract_features(self, network: 'AcceleratedNetwork', x: Tensor, embedding: Tensor) -> Tensor:
        """Features (B, C, h, w) of images (B, 3, h, w), as ``network.extract_features(x, embedding)``."""
        return network.extract_features(x, embedding)

    def upsample(self, network: 'AcceleratedNetwork', features: Tensor) -> Tensor:
        """Images (B, 3, h * scale, w * scale) of features, as ``network.upsample(features)``."""
        return network.upsample(features)


class Choice(NamedTuple):
    """A backend, and the faster ones that were refused before it, each with the reason."""

    backend: Backend
    refused: tuple[tuple[str, str], ...] = ()

    def explain(self) -> str:
        """The choice in one line, for logs and ``dasr doctor``."""
        refused = ''.join(f'; not {name}: {reason}' for name, reason in self.refused)
        return f'{self.backend.name} ({self.backend.summary}{refused})'


class AcceleratedNetwork(nn.Module, ABC):
    """A network that hands its parts over to a backend.

    Subclasses have the modules ``encoder``, ``upsampler`` (convolutions and pixel shuffles) and ``last_conv``, and the
    two methods below, which define the values that all backends compute.
    """

    scale: int
    encoder: nn.Module
    upsampler: nn.Sequential
    last_conv: nn.Conv2d

    def __init__(self) -> None:
        super().__init__()
        self.implementation: Implementation = 'auto'
        self.derived_weights = DerivedWeights()

    @abstractmethod
    def extract_features(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features (B, C, h, w) of images (B, 3, h, w)."""

    @abstractmethod
    def upsample(self, features: Tensor) -> Tensor:
        """Images (B, 3, h * scale, w * scale) of features."""

    def choose_backend(self, x: Tensor) -> Choice:
        """The backend for an input (B, 3, h, w) in the present mode, of those that ``implementation`` allows."""
        names = ALLOWED[self.implementation]
        if torch.compiler.is_compiling():  # the compiler fuses by itself; the memory order is all it needs
            return Choice(_LOADED['channels_last' if 'channels_last' in names else 'reference'])
        refused: list[tuple[str, str]] = []
        for name in names:
            backend = load_backend(name)
            reason = backend.refuse(self, x)
            if reason is None:
                return Choice(backend, tuple(refused))
            refused.append((name, reason))
        raise AssertionError('the reference computes everything')

    def prepare(self, x: Tensor) -> tuple[Backend, Tensor]:
        """The backend for an input of shape (B, 3, h, w), and the input in the backend's order of memory."""
        backend = self.choose_backend(x).backend
        return backend, x.contiguous(memory_format=backend.memory_format)

    def set_implementation(self, implementation: Implementation) -> None:
        """Chooses how the network is computed; weights and results, up to rounding, stay the same.

        'auto' takes the fastest backend that is installed; 'reference' the authors' formulation; 'fast' the fastest
        that needs no optional package; 'ncnn' requires the package ncnn, and uses it for inference in float32;
        'openvino' uses OpenVINO for all inference on a CPU. ValueError if there is no such choice, or its package is
        not installed.
        """
        if implementation not in ALLOWED:
            raise ValueError(f'implementation must be one of {", ".join(ALLOWED)} for DASR, got {implementation!r}')
        for name in ALLOWED[implementation]:
            backend = load_backend(name)
            if name == implementation:
                backend.require()
        self.implementation = implementation

    def resolve_implementation(self, device: torch.device) -> Literal['reference', 'fast']:
        """The memory order that training on a device uses: 'fast' is channels_last."""
        if self.implementation == 'auto':
            return 'fast' if device.type == 'cpu' or torch.compiler.is_compiling() else 'reference'
        return 'reference' if self.implementation == 'reference' else 'fast'

    def train(self, mode: bool = True) -> Self:
        """As in ``nn.Module``; training frees what was derived from the weights."""
        if mode:
            self.derived_weights.drop()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.derived_weights.drop()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.derived_weights.drop()
        super()._load_from_state_dict(*args, **kwargs)


def explain_choice(network: AcceleratedNetwork, device: torch.device, side: int = 64) -> str:
    """The backend for square images of ``side`` LR pixels in the network's present mode, with the reason; for logs."""
    return network.choose_backend(torch.zeros(1, 3, side, side, device=device)).explain()


def load_backend(name: str) -> Backend:
    """The backend of a name, which is imported at the first call."""
    if name not in _LOADED:
        _LOADED[name] = import_module(BACKENDS[name]).BACKEND()
    return _LOADED[name]


_LOADED: dict[str, Backend] = {'reference': Backend()}


def is_exported() -> bool:
    """True while the network is being traced, exported or compiled."""
    return bool(torch._C._get_tracing_state()) or torch.compiler.is_compiling()
