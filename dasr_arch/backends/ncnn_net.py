"""ncnn: inference on a CPU in float32, with encoder and features computed by networks that ncnn runs.

ncnn (https://github.com/Tencent/ncnn) convolves 3 x 3 by Winograd's algorithm F(4 x 4, 3 x 3), in a quarter of the
multiplications; oneDNN, and so PyTorch, does not. The package is optional.

The network's own methods run on blobs, ncnn's word for tensors: once on those of a :class:`Recorder`, which
records the layers, and then for each image on those of an :class:`Inference`, which passes the kernels and factors that
PyTorch predicts to ncnn and computes up to the next residual connection.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._extras import import_extra
from dasr_arch.backends.blobs import Blob, BlobBackend, Part, UnsupportedError
from dasr_arch.backends.choose import AcceleratedNetwork
from dasr_arch.backends.onednn import Normalisation, compute_dtype, fold_normalisation, refuse_but_inference_on_cpu
from dasr_arch.backends.precision import has_amx

ADD, MULTIPLY = 0, 2  # operations of a BinaryOp layer

_OLDEST = '1.0.20260114'  # as in setup.py; those of 2025 end the process at an unknown layer
_MAGIC = '7767517'  # first line of every network in ncnn's text format
_FLOAT32 = bytes(4)  # before an array of weights: they are float32
_LEAKY = 2  # LeakyReLU inside another layer
_OUT_OF_MEMORY = -100
_PACKED = 1  # a blob in ncnn's own order of channels
_FIT = 0.95  # least ratio of a request to the cached block it gets; with lower ones, 1.5 times the memory is needed
_IMAGE = 'image'


class Ncnn(BlobBackend):
    """ncnn, for inference on CPUs in float32."""

    name = 'ncnn'
    summary = 'Winograd convolutions of ncnn'

    def refuse(self, network: AcceleratedNetwork, x: Tensor) -> str | None:
        """Refuses everything but inference in float32."""
        reason = refuse_but_inference_on_cpu(network, x)
        if reason is None and compute_dtype(x) != torch.float32:
            return 'for float32 only'
        if reason is None and not has_ncnn():
            return 'the extra ncnn is not installed'
        if reason is None and network.implementation == 'auto' and has_amx():
            return 'slower than torch on processors with AMX'
        return reason

    def require(self) -> None:
        """Raises InputError if ncnn is not installed."""
        import_ncnn()

    def build(self, network: AcceleratedNetwork, part: Part, constants: list[Tensor], threads: int) -> Any:
        """See the base class."""
        recorder = Recorder(constants)
        part(network, recorder.input(_IMAGE))
        return load_net(recorder, threads)

    def run(self, built: Any, network: AcceleratedNetwork, parts: list[Part], x: Tensor) -> Tensor:
        """See the base class."""
        results = []
        try:
            for part, image in zip(parts, x, strict=True):
                inference = Inference(built)
                inference.input(_IMAGE, image)
                out = part(network, Blob(inference, _IMAGE))
                results.append(inference.extract(out.value))
        finally:
            _get_pool().clear()  # frees what is not in use; other threads keep their blocks
        return torch.cat(results)


BACKEND = Ncnn


@dataclass
class Layer:
    """A layer of an ncnn network: settings by their number, and weights in the order in which ncnn reads them."""

    kind: str
    inputs: list[str]
    output: str
    settings: list[str] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)


class Recorder:
    """Records the layers that blobs pass, in ncnn's text format.

    Only the tensors in ``constants`` may become weights of the network. All others are inputs, given for each image.
    """

    def __init__(self, constants: Iterable[Tensor] = ()) -> None:
        self.layers: list[Layer] = []
        self._constants = {id(tensor) for tensor in constants}
        self._counts: Counter[str] = Counter()

    def input(self, name: str) -> Blob:
        """A value that is given for each image."""
        return self.append('Input', [], name)

    def append(self, kind: str, inputs: list[Blob], name: str, settings: list[str] | None = None) -> Blob:
        """Adds a layer with one result, which gets the name."""
        self.layers.append(Layer(kind, [blob.value for blob in inputs], name, settings or []))
        return Blob(self, name)

    def convolve(
        self, x: Blob, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: object, *rest: object
    ) -> Blob:
        """A convolution that keeps the size but for its stride; ``weight`` has shape (C, D, k, k)."""
        del padding  # half of the kernel in every convolution
        plain = rest == ((1, 1), 1)  # dilation and groups
        if not plain or bias is None or not {id(weight), id(bias)} <= self._constants:
            raise UnsupportedError('this convolution is not translated')
        channels, _, side, _ = weight.shape
        settings = [f'0={channels}', f'1={side}', f'3={stride[0]}', f'4={side // 2}', '5=1', f'6={weight.numel()}']
        out = self.append('Convolution', [x], self._name('convolution'), settings)
        self.layers[-1].weights = [weight, bias]
        return out

    def normalise(self, x: Blob, mean: Tensor, variance: Tensor, **options: Any) -> Blob:
        """Batch normalisation in evaluation mode, as part of the convolution before it."""
        last = self._find_unused(x)
        norm = Normalisation(mean, variance, options['weight'], options['bias'], options['eps'])
        if last is None or options['training'] or not {id(one) for one in norm[:4]} <= self._constants:
            raise UnsupportedError('this normalisation is not translated')
        last.weights = list(fold_normalisation(last.weights[0], last.weights[1], norm))
        return x

    def activate(self, x: Blob, negative_slope: float, inplace: bool = False) -> Blob:
        """LeakyReLU, as part of the convolution before it if there is one."""
        del inplace
        last = self._find_unused(x)
        if last is None:
            return self.append('ReLU', [x], self._name('activation'), [f'0={negative_slope}'])
        last.settings += _activation(negative_slope)
        return x

    def filter(self, x: Blob, kernel: Tensor, slope: float) -> Blob:
        """Predicted depth-wise kernels (1, C, 3, 3), an input, and LeakyReLU."""
        channels = kernel.shape[1]
        given = self.input(self._name('kernel'))
        settings = [f'0={channels}', '1=3', '4=1', '5=0', '6=0', f'7={channels}', '19=1', *_activation(slope)]
        return self.append('ConvolutionDepthWise', [x, given], self._name('filtered'), settings)

    def modulate(self, out: Blob, x: Blob, factors: Tensor) -> Blob:
        """``out + x * factors`` with predicted factors (1, C, 1, 1), an input."""
        del factors
        given = self.input(self._name('factors'))
        product = self.append('BinaryOp', [x, given], self._name('product'), [f'0={MULTIPLY}'])
        return self.append('BinaryOp', [out, product], self._name('modulated'), [f'0={ADD}'])

    def add(self, x: Blob, other: Blob) -> Blob:
        """A residual connection."""
        return self.append('BinaryOp', [x, other], self._name('sum'), [f'0={ADD}'])

    def average(self, x: Blob) -> Blob:
        """The mean of each channel."""
        return self.append('Pooling', [x], self._name('mean'), ['0=1', '4=1'])

    def to_text(self) -> str:
        """The network as ncnn reads it, without the weights.

        A line holds a layer's kind and name, the numbers of its inputs and outputs, their names, and settings. A blob
        can be an input once; Split layers copy it.
        """
        uses = Counter(name for layer in self.layers for name in layer.inputs)
        left = {name: [f'{name}_{index}' for index in range(count)] for name, count in uses.items() if count > 1}
        lines: list[str] = []
        blobs = 0
        for layer in self.layers:
            inputs = [left[name].pop(0) if name in left else name for name in layer.inputs]
            lines.append(_format_layer(layer.kind, len(lines), inputs, [layer.output], layer.settings))
            blobs += 1
            if layer.output in left:
                lines.append(_format_layer('Split', len(lines), [layer.output], left[layer.output]))
                blobs += len(left[layer.output])
        return '\n'.join([_MAGIC, f'{len(lines)} {blobs}', *lines, ''])

    def to_bytes(self) -> bytes:
        """The weights of all layers."""
        return b''.join(
            (b'' if index else _FLOAT32) + weight.detach().numpy().astype('<f4').tobytes()
            for layer in self.layers
            for index, weight in enumerate(layer.weights)
        )

    def _name(self, kind: str) -> str:
        return _count(self._counts, kind)

    def _find_unused(self, x: Blob) -> Layer | None:
        """The convolution that gives a blob, if it was the last layer and has no activation."""
        last = self.layers[-1]
        return last if last.output == x.value and last.weights and len(last.settings) == 6 else None


class Inference:
    """Computes one image with a network of :func:`load_net`, in the order of the operations that were recorded."""

    def __init__(self, net: Any) -> None:
        self._extractor = net.create_extractor()
        self._given: list[NDArray[np.float32]] = []  # which ncnn reads in place
        self._counts: Counter[str] = Counter()

    def input(self, name: str, value: Tensor) -> None:
        """Gives the value of an input: float32 on the CPU, shape (C, h, w)."""
        self._given.append(np.ascontiguousarray(value.detach().numpy()))
        self._extractor.input(name, import_ncnn().Mat(self._given[-1]))

    def convolve(self, x: Blob, *_: object, **__: object) -> Blob:
        """Returns the blob; the layer is computed when a later blob is extracted."""
        return x

    normalise = activate = convolve

    def filter(self, x: Blob, kernel: Tensor, slope: float) -> Blob:
        """Gives the predicted kernels."""
        del slope
        self.input(_count(self._counts, 'kernel'), kernel[0])
        return x

    def modulate(self, out: Blob, x: Blob, factors: Tensor) -> Blob:
        """Gives the predicted factors."""
        del x
        self.input(_count(self._counts, 'factors'), factors[0])
        return out

    def add(self, x: Blob, other: Blob) -> Blob:
        """Computes everything up to the residual connection, so that hooks on the next block report progress."""
        del x, other
        name = _count(self._counts, 'sum')
        self._extract(name, _PACKED)
        return Blob(self, name)

    def average(self, x: Blob) -> Blob:
        """Returns the blob of the mean, as :meth:`convolve`."""
        del x
        return Blob(self, _count(self._counts, 'mean'))

    def extract(self, name: str) -> Tensor:
        """Computes a blob, reusing earlier ones: (1, C, h, w) in channels_last order, or (1, C); float32.

        Raises MemoryError if ncnn got no memory, RuntimeError if it failed in another way.
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


def load_net(recorder: Recorder, threads: int) -> Any:
    """Ncnn's network of recorded layers; RuntimeError if ncnn does not know a layer."""
    net = import_ncnn().Net()
    net.opt.num_threads = threads
    for name in ('fp16_packed', 'fp16_storage', 'fp16_arithmetic', 'bf16_storage'):
        setattr(net.opt, f'use_{name}', False)  # float32 throughout
    net.opt.use_winograd23_convolution = False
    net.opt.use_winograd43_convolution = True
    net.opt.use_winograd63_convolution = False  # slower for 64 channels
    net.opt.blob_allocator = net.opt.workspace_allocator = _get_pool()
    if net.load_param_mem(recorder.to_text()) != 0:
        raise RuntimeError('ncnn does not know a layer of the network; install a newer version')
    net.load_model_mem(recorder.to_bytes())
    return net


@cache
def has_ncnn() -> bool:
    """True if ncnn is installed and can be imported."""
    try:
        import_ncnn()
    except (ImportError, ValueError):
        return False
    return True


def import_ncnn() -> ModuleType:
    """The package; InputError if it is not installed, or too old."""
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
    """Memory pool of all ncnn networks; it must outlive them, and so lives as long as the process."""
    pool = import_ncnn().PoolAllocator()
    pool.set_size_compare_ratio(_FIT)
    return pool


def _activation(slope: float) -> list[str]:
    return [f'9={_LEAKY}', f'-23310=1,{slope}']


def _count(counts: 'Counter[str]', kind: str) -> str:
    """The next name of a kind: kernel_0, kernel_1, ..."""
    number = counts[kind]
    counts[kind] += 1
    return f'{kind}_{number}'


def _format_layer(kind: str, number: int, inputs: list[str], outputs: list[str], settings: Iterable[str] = ()) -> str:
    return ' '.join([kind, f'layer_{number}', str(len(inputs)), str(len(outputs)), *inputs, *outputs, *settings])
