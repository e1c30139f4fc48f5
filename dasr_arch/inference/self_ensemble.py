"""Self-ensemble: the average of the outputs for the eight rotations and reflections of the input.

Timofte et al., Seven Ways to Improve Example-Based Single Image Super Resolution, CVPR 2016.
"""

import numpy as np
import torch
from torch import Tensor

from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.inference.images.image_modes import Pixels

ORIENTATIONS = range(8)
"""Indices of :func:`orient`."""


def orient(x: Tensor, index: int) -> Tensor:
    """Rotates (..., H, W) by ``index`` % 4 quarter turns; from index 4 to 7, reflects horizontally afterwards."""
    turned = torch.rot90(x, index % 4, (-2, -1))
    return turned.flip(-1) if index >= 4 else turned


def orient_back(x: Tensor, index: int) -> Tensor:
    """Inverse of :func:`orient`."""
    return torch.rot90(x.flip(-1) if index >= 4 else x, -(index % 4), (-2, -1))


def orient_pixels(pixels: Pixels, index: int) -> Pixels:
    """:func:`orient` for an array of shape (H, W, C); returns a view."""
    turned = np.rot90(pixels, index % 4, (0, 1))
    return turned[:, ::-1] if index >= 4 else turned


def super_resolve(network: DASR, lq: Tensor, representations: Tensor) -> Tensor:
    """Super-resolves an image of shape (1, 3, h, w) in [0, 1].

    With representations of shape (1, D) in one pass; with (8, D), one for each of ORIENTATIONS, the average over these.
    """
    if len(representations) == 1:
        sr: Tensor = network(lq, representation=representations)
        return sr
    total = torch.zeros((), device=lq.device)
    for index in ORIENTATIONS:
        sr = network(orient(lq, index), representation=representations[index : index + 1])
        total = total + orient_back(sr.float(), index)
    return total / len(ORIENTATIONS)
