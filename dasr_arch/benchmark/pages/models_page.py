"""The page of `dasr compare-models`: crops of one image by all installed models and bicubically, with a slider."""

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dasr_arch._errors import InputError
from dasr_arch.archs.bicubic_arch import Bicubic
from dasr_arch.benchmark.crops import choose_window
from dasr_arch.benchmark.pages.results_page import ENVIRONMENT, Figure, embed_image
from dasr_arch.checkpoints.packaged import DEFAULT_SETTING, read_manifest
from dasr_arch.data.image_io import read_image
from dasr_arch.inference.images.image_modes import to_pixels, to_tensor
from dasr_arch.inference.tiling import TILE_PAD
from dasr_arch.inference.upscaler import AdaptationOptions, Upscaler

BICUBIC = 'Bicubic'
_SIDE = 96  # LR pixels of a crop
_CROPS = 3


def render_models_page(path: Path, scale: int, device: str = 'auto') -> str:
    """The page as text, with everything in it, for an image file.

    The representation is that of the whole image. Raises InputError if the image cannot be read, or no weights are
    installed for the scale.
    """
    image = read_image(path)
    entries = [entry for entry in read_manifest().files if entry.scale == scale]
    if not entries:
        raise InputError(f'no weights are installed for x{scale}; `dasr models` lists the installed ones')
    windows = choose_crops(image)
    names = [f'{number + 1}: at {left}, {top}' for number, (left, top, _) in enumerate(windows)]
    blocks: dict[str, list[Figure]] = {name: [] for name in names}
    for name, window in zip(names, windows, strict=True):
        lq, inner = _cut(image, window, 0)
        blocks[name].append(Figure(embed_image(lq[inner]), 'input', f'{lq.shape[1]} x {lq.shape[0]} pixels', raw=True))
    for model in (BICUBIC, *(entry.name for entry in entries)):
        upscaler = None if model == BICUBIC else Upscaler(scale, model, device=device)
        started = time.perf_counter()
        parts = [_upscale(upscaler, image, window, scale) for window in windows]
        note = f'{time.perf_counter() - started:.1f} s'
        for name, part in zip(names, parts, strict=True):
            data = {'network': model, 'image': name, 'degradation': '', 'caption': model}
            blocks[name].append(Figure(embed_image(part), model, note, data=data))
    chosen = next((entry.name for entry in entries if entry.setting == DEFAULT_SETTING), entries[0].name)
    models = [BICUBIC, *(entry.name for entry in entries)]
    return ENVIRONMENT.get_template('models.html').render(
        title=f'{path.name}: {len(entries)} models at x{scale}',
        lead=f'{image.shape[1]} x {image.shape[0]} pixels; parts with much detail, without further compression.',
        slider={'images': names, 'degradation': '', 'left': BICUBIC, 'right': chosen, 'models': models},
        blocks=blocks.items(),
    )


def choose_crops(image: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Left, top and side in LR pixels of the squares with most detail, one in each third of the longer side.

    A small image has fewer.
    """
    height, width = image.shape[:2]
    side = min(_SIDE, height, width)
    count = min(_CROPS, max(height, width) // side)
    crops = []
    for number in range(count):
        start, stop = (max(height, width) * edge // count for edge in (number, number + 1))
        part = image[:, start:stop] if width >= height else image[start:stop]
        left, top = choose_window(part, side, 1)
        crops.append((left + start, top, side) if width >= height else (left, top + start, side))
    return crops


def _upscale(
    upscaler: Upscaler | None, image: NDArray[np.uint8], window: tuple[int, int, int], scale: int
) -> NDArray[np.uint8]:
    """A crop by a model, or bicubically; computed with a margin that is cut off."""
    lq, inner = _cut(image, window, TILE_PAD)
    if upscaler is None:
        large = to_pixels(Bicubic(scale)(to_tensor(lq, torch.device('cpu')))[0], lq.dtype, 3)
    else:
        large = upscaler(lq, AdaptationOptions(reference=image))
    return large[tuple(slice(part.start * scale, part.stop * scale) for part in inner)]


def _cut(
    image: NDArray[np.uint8], window: tuple[int, int, int], pad: int
) -> tuple[NDArray[np.uint8], tuple[slice, slice]]:
    """A crop with a margin where the image goes on, and the place of the crop in it."""
    left, top, side = window
    outer_left, outer_top = max(0, left - pad), max(0, top - pad)
    lq = image[outer_top : top + side + pad, outer_left : left + side + pad]
    inner = slice(top - outer_top, top - outer_top + side), slice(left - outer_left, left - outer_left + side)
    return lq, inner
