"""OpenVINO: inference on a CPU; in bfloat16 the fastest backend on processors with AMX.

OpenVINO (https://github.com/openvinotoolkit/openvino) compiles encoder and features to chains of fused operations. The
package is optional. The network's own methods run on blobs: once on those of a :class:`Builder`, which builds
OpenVINO's model, and then for each image on those of an :class:`Inputs`, which collects the kernels and factors that
PyTorch predicts. The model computes an image in one call, before which the hooks of all blocks have run. In bfloat16,
OpenVINO also computes the convolution of the upsampler, with a result in float32.
"""

from collections.abc import Iterable, Sequence
from functools import cache, cached_property, partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dasr_arch._extras import import_extra
from dasr_arch.backends.blobs import Blob, BlobBackend, Part, UnsupportedError
from dasr_arch.backends.channels_last import Convolve
from dasr_arch.backends.choose import AcceleratedNetwork
from dasr_arch.backends.onednn import Normalisation, compute_dtype, fold_normalisation, refuse_but_inference_on_cpu
from dasr_arch.backends.precision import has_amx

_PRECISIONS = {torch.float32: 'f32', torch.bfloat16: 'bf16'}
_FEATURES = 4  # dimensions
_UNLIMITED = 3e38


class OpenVINO(BlobBackend):
    """OpenVINO, for inference on CPUs; 'auto' takes it for bfloat16 with AMX."""

    name = 'openvino'
    summary = 'fused operations of OpenVINO'

    def refuse(self, network: AcceleratedNetwork, x: Tensor) -> str | None:
        """Refuses everything but inference in float32 or bfloat16."""
        reason = refuse_but_inference_on_cpu(network, x)
        if reason is None and compute_dtype(x) not in _PRECISIONS:
            return 'for float32 and bfloat16 only'
        if reason is None and network.implementation == 'auto':
            if not (has_amx() and compute_dtype(x) == torch.bfloat16):
                return 'for bfloat16 with AMX only'
            return None if has_openvino() else 'the extra openvino is not installed'
        return reason

    def require(self) -> None:
        """Raises InputError if OpenVINO is not installed."""
        import_openvino()

    def build(self, network: AcceleratedNetwork, part: Part, constants: list[Tensor], threads: int) -> Any:
        """See the base class."""
        builder = Builder(constants)
        out = part(network, builder.input([1, 3, -1, -1]))
        dtype = compute_dtype(torch.zeros(0))
        return _compile(builder.finish(out, dtype), dtype, threads)

    def run(self, built: Any, network: AcceleratedNetwork, parts: list[Part], x: Tensor) -> Tensor:
        """See the base class.

        Raises MemoryError if OpenVINO fails; the cause is mostly a lack of memory, which its messages do not name.
        """
        results = []
        for part, image in zip(parts, x.split(1), strict=True):
            inputs = Inputs(image)
            part(network, Blob(inputs, None))  # hooks of the blocks are called, and may end the work
            results.append(_infer_or_drop(built, inputs.values, network))
        return torch.cat(results)

    def upsample(self, network: AcceleratedNetwork, features: Tensor) -> Tensor:
        """As in the base class; what PyTorch convolves is put in channels_last order."""
        if features.dtype != torch.bfloat16 or len(network.upsampler) == 0:
            features = features.contiguous(memory_format=torch.channels_last)
        return super().upsample(network, features)

    def choose_convolution(self, network: AcceleratedNetwork, features: Tensor) -> Convolve:
        """As in the base class; OpenVINO for features in bfloat16."""
        in_bfloat16 = features.dtype == torch.bfloat16
        return partial(self._convolve, network) if in_bfloat16 else super().choose_convolution(network, features)

    def _convolve(self, network: AcceleratedNetwork, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        threads = torch.get_num_threads()
        build = partial(_compile_convolution, weight, bias, threads)
        model = network.derived_weights.get('openvino upsampler', [weight, bias], build, threads)
        return torch.cat([_infer_or_drop(model, [image], network) for image in x.contiguous().split(1)])


BACKEND = OpenVINO


def _compile(model: Any, precision: torch.dtype, threads: int) -> Any:
    settings = {
        'INFERENCE_PRECISION_HINT': _PRECISIONS[precision],
        'INFERENCE_NUM_THREADS': threads,
        'NUM_STREAMS': 1,
        'ENABLE_CPU_PINNING': False,  # several processes would share a core
    }
    return _core().compile_model(model, 'CPU', settings)


def _compile_convolution(weight: Tensor, bias: Tensor, threads: int) -> Any:
    """A convolution of features in bfloat16 with a result in float32."""
    builder = Builder([weight, bias])
    given = builder.input([1, weight.shape[1], -1, -1], torch.bfloat16)
    features = Blob(builder, builder.ops.convert(given.value, 'f32'))
    out = builder.convolve(features, weight, bias, (1, 1), None, (1, 1), 1)
    # OpenVINO rounds the result of a convolution that comes last, but not that of another operation that it fuses.
    unrounded = Blob(builder, builder.ops.clamp(out.value, -_UNLIMITED, _UNLIMITED))
    return _compile(builder.finish(unrounded, torch.float32), torch.bfloat16, threads)


def _infer(model: Any, values: Sequence[Tensor]) -> Tensor:
    """The result for one image; RuntimeError if it could not be computed."""
    request = model.create_infer_request()
    for index, value in enumerate(values):
        request.set_input_tensor(index, _share(value))
    sides = iter(values[0].shape[2:])
    shape = [next(sides) if size.is_dynamic else size.get_length() for size in model.output(0).partial_shape]
    dtype = torch.bfloat16 if model.output(0).element_type == import_openvino().Type.bf16 else torch.float32
    out = torch.empty(shape, dtype=dtype)
    request.set_output_tensor(0, _share(out))
    request.start_async()  # without memory, `infer` may return wrong values instead of raising
    request.wait()
    return out


def _infer_or_drop(model: Any, values: Sequence[Tensor], network: AcceleratedNetwork) -> Tensor:
    """As ``_infer``; MemoryError if it fails, and then the network's models are dropped: they may stay broken."""
    try:
        return _infer(model, values)
    except RuntimeError as error:
        network.derived_weights.drop()
        size = tuple(values[0].shape[2:])
        raise MemoryError(f'OpenVINO could not compute an image of {size} pixels: {error}') from error


def _share(value: Tensor) -> Any:
    """OpenVINO's tensor of the same memory."""
    package = import_openvino()
    if value.dtype != torch.bfloat16:
        return package.Tensor(value.numpy(), shared_memory=True)
    return package.Tensor(value.view(torch.uint16).numpy(), package.Shape(list(value.shape)), package.Type.bf16)


class Builder:
    """Builds OpenVINO's model from the operations on its blobs, whose values are nodes.

    Only the tensors in ``constants`` may become constants of the model. All others are inputs, given for each image.
    """

    def __init__(self, constants: Iterable[Tensor]) -> None:
        self.ops = import_openvino().opset13
        self._constants = {id(tensor) for tensor in constants}
        self._inputs: list[Any] = []

    def input(self, shape: list[int], dtype: torch.dtype = torch.float32) -> Blob:
        """A value that is given for each image; -1 for any size."""
        self._inputs.append(self.ops.parameter(shape, getattr(import_openvino().Type, _PRECISIONS[dtype])))
        return Blob(self, self._inputs[-1])

    def finish(self, out: Blob, dtype: torch.dtype) -> Any:
        """The model with one result; features are converted to ``dtype``, representations stay float32."""
        is_features = len(out.value.get_output_partial_shape(0)) == _FEATURES
        result = self.ops.convert(out.value, _PRECISIONS[dtype]) if is_features else out.value
        return import_openvino().Model([result], self._inputs)

    def convolve(
        self, x: Blob, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: object, *rest: object
    ) -> Blob:
        """A convolution that keeps the size but for its stride."""
        del padding  # half of the kernel in every convolution
        if rest != ((1, 1), 1) or bias is None or not {id(weight), id(bias)} <= self._constants:
            raise UnsupportedError('this convolution is not translated')
        return _Convolution(self, x, weight, bias, stride)

    def normalise(self, x: Blob, mean: Tensor, variance: Tensor, **options: Any) -> Blob:
        """Batch normalisation in evaluation mode, as part of the convolution before it."""
        norm = Normalisation(mean, variance, options['weight'], options['bias'], options['eps'])
        known = {id(one) for one in norm[:4]} <= self._constants
        if not isinstance(x, _Convolution) or options['training'] or not known:
            raise UnsupportedError('this normalisation is not translated')
        weight, bias = fold_normalisation(x.weight, x.bias, norm)
        return _Convolution(self, x.x, weight, bias, x.stride)

    def activate(self, x: Blob, negative_slope: float, inplace: bool = False) -> Blob:
        """LeakyReLU."""
        del inplace
        return Blob(self, self.ops.prelu(x.value, np.array([negative_slope], np.float32)))

    def filter(self, x: Blob, kernel: Tensor, slope: float) -> Blob:
        """Predicted depth-wise kernels, an input of shape (C, 1, 1, 3, 3), and LeakyReLU."""
        given = self.input([kernel.shape[1], 1, 1, 3, 3])
        out = self.ops.group_convolution(x.value, given.value, [1, 1], [1, 1], [1, 1], [1, 1])
        return self.activate(Blob(self, out), slope)

    def modulate(self, out: Blob, x: Blob, factors: Tensor) -> Blob:
        """``out + x * factors`` with predicted factors, an input."""
        given = self.input(list(factors.shape))
        return Blob(self, self.ops.add(out.value, self.ops.multiply(x.value, given.value)))

    def add(self, x: Blob, other: Blob) -> Blob:
        """A residual connection."""
        return Blob(self, self.ops.add(x.value, other.value))

    def average(self, x: Blob) -> Blob:
        """The mean of each channel."""
        return Blob(self, self.ops.reduce_mean(x.value, np.array([2, 3]), False))


class _Convolution(Blob):
    """A convolution; batch normalisation may still become part of it."""

    def __init__(self, graph: Builder, x: Blob, weight: Tensor, bias: Tensor, stride: tuple[int, int]) -> None:
        self.graph, self.x, self.weight, self.bias, self.stride = graph, x, weight, bias, stride

    @cached_property
    def value(self) -> Any:
        """Its node."""
        ops, pad = self.graph.ops, [self.weight.shape[-1] // 2] * 2
        weight, bias = (one.detach().numpy() for one in (self.weight, self.bias.reshape(1, -1, 1, 1)))
        return ops.add(ops.convolution(self.x.value, weight, list(self.stride), pad, pad, [1, 1]), bias)


class Inputs:
    """Collects the inputs of a model of :class:`Builder` for one image (1, 3, h, w), in the same order."""

    def __init__(self, image: Tensor) -> None:
        self.values = [image.contiguous()]

    def filter(self, x: Blob, kernel: Tensor, slope: float) -> Blob:
        """Takes the predicted kernels."""
        del slope
        self.values.append(kernel.detach().float().reshape(-1, 1, 1, 3, 3).contiguous())
        return x

    def modulate(self, out: Blob, x: Blob, factors: Tensor) -> Blob:
        """Takes the predicted factors."""
        del x
        self.values.append(factors.detach().float().contiguous())
        return out

    def convolve(self, x: Blob, *_: object, **__: object) -> Blob:
        """Nothing."""
        return x

    normalise = activate = add = average = convolve


def import_openvino() -> ModuleType:
    """The package; InputError if it is not installed."""
    return import_extra('openvino', 'openvino')


@cache
def has_openvino() -> bool:
    """True if the package is installed; it is imported when it is used."""
    return find_spec('openvino') is not None


@cache
def _core() -> Any:
    return import_openvino().Core()
