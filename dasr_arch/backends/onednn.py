"""oneDNN: inference on a CPU with activation, normalisation and residual addition as part of a convolution.

oneDNN's convolutions can apply an activation or add a tensor to each value before it is stored, which saves a pass
over memory for each. The network's own methods run on :class:`Features`, which defer a convolution until the
next operation is known. The results are those of the modules one by one, up to rounding. Nothing is cached.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_map

from dasr_arch.backends.channels_last import ChannelsLast, depthwise_conv_leaky
from dasr_arch.backends.choose import AcceleratedNetwork, is_exported

_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_convolution_pointwise')
_ONES = [1, 1]


class OneDNN(ChannelsLast):
    """oneDNN with fused convolutions, for inference on CPUs."""

    name = 'onednn'
    summary = 'fused convolutions of oneDNN'

    def refuse(self, network: AcceleratedNetwork, x: Tensor) -> str | None:
        """Refuses everything but inference in float32, or autocast to what the CPU has, from float32 weights."""
        reason = refuse_but_inference_on_cpu(network, x)
        if reason is not None:
            return reason
        if not _AVAILABLE:
            return 'this PyTorch has no oneDNN'
        dtype = compute_dtype(x)
        return None if _computes(dtype) else f'this CPU does not convolve {str(dtype).removeprefix("torch.")}'

    def encode(self, network: AcceleratedNetwork, x: Tensor) -> Tensor:
        """As in the base class, with batch normalisation folded into the convolutions."""
        dtype = compute_dtype(x)
        with torch.autocast('cpu', enabled=False):
            out: Tensor = network.encoder(Features(x.to(dtype)))
        return out

    def extract_features(self, network: AcceleratedNetwork, x: Tensor, embedding: Tensor) -> Tensor:
        """As in the base class."""
        dtype = compute_dtype(x)
        with torch.autocast('cpu', enabled=False):
            out = network.extract_features(cast(Tensor, Features(x.to(dtype))), embedding.float())
        return cast(Features, out).compute()


BACKEND = OneDNN


def refuse_but_inference_on_cpu(network: AcceleratedNetwork, x: Tensor) -> str | None:
    """A reason unless float32 images are inferred on a CPU with float32 weights, and nothing is being exported."""
    if x.device.type != 'cpu':
        return 'for CPUs only'
    if torch.is_grad_enabled() or network.training:
        return 'for inference only'
    if is_exported():
        return 'the network is being exported'
    if not x.dtype == next(network.parameters()).dtype == torch.float32:
        return 'for float32 images and weights only'
    return None


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type that autocast selects, else that of the image."""
    return torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype


@cache
def _computes(dtype: torch.dtype) -> bool:
    """True if oneDNN convolves a number format on this CPU: bfloat16 needs AVX-512 or AMX."""
    if dtype == torch.float32:
        return True
    convolution = _Convolution(torch.zeros(1, 4, 4, 4, dtype=dtype), torch.zeros(4, 4, 3, 3), torch.zeros(4))
    try:
        with torch.autocast('cpu', enabled=False):
            convolution.run(0.1)
    except RuntimeError:  # PyTorch's own convolution falls back to another implementation
        return False
    return True


class _Convolution(NamedTuple):
    """A convolution that has not been computed, padded to keep the size."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: int = 1
    groups: int = 1

    def run(self, slope: float | None = None) -> Tensor:
        """Convolves, with LeakyReLU of a slope for negative values."""
        action, slopes = ('none', []) if slope is None else ('leaky_relu', [slope])
        weight, bias, pad, stride = self._prepare()
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            self.x, weight, bias, pad, stride, _ONES, self.groups, action, slopes, ''
        )
        return out

    def run_add(self, other: Tensor) -> Tensor:
        """Convolves and adds a tensor."""
        weight, bias, pad, stride = self._prepare()
        out: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            self.x, other, weight, bias, pad, stride, _ONES, self.groups, 'add', 1.0, None, [], None
        )
        return out

    def _prepare(self) -> tuple[Tensor, Tensor | None, list[int], list[int]]:
        bias = None if self.bias is None else self.bias.to(self.x.dtype)
        pad = [side // 2 for side in self.weight.shape[-2:]]
        return self.weight.to(self.x.dtype), bias, pad, [self.stride, self.stride]


class Features:
    """Feature maps (B, C, h, w) for the modules of a network; the last convolution may be deferred."""

    dtype = torch.float32  # as the modules expect; the values may have another type

    def __init__(self, value: Tensor | _Convolution) -> None:
        self._value = value

    def compute(self) -> Tensor:
        """The features as a tensor."""
        if isinstance(self._value, _Convolution):
            self._value = self._value.run()
        return self._value

    def activate(self, negative_slope: float, inplace: bool = False) -> 'Features':
        """The features after LeakyReLU, fused into a deferred convolution."""
        if isinstance(self._value, _Convolution):
            return Features(self._value.run(negative_slope))
        return Features(functional.leaky_relu(self._value, negative_slope, inplace))

    @property
    def shape(self) -> torch.Size:
        """(B, C, h, w)."""
        return self.compute().shape

    def dim(self) -> int:
        """Number of dimensions."""
        return 4

    def to(self, dtype: torch.dtype) -> Tensor:
        """The features in a number format."""
        return self.compute().to(dtype)

    def __add__(self, other: 'Features') -> 'Features':
        """A residual connection."""
        if isinstance(self._value, _Convolution):
            return Features(self._value.run_add(other.compute()))
        return Features(self._value + other.compute())

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Computes an operation of PyTorch; those without a fused form on plain tensors."""
        del types
        fused = _OPERATIONS.get(func)
        if fused is not None:
            return fused(*args, **(kwargs or {}))
        plain = tree_map(lambda one: one.compute() if isinstance(one, cls) else one, (args, kwargs or {}))
        out = func(*plain[0], **plain[1])
        return cls(out) if isinstance(out, Tensor) else out


def _convolve(
    x: Features, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: object, *_: object
) -> Features:
    del padding  # half of the kernel in every convolution
    return Features(_Convolution(x.compute(), weight, bias, stride[0]))


def _normalise(x: Features, mean: Tensor, variance: Tensor, **options: Any) -> Features:
    """Batch normalisation in evaluation mode, as part of the convolution before it."""
    convolution = x._value
    if not isinstance(convolution, _Convolution) or convolution.bias is None or options['training']:
        return Features(functional.batch_norm(x.compute(), mean, variance, **options))
    norm = Normalisation(mean, variance, options['weight'], options['bias'], options['eps'])
    weight, bias = fold_normalisation(convolution.weight, convolution.bias, norm)
    return Features(convolution._replace(weight=weight, bias=bias))


class Normalisation(NamedTuple):
    """Batch normalisation in evaluation mode; tensors of shape (C,)."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float


def fold_normalisation(weight: Tensor, bias: Tensor, norm: Normalisation) -> tuple[Tensor, Tensor]:
    """Weight (C, D, k, k) and bias (C,) of a convolution that includes the normalisation after it."""
    scale = norm.weight * torch.rsqrt(norm.variance + norm.eps)
    return weight * scale.reshape(-1, 1, 1, 1), (bias - norm.mean) * scale + norm.bias


def _filter(x: Features, kernel: Tensor, slope: float) -> Features:
    """Predicted depth-wise kernels, image by image, and LeakyReLU."""
    images, channels = x.compute(), x.shape[1]
    if len(images) == 1:
        return Features(_Convolution(images, kernel[0].unsqueeze(1), None, groups=channels).run(slope))
    out = torch.empty_like(images)
    for index in range(len(images)):
        one = _Convolution(images[index : index + 1], kernel[index].unsqueeze(1), None, groups=channels)
        out[index] = one.run(slope)[0]
    return Features(out)


def _modulate(out: Features, x: Features, factors: Tensor) -> Features:
    features = x.compute()
    return Features(torch.addcmul(out.compute(), features, factors.to(features.dtype)))


_OPERATIONS: dict[Callable[..., Any], Callable[..., Features]] = {
    torch.conv2d: _convolve,
    functional.batch_norm: _normalise,
    functional.leaky_relu: Features.activate,
    torch.addcmul: _modulate,
    depthwise_conv_leaky: _filter,
}
