"""Where networks meet images: enlarging as MATLAB does, luma, and the convolution that gives the output."""

import torch
from torch import Tensor, nn

from dasr_arch.degradations.resize import upsample_bicubic

_LUMA = (65.481, 128.553, 24.966)  # of BT.601 in its studio range 16..235, from RGB in [0, 1]
_LUMA_OFFSET = 16.0


def enlarge(lq: Tensor, scale: int) -> Tensor:
    """Enlarges images by MATLAB's bicubic with symmetric borders, what networks at HR size were trained on.

    Args:
        lq: images of shape (B, C, h, w), any floating type.
        scale: factor, 1 or more.

    Returns:
        Images of shape (B, C, h * scale, w * scale), as precise as ``lq``, not clamped; computed in float32 at least.
    """
    precise = lq.to(torch.promote_types(lq.dtype, torch.float32))
    return upsample_bicubic(precise, scale, border='mirror').to(lq.dtype)


def output_conv(conv: nn.Module, features: Tensor) -> Tensor:
    """The convolution that gives an image, which is never rounded to half precision, also not under autocast.

    Args:
        conv: a convolution, in the type of its weights.
        features: shape (B, C, H, W).

    Returns:
        What the convolution gives.
    """
    with torch.autocast(features.device.type, enabled=False):
        out: Tensor = conv(features.to(conv.weight.dtype))  # type: ignore[arg-type]
    return out


def to_luma(rgb: Tensor) -> Tensor:
    """BT.601 luma of shape (B, 1, H, W) in [16 / 255, 235 / 255], from RGB of shape (B, 3, H, W) in [0, 1]."""
    weights = torch.tensor(_LUMA, dtype=rgb.dtype, device=rgb.device).reshape(1, 3, 1, 1)
    return ((rgb * weights).sum(1, keepdim=True) + _LUMA_OFFSET) / 255
