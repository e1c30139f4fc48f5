"""Degrading one whole picture held as 8-bit numbers."""

import numpy as np
import torch
from numpy.typing import NDArray

from dasr_arch._errors import InputError
from dasr_arch.degradations.base import Degradation, picture_generator


def crop_to_multiple(picture: NDArray[np.uint8], scale: int, name: str = '') -> NDArray[np.uint8]:
    """Cuts the bottom and right so that both sides are multiples of the scale.

    Args:
        picture: shape (H, W, ...).
        scale: integer factor.
        name: what to call the picture in messages.

    Returns:
        A view of the picture.

    Raises:
        InputError: if the picture is smaller than the scale.
    """
    height, width = picture.shape[0] // scale * scale, picture.shape[1] // scale * scale
    if height == 0 or width == 0:
        subject = f"picture '{name}'" if name else 'a picture'
        raise InputError(f'{subject} of {picture.shape[0]} x {picture.shape[1]} is smaller than the scale {scale}')
    return picture[:height, :width]


def degrade_picture(
    degradation: Degradation, picture: NDArray[np.uint8], seed: int = 0, name: str = ''
) -> NDArray[np.uint8]:
    """Makes the LR picture of an HR picture.

    Args:
        degradation: what to do; whatever is random is drawn from ``seed`` and ``name``.
        picture: RGB, shape (H, W, 3), uint8; cropped to a multiple of the scale.
        seed: seed of the test.
        name: name of the picture, so that the draws do not depend on the order of pictures.

    Returns:
        RGB, shape (H // scale, W // scale, 3), uint8.

    Raises:
        InputError: if the picture is smaller than the scale.
    """
    cropped = crop_to_multiple(picture, degradation.scale, name)
    size = (cropped.shape[0] // degradation.scale, cropped.shape[1] // degradation.scale)
    draws = degradation.draw(picture_generator(seed, name), size)
    hr = torch.from_numpy(np.ascontiguousarray(cropped.transpose(2, 0, 1))).unsqueeze(0).float() / 255
    lq = degradation.apply(hr, {key: value.unsqueeze(0) for key, value in draws.items()})
    return (lq[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
