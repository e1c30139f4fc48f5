"""Training images in the memory of the device, which cuts the patches, bit for bit those of the data set.

Everything random is drawn on the CPU by :class:`DegradationDataset`; only these draws are copied to the device.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor
from torch.utils.data import Dataset

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch.data.degradation_dataset import DegradationDataset
from dasr_arch.data.patches import Places, Table, cut_patches, find_ratio
from dasr_arch.data.sampling import Item

_SHARE = 0.5  # of the free memory of a GPU, which also holds network, gradients and features
_PIXELS_AT_ONCE = 2**23  # that are resized; each needs up to 80 bytes


class DeviceImages:
    """All images of a training set on a device, as one table of uint8 pixels; InputError if one is damaged."""

    def __init__(self, dataset: DegradationDataset, device: torch.device) -> None:
        self._dataset = dataset
        ends = list(accumulate(height * width for height, width in dataset.sizes))
        starts = [0, *ends[:-1]]
        self._table = Table(
            torch.empty(ends[-1], 3, dtype=torch.uint8, device=device),
            torch.tensor(starts, device=device),
            torch.tensor(dataset.sizes, device=device),
        )
        with ThreadPoolExecutor() as pool, progress_bar(total=len(starts), desc='reading', unit='image') as bar:
            try:
                for _ in pool.map(self._load, range(len(starts)), starts, ends):
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _load(self, number: int, start: int, end: int) -> None:
        image = torch.from_numpy(self._dataset.read(number, cached=False))
        self._table.pixels[start:end] = image.flatten(0, 1)

    @property
    def megabytes(self) -> float:
        """Their size."""
        return self._table.pixels.nbytes / 1e6

    def complete(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch of the data set from one of :class:`Draws`: with patches, on the device."""
        out = {key: value for key, value in batch.items() if key not in Places._fields or key == 'window'}
        out['hr'] = self._cut(Places(*(batch[key] for key in Places._fields)))
        if self._dataset.crop_first:
            del out['window']
        return out

    def _cut(self, places: Places) -> Tensor:
        dataset, geometry, ratio, at_once = self._dataset, self._dataset.geometry, None, len(places.image)
        if dataset.resize_range is not None:
            sizes = [dataset.sizes[number] for number in places.image.tolist()]
            ratio = max(map(find_ratio, sizes, places.resized.tolist()))
            side = (geometry.size + 2 * geometry.margin) * max(1, ratio)
            at_once = max(1, int(_PIXELS_AT_ONCE / (dataset.num_patches * side**2)))
        fields = (field.to(self._table.pixels.device, non_blocking=True).split(at_once) for field in places)
        parts = map(Places, *fields)
        return torch.cat([cut_patches(self._table, part, geometry, ratio) for part in parts])


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
        tensors = {'turns': torch.tensor(place.turns), 'resized': torch.tensor(place.size), 'window': place.window}
        return {**draws, **tensors, 'image': place.image, 'gt_path': name}


def keep_on_device(options: Mapping[str, Any], dataset: Dataset[Any]) -> DeviceImages | None:
    """The images of a training set on its device, with a line for the log; None if they stay in main memory.

    InputError if the option file wants them on the device and it has no room, or an image is damaged.
    """
    wanted = options['datasets']['train'].get('images_on', 'auto')
    device = torch.device('cuda' if options['num_gpu'] > 0 else 'cpu')
    if not isinstance(dataset, DegradationDataset) or wanted == 'host' or (wanted == 'auto' and device.type == 'cpu'):
        return None
    reason = _find_obstacle(dataset, device)
    if reason is None:
        images = DeviceImages(dataset, device)
        get_root_logger().info(f'Training images are on {device}, {images.megabytes:.0f} MB')
        return images
    if wanted == 'device':
        raise InputError(f'datasets.train.images_on: {reason}; write host')
    get_root_logger().info(f'Training images stay in main memory: {reason}')
    return None


def _find_obstacle(dataset: DegradationDataset, device: torch.device) -> str | None:
    if dataset.degrade_on == 'worker':
        return 'degrade_on: worker degrades in the loading processes'
    if device.type == 'cpu':
        return None
    needed, (free, _) = 3 * sum(height * width for height, width in dataset.sizes), torch.cuda.mem_get_info(device)
    if needed <= _SHARE * free:
        return None
    return f'they need {needed / 1e9:.2g} GB, more than half of the {free / 1e9:.2g} GB free on the GPU'
