"""Degradation of one whole 8-bit image."""

import numpy as np
import torch
from numpy.typing import NDArray

from dasr_arch._errors import InputError
from dasr_arch.degradations.base import Degradation, image_generator


def crop_to_multiple(image: NDArray[np.uint8], scale: int, name: str = '') -> NDArray[np.uint8]:
    """Cuts the bottom and right of (H, W, ...) so that both sides are multiples of the scale; returns a view.

    InputError, with ``name``, if the image is smaller than the scale.
    """
    height, width = image.shape[0] // scale * scale, image.shape[1] // scale * scale
    if height == 0 or width == 0:
        subject = f"image '{name}'" if name else 'an image'
        raise InputError(f'{subject} of {image.shape[0]} x {image.shape[1]} is smaller than the scale {scale}')
    return image[:height, :width]


def degrade_image(
    degradation: Degradation, image: NDArray[np.uint8], seed: int = 0, name: str = ''
) -> NDArray[np.uint8]:
    """Degrades 8-bit RGB (H, W, 3), cropped to a multiple of the scale, to RGB (H // scale, W // scale, 3).

    Random values are drawn from the seed and the image's name, so that they do not depend on the order of images.
    InputError if it is no such image, or smaller than the scale.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f'expected an array of uint8 and shape (H, W, 3), got {got}')
    cropped = crop_to_multiple(image, degradation.scale, name)
    size = (cropped.shape[0] // degradation.scale, cropped.shape[1] // degradation.scale)
    draws = degradation.draw(image_generator(seed, name), size)
    hr = torch.from_numpy(np.ascontiguousarray(cropped.transpose(2, 0, 1))).unsqueeze(0).float() / 255
    lq = degradation.apply(hr, {key: value.unsqueeze(0) for key, value in draws.items()})
    return (lq[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
