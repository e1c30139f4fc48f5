"""Upscaling images in memory with one call: arrays, Pillow images and tensors, each comes back as what it was.

Wang et al., Unsupervised Degradation Representation Learning for Blind Super-Resolution, CVPR 2021.
"""

import copy
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
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
from dasr_arch.checkpoints.io import load_network
from dasr_arch.checkpoints.packaged import check_packaged, find_packaged, read_manifest
from dasr_arch.degradations.resize import downsample_bicubic
from dasr_arch.inference.images.alpha import limit_to_neighbours
from dasr_arch.inference.images.image_modes import DecomposedImage, decompose
from dasr_arch.inference.tiling import (
    MIN_TILE,
    ORIENTATIONS,
    Pixels,
    Plan,
    Tiling,
    encode_tiled,
    fast_tile_pixels,
    is_out_of_memory,
    max_tile_pixels,
    orient_pixels,
    plan_squares,
    plan_tiles,
    super_resolve_tiled,
    to_tensor,
)

ImageLike = TypeVar('ImageLike', NDArray[Any], Image.Image, Tensor)
Progress = Callable[[int], object]
CLEAN_SIDE = 512
"""LR pixels to each side of the middle part of an image that ``strength`` finds the clean representation from."""

_ENCODER_PIXELS = 1 << 17  # of a tile of the encoder, at some 700 bytes for each
_LEAST_ENCODER_PIXELS = 1 << 12
_WEIGHTS_SUFFIXES = ('.pth', '.pt', '.safetensors')


@dataclass(frozen=True)
class Look:
    """What a network adapts to, and how carefully it looks.

    Attributes:
        like: take the representation of this image instead of the one that is upscaled.
        strength: 1 is that representation, 0 that of a clean image, between them a blend; above 1, at most 2, goes
            beyond. See :meth:`Upscaler.represent`.
        ensemble: average over the eight ways to turn and mirror the image; eight times the work.

    Raises:
        InputError: if strength is out of range.
    """

    like: NDArray[Any] | Image.Image | Tensor | None = None
    strength: float = 1.0
    ensemble: bool = False

    def __post_init__(self) -> None:
        """Checks the strength."""
        if not 0 <= self.strength <= 2:
            raise InputError(f'strength must be a number in [0, 2], got {self.strength}')


class Upscaler:
    """Enlarges images with a DASR, which finds out by itself how each was degraded.

    One object may be used by several threads at once: it changes nothing in itself, and they take turns tile by tile.
    On a CPU the process keeps freed memory while an image is computed, which is faster; see ``keep_freed_memory``.

    Args:
        scale: up-sampling factor.
        model: 'general' for photos as people have them (any blur, noise), 'iso' for blur alone, the name of installed
            weights (`dasr models`), a weights file of ours or of the authors, or a network.
        device: 'auto', 'cpu', 'cuda', 'mps', or a device of torch.
        precision: 'fp32', 'bf16', or 'auto': bfloat16 where the hardware multiplies it.
        tiling: how large images are cut; by default as the memory asks for.

    Raises:
        InputError: if there are no such weights, or they are damaged or of another scale, or there is no such device.

    Example:
        >>> import numpy as np
        >>> from dasr_arch import DASR, Upscaler
        >>> upscaler = Upscaler(scale=2, model=DASR(scale=2, num_feat=8, num_groups=1, num_blocks=1))
        >>> upscaler(np.zeros((10, 12, 3), np.uint8)).shape
        (20, 24, 3)
    """

    def __init__(
        self,
        scale: int = 4,
        model: str | os.PathLike[str] | DASR = 'general',
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
        self.network = load_model(model, scale).to(self.device).eval().requires_grad_(False)
        self.scale = scale
        self._lock = threading.Lock()
        with torch.no_grad():
            logging.getLogger(__name__).info('Backend: %s', explain_choice(self.network, self.device))

    def __call__(self, image: ImageLike, look: Look | None = None, progress: Progress | None = None) -> ImageLike:
        """Upscales an image.

        Args:
            image: an array of shape (H, W), (H, W, 1), (H, W, 3), and with alpha (H, W, 2) or (H, W, 4), of uint8,
                uint16, or floats in [0, 1]; a Pillow image of any mode of 8 or 16 bits; or a tensor of shape
                (C, H, W) or (B, C, H, W) with 1 to 4 channels, of uint8 or floats in [0, 1]. RGB, from one pixel up.
            look: what to adapt to; by default to the image itself.
            progress: called with the number of LR pixels that were finished since the last call; see ``work``.

        Returns:
            What came in, ``scale`` times as high and wide: the same type, mode and bit depth (palettes become RGB),
            floats in [0, 1], a tensor on its own device. Colour profiles and metadata of a Pillow image are kept.

        Raises:
            InputError: if it is no such image or does not fit into the memory.
        """
        look = look or Look()
        if isinstance(image, Tensor):
            return self._upscale_tensor(image, look, progress)
        layered = decompose(image)
        return self.upscale_layered(layered, self._codes(layered, look, progress), progress).assemble()  # type: ignore[return-value]

    def represent(
        self,
        images: Sequence[NDArray[Any] | Image.Image],
        look: Look | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """The representation that images of one degradation share, such as the frames of an animation.

        The clean representation, towards which ``strength`` blends, is what the encoder finds in the network's own
        output, shrunk bicubically to the size of the image: the same scene as a clean low-resolution image would
        show it. It is found on the middle of the image, at most CLEAN_SIDE pixels a side.

        Args:
            images: at least one; their representations are averaged.
            look: ``like`` takes the place of the images.
            progress: called with the number of LR pixels that were finished on the way to clean representations.

        Returns:
            Shape (1, D), or (8, D) for the eight orientations of an ensemble; on the upscaler's device.
        """
        look = look or Look()
        codes = [self._codes(decompose(image), look, progress) for image in images]
        return torch.stack(codes).mean(0)

    def upscale_layered(
        self, image: DecomposedImage, codes: Tensor, progress: Progress | None = None
    ) -> DecomposedImage:
        """Upscales an image that was taken apart.

        Args:
            image: what ``decompose`` gave.
            codes: what ``represent`` gave.
            progress: see :meth:`__call__`.
        """
        try:
            layers = [self._upscale_layer(layer, codes, progress) for layer in image.layers]
            return image.replace(layers, self._upscale_alpha(image.alpha, codes, progress))
        finally:
            if self.device.type == 'cpu':
                return_freed_memory()

    @staticmethod
    def work(image: NDArray[Any] | Image.Image, look: Look | None = None) -> int:
        """How many LR pixels ``progress`` will have been told of when an image is done.

        Args:
            image: what is upscaled.
            look: what to adapt to; the clean representation, which ``strength`` blends towards, is work as well.
        """
        layered = decompose(image)
        height, width = layered.layers[0].shape[:2]
        varies = layered.alpha is not None and layered.alpha.min() < layered.alpha.max()
        pixels = int(height * width * (len(layered.layers) + varies))
        return pixels + count_clean_pixels(height, width, look or Look())

    def plan(self, height: int, width: int) -> Plan:
        """How an image of a size would be cut now.

        Args:
            height: LR pixels.
            width: LR pixels.
        """
        pad = self.tiling.resolve_pad(self.network)
        if self.tiling.size is not None:
            return plan_squares(height, width, pad, self.tiling.size)
        most = max_tile_pixels(self.network, self.dtype, available_memory(self.device), self.device)
        return plan_tiles(height, width, pad, most, fast_tile_pixels(self.network, self.device))

    def fit_tiling(self, tiling: Tiling) -> Tiling:
        """A way to cut images, with tiles no larger than those that this upscaler would choose now.

        Args:
            tiling: what was asked for.
        """
        if tiling.size is None:
            return tiling
        most = max_tile_pixels(self.network, self.dtype, available_memory(self.device), self.device)
        side = math.isqrt(most) - 2 * tiling.resolve_pad(self.network)
        return replace(tiling, size=min(tiling.size, max(MIN_TILE, side)))

    def _upscale_tensor(self, image: Tensor, look: Look, progress: Progress | None) -> Tensor:
        if image.dim() == 4:
            return torch.stack([self._upscale_tensor(one, look, progress) for one in image])
        if image.dim() != 3 or not 1 <= image.shape[0] <= 4:
            raise InputError(f'expected a tensor of (C, H, W) or (B, C, H, W), 1 to 4 channels, got {image.shape}')
        planes = image.detach().cpu()
        if planes.is_floating_point():
            planes = planes.float()
        layered = decompose(planes.permute(1, 2, 0).contiguous().numpy())
        out = self.upscale_layered(layered, self._codes(layered, look, progress), progress).assemble()
        return torch.from_numpy(np.ascontiguousarray(out)).permute(2, 0, 1).to(image.device, image.dtype)

    def _upscale_alpha(self, alpha: Pixels | None, codes: Tensor, progress: Progress | None) -> Pixels | None:
        if alpha is None:
            return None
        if alpha.min() < alpha.max():
            return limit_to_neighbours(self._upscale_layer(alpha, codes, progress), alpha, self.scale)
        return np.full((alpha.shape[0] * self.scale, alpha.shape[1] * self.scale, 1), alpha.flat[0], alpha.dtype)

    def _upscale_layer(self, pixels: Pixels, codes: Tensor, progress: Progress | None) -> Pixels:
        self._check_room(pixels)
        plan = self.plan(*pixels.shape[:2])
        return super_resolve_tiled(self.network, pixels, codes, plan, self._computing, progress)

    def _check_room(self, pixels: Pixels) -> None:
        """Raises InputError before the work if the result alone does not fit into the memory."""
        needed = pixels.nbytes * self.scale**2
        available = available_memory(torch.device('cpu'))
        if needed > available:
            height, width = (side * self.scale for side in pixels.shape[:2])
            raise InputError(
                f'not enough memory for a result of {width} x {height} pixels: it takes {needed / 1e9:.1f} GB, '
                f'{available / 1e9:.1f} GB are available; cut the image'
            )

    def _codes(self, image: DecomposedImage, look: Look, progress: Progress | None = None) -> Tensor:
        """Representations for all orientations that are needed."""
        source = image if look.like is None else decompose(_as_array(look.like))
        codes = self._encode(source.visible(), look.ensemble)
        if look.strength == 1:
            return codes
        middle = _cut_middle(image.visible(), CLEAN_SIDE)
        own = codes if look.like is None else self._encode(middle, look.ensemble)
        clean = self._encode(self._clean(middle, own, progress), look.ensemble)
        return clean + look.strength * (codes - clean)

    def _clean(self, pixels: Pixels, codes: Tensor, progress: Progress | None) -> Pixels:
        """An image as it would be without its degradation: enlarged by the network, shrunk bicubically."""
        sr = super_resolve_tiled(self.network, pixels, codes, self.plan(*pixels.shape[:2]), self._computing, progress)
        shrunk = downsample_bicubic(to_tensor(sr, torch.device('cpu')), self.scale)
        return shrunk.clamp(0, 1)[0].permute(1, 2, 0).numpy()

    def _encode(self, pixels: Pixels, ensemble: bool) -> Tensor:
        """Shape (1, D), or (8, D) for an ensemble; float32 whatever the precision, because it is a small part."""
        views = [orient_pixels(pixels, index) for index in ORIENTATIONS] if ensemble else [pixels]
        most = _ENCODER_PIXELS
        while True:
            try:
                with (
                    self._lock,
                    exact_float32(),
                    torch.inference_mode(),
                    torch.autocast(self.device.type, enabled=False),
                ):
                    return torch.cat([encode_tiled(self.network, view, self.device, most) for view in views])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                most //= 4
                if most < _LEAST_ENCODER_PIXELS:
                    raise InputError('not enough memory to look at the image; close other programs') from error

    @contextmanager
    def _computing(self) -> Iterator[None]:
        half = self.dtype != torch.float32
        with (
            self._lock,
            exact_float32(),
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=half),
        ):
            yield


def locate_weights(model: str | os.PathLike[str], scale: int | None) -> Path:
    """The weights file that ``model`` stands for.

    Args:
        model: a setting or name of installed weights, or a file.
        scale: up-sampling factor; None is that of the named weights, and 4 for a setting.

    Returns:
        The file; of installed weights, after its checksum was found to be right.

    Raises:
        InputError: if there are no such weights installed, or they are damaged.
    """
    if names_file(model):
        return Path(model)
    return check_packaged(find_packaged(str(model), find_scale(model, scale)))


def find_scale(model: str | os.PathLike[str], scale: int | None = None) -> int:
    """The up-sampling factor that a command means.

    Args:
        model: a setting, a name of installed weights, or a file.
        scale: what was asked for; None is that of the named weights or of the file, and 4 for a setting.

    Raises:
        InputError: if a file must be read for it and cannot.
    """
    if scale is not None:
        return scale
    if names_file(model):
        return load_network(Path(model)).scale
    return next((entry.scale for entry in read_manifest().files if entry.name == model), 4)


def names_file(model: str | os.PathLike[str]) -> bool:
    """Whether what stands for a model is a weights file, there or not, and no name of installed weights."""
    return isinstance(model, os.PathLike) or Path(model).is_file() or Path(model).suffix in _WEIGHTS_SUFFIXES


def count_clean_pixels(height: int, width: int, look: Look) -> int:
    """LR pixels that are computed to find what ``strength`` blends towards.

    Args:
        height: of the image, LR pixels.
        width: of the image.
        look: what to adapt to.
    """
    return 0 if look.strength == 1 else min(height, CLEAN_SIDE) * min(width, CLEAN_SIDE)


def load_model(model: str | os.PathLike[str] | DASR, scale: int) -> DASR:
    """The network that a name, a weights file or a network stands for.

    Args:
        model: as for :class:`Upscaler`; a network is copied.
        scale: up-sampling factor that it must have.

    Raises:
        InputError: if there are no such weights, they are damaged or of another scale, or the network must be told the
            blur kernel.
    """
    if not isinstance(model, DASR):
        return load_named(model, scale)[0]
    if model.scale != scale:
        raise InputError(f'the network is for x{model.scale}, not for x{scale}; choose the scale to fit')
    return _check_blind(copy.deepcopy(model))  # the caller may go on training it


def load_named(model: str | os.PathLike[str], scale: int | None = None) -> tuple[DASR, str]:
    """The network of a weights file or of installed weights, and what it is called.

    Args:
        model: a setting, a name of installed weights, or a file.
        scale: up-sampling factor; None is that of the named weights or of the file, and 4 for a setting.

    Returns:
        The network in evaluation mode on the CPU; the name of the file without its ending, which for installed weights
        is that of the entry.

    Raises:
        InputError: as :func:`load_model`.
    """
    path = locate_weights(model, scale)
    return _check_blind(load_network(path, scale)), path.stem


def _check_blind(network: DASR) -> DASR:
    if not network.blind:
        raise InputError('the network must be told the blur kernel and cannot find it by itself; choose another model')
    return network


def _as_array(image: NDArray[Any] | Image.Image | Tensor) -> NDArray[Any] | Image.Image:
    if not isinstance(image, Tensor):
        return image
    planes = image.detach().cpu()
    planes = planes[0] if planes.dim() == 4 and len(planes) == 1 else planes
    if planes.dim() != 3:
        raise InputError(f'expected one image as a tensor of (C, H, W), got {tuple(image.shape)}')
    array: NDArray[Any] = (planes.float() if planes.is_floating_point() else planes).permute(1, 2, 0).numpy()
    return array


def _cut_middle(pixels: Pixels, side: int) -> Pixels:
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]
