"""Blobs: placeholders that the modules of a network run on, so that another library computes the network.

A graph gets the operations on its blobs: ``convolve``, ``normalise``, ``activate``, ``filter`` and ``modulate`` have
the arguments of PyTorch's functions, ``add`` and ``average`` those of a sum and a mean, and all return blobs. One kind
of graph records a network for the library, another passes to it what PyTorch predicts for an image.
"""

import copy
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch.backends.channels_last import ChannelsLast, depthwise_conv_leaky
from dasr_arch.backends.choose import AcceleratedNetwork
from dasr_arch.backends.onednn import compute_dtype


class UnsupportedError(AttributeError):
    """An operation that this module does not translate."""


class Blob:
    """Features of a graph, for the modules of a network; ``value`` is what the graph knows them by."""

    dtype = torch.float32

    def __init__(self, graph: Any, value: Any) -> None:
        self.graph = graph
        self.value = value

    def __getattr__(self, name: str) -> Any:
        """All other attributes of a tensor."""
        raise UnsupportedError(f'{name} is not translated')

    def dim(self) -> int:
        """Number of dimensions, with that of the batch."""
        return 4

    def to(self, dtype: torch.dtype) -> 'Blob':
        """The same value: the library chooses the number format."""
        del dtype
        return self

    def mean(self, dim: tuple[int, int]) -> 'Blob':
        """The mean of each channel."""
        del dim  # height and width
        out: Blob = self.graph.average(self)
        return out

    def __add__(self, other: 'Blob') -> 'Blob':
        """A residual connection."""
        out: Blob = self.graph.add(self, other)
        return out

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Translates an operation of PyTorch."""
        del types
        if func not in _OPERATIONS:
            raise UnsupportedError(f'{getattr(func, "__name__", func)} is not translated')
        operation = getattr(args[0].graph, _OPERATIONS[func])
        return operation(*args, **(kwargs or {}))


_OPERATIONS = {
    torch.conv2d: 'convolve',
    functional.batch_norm: 'normalise',
    functional.leaky_relu: 'activate',
    torch.addcmul: 'modulate',
    depthwise_conv_leaky: 'filter',
}


Part = Callable[[AcceleratedNetwork, Blob], Blob]
"""A part of a network for one image, run on blobs."""


class BlobBackend(ChannelsLast):
    """Base class of backends in which another library computes encoder and features, for inference on CPUs."""

    @abstractmethod
    def build(self, network: AcceleratedNetwork, part: Part, constants: list[Tensor], threads: int) -> Any:
        """The library's network of a part, of whose tensors only ``constants`` stay the same for all images.

        Autocast is that of the inference. Raises UnsupportedError if an operation is not translated.
        """

    @abstractmethod
    def run(self, built: Any, network: AcceleratedNetwork, parts: list[Part], x: Tensor) -> Tensor:
        """The results of a built network for images (B, 3, h, w), each with its own part."""

    def encode(self, network: AcceleratedNetwork, x: Tensor) -> Tensor:
        """As in the base class."""

        def encode(network: AcceleratedNetwork, image: Blob) -> Blob:
            return cast(Blob, network.encoder(image))

        out = self._compute('encoder', network, [network.encoder], [encode] * len(x), x)
        return super().encode(network, x) if out is None else out

    def extract_features(self, network: AcceleratedNetwork, x: Tensor, embedding: Tensor) -> Tensor:
        """As in the base class."""
        parts = [_extract_with(one) for one in embedding.float().split(1)]
        others = ('encoder', 'upsampler', 'last_conv')
        modules = [module for name, module in network.named_children() if name not in others]
        out = self._compute('features', network, modules, parts, x)
        return super().extract_features(network, x, embedding) if out is None else out

    def _compute(
        self, name: str, network: AcceleratedNetwork, modules: list[nn.Module], parts: list[Part], x: Tensor
    ) -> Tensor | None:
        """The results of a part, whose weights are those of ``modules``; None if an operation is not translated."""
        constants, training = _list_constants(modules)
        threads = torch.get_num_threads()

        def build() -> Any:
            try:
                return self.build(_copy_without_hooks(network), parts[0], constants, threads)
            except UnsupportedError:
                return None

        setting = threads, training, compute_dtype(x)
        built = network.derived_weights.get(f'{self.name} {name}', constants, build, setting)
        return None if built is None else self.run(built, network, parts, x)


def _extract_with(embedding: Tensor) -> Part:
    def extract(network: AcceleratedNetwork, image: Blob) -> Blob:
        with torch.autocast('cpu', enabled=False):  # kernels and factors in float32
            return cast(Blob, network.extract_features(cast(Tensor, image), embedding))

    return extract


def _copy_without_hooks(module: Any) -> Any:
    """A module that shares all weights and has no hooks, since hooks report progress."""
    clone = copy.copy(module)
    clone._forward_hooks, clone._forward_pre_hooks = OrderedDict(), OrderedDict()
    clone._modules = {
        name: None if child is None else _copy_without_hooks(child) for name, child in module._modules.items()
    }
    return clone


def _list_constants(modules: Iterable[nn.Module]) -> tuple[list[Tensor], bool]:
    """All weights and statistics of convolutions and normalisations, and whether a layer is in training mode."""
    layers = [layer for module in modules for layer in module.modules()]
    constants = [
        weight
        for layer in layers
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
        for weight in (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
    ]
    return constants, any(layer.training for layer in layers)
