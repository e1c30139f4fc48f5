"""Decomposition of images of any mode into grey and RGB components and alpha, their tensors, and the inverse."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dasr_arch._errors import InputError

Pixels = NDArray[Any]
"""An image of shape (H, W, 1) or (H, W, 3): uint8, uint16, or float32 in [0, 1]."""

_WHITE = {'uint8': 255, 'uint16': 65535}  # 1 for floats
_LUMA = (0.299, 0.587, 0.114)  # full-range BT.601, as in Pillow's mode L
_TOLERANCE = 0.5  # floats further outside [0, 1] have another range; closer ones are overshoot and are clipped
_NEIGHBOURS = np.ones((5, 5), np.uint8)
_AS_RGB = ('RGBX', 'YCbCr', 'HSV')
_SIXTEEN_BITS = ('I;16', 'I;16L', 'I;16B', 'I;16N')

Rebuild = Callable[[Sequence[Pixels], Pixels | None], NDArray[Any] | Image.Image]


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

    def assemble(self) -> NDArray[Any] | Image.Image:
        """The image, of the type and mode that was decomposed (palettes become RGB)."""
        return self.rebuild(self.components, self.alpha)


def decompose(image: NDArray[Any] | Image.Image) -> DecomposedImage:
    """Decomposes an array or a Pillow image, see :meth:`dasr_arch.Upscaler.__call__`.

    Raises InputError if its type, mode or value range cannot be upscaled.
    """
    if isinstance(image, Image.Image):
        return _decompose_pillow(image)
    if isinstance(image, np.ndarray):
        return _decompose_array(image)
    raise InputError(f'expected a numpy array, a Pillow image or, to upscale, a tensor, got {type(image).__name__}')


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
    return np.where(visible[..., None], colour, filled.astype(colour.dtype))


def limit_to_neighbours(upscaled: Pixels, alpha: Pixels) -> Pixels:
    """Clips upscaled alpha to the minimum and maximum of the 5 x 5 LR pixels around each pixel.

    The shapes are (new H, new W, 1) and (H, W, 1). Opaque and fully transparent regions keep their exact
    value, and edges do not overshoot.
    """
    plane = np.ascontiguousarray(alpha[..., 0])
    extremes = [find(plane, _NEIGHBOURS, borderType=cv2.BORDER_REPLICATE) for find in (cv2.erode, cv2.dilate)]
    near = [
        (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(upscaled.shape[:2], plane.shape, strict=True)
    ]
    least, most = (extreme[np.ix_(*near)] for extreme in extremes)
    return np.clip(upscaled[..., 0], least, most)[..., None]


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
        inverted = 255 - np.array(image)  # 0 ink is white, as in RGB
        inner = DecomposedImage([inverted[..., :3], inverted[..., 3:]], None, _join_inks)
    else:
        inner = _decompose_array(np.array(_to_plain(image)))

    def rebuild(components: Sequence[Pixels], alpha: Pixels | None) -> Image.Image:
        built = inner.rebuild(components, alpha)
        image = built if isinstance(built, Image.Image) else Image.fromarray(np.ascontiguousarray(built))
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


def _join_inks(components: Sequence[Pixels], _: Pixels | None) -> Image.Image:
    inks = 255 - np.concatenate(list(components), 2)
    return Image.frombytes('CMYK', (inks.shape[1], inks.shape[0]), inks.tobytes())


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
    return np.where(weight[..., None] > 0, colour, upsampled)


def to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """Network input: (1, 3, H, W) in [0, 1], float32; grey becomes three equal channels."""
    if min(pixels.strides) < 0:  # turned by a self-ensemble; numpy takes one turned pixel for contiguous
        pixels = pixels.copy()
    planes = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).to(device)
    return (planes / _WHITE.get(pixels.dtype.name, 1)).permute(2, 0, 1).unsqueeze(0).expand(-1, 3, -1, -1)


def to_pixels(sr: Tensor, dtype: 'np.dtype[Any]', channels: int) -> Pixels:
    """RGB of shape (3, H, W) as pixels of shape (H, W, channels), clamped to [0, 1], and rounded for integers.

    The tensor is of any floating type. With one channel, the pixels are luma.
    """
    sr = sr.float().clamp(0, 1)
    if channels == 1:
        weights = torch.tensor(_LUMA, device=sr.device)
        sr = (sr * weights[:, None, None]).sum(0, keepdim=True).clamp(0, 1)
    if dtype.kind != 'f':
        sr = (sr * _WHITE[dtype.name]).round_()
    return sr.permute(1, 2, 0).cpu().numpy().astype(dtype)
