"""Decomposition of images of any mode into grey and RGB components that a network upscales, and its inverse."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dasr_arch._errors import InputError
from dasr_arch.inference.images.alpha import bleed
from dasr_arch.inference.images.pixels import Pixels

_TOLERANCE = 0.5  # floats further outside [0, 1] have another range; closer ones are overshoot and are clipped
_AS_RGB = ('RGBX', 'YCbCr', 'HSV')
_SIXTEEN_BITS = ('I;16', 'I;16L', 'I;16B', 'I;16N')

Rebuild = Callable[[Sequence[Pixels], Pixels | None], Any]


@dataclass(frozen=True)
class DecomposedImage:
    """Components of an image.

    The network upscales the components, arrays of shape (H, W, 1) or (H, W, 3): one for RGB and grey images; CMYK has
    two, C M Y and black, so that the colour separation is kept. Colours of transparent pixels are filled from visible
    ones.
    """

    components: Sequence[Pixels]
    alpha: Pixels | None  # shape (H, W, 1); None for opaque modes
    rebuild: Rebuild  # builds the image from components and alpha

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.components[0].shape[:2]
        return int(height), int(width)

    def count_passes(self) -> int:
        """Number of arrays that the network upscales: the components, and alpha unless it is constant."""
        varies = self.alpha is not None and self.alpha.min() < self.alpha.max()
        return len(self.components) + int(varies)

    def visible(self) -> Pixels:
        """Colours for the encoder, shape (H, W, 1) or (H, W, 3), without alpha; CMYK as RGB."""
        first = self.components[0]
        if len(self.components) == 1:
            return first
        product = first.astype(np.uint32) * self.components[1]
        return ((product + 127) // 255).astype(np.uint8)

    def replace(self, components: Sequence[Pixels], alpha: Pixels | None) -> 'DecomposedImage':
        """An image of the same mode and metadata with other components."""
        return replace(self, components=components, alpha=alpha)

    def assemble(self) -> NDArray[Any] | Image.Image:
        """The image, of the type and mode that was decomposed (palettes become RGB)."""
        image: NDArray[Any] | Image.Image = self.rebuild(self.components, self.alpha)
        return image


def decompose(image: NDArray[Any] | Image.Image) -> DecomposedImage:
    """Decomposes an array or a Pillow image, see :meth:`dasr_arch.Upscaler.__call__`.

    Raises InputError if its type, mode or value range cannot be upscaled.
    """
    if isinstance(image, Image.Image):
        return _decompose_pillow(image)
    if isinstance(image, np.ndarray):
        return _decompose_array(image)
    raise InputError(f'expected a numpy array, a Pillow image or a tensor, got {type(image).__name__}')


def _decompose_array(image: NDArray[Any]) -> DecomposedImage:
    if image.ndim not in (2, 3) or not image.size or (image.ndim == 3 and not 1 <= image.shape[2] <= 4):
        raise InputError(f'expected an array of (H, W) or (H, W, 1 to 4 channels), got shape {image.shape}')
    pixels = _check_values(image).reshape(*image.shape[:2], -1)
    colour, alpha = pixels, None
    if pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1:]
        colour = bleed(pixels[..., :-1], alpha)

    def rebuild(components: Sequence[Pixels], alpha: Pixels | None) -> NDArray[Any]:
        whole = components[0] if alpha is None else np.concatenate((components[0], alpha), 2)
        return (whole[..., 0] if image.ndim == 2 else whole).astype(image.dtype, copy=False)

    return DecomposedImage([colour], alpha, rebuild)


def _check_values(image: NDArray[Any]) -> Pixels:
    """The array as uint8, uint16 or float32."""
    if image.dtype.name in ('uint8', 'uint16'):
        return image
    if image.dtype.kind != 'f':
        raise InputError(f'expected uint8, uint16 or floats in [0, 1], got {image.dtype}')
    values: NDArray[np.float32] = image.astype(np.float32)
    least, most = float(values.min()), float(values.max())
    if not -_TOLERANCE <= least <= most <= 1 + _TOLERANCE:  # False for NaN, too
        raise InputError(f'floats must be in [0, 1], got {least:g} to {most:g}; divide by the range')
    return values.clip(0, 1)


def _decompose_pillow(image: Image.Image) -> DecomposedImage:
    info = {key: value for key, value in image.info.items() if key != 'transparency'}
    if image.mode in _SIXTEEN_BITS:
        inner = _decompose_array(np.array(image).astype(np.uint16))
    elif image.mode == 'CMYK':
        return _decompose_cmyk(image, info)
    else:
        inner = _decompose_array(np.array(_to_plain(image)))

    def rebuild(components: Sequence[Pixels], alpha: Pixels | None) -> Image.Image:
        image = Image.fromarray(np.ascontiguousarray(inner.rebuild(components, alpha)))
        image.info = info
        return image

    return DecomposedImage(inner.components, inner.alpha, rebuild)


def _to_plain(image: Image.Image) -> Image.Image:
    """Converts an 8-bit image to L, LA, RGB or RGBA, whichever keeps its colour and transparency."""
    mode = image.mode
    if mode in ('L', 'LA', 'RGB', 'RGBA') and 'transparency' not in image.info:
        return image
    if mode in ('1', 'L'):
        return image.convert('LA' if image.has_transparency_data else 'L')
    if mode == 'La':
        return image.convert('LA')
    if mode in ('P', 'PA', 'RGB', 'RGBa'):
        return image.convert('RGBA' if image.has_transparency_data else 'RGB')
    if mode in _AS_RGB:
        return image.convert('RGB')
    raise InputError(f"images of mode '{mode}' cannot be upscaled; convert it to RGB, grey or CMYK of 8 or 16 bits")


def _decompose_cmyk(image: Image.Image, info: dict[Any, Any]) -> DecomposedImage:
    inverted = 255 - np.array(image)  # 0 ink is white, as in RGB

    def rebuild(components: Sequence[Pixels], _: Pixels | None) -> Image.Image:
        inks = 255 - np.concatenate(list(components), 2)
        image = Image.frombytes('CMYK', (inks.shape[1], inks.shape[0]), inks.tobytes())
        image.info = info
        return image

    return DecomposedImage([inverted[..., :3], inverted[..., 3:]], None, rebuild)
