"""Crops of test images, which a page shows side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from dasr_arch.archs.layers.image_ops import Y_WEIGHTS
from dasr_arch.benchmark.config import Benchmark, folder_name
from dasr_arch.benchmark.result_cache import SRImageFolder
from dasr_arch.data.image_io import read_image, write_image
from dasr_arch.data.image_source import open_source
from dasr_arch.degradations import degrade_image
from dasr_arch.degradations.whole_image import crop_to_multiple

_LUMA = np.array(Y_WEIGHTS)


class Crop(msgspec.Struct, frozen=True):
    """A square of an HR image, as it is stored in ``table.json``."""

    dataset: str
    image: str = msgspec.field(name='picture')  # the key of stored tables
    left: int  # HR pixels, as the others a multiple of the scale
    top: int
    side: int


def choose_window(image: NDArray[np.uint8], side: int, step: int) -> tuple[int, int]:
    """Left and top, multiples of ``step``, of the square of RGB (H, W, 3) with the largest mean gradient of luma."""
    if min(image.shape[:2]) < 2:  # no gradient
        return 0, 0
    luma = image.astype(np.float64) @ _LUMA
    rows, columns = np.gradient(luma)
    total = np.pad(np.hypot(rows, columns), ((1, 0), (1, 0))).cumsum(0).cumsum(1)  # integral image
    tops = np.arange(0, image.shape[0] - side + 1, step)[:, None]
    lefts = np.arange(0, image.shape[1] - side + 1, step)[None, :]
    sums = total[tops + side, lefts + side] - total[tops, lefts + side] - total[tops + side, lefts] + total[tops, lefts]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(lefts[0, column]), int(tops[row, 0])


def write_crops(benchmark: Benchmark, shown: Mapping[str, Sequence[str]], side: int, folder: Path) -> list[Crop]:
    """Writes HR and LR crops of the images that a page shows, by data set; OSError if that fails.

    The files are ``<dataset>/<image>/hr.png`` and ``<degradation>.png``. ``side``, in HR pixels, is reduced to the
    shorter side of a smaller image.
    """
    crops = []
    for dataset in benchmark.datasets:
        source = open_source(dataset.root)
        for name in shown.get(dataset.name, ()):
            hr = crop_to_multiple(source.read(source.names.index(name)), benchmark.scale)
            square = min(side, *hr.shape[:2]) // benchmark.scale * benchmark.scale
            left, top = choose_window(hr, square, benchmark.scale)
            crop = Crop(dataset.name, name, left, top, square)
            target = folder / folder_name(dataset.name) / folder_name(name)
            write_image(target / 'hr.png', cut(hr, crop, 1))
            for degradation in benchmark.degradations:
                small = cut(degrade_image(degradation, hr, benchmark.seed, name), crop, benchmark.scale)
                write_image(target / f'{folder_name(degradation.label)}.png', small)
            crops.append(crop)
    return crops


def cut(image: NDArray[np.uint8], crop: Crop, factor: int) -> NDArray[np.uint8]:
    """The crop of an image that is ``factor`` times smaller than the HR image."""
    top, left, side = crop.top // factor, crop.left // factor, crop.side // factor
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def read_result_crop(root: Path, labels: tuple[str, str, str], crop: Crop) -> NDArray[np.uint8] | None:
    """The crop of an SR image, None if the image was not written; labels are of network, data set, degradation."""
    path = root.joinpath(*map(folder_name, labels)) / SRImageFolder.file_name(crop.image)
    return cut(read_image(path), crop, 1) if path.is_file() else None
