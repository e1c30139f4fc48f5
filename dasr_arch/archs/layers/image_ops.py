"""Operations between images and features: bicubic upsampling, output convolution, RGB to Y."""

import torch
from torch import Tensor, nn

from dasr_arch.degradations.resize import upsample_bicubic

Y_WEIGHTS = (65.481, 128.553, 24.966)
"""BT.601 luma from RGB in [0, 1], in grey levels of the studio range 16..235, without the offset."""

_Y_OFFSET = 16.0


def upsample_bicubic_symmetric(lq: Tensor, scale: int) -> Tensor:
    """Bicubic upsampling of (B, C, h, w) as MATLAB's ``imresize``, with symmetric borders, not clamped, in its type."""
    precise = lq.to(torch.promote_types(lq.dtype, torch.float32))
    return upsample_bicubic(precise, scale, border='mirror').to(lq.dtype)


def output_conv(conv: nn.Module, features: Tensor) -> Tensor:
    """Last convolution of a network, on (B, C, H, W), computed in the type of its weights, also under autocast."""
    with torch.autocast(features.device.type, enabled=False):
        out: Tensor = conv(features.to(conv.weight.dtype))  # type: ignore[arg-type]
    return out


def rgb_to_y(rgb: Tensor) -> Tensor:
    """BT.601 luma of shape (B, 1, H, W) in [16 / 255, 235 / 255], from RGB of shape (B, 3, H, W) in [0, 1]."""
    weights = torch.tensor(Y_WEIGHTS, dtype=rgb.dtype, device=rgb.device).reshape(1, 3, 1, 1)
    return ((rgb * weights).sum(1, keepdim=True) + _Y_OFFSET) / 255
