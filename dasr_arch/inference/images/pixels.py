"""Arrays of pixels, and the tensors that a network takes and returns."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[Any]
"""An image of shape (H, W, 1) or (H, W, 3): uint8, uint16, or float32 in [0, 1]."""

_WHITE = {'uint8': 255, 'uint16': 65535}  # 1 for floats
_LUMA = (0.299, 0.587, 0.114)  # full-range BT.601, as in Pillow's mode L


def to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """Network input: (1, 3, H, W) in [0, 1], float32; grey becomes three equal channels."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).to(device)
    return (planes / _WHITE.get(pixels.dtype.name, 1)).permute(2, 0, 1).unsqueeze(0).expand(-1, 3, -1, -1)


def to_pixels(sr: Tensor, dtype: 'np.dtype[Any]', channels: int) -> Pixels:
    """RGB of shape (3, H, W) as pixels of shape (H, W, channels), clamped to [0, 1], and rounded for integers.

    The tensor is of any floating type. With one channel, the pixels are luma.
    """
    sr = sr.float().clamp(0, 1)
    if channels == 1:
        weights = torch.tensor(_LUMA, device=sr.device)
        sr = (sr * weights[:, None, None]).sum(0, keepdim=True).clamp(0, 1)
    if dtype.kind != 'f':
        sr = (sr * _WHITE[dtype.name]).round_()
    return sr.permute(1, 2, 0).cpu().numpy().astype(dtype)
