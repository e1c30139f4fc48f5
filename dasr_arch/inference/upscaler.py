"""Upscaling of images in memory: NumPy arrays, Pillow images and tensors. Returns the input's type, mode and bit depth.

Wang et al., Unsupervised Degradation Representation Learning for Blind Super-Resolution, CVPR 2021.
"""

import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._memory import keep_freed_memory, return_freed_memory
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.backends.choose import explain_choice
from dasr_arch.backends.devices import available_memory, choose_device
from dasr_arch.backends.precision import Precision, choose_precision, exact_float32
from dasr_arch.checkpoints.packaged import DEFAULT_SETTING
from dasr_arch.data.image_io import cut_middle
from dasr_arch.degradations.resize import downsample_bicubic
from dasr_arch.inference.images.image_modes import (
    DecomposedImage,
    Pixels,
    decompose,
    limit_to_neighbours,
    to_pixels,
    to_tensor,
)
from dasr_arch.inference.load_model import load_model
from dasr_arch.inference.self_ensemble import ORIENTATIONS, orient_pixels
from dasr_arch.inference.target_size import TargetSize, check_mask, choose_factor, resize
from dasr_arch.inference.tile_limits import MIN_TILE, fast_tile_pixels, is_out_of_memory, max_tile_pixels
from dasr_arch.inference.tiling import (
    RESIZE_PAD,
    Output,
    Progress,
    TilePlan,
    Tiling,
    encode_tiled,
    plan_squares,
    plan_tiles,
    super_resolve_tiled,
)

ImageLike = TypeVar('ImageLike', NDArray[Any], Image.Image, Tensor)
CLEAN_SIDE = 512
"""Longest side in LR pixels of the centre crop from which the clean representation is estimated."""

_ENCODER_PIXELS = 1 << 17  # LR pixels of an encoder tile, some 700 bytes each
_MIN_ENCODER_PIXELS = 1 << 12


@dataclass(frozen=True)
class AdaptationOptions:
    """Options of one call: reference image, adaptation strength, self-ensemble.

    Attributes:
        reference: image whose representation replaces that of the input.
        strength: 1 uses the representation, 0 that of a clean image; values between interpolate, values up to 2
            extrapolate. See :meth:`Upscaler.represent`.
        ensemble: self-ensemble, the average over eight rotations and reflections; takes eight times as long.

    Raises:
        InputError: if the strength is not in [0, 2].
    """

    reference: NDArray[Any] | Image.Image | Tensor | None = None
    strength: float = 1.0
    ensemble: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 2:
            raise InputError(f'strength must be a number in [0, 2], got {self.strength}')


class Upscaler:
    """Blind super-resolution with a DASR, which estimates the degradation of each image itself.

    Thread-safe: calls do not change the object, and threads take turns tile by tile. On a CPU the process keeps freed
    memory while an image is computed, which is faster; see ``keep_freed_memory``.

    Args:
        scale: upsampling factor.
        model: 'general' (anisotropic blur and noise), 'iso' (isotropic blur, no noise), 'photo' (slight blur, noise and
            JPEG), the name of installed weights (`dasr models`), a weights file of ours or of the authors, or a
            network; None takes 'photo'.
        device: 'auto', 'cpu', 'cuda', 'mps', or a device of torch.
        precision: 'fp32', 'bf16', or 'auto': bfloat16 where the hardware multiplies it.
        tiling: tile size and padding; by default the largest tiles that fit in memory.

    Raises:
        InputError: if there are no such weights, they are damaged or of another scale, or there is no such device.

    Examples:
        >>> import numpy as np
        >>> from dasr_arch import DASR, Upscaler
        >>> upscaler = Upscaler(scale=2, model=DASR(scale=2, num_feat=8, num_groups=1, num_blocks=1))
        >>> upscaler(np.zeros((10, 12, 3), np.uint8)).shape
        (20, 24, 3)
    """

    def __init__(
        self,
        scale: int = 4,
        model: str | os.PathLike[str] | DASR | None = None,
        *,
        device: str | torch.device = 'auto',
        precision: Precision = 'auto',
        tiling: Tiling | None = None,
    ) -> None:
        self.device = choose_device(device)
        if self.device.type == 'cpu':
            keep_freed_memory()
        self.dtype = choose_precision(precision, self.device)
        self.tiling = tiling or Tiling()
        network = load_model(DEFAULT_SETTING if model is None else model, scale)
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.scale = scale
        self._lock = threading.Lock()
        with torch.no_grad():
            logging.getLogger(__name__).info('Backend: %s', explain_choice(self.network, self.device))

    def __call__(
        self,
        image: ImageLike,
        adaptation: AdaptationOptions | None = None,
        progress: Progress | None = None,
        *,
        size: TargetSize | None = None,
        mask: NDArray[Any] | Image.Image | None = None,
    ) -> ImageLike:
        """Upscales an image.

        Args:
            image: RGB or grey, from 1 x 1 pixels. An array of shape (H, W), (H, W, 1), (H, W, 3), or with alpha
                (H, W, 2), (H, W, 4), of uint8, uint16, or floats in [0, 1]; a Pillow image of any mode of 8 or 16
                bits; or a tensor of shape (C, H, W) or (B, C, H, W), 1 to 4 channels, of uint8 or floats in [0, 1].
            adaptation: reference image, strength, self-ensemble; by default the image's own representation.
            progress: called with the number of LR pixels that were finished since the last call; see ``work``.
            size: of the result, by bicubic reduction of the network's; by default ``scale`` times that of the image.
            mask: an image of the same or of the result's size; the result is the network's where it is white, that of
                bicubic upsampling where it is black, and a blend where it is grey.

        Returns:
            The image with ``scale`` times the height and width, or the size, of the same type, mode and bit depth
            (palettes become RGB); floats in [0, 1], tensors on their device. Pillow images keep colour profile and
            metadata.

        Raises:
            InputError: if it is no such image, does not fit in memory, or the size or the mask does not fit.
        """
        adaptation = adaptation or AdaptationOptions()
        if isinstance(image, Tensor):
            upscale = partial(self, adaptation=adaptation, progress=progress, size=size, mask=mask)
            return _upscale_tensor(image, upscale)
        decomposed = decompose(image)
        output = self.plan_output(decomposed, size, mask)
        representations = self._represent(decomposed, adaptation, progress)
        upscaled = self.upscale_decomposed(decomposed, representations, progress, output)
        return upscaled.assemble()  # type: ignore[return-value]

    def plan_output(
        self, image: DecomposedImage, size: TargetSize | None, mask: NDArray[Any] | Image.Image | None = None
    ) -> Output:
        """Size and mask of the result for an image; arguments and errors as for a call."""
        height, width = image.size
        choose_factor(size or self.scale, width, height, [self.scale])
        new_width, new_height = resize(size or self.scale, width, height)
        if mask is None:
            return Output((new_height, new_width))
        grey = decompose(mask).visible()
        check_mask((grey.shape[1], grey.shape[0]), (width, height), (new_width, new_height))
        return Output(
            (new_height, new_width), to_pixels(to_tensor(grey, torch.device('cpu'))[0], np.dtype(np.float32), 1)
        )

    def represent(
        self,
        images: Sequence[NDArray[Any] | Image.Image] | NDArray[Any] | Image.Image,
        adaptation: AdaptationOptions | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Representation of an image, or of images that share one degradation, such as the frames of an animation.

        The clean representation, towards which ``strength`` interpolates, is that of the network's own output after
        bicubic downsampling to the input's size: the same scene without its degradation. It is estimated from the
        centre crop, at most CLEAN_SIDE pixels a side.

        Args:
            images: one, or a sequence of at least one; their representations are averaged.
            adaptation: reference image, strength, self-ensemble; a reference replaces the images.
            progress: called with the number of LR pixels that were computed for clean representations.

        Returns:
            Shape (1, D), or (8, D) for the orientations of a self-ensemble; on the upscaler's device.
        """
        adaptation = adaptation or AdaptationOptions()
        if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
            images = [images]
        return torch.stack([self._represent(decompose(image), adaptation, progress) for image in images]).mean(0)

    def upscale_decomposed(
        self,
        image: DecomposedImage,
        representations: Tensor,
        progress: Progress | None = None,
        output: Output | None = None,
    ) -> DecomposedImage:
        """Upscales the components and the alpha channel of an image.

        Args:
            image: result of ``decompose``.
            representations: result of ``represent``.
            progress: see :meth:`__call__`.
            output: result of ``plan_output``; by default ``scale`` times the size of the image.
        """
        output = output or self.plan_output(image, None)

        def upscale(pixels: Pixels) -> Pixels:
            return self._upscale_component(pixels, representations, progress, output)

        try:
            components = [upscale(pixels) for pixels in image.components]
            alpha = image.alpha
            if alpha is not None and alpha.min() < alpha.max():
                alpha = limit_to_neighbours(upscale(alpha), alpha)
            elif alpha is not None:
                alpha = np.full((*output.size, 1), alpha.flat[0], alpha.dtype)
            return replace(image, components=components, alpha=alpha)
        finally:
            if self.device.type == 'cpu':
                return_freed_memory()

    @staticmethod
    def work(image: NDArray[Any] | Image.Image, adaptation: AdaptationOptions | None = None) -> int:
        """Total number of LR pixels that ``progress`` receives for an image.

        Args:
            image: the input.
            adaptation: the options of the call; a clean representation is work as well.
        """
        decomposed = decompose(image)
        height, width = decomposed.size
        clean = count_clean_pixels(height, width, adaptation or AdaptationOptions())
        return height * width * decomposed.count_passes() + clean

    def plan(self, height: int, width: int, resized: bool = False) -> TilePlan:
        """Tiles of an image for the memory that is available now.

        Args:
            height: of the image, LR pixels.
            width: of the image, LR pixels.
            resized: the result of the network is resized or blended, which takes RESIZE_PAD pixels more.
        """
        pad = self.tiling.resolve_pad(self.network) + (RESIZE_PAD if resized else 0)
        if self.tiling.size is not None:
            return plan_squares(height, width, pad, self.tiling.size)
        return plan_tiles(height, width, pad, self._max_tile_pixels(), fast_tile_pixels(self.network, self.device))

    def fit_tiling(self, tiling: Tiling) -> Tiling:
        """Limits the tile size to what fits in the memory that is available now.

        Args:
            tiling: the requested tile size and padding.
        """
        if tiling.size is None:
            return tiling
        side = math.isqrt(self._max_tile_pixels()) - 2 * tiling.resolve_pad(self.network)
        return replace(tiling, size=min(tiling.size, max(MIN_TILE, side)))

    def _max_tile_pixels(self) -> int:
        return max_tile_pixels(self.network, self.dtype, available_memory(self.device), self.device)

    def _upscale_component(
        self, pixels: Pixels, representations: Tensor, progress: Progress | None, output: Output | None = None
    ) -> Pixels:
        height, width = pixels.shape[:2]
        output = output or Output((height * self.scale, width * self.scale))
        self._check_room(pixels, output)
        plan = self.plan(height, width, resized=not output.is_plain(height, width, self.scale))._replace(output=output)
        return super_resolve_tiled(self.network, pixels, representations, plan, self._computing, progress)

    def _check_room(self, pixels: Pixels, output: Output) -> None:
        """Raises InputError before the work if the result alone does not fit in memory."""
        height, width = output.size
        needed = height * width * pixels.shape[2] * pixels.itemsize
        available = available_memory(torch.device('cpu'))
        if needed > available:
            raise InputError(
                f'not enough memory for a result of {width} x {height} pixels: it takes {needed / 1e9:.1f} GB, '
                f'{available / 1e9:.1f} GB are available; cut the image'
            )

    def _represent(
        self, image: DecomposedImage, adaptation: AdaptationOptions, progress: Progress | None = None
    ) -> Tensor:
        """Representations for all orientations that are needed: shape (1, D) or (8, D)."""
        reference = adaptation.reference
        if isinstance(reference, Tensor):
            reference = _to_array(reference)
        source = image if reference is None else decompose(reference)
        representations = self._encode(source.visible(), adaptation.ensemble)
        if adaptation.strength == 1:
            return representations
        crop = cut_middle(image.visible(), CLEAN_SIDE)
        own = representations if reference is None else self._encode(crop, adaptation.ensemble)
        clean = self._encode(self._remove_degradation(crop, own, progress), adaptation.ensemble)
        return clean + adaptation.strength * (representations - clean)

    def _remove_degradation(self, pixels: Pixels, representations: Tensor, progress: Progress | None) -> Pixels:
        """A clean LR image of the same scene: the network's output after bicubic downsampling."""
        sr = self._upscale_component(pixels, representations, progress)
        lq = downsample_bicubic(to_tensor(sr, torch.device('cpu')), self.scale)
        return lq.clamp(0, 1)[0].permute(1, 2, 0).numpy()

    def _encode(self, pixels: Pixels, ensemble: bool) -> Tensor:
        """Shape (1, D), or (8, D) for a self-ensemble; in float32 at any precision, because it takes little time."""
        views = [orient_pixels(pixels, index) for index in ORIENTATIONS] if ensemble else [pixels]
        max_pixels = _ENCODER_PIXELS
        while True:
            try:
                with self._computing(torch.float32):
                    return torch.cat([encode_tiled(self.network, view, self.device, max_pixels) for view in views])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                max_pixels //= 4
                if max_pixels < _MIN_ENCODER_PIXELS:
                    raise InputError('not enough memory to encode the image; close other programs') from error

    @contextmanager
    def _computing(self, dtype: torch.dtype | None = None) -> Iterator[None]:
        """Lock and precision for one tile; by default that of the upscaler."""
        half = (dtype or self.dtype) != torch.float32
        with (
            self._lock,
            exact_float32(),
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=half),
        ):
            yield


def count_clean_pixels(height: int, width: int, adaptation: AdaptationOptions) -> int:
    """LR pixels that are computed to estimate the clean representation: none at a strength of 1."""
    return 0 if adaptation.strength == 1 else min(height, CLEAN_SIDE) * min(width, CLEAN_SIDE)


def _upscale_tensor(image: Tensor, upscale: Callable[[NDArray[Any]], NDArray[Any]]) -> Tensor:
    if image.dim() == 4:
        return torch.stack([_upscale_tensor(one, upscale) for one in image])
    if image.dim() != 3 or not 1 <= image.shape[0] <= 4:
        raise InputError(f'expected a tensor of (C, H, W) or (B, C, H, W), 1 to 4 channels, got {image.shape}')
    out = upscale(_to_array(image))
    return torch.from_numpy(np.ascontiguousarray(out)).permute(2, 0, 1).to(image.device, image.dtype)


def _to_array(image: Tensor) -> NDArray[Any]:
    """One image of shape (C, H, W) or (1, C, H, W) as an array of shape (H, W, C)."""
    planes = image.detach().cpu()
    planes = planes[0] if planes.dim() == 4 and len(planes) == 1 else planes
    if planes.dim() != 3:
        raise InputError(f'expected one image as a tensor of (C, H, W), got {tuple(image.shape)}')
    return (planes.float() if planes.is_floating_point() else planes).permute(1, 2, 0).numpy()
