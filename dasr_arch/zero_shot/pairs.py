"""Making a smaller image from an image as it was made itself, and back: what test-time training is built from."""

from collections.abc import Callable
from typing import Literal

import scipy.ndimage
import torch
from torch import Tensor

from dasr_arch.archs.layers.image_ops import enlarge
from dasr_arch.degradations.blur import blur
from dasr_arch.degradations.padding import border_index
from dasr_arch.degradations.resize import downsample_bicubic, downsample_s_fold


class Shrinking:
    """Shrinks images by a factor as a kernel says.

    Args:
        scale: integer factor, 1 or more.
        kernel: blur kernel of shape (1, k, k), k odd, or None for bicubic down-sampling alone.
        method: 'bicubic' blurs and shrinks bicubically, as DASR's protocol; 'direct' blurs and takes every s-th pixel.
            Without a kernel both are bicubic.
        centred: whether with 'direct' the kernel is moved so that what comes out lies where bicubic enlargement
            expects it, by (scale - 1) / 2 pixels between the centres of mass, as ZSSR needs. MZSR leaves it and learns
            the offset.
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
        """Shrinks images.

        Args:
            image: shape (B, C, H, W), floating point.

        Returns:
            Shape (B, C, ceil(H / scale), ceil(W / scale)); a side that is no multiple is continued by its mirror image.
        """
        whole = _fill_up(image, self.scale)
        if self.kernel is not None:
            whole = blur(whole, self.kernel.expand(len(whole), -1, -1))
        return downsample_s_fold(whole, self.scale) if self.direct else downsample_bicubic(whole, self.scale, 'mirror')


def centre_kernel(kernel: Tensor, scale: int) -> Tensor:
    """Moves a kernel so that taking every s-th pixel after it gives what bicubic enlargement puts back in place.

    Args:
        kernel: shape (1, k, k), k odd, sum 1.
        scale: factor.

    Returns:
        Kernel with its centre of mass (scale - 1) / 2 pixels right of and below its middle, moved by cubic splines in
        a larger frame; shape (1, k', k') with k' odd, sum 1.
    """
    side = kernel.shape[-1]
    taps = kernel[0].double().cpu()
    positions = torch.arange(side, dtype=torch.float64) - side // 2
    mass = ((taps.sum(1) * positions).sum(), (taps.sum(0) * positions).sum())
    shift = [(scale - 1) / 2 - float(centre) for centre in mass]
    margin = int(max(abs(step) for step in shift)) + 2
    framed = torch.nn.functional.pad(taps, (margin, margin, margin, margin))
    moved = torch.from_numpy(scipy.ndimage.shift(framed.numpy(), shift, order=3)).to(kernel)
    return (moved / moved.sum())[None]


def enlarge_to(small: Tensor, scale: int, like: Tensor) -> Tensor:
    """Enlarges what :class:`Shrinking` gave back to the size that it had.

    Args:
        small: shape (B, C, h, w).
        scale: factor.
        like: images of the size to cut to, at most scale times as large.

    Returns:
        Shape (B, C, H, W) of ``like``.
    """
    return enlarge(small, scale)[..., : like.shape[-2], : like.shape[-1]]


def back_project(sr: Tensor, lq: Tensor, shrinking: Shrinking, rounds: int) -> Tensor:
    """Moves an SR image towards those that the LR image can come from.

    Args:
        sr: shape (1, C, h * scale, w * scale), in [0, 1].
        lq: shape (1, C, h, w), in [0, 1].
        shrinking: how the LR image is made.
        rounds: how often the difference is enlarged and added.

    Returns:
        The image, in [0, 1].
    """
    for _ in range(rounds):
        sr = (sr + enlarge(lq - shrinking(sr), shrinking.scale)).clamp(0, 1)
    return sr


def run_on_variants(network: Callable[[Tensor], Tensor], lq: Tensor, shrinking: Shrinking, rounds: int) -> Tensor:
    """Enlarges the image in all eight orientations and takes the median of what comes out.

    Args:
        network: what enlarges.
        lq: shape (1, C, h, w), in [0, 1].
        shrinking: how the LR image is made; a kernel is turned with the image.
        rounds: rounds of back-projection of each result.

    Returns:
        The median, pixel by pixel, in [0, 1].
    """
    results = []
    for number in range(8):
        sr = turn_back(network(turn(lq, number)), number)
        results.append(back_project(sr.clamp(0, 1), lq, shrinking, rounds))
    ordered = torch.stack(results).sort(0).values
    return (ordered[3] + ordered[4]) / 2


def turn(image: Tensor, number: int) -> Tensor:
    """One of the eight orientations of an image.

    Args:
        image: shape (..., H, W).
        number: 0..7; from 4 on also mirrored.

    Returns:
        The image, mirrored first and then turned by quarter turns; a view.
    """
    image = image.flip(-1) if number >= 4 else image
    return image.rot90(number % 4, (-2, -1))


def turn_back(image: Tensor, number: int) -> Tensor:
    """Undoes :func:`turn`."""
    image = image.rot90(-(number % 4), (-2, -1))
    return image.flip(-1) if number >= 4 else image


def _fill_up(image: Tensor, scale: int) -> Tensor:
    """Continues the right and lower side by their mirror images until both sides are multiples of the scale."""
    height, width = image.shape[-2:]
    rows, columns = -height % scale, -width % scale
    if rows:
        index = border_index(torch.arange(height + rows, device=image.device), height, 'mirror')
        image = image.index_select(-2, index)
    if columns:
        index = border_index(torch.arange(width + columns, device=image.device), width, 'mirror')
        image = image.index_select(-1, index)
    return image
