"""Alpha channels: filling the colours of transparent pixels, which avoids halos, and limiting overshoot of alpha."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dasr_arch.inference.images.pixels import Pixels

_NEIGHBOURS = np.ones((5, 5), np.uint8)


def bleed(colour: Pixels, alpha: Pixels) -> Pixels:
    """Fills fully transparent pixels with the colours of nearby visible ones.

    Their own colours are arbitrary, often black, and a network would mix them into the edges. They become the mean over
    visible pixels in a square, the smallest of an image pyramid that holds any. Visible pixels stay; the input array is
    returned if none or all are visible. Colours, shape (H, W, C), are not premultiplied; alpha, shape (H, W, 1), is of
    the same type, and 0 is fully transparent.
    """
    visible = alpha[..., 0] > 0
    if visible.all() or not visible.any():
        return colour
    filled = _fill(colour.astype(np.float32), visible.astype(np.float32))
    if colour.dtype.kind != 'f':
        filled = filled.round()
    out: Pixels = np.where(visible[..., None], colour, filled.astype(colour.dtype))
    return out


def limit_to_neighbours(upscaled: Pixels, alpha: Pixels, scale: int) -> Pixels:
    """Clips upscaled alpha to the minimum and maximum of the 5 x 5 LR pixels around each pixel.

    The shapes are (H * scale, W * scale, 1) and (H, W, 1). Opaque and fully transparent regions keep their exact
    value, and edges do not overshoot.
    """
    plane = np.ascontiguousarray(alpha[..., 0])
    border = cv2.BORDER_REPLICATE
    least = _repeat(cv2.erode(plane, _NEIGHBOURS, borderType=border), scale)
    most = _repeat(cv2.dilate(plane, _NEIGHBOURS, borderType=border), scale)
    out: Pixels = np.clip(upscaled[..., 0], least, most)[..., None]
    return out


def _fill(colour: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours where the weight is 1, elsewhere those of the next coarser pyramid level, upsampled bilinearly."""
    height, width = weight.shape
    if weight.all() or max(height, width) == 1:
        return colour
    pads = ((0, height % 2), (0, width % 2))
    weighted = np.pad(colour * weight[..., None], (*pads, (0, 0)))
    sums = weighted.reshape(weighted.shape[0] // 2, 2, weighted.shape[1] // 2, 2, -1).sum((1, 3))
    counts = np.pad(weight, pads).reshape(sums.shape[0], 2, sums.shape[1], 2).sum((1, 3))
    coarse = _fill(sums / np.maximum(counts, 1)[..., None], (counts > 0).astype(np.float32))
    upsampled = cv2.resize(coarse, (2 * coarse.shape[1], 2 * coarse.shape[0]), interpolation=cv2.INTER_LINEAR)
    upsampled = upsampled.reshape(2 * coarse.shape[0], 2 * coarse.shape[1], -1)[:height, :width]  # OpenCV drops an axis
    out: NDArray[np.float32] = np.where(weight[..., None] > 0, colour, upsampled)
    return out


def _repeat(plane: Pixels, scale: int) -> Pixels:
    out: Pixels = plane.repeat(scale, 0).repeat(scale, 1)
    return out
