"""Training images in the memory of the device, which cuts the patches, bit for bit those of the data set.

Everything random is drawn on the CPU by :class:`DegradationDataset`; only these draws are copied to the device.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger
from torch import Tensor
from torch.utils.data import Dataset

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch.data.degradation_dataset import DegradationDataset
from dasr_arch.data.sampling import Item
from dasr_arch.degradations.padding import border_index
from dasr_arch.degradations.whole_image import crop_to_multiple

_SHARE = 0.5  # of the free memory of a GPU, which also holds network, gradients and features


class DeviceImages:
    """All images of a training set on a device, as one table of uint8 pixels.

    Args:
        dataset: the training set; it must not resize images.
        device: where the images are kept.

    Raises:
        InputError: if an image is damaged.
    """

    def __init__(self, dataset: DegradationDataset, device: torch.device) -> None:
        self._dataset = dataset
        sizes = [[side // dataset.scale * dataset.scale for side in size] for size in dataset.sizes]
        ends = list(accumulate(height * width for height, width in sizes))
        self._starts = torch.tensor([0, *ends[:-1]], device=device)
        self._sizes = torch.tensor(sizes, device=device)
        self._pixels = torch.empty(ends[-1], 3, dtype=torch.uint8, device=device)
        with ThreadPoolExecutor() as pool, progress_bar(total=len(sizes), desc='reading', unit='image') as bar:
            try:
                for _ in pool.map(self._load, range(len(sizes)), self._starts.tolist(), ends):
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _load(self, number: int, start: int, end: int) -> None:
        cropped = crop_to_multiple(self._dataset.read(number, cached=False), self._dataset.scale)
        self._pixels[start:end] = torch.from_numpy(np.ascontiguousarray(cropped)).flatten(0, 1)

    @property
    def megabytes(self) -> float:
        """Their size."""
        return self._pixels.nbytes / 1e6

    def complete(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch of the data set from one of :class:`Draws`: with patches, on the device."""
        out = {key: value for key, value in batch.items() if key not in ('image', 'turns')}
        out['hr'] = self.cut(batch['image'], batch['turns'], batch['window'])
        if self._dataset.crop_first:
            del out['window']
        return out

    def cut(self, image: Tensor, turns: Tensor, window: Tensor) -> Tensor:
        """Cuts patches with their margin, reflected where it lies outside the image.

        Args:
            image: numbers of the images, (B,) int64.
            turns: mirror, upend and transpose of each, (B, 3) bool.
            window: positions of the patches in the turned images, (B, 4, P) int64.

        Returns:
            Patches (B, P, 3, side, side) uint8.
        """
        device = self._pixels.device
        image, turns, window = (one.to(device, non_blocking=True) for one in (image, turns, window))
        size, margin, _ = self._dataset.geometry
        span = torch.arange(-margin, size + margin, device=device)
        top, left, height, width = window.unsqueeze(-1).unbind(1)  # (B, P, 1)
        rows, columns = border_index(top + span, height, 'reflect'), border_index(left + span, width, 'reflect')
        mirror, upend, transpose = turns[:, None, None, :].unbind(-1)  # (B, 1, 1)
        full_height, full_width = self._sizes[image][:, None, None, :].unbind(-1)  # of the image before it is turned

        def to_row(position: Tensor) -> Tensor:
            return torch.where(upend, full_height - 1 - position, position) * full_width

        def to_column(position: Tensor) -> Tensor:
            return torch.where(mirror, full_width - 1 - position, position)

        down = torch.where(transpose, to_column(rows), to_row(rows))  # (B, P, side)
        across = torch.where(transpose, to_row(columns), to_column(columns))
        start = self._starts[image][:, None, None, None]
        place = start + down.unsqueeze(-1) + across.unsqueeze(-2)  # (B, P, side, side)
        return self._pixels[place].movedim(-1, 2).contiguous()


class Draws(Dataset[dict[str, Any]]):
    """The samples of a data set without their patches: 'image', 'turns', 'window', 'gt_path' and the draws."""

    def __init__(self, dataset: DegradationDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, item: Item) -> dict[str, Any]:
        """One sample."""
        place, draws = self._dataset.draw(item)
        name = self._dataset.source.names[self._dataset.usable[place.image]]
        where = {'image': place.image, 'turns': torch.tensor(place.turns), 'window': place.window, 'gt_path': name}
        return {**draws, **where}


def keep_on_device(options: Mapping[str, Any], dataset: Dataset[Any]) -> DeviceImages | None:
    """The images of a training set on its device, with a line for the log; None if they stay in main memory.

    InputError if the option file wants them on the device and it has no room, or an image is damaged.
    """
    wanted = options['datasets']['train'].get('images_on', 'auto')
    device = torch.device('cuda' if options['num_gpu'] > 0 else 'cpu')
    if not isinstance(dataset, DegradationDataset) or wanted == 'host' or (wanted == 'auto' and device.type == 'cpu'):
        return None
    reason = dataset.why_on_host or _lack_of_room(dataset, device)
    if reason is None:
        images = DeviceImages(dataset, device)
        get_root_logger().info(f'Training images are on {device}, {images.megabytes:.0f} MB')
        return images
    if wanted == 'device':
        raise InputError(f'datasets.train.images_on: {reason}; write host')
    get_root_logger().info(f'Training images stay in main memory: {reason}')
    return None


def _lack_of_room(dataset: DegradationDataset, device: torch.device) -> str | None:
    if device.type == 'cpu':
        return None
    needed, (free, _) = 3 * sum(height * width for height, width in dataset.sizes), torch.cuda.mem_get_info(device)
    if needed <= _SHARE * free:
        return None
    return f'they need {needed / 1e9:.2g} GB, more than half of the {free / 1e9:.2g} GB free on the GPU'
