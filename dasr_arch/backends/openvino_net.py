"""OpenVINO: inference on a CPU, for processors with AMX; only where it is asked for.

OpenVINO (https://github.com/openvinotoolkit/openvino) compiles encoder and features to chains of fused operations. The
package is optional. The network's own methods run on blobs: once on those of a :class:`Builder`, which builds
OpenVINO's model, and then for each image on those of an :class:`Inputs`, which collects the kernels and factors that
PyTorch predicts. The model computes an image in one call, before which the hooks of all blocks have run.
"""

from collections.abc import Iterable
from functools import cache, cached_property
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dasr_arch._extras import import_extra
from dasr_arch.backends.blobs import Blob, BlobBackend, Part, UnsupportedError
from dasr_arch.backends.choose import AcceleratedNetwork
from dasr_arch.backends.onednn import Normalisation, compute_dtype, fold_normalisation, refuse_but_inference_on_cpu

_PRECISIONS = {torch.float32: 'f32', torch.bfloat16: 'bf16'}


class OpenVINO(BlobBackend):
    """OpenVINO, for inference on CPUs; 'auto' does not take it."""

    name = 'openvino'
    summary = 'fused operations of OpenVINO'

    def refuse(self, network: AcceleratedNetwork, x: Tensor) -> str | None:
        """Refuses everything but inference in float32 or bfloat16."""
        reason = refuse_but_inference_on_cpu(network, x)
        if reason is None and compute_dtype(x) not in _PRECISIONS:
            return 'for float32 and bfloat16 only'
        return reason

    def require(self) -> None:
        """Raises InputError if OpenVINO is not installed."""
        import_openvino()

    def build(self, network: AcceleratedNetwork, part: Part, constants: list[Tensor], threads: int) -> Any:
        """See the base class."""
        builder = Builder(constants)
        out = part(network, builder.input([1, 3, -1, -1]))
        settings = {
            'INFERENCE_PRECISION_HINT': _PRECISIONS[compute_dtype(torch.zeros(0))],
            'INFERENCE_NUM_THREADS': threads,
            'NUM_STREAMS': 1,
            'ENABLE_CPU_PINNING': False,  # several processes would share a core
        }
        return _core().compile_model(builder.finish(out), 'CPU', settings)

    def run(self, built: Any, network: AcceleratedNetwork, parts: list[Part], x: Tensor) -> Tensor:
        """See the base class; in channels_last order.

        Raises MemoryError if OpenVINO fails; the cause is mostly a lack of memory, which its messages do not name.
        """
        results = []
        for part, image in zip(parts, x.split(1), strict=True):
            inputs = Inputs(image)
            part(network, Blob(inputs, None))  # hooks of the blocks are called, and may end the work
            try:
                results.append(_infer(built, inputs))
            except RuntimeError as error:
                network.derived_weights.drop()  # a model may stay broken after a failure
                size = tuple(x.shape[-2:])
                raise MemoryError(f'OpenVINO could not compute an image of {size} pixels: {error}') from error
        whole = torch.cat(results)
        return whole.contiguous(memory_format=torch.channels_last) if whole.dim() == 4 else whole


BACKEND = OpenVINO


def _infer(model: Any, inputs: 'Inputs') -> Tensor:
    """The result for one image; RuntimeError if it could not be computed."""
    request = model.create_infer_request()
    for index, value in enumerate(inputs.values):
        request.set_input_tensor(index, import_openvino().Tensor(value, shared_memory=True))
    request.start_async()  # without memory, `infer` may return wrong values instead of raising
    request.wait()
    out = torch.from_numpy(request.get_output_tensor(0).data.copy())
    if out.dim() == 4 and out.shape[-2:] != inputs.values[0].shape[-2:]:
        raise RuntimeError(f'the result has the shape {tuple(out.shape)}')
    return out


class Builder:
    """Builds OpenVINO's model from the operations on its blobs, whose values are nodes.

    Only the tensors in ``constants`` may become constants of the model. All others are inputs, given for each image.
    """

    def __init__(self, constants: Iterable[Tensor]) -> None:
        self._ops = import_openvino().opset13
        self._constants = {id(tensor) for tensor in constants}
        self._inputs: list[Any] = []

    def input(self, shape: list[int]) -> Blob:
        """A value that is given for each image; -1 for any size."""
        self._inputs.append(self._ops.parameter(shape, np.float32))
        return Blob(self, self._inputs[-1])

    def finish(self, out: Blob) -> Any:
        """The model with one result."""
        return import_openvino().Model([out.value], self._inputs)

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
        return Blob(self, self._ops.prelu(x.value, np.array([negative_slope], np.float32)))

    def filter(self, x: Blob, kernel: Tensor, slope: float) -> Blob:
        """Predicted depth-wise kernels, an input of shape (C, 1, 1, 3, 3), and LeakyReLU."""
        given = self.input([kernel.shape[1], 1, 1, 3, 3])
        out = self._ops.group_convolution(x.value, given.value, [1, 1], [1, 1], [1, 1], [1, 1])
        return self.activate(Blob(self, out), slope)

    def modulate(self, out: Blob, x: Blob, factors: Tensor) -> Blob:
        """``out + x * factors`` with predicted factors, an input."""
        given = self.input(list(factors.shape))
        return Blob(self, self._ops.add(out.value, self._ops.multiply(x.value, given.value)))

    def add(self, x: Blob, other: Blob) -> Blob:
        """A residual connection."""
        return Blob(self, self._ops.add(x.value, other.value))

    def average(self, x: Blob) -> Blob:
        """The mean of each channel."""
        return Blob(self, self._ops.reduce_mean(x.value, np.array([2, 3]), False))


class _Convolution(Blob):
    """A convolution; batch normalisation may still become part of it."""

    def __init__(self, graph: Builder, x: Blob, weight: Tensor, bias: Tensor, stride: tuple[int, int]) -> None:
        self.graph, self.x, self.weight, self.bias, self.stride = graph, x, weight, bias, stride

    @cached_property
    def value(self) -> Any:
        """Its node."""
        ops, pad = self.graph._ops, [self.weight.shape[-1] // 2] * 2
        weight, bias = (one.detach().numpy() for one in (self.weight, self.bias.reshape(1, -1, 1, 1)))
        return ops.add(ops.convolution(self.x.value, weight, list(self.stride), pad, pad, [1, 1]), bias)


class Inputs:
    """Collects the inputs of a model of :class:`Builder` for one image (1, 3, h, w), in the same order."""

    def __init__(self, image: Tensor) -> None:
        self.values = [np.ascontiguousarray(image.numpy())]

    def filter(self, x: Blob, kernel: Tensor, slope: float) -> Blob:
        """Takes the predicted kernels."""
        del slope
        self.values.append(kernel.detach().float().reshape(-1, 1, 1, 3, 3).numpy())
        return x

    def modulate(self, out: Blob, x: Blob, factors: Tensor) -> Blob:
        """Takes the predicted factors."""
        del x
        self.values.append(factors.detach().float().numpy())
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
