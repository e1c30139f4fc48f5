"""DASR on a CPU without gradients: activations and additions computed inside the convolutions before them.

oneDNN's convolutions can apply an activation or add a tensor to each value before it is stored, which saves a pass
over memory for each. The results are those of the modules one by one, up to rounding.
"""

from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch.archs.blocks import SLOPE, DABlock, DAConv, DAGroup

_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_convolution_pointwise')
_ONES = [1, 1]


def can_fuse(x: Tensor) -> bool:
    """Whether these functions may be used for an image.

    Args:
        x: the image.

    Returns:
        True for float32 on a CPU with oneDNN, when no gradient is recorded and the network is not being exported, and
        autocast asks for nothing that this CPU lacks.
    """
    return _AVAILABLE and is_inferred_on_cpu(x) and _computes(compute_dtype(x))


def is_inferred_on_cpu(x: Tensor) -> bool:
    """Whether an image is float32 on a CPU, no gradient is recorded, and the network is not being exported."""
    return not (torch.is_grad_enabled() or is_exported()) and x.device.type == 'cpu' and x.dtype == torch.float32


@cache
def _computes(dtype: torch.dtype) -> bool:
    """Whether oneDNN convolves numbers of a format here: bfloat16 takes AVX-512 or what came after it.

    Torch's own convolution has another way then; the fused one raises an error.
    """
    if dtype == torch.float32:
        return True
    try:
        with torch.autocast('cpu', enabled=False):
            _convolve(torch.zeros(1, 4, 4, 4, dtype=dtype), torch.zeros(4, 4, 3, 3), torch.zeros(4), activate=True)
    except RuntimeError:
        return False
    return True


def is_exported() -> bool:
    """Whether the network is being traced, exported or compiled."""
    return bool(torch._C._get_tracing_state()) or torch.compiler.is_compiling()


def can_fuse_body(groups: Iterable[nn.Module]) -> bool:
    """Whether every convolution that adapts to the degradation is a DAConv."""
    return all(isinstance(module, DAConv) for group in groups for module in _find_adaptive(group))


def encode_fused(encoder: nn.Module, x: Tensor) -> Tensor:
    """What a DegradationEncoder in evaluation mode finds, with batch normalisation folded into its convolutions.

    Args:
        encoder: the encoder.
        x: RGB of shape (B, 3, h, w) in [0, 255].

    Returns:
        Representations of shape (B, D), float32.
    """
    dtype = compute_dtype(x)
    with torch.autocast('cpu', enabled=False):
        for conv, weight, bias in fold_normalisation(encoder):
            x = _convolve(x.to(dtype), weight, bias, stride=conv.stride[0], activate=True)
        return x.float().mean((-2, -1))


def fold_normalisation(encoder: nn.Module) -> list[tuple[nn.Conv2d, Tensor, Tensor]]:
    """The convolutions of a DegradationEncoder in evaluation mode, with batch normalisation as part of them.

    Args:
        encoder: the encoder.

    Returns:
        For each convolution itself, and the weight and bias that it and its normalisation amount to.
    """
    layers = list(encoder.body)  # type: ignore[arg-type]
    folded = []
    for conv, norm in zip(layers[0::3], layers[1::3], strict=True):
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = (conv.bias - norm.running_mean) * scale + norm.bias
        folded.append((conv, conv.weight * scale.reshape(-1, 1, 1, 1), bias))
    return folded


def run_body_fused(
    head: nn.Conv2d, groups: Sequence[nn.Module], body_conv: nn.Conv2d, x: Tensor, code: Tensor
) -> Tensor:
    """Everything of DASR between the image and the up-sampling.

    Args:
        head: the first convolution.
        groups: the DAGroups, built of DAConv.
        body_conv: the convolution after them.
        x: images of shape (B, 3, h, w), mean subtracted.
        code: compressed representations of shape (B, C).

    Returns:
        Features of shape (B, C, h, w).
    """
    dtype = compute_dtype(x)
    code = code.float()
    with torch.autocast('cpu', enabled=False):
        features = _convolve(x.to(dtype), head.weight, head.bias)
        out = features
        for group in groups:
            assert isinstance(group, DAGroup)
            inner = out
            for block in group.blocks:
                assert isinstance(block, DABlock)
                inner = _run_block(block, inner, code)
            out = _convolve_add(inner, out, group.conv)
        return _convolve_add(out, features, body_conv)


def _run_block(block: DABlock, x: Tensor, code: Tensor) -> Tensor:
    out = functional.leaky_relu_(_adapt(block.da_conv1, x, code), SLOPE)
    out = _convolve(out, block.conv1.weight, block.conv1.bias, activate=True)
    out = functional.leaky_relu_(_adapt(block.da_conv2, out, code), SLOPE)
    return _convolve_add(out, x, block.conv2)


def _adapt(conv: nn.Module, x: Tensor, code: Tensor) -> Tensor:
    """A DAConv."""
    assert isinstance(conv, DAConv)
    kernel = conv.kernel(code).reshape(*x.shape[:2], 3, 3)
    if len(x) == 1:
        filtered = _convolve(x, kernel[0].unsqueeze(1), None, groups=x.shape[1], activate=True)
    else:
        filtered = torch.empty_like(x)
        for index in range(len(x)):
            one = _convolve(x[index : index + 1], kernel[index].unsqueeze(1), None, groups=x.shape[1], activate=True)
            filtered[index] = one[0]
    out = _convolve(filtered, conv.pointwise.weight, conv.pointwise.bias)
    if conv.modulation is None:
        return out
    factor = torch.sigmoid(conv.modulation(code)).to(x.dtype)
    return torch.addcmul(out, x, factor[..., None, None])


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1, groups: int = 1, activate: bool = False
) -> Tensor:
    pad = [side // 2 for side in weight.shape[-2:]]
    bias = None if bias is None else bias.to(x.dtype)
    action, slope = ('leaky_relu', [SLOPE]) if activate else ('none', [])
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight.to(x.dtype), bias, pad, [stride, stride], _ONES, groups, action, slope, ''
    )
    return out


def _convolve_add(x: Tensor, other: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 3 x 3 convolution, plus another tensor."""
    assert conv.bias is not None
    weight, bias = conv.weight.to(x.dtype), conv.bias.to(x.dtype)
    out: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
        x, other, weight, bias, _ONES, _ONES, _ONES, 1, 'add', 1.0, None, [], None
    )
    return out


def compute_dtype(x: Tensor) -> torch.dtype:
    """The number format that autocast asks for, else the image's own."""
    return torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype


def _find_adaptive(group: nn.Module) -> list[nn.Module]:
    return [conv for block in group.blocks for conv in (block.da_conv1, block.da_conv2)]  # type: ignore[union-attr]
