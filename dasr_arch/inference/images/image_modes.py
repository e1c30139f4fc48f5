"""Pictures of any mode as layers of one or three channels that a network can enlarge, and back."""

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
class LayeredPicture:
    """A picture taken apart.

    Attributes:
        layers: what the network enlarges, each of shape (H, W, 1) or (H, W, 3). RGB and grey pictures are one layer;
            CMYK is the inks C, M, Y as one and black as another, so that the separation survives.
        alpha: transparency of shape (H, W, 1), if there is any; the colours beneath it are those of its neighbours.
        rebuild: makes the picture from layers and alpha.
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

    def replace(self, layers: Sequence[Pixels], alpha: Pixels | None) -> 'LayeredPicture':
        """The same kind of picture of other layers."""
        return replace(self, layers=layers, alpha=alpha)

    def assemble(self) -> NDArray[Any] | Image.Image:
        """The picture, of the kind that was taken apart."""
        picture: NDArray[Any] | Image.Image = self.rebuild(self.layers, self.alpha)
        return picture


def decompose(picture: NDArray[Any] | Image.Image) -> LayeredPicture:
    """Takes a picture apart.

    Args:
        picture: an array or a Pillow picture, see :meth:`dasr_arch.Upscaler.__call__`.

    Raises:
        InputError: if it is of a kind that cannot be upscaled.
    """
    if isinstance(picture, Image.Image):
        return _decompose_pillow(picture)
    if isinstance(picture, np.ndarray):
        return _decompose_array(picture)
    raise InputError(f'expected a numpy array, a Pillow picture or a tensor, got {type(picture).__name__}')


def _decompose_array(picture: NDArray[Any]) -> LayeredPicture:
    if picture.ndim not in (2, 3) or not picture.size or (picture.ndim == 3 and not 1 <= picture.shape[2] <= 4):
        raise InputError(f'expected an array of (H, W) or (H, W, 1 to 4 channels), got shape {picture.shape}')
    pixels = _check_values(picture).reshape(*picture.shape[:2], -1)
    colour, alpha = pixels, None
    if pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1:]
        colour = bleed(pixels[..., :-1], alpha)

    def rebuild(layers: Sequence[Pixels], enlarged: Pixels | None) -> NDArray[Any]:
        whole = layers[0] if enlarged is None else np.concatenate((layers[0], enlarged), 2)
        return (whole[..., 0] if picture.ndim == 2 else whole).astype(picture.dtype, copy=False)

    return LayeredPicture([colour], alpha, rebuild)


def _check_values(picture: NDArray[Any]) -> Pixels:
    """The array as uint8, uint16 or float32."""
    if picture.dtype.name in ('uint8', 'uint16'):
        return picture
    if picture.dtype.kind != 'f':
        raise InputError(f'expected uint8, uint16 or floats in [0, 1], got {picture.dtype}')
    values: NDArray[np.float32] = picture.astype(np.float32)
    least, most = float(values.min()), float(values.max())
    if not -_TOLERANCE <= least <= most <= 1 + _TOLERANCE:  # not a number, too
        raise InputError(f'floats must be in [0, 1], got {least:g} to {most:g}; divide by the range')
    return values.clip(0, 1)


def _decompose_pillow(picture: Image.Image) -> LayeredPicture:
    info = {key: value for key, value in picture.info.items() if key != 'transparency'}
    if picture.mode in _SIXTEEN_BITS:
        inner = _decompose_array(np.array(picture).astype(np.uint16))
    elif picture.mode == 'CMYK':
        return _decompose_cmyk(picture, info)
    else:
        inner = _decompose_array(np.array(_to_plain(picture)))

    def rebuild(layers: Sequence[Pixels], alpha: Pixels | None) -> Image.Image:
        image = Image.fromarray(np.ascontiguousarray(inner.rebuild(layers, alpha)))
        image.info = info
        return image

    return LayeredPicture(inner.layers, inner.alpha, rebuild)


def _to_plain(picture: Image.Image) -> Image.Image:
    """A picture of 8 bits as L, LA, RGB or RGBA, whichever holds all of it."""
    mode = picture.mode
    if mode in ('L', 'LA', 'RGB', 'RGBA') and 'transparency' not in picture.info:
        return picture
    if mode in ('1', 'L'):
        return picture.convert('LA' if picture.has_transparency_data else 'L')
    if mode == 'La':
        return picture.convert('LA')
    if mode in ('P', 'PA', 'RGB', 'RGBa'):
        return picture.convert('RGBA' if picture.has_transparency_data else 'RGB')
    if mode in _AS_RGB:
        return picture.convert('RGB')
    raise InputError(f"pictures of mode '{mode}' cannot be upscaled; convert it to RGB, grey or CMYK of 8 or 16 bits")


def _decompose_cmyk(picture: Image.Image, info: dict[Any, Any]) -> LayeredPicture:
    light = 255 - np.array(picture)  # no ink is bright, as in RGB

    def rebuild(layers: Sequence[Pixels], _: Pixels | None) -> Image.Image:
        inks = 255 - np.concatenate(list(layers), 2)
        planes = [Image.fromarray(np.ascontiguousarray(inks[..., index])) for index in range(4)]
        image = Image.merge('CMYK', planes)
        image.info = info
        return image

    return LayeredPicture([light[..., :3], light[..., 3:]], None, rebuild)
