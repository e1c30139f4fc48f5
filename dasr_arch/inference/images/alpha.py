"""Transparency: colours beneath it that leave no halo, and edges of it that do not ring."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dasr_arch.inference.tiling import Pixels

_NEIGHBOURS = np.ones((5, 5), np.uint8)


def bleed(colour: Pixels, alpha: Pixels) -> Pixels:
    """Lets the colours of visible pixels run into those that cannot be seen.

    What lies beneath full transparency is arbitrary, often black; a network would mix it into the edge. Averages over
    ever larger squares of visible pixels take its place, the smallest square that holds any.

    Args:
        colour: shape (H, W, C), not multiplied by alpha.
        alpha: shape (H, W, 1) of the same type; 0 cannot be seen.

    Returns:
        The colours, those of visible pixels unchanged; the same array if nothing or everything is hidden.
    """
    visible = alpha[..., 0] > 0
    if visible.all() or not visible.any():
        return colour
    filled = _fill(colour.astype(np.float32), visible.astype(np.float32))
    if colour.dtype.kind != 'f':
        filled = filled.round()
    out: Pixels = np.where(visible[..., None], colour, filled.astype(colour.dtype))
    return out


def limit_to_neighbours(enlarged: Pixels, alpha: Pixels, scale: int) -> Pixels:
    """Keeps enlarged transparency between the least and the most of 5 x 5 LR pixels around each pixel.

    What is wholly opaque or wholly transparent stays so, to the last level, and edges do not overshoot.

    Args:
        enlarged: shape (H * scale, W * scale, 1).
        alpha: what it was enlarged from, shape (H, W, 1).
        scale: up-sampling factor.
    """
    plane = np.ascontiguousarray(alpha[..., 0])
    border = cv2.BORDER_REPLICATE
    least = _repeat(cv2.erode(plane, _NEIGHBOURS, borderType=border), scale)
    most = _repeat(cv2.dilate(plane, _NEIGHBOURS, borderType=border), scale)
    out: Pixels = np.clip(enlarged[..., 0], least, most)[..., None]
    return out


def _fill(colour: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours where the weight is 1, elsewhere those of the next coarser level, enlarged."""
    height, width = weight.shape
    if weight.all() or max(height, width) == 1:
        return colour
    pads = ((0, height % 2), (0, width % 2))
    weighted = np.pad(colour * weight[..., None], (*pads, (0, 0)))
    sums = weighted.reshape(weighted.shape[0] // 2, 2, weighted.shape[1] // 2, 2, -1).sum((1, 3))
    counts = np.pad(weight, pads).reshape(sums.shape[0], 2, sums.shape[1], 2).sum((1, 3))
    coarse = _fill(sums / np.maximum(counts, 1)[..., None], (counts > 0).astype(np.float32))
    enlarged = cv2.resize(coarse, (2 * coarse.shape[1], 2 * coarse.shape[0]), interpolation=cv2.INTER_LINEAR)
    enlarged = enlarged.reshape(2 * coarse.shape[0], 2 * coarse.shape[1], -1)[:height, :width]  # OpenCV drops an axis
    out: NDArray[np.float32] = np.where(weight[..., None] > 0, colour, enlarged)
    return out


def _repeat(plane: Pixels, scale: int) -> Pixels:
    out: Pixels = plane.repeat(scale, 0).repeat(scale, 1)
    return out
