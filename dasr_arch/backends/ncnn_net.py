"""Networks for ncnn, written layer by layer, and run on the CPU in float32.

ncnn (https://github.com/Tencent/ncnn) convolves 3 x 3 by Winograd's algorithm F(4 x 4, 3 x 3), in a quarter of the
multiplications; oneDNN, and so torch, does not. The package is optional.
"""

from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dasr_arch._errors import InputError
from dasr_arch._extras import import_extra
from dasr_arch.archs.blocks import SLOPE
from dasr_arch.backends.cache import DerivedWeights

ADD, MULTIPLY = 0, 2  # of `Program.combine`

_OLDEST = '1.0.20260114'  # as in setup.py; those of 2025 end the process where they do not know a layer
_MAGIC = '7767517'  # first line of every network in ncnn's text format
_FLOAT32 = bytes(4)  # before an array of weights: that they are float32
_LEAKY = 2  # LeakyReLU inside another layer
_OUT_OF_MEMORY = -100
_AS_IT_IS = 1  # a value in ncnn's own order of channels
_FIT = 0.95  # of a kept block that is taken: with smaller ones inside large ones, half as much memory again is needed


class Program:
    """A network in ncnn's text format, and its weights in the order of the layers.

    A line names a layer's kind, itself, how many values it takes and gives, these values, and settings by their number.
    A value can be taken once; :meth:`split` makes several of it.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.weights: list[bytes] = []
        self._values = 0

    def take(self, name: str) -> str:
        """A value that the network is given."""
        return self.add('Input', [], name=name)[0]

    def add(
        self, kind: str, inputs: Sequence[str], settings: Sequence[str] = (), outputs: int = 1, name: str | None = None
    ) -> list[str]:
        """Adds a layer and returns the names of what it gives; ``name`` is that of a single one."""
        number = len(self.lines)
        given = [name or f'{number}_{index}' for index in range(outputs)]
        self._values += outputs
        counts = str(len(inputs)), str(outputs)
        self.lines.append(' '.join([kind, f'layer_{number}', *counts, *inputs, *given, *settings]))
        return given

    def split(self, value: str, count: int) -> list[str]:
        """A value, to be taken several times."""
        return self.add('Split', [value], outputs=count)

    def convolve(
        self, value: str, weight: Tensor, bias: Tensor | None, *, stride: int = 1, activate: bool = False
    ) -> str:
        """A convolution with zeros around its input, and LeakyReLU; ``weight`` has shape (C, D, k, k)."""
        assert bias is not None
        channels, _, side, _ = weight.shape
        settings = [f'0={channels}', f'1={side}', f'3={stride}', f'4={side // 2}', '5=1', f'6={weight.numel()}']
        self.weights += [_FLOAT32, _to_bytes(weight), _to_bytes(bias)]
        return self.add('Convolution', [value], settings + (_activation() if activate else []))[0]

    def convolve_depthwise(self, value: str, kernel: str, channels: int) -> str:
        """A depth-wise convolution of 3 x 3 with a kernel that is a value, too, and LeakyReLU."""
        settings = [f'0={channels}', '1=3', '4=1', '5=0', '6=0', f'7={channels}', '19=1', *_activation()]
        return self.add('ConvolutionDepthWise', [value, kernel], settings)[0]

    def combine(self, operation: int, first: str, second: str, name: str | None = None) -> str:
        """Two values, one number of the one with one of the other."""
        return self.add('BinaryOp', [first, second], [f'0={operation}'], name=name)[0]

    def activate(self, value: str) -> str:
        """LeakyReLU."""
        return self.add('ReLU', [value], [f'0={SLOPE}'])[0]

    def average(self, value: str, name: str) -> str:
        """The mean of each channel."""
        return self.add('Pooling', [value], ['0=1', '4=1'], name=name)[0]

    def to_text(self) -> str:
        """The network as ncnn reads it, without the weights."""
        return '\n'.join([_MAGIC, f'{len(self.lines)} {self._values}', *self.lines, ''])


class Built:
    """A network of ncnn that is made anew when the weights or the number of torch's threads have changed.

    Args:
        cache: keeps the network.
    """

    def __init__(self, cache: DerivedWeights) -> None:
        self._cache = cache

    def look_up(self, modules: Sequence[nn.Module], write: Callable[[], Program]) -> Any:
        """The network, for :class:`Pass`.

        Args:
            modules: what ``write`` reads weights from.
            write: writes the network.

        Raises:
            InputError: if ncnn is not installed.
            RuntimeError: if it does not know a layer.
        """
        threads = torch.get_num_threads()
        return self._cache.get(type(self).__name__, _list_weights(modules), lambda: _load(write(), threads), threads)


class Pass:
    """One pass of a network over an image, as far as it is asked for.

    Args:
        network: from :meth:`Built.look_up`.
    """

    def __init__(self, network: Any) -> None:
        self._extractor = network.create_extractor()
        self._given: list[NDArray[np.float32]] = []  # which ncnn reads in place

    def give(self, name: str, value: Tensor) -> None:
        """Sets a value that the program takes: float32 on the CPU, shape (C, h, w)."""
        self._given.append(np.ascontiguousarray(value.detach().numpy()))
        self._extractor.input(name, import_ncnn().Mat(self._given[-1]))

    def advance(self, name: str) -> None:
        """Computes all that a value needs; raises MemoryError or RuntimeError as :meth:`get`."""
        self._extract(name, _AS_IT_IS)

    def get(self, name: str) -> Tensor:
        """Computes a value, with what was computed for others.

        Args:
            name: the value's.

        Returns:
            Shape (1, C, h, w) in channels_last order, or (1, C); float32.

        Raises:
            MemoryError: if ncnn got no memory.
            RuntimeError: if it failed in another way.
        """
        view = torch.from_numpy(np.asarray(self._extract(name))).unsqueeze(0)
        return view.clone(memory_format=torch.channels_last if view.dim() == 4 else torch.contiguous_format)

    def _extract(self, name: str, form: int = 0) -> Any:
        failure, value = self._extractor.extract(name, form)
        if failure == _OUT_OF_MEMORY:
            raise MemoryError('ncnn got no memory for a layer')
        if failure:
            raise RuntimeError(f'ncnn could not compute a layer (code {failure})')
        return value


def release_memory() -> None:
    """Gives back what ncnn keeps for the next layer; what is in use stays, such as that of other threads."""
    _get_pool().clear()


@cache
def has_ncnn() -> bool:
    """Whether ncnn is installed and can be imported."""
    try:
        import_ncnn()
    except (ImportError, ValueError):
        return False
    return True


def import_ncnn() -> ModuleType:
    """The package.

    Raises:
        InputError: if it is not installed, or too old.
    """
    package = import_extra('ncnn', 'ncnn')
    if _release(package.__version__) < _release(_OLDEST):
        raise InputError(
            f'ncnn {package.__version__} is too old, {_OLDEST} or newer is needed; '
            "pip install --upgrade 'dasr-representation-learning[ncnn]'"
        )
    return package


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version such as 1.0.20260114."""
    return tuple(int(part) for part in version.split('.') if part.isdecimal())


@cache
def _get_pool() -> Any:
    """Where ncnn keeps blocks from one layer to the next; it lives as long as the process, and so as all of them."""
    pool = import_ncnn().PoolAllocator()
    pool.set_size_compare_ratio(_FIT)
    return pool


def _list_weights(modules: Sequence[nn.Module]) -> list[Tensor]:
    return [one for module in modules for one in (*module.parameters(), *module.buffers())]


def _load(program: Program, threads: int) -> Any:
    network = import_ncnn().Net()
    network.opt.num_threads = threads
    for name in ('fp16_packed', 'fp16_storage', 'fp16_arithmetic', 'bf16_storage'):
        setattr(network.opt, f'use_{name}', False)  # float32 throughout
    network.opt.use_winograd23_convolution = False
    network.opt.use_winograd43_convolution = True
    network.opt.use_winograd63_convolution = False  # slower for 64 channels
    network.opt.blob_allocator = network.opt.workspace_allocator = _get_pool()
    if network.load_param_mem(program.to_text()) != 0:
        raise RuntimeError('ncnn does not know a layer of the network; install a newer version')
    network.load_model_mem(b''.join(program.weights))
    return network


def _activation() -> list[str]:
    return [f'9={_LEAKY}', f'-23310=1,{SLOPE}']


def _to_bytes(tensor: Tensor) -> bytes:
    return tensor.detach().numpy().astype('<f4').tobytes()
