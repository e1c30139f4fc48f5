"""LR-HR pairs from a single image for zero-shot SR (ZSSR, MZSR): downscaling, back-projection, self-ensemble.

The image serves as HR ("HR father" in ZSSR's paper), and its downscaled version as LR ("LR son").
"""

from collections.abc import Callable
from typing import Literal

import scipy.ndimage
import torch
from torch import Tensor

from dasr_arch._errors import DivergedError
from dasr_arch.archs.layers.image_ops import upsample_bicubic_symmetric
from dasr_arch.degradations.blur import blur
from dasr_arch.degradations.padding import border_index
from dasr_arch.degradations.resize import downsample_bicubic, downsample_s_fold
from dasr_arch.inference.self_ensemble import ORIENTATIONS, orient, orient_back


class Downscaler:
    """Downscales images by an integer factor, after a blur with a kernel (1, k, k), k odd, if there is one.

    'bicubic' downsamples bicubically, as DASR's protocol; 'direct' takes every s-th pixel. Without a kernel both are
    bicubic. For 'direct', ``centred`` shifts the kernel's centre of mass by (scale - 1) / 2 pixels, so that the result
    is aligned with bicubic upsampling, as ZSSR requires. MZSR does not, and learns the offset.
    """

    def __init__(
        self,
        scale: int,
        kernel: Tensor | None = None,
        method: Literal['bicubic', 'direct'] = 'bicubic',
        centred: bool = False,
    ) -> None:
        self.scale = scale
        self.direct = method == 'direct' and kernel is not None
        self.kernel = centre_kernel(kernel, scale) if self.direct and centred and kernel is not None else kernel

    def __call__(self, image: Tensor) -> Tensor:
        """Downscales (B, C, H, W) to (B, C, ceil(H / scale), ceil(W / scale)), sides padded by reflection."""
        padded = _pad_to_multiple(image, self.scale)
        if self.kernel is not None:
            padded = blur(padded, self.kernel.expand(len(padded), -1, -1))
        if self.direct:
            return downsample_s_fold(padded, self.scale)
        return downsample_bicubic(padded, self.scale, 'mirror')


def centre_kernel(kernel: Tensor, scale: int) -> Tensor:
    """Shifts a kernel (1, k, k), k odd, so that s-fold downsampling after it is aligned with bicubic upsampling.

    Its centre of mass comes to lie (scale - 1) / 2 pixels right of and below its middle. Cubic splines shift it in a
    larger frame, (1, k', k') with k' odd; the sum is 1.
    """
    side = kernel.shape[-1]
    taps = kernel[0].double().cpu()
    positions = torch.arange(side, dtype=torch.float64) - side // 2
    mass = ((taps.sum(1) * positions).sum(), (taps.sum(0) * positions).sum())
    shift = [(scale - 1) / 2 - float(centre) for centre in mass]
    margin = int(max(abs(step) for step in shift)) + 2
    padded = torch.nn.functional.pad(taps, (margin, margin, margin, margin))
    shifted = torch.from_numpy(scipy.ndimage.shift(padded.numpy(), shift, order=3)).to(kernel)
    return (shifted / shifted.sum())[None]


def upsample_to(lq: Tensor, scale: int, like: Tensor) -> Tensor:
    """Upsamples the output of :class:`Downscaler`, cropped to the size of ``like``, at most scale times as large."""
    return upsample_bicubic_symmetric(lq, scale)[..., : like.shape[-2], : like.shape[-1]]


def back_project(sr: Tensor, lq: Tensor, downscaler: Downscaler, rounds: int) -> Tensor:
    """Iterative back-projection: reduces the difference between downscaled SR and LR image, all in [0, 1]."""
    for _ in range(rounds):
        sr = (sr + upsample_bicubic_symmetric(lq - downscaler(sr), downscaler.scale)).clamp(0, 1)
    return sr


def run_finite(network: Callable[[Tensor], Tensor], lq: Tensor) -> Tensor:
    """The output of a network, clamped to [0, 1]; DivergedError if it is not finite."""
    sr = network(lq)
    if not torch.isfinite(sr).all():
        raise DivergedError('test-time adaptation: the output is not finite; lower the learning rates')
    return sr.clamp(0, 1)


def run_self_ensemble(network: Callable[[Tensor], Tensor], lq: Tensor, downscaler: Downscaler, rounds: int) -> Tensor:
    """Median, pixel by pixel, of the results in all eight orientations, each back-projected; everything in [0, 1]."""
    results = []
    for index in ORIENTATIONS:
        sr = orient_back(run_finite(network, orient(lq, index)), index)
        results.append(back_project(sr, lq, downscaler, rounds))
    ordered = torch.stack(results).sort(0).values
    return (ordered[3] + ordered[4]) / 2


def _pad_to_multiple(image: Tensor, scale: int) -> Tensor:
    """Pads the right and lower side by reflection until both sides are multiples of the scale."""
    for axis in (-2, -1):
        side = image.shape[axis]
        missing = -side % scale
        if missing:
            index = border_index(torch.arange(side + missing, device=image.device), side, 'mirror')
            image = image.index_select(axis, index)
    return image
