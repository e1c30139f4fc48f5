"""Images of any mode as layers of one or three channels that a network can enlarge, and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dasr_arch._errors import InputError
from dasr_arch.inference.images.alpha import bleed
from dasr_arch.inference.tiling import Pixels

_TOLERANCE = 0.5  # floats beyond [0, 1] by more than this are of another range, not overshoot
_AS_RGB = ('RGBX', 'YCbCr', 'HSV')
_SIXTEEN_BITS = ('I;16', 'I;16L', 'I;16B', 'I;16N')

Rebuild = Callable[[Sequence[Pixels], Pixels | None], Any]


@dataclass(frozen=True)
class DecomposedImage:
    """An image taken apart.

    Attributes:
        layers: what the network enlarges, each of shape (H, W, 1) or (H, W, 3). RGB and grey images are one layer;
            CMYK is the inks C, M, Y as one and black as another, so that the separation survives.
        alpha: transparency of shape (H, W, 1), if there is any; the colours beneath it are those of its neighbours.
        rebuild: makes the image from layers and alpha.
    """

    layers: Sequence[Pixels]
    alpha: Pixels | None
    rebuild: Rebuild

    def visible(self) -> Pixels:
        """The colours as they are seen, for the encoder: inks multiplied, transparency left out."""
        first = self.layers[0]
        if len(self.layers) == 1:
            return first
        product = first.astype(np.uint32) * self.layers[1]
        return ((product + 127) // 255).astype(np.uint8)

    def replace(self, layers: Sequence[Pixels], alpha: Pixels | None) -> 'DecomposedImage':
        """The same kind of image of other layers."""
        return replace(self, layers=layers, alpha=alpha)

    def assemble(self) -> NDArray[Any] | Image.Image:
        """The image, of the kind that was taken apart."""
        image: NDArray[Any] | Image.Image = self.rebuild(self.layers, self.alpha)
        return image


def decompose(image: NDArray[Any] | Image.Image) -> DecomposedImage:
    """Takes an image apart.

    Args:
        image: an array or a Pillow image, see :meth:`dasr_arch.Upscaler.__call__`.

    Raises:
        InputError: if it is of a kind that cannot be upscaled.
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

    def rebuild(layers: Sequence[Pixels], enlarged: Pixels | None) -> NDArray[Any]:
        whole = layers[0] if enlarged is None else np.concatenate((layers[0], enlarged), 2)
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
    if not -_TOLERANCE <= least <= most <= 1 + _TOLERANCE:  # not a number, too
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

    def rebuild(layers: Sequence[Pixels], alpha: Pixels | None) -> Image.Image:
        image = Image.fromarray(np.ascontiguousarray(inner.rebuild(layers, alpha)))
        image.info = info
        return image

    return DecomposedImage(inner.layers, inner.alpha, rebuild)


def _to_plain(image: Image.Image) -> Image.Image:
    """An image of 8 bits as L, LA, RGB or RGBA, whichever holds all of it."""
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
    light = 255 - np.array(image)  # no ink is bright, as in RGB

    def rebuild(layers: Sequence[Pixels], _: Pixels | None) -> Image.Image:
        inks = 255 - np.concatenate(list(layers), 2)
        planes = [Image.fromarray(np.ascontiguousarray(inks[..., index])) for index in range(4)]
        image = Image.merge('CMYK', planes)
        image.info = info
        return image

    return DecomposedImage([light[..., :3], light[..., 3:]], None, rebuild)
