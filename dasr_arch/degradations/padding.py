"""Border padding as pixel indices, also for padding wider than the image."""

from typing import Literal

import torch
from torch import Tensor

Border = Literal['replicate', 'mirror', 'reflect']


def border_index(position: Tensor, size: Tensor | int, border: Border) -> Tensor:
    """Maps integer positions of any shape, also outside an axis of ``size`` pixels, to positions in [0, size).

    'replicate' repeats the edge pixel, 'mirror' mirrors with the edge pixel repeated (MATLAB's symmetric), 'reflect'
    mirrors without repeating it. ``size`` broadcasts with ``position``; the result is int64.
    """
    size = torch.as_tensor(size, device=position.device)
    if border == 'replicate':
        return torch.minimum(position.clamp(min=0), size - 1)
    if border == 'mirror':
        folded = position.remainder(2 * size)
        return torch.minimum(folded, 2 * size - 1 - folded)
    period = (2 * (size - 1)).clamp(min=1)
    folded = position.remainder(period)
    return torch.minimum(folded, period - folded).minimum(size - 1)


def pad_border(x: Tensor, pad: int, border: Border) -> Tensor:
    """Pads the last two axes by ``pad`` pixels on every side, also by more than the image has."""
    if pad == 0:
        return x
    height, width = x.shape[-2:]
    out = x.new_empty(*x.shape[:-2], height + 2 * pad, width + 2 * pad)
    out[..., pad : pad + height, pad : pad + width] = x
    sides = torch.cat([torch.arange(-pad, 0, device=x.device), torch.arange(pad, device=x.device)])
    sides[pad:] += width
    beside = x.index_select(-1, border_index(sides, width, border))
    out[..., pad : pad + height, :pad], out[..., pad : pad + height, pad + width :] = beside.split(pad, -1)
    sides[pad:] += height - width
    beyond = out.index_select(-2, border_index(sides, height, border) + pad)
    out[..., :pad, :], out[..., pad + height :, :] = beyond.split(pad, -2)
    return out
