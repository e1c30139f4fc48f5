"""Training dataset: HR patches and the random draws of their degradation.

By default only random values are drawn here; the batch is blurred and shrunk on the training device.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch._errors import InputError, check_choice
from dasr_arch._registration import DATASET_REGISTRY
from dasr_arch.data.patches import (
    PatchGeometry,
    Places,
    Table,
    Turns,
    cut_patch,
    cut_patches,
    draw_position,
    draw_turns,
    find_ratio,
    find_resized,
    turn,
)
from dasr_arch.data.sampling import Item, SampledDataset, sample_generator
from dasr_arch.degradations import Degradation, Window, build_degradation
from dasr_arch.degradations.base import check_range, draw_uniform
from dasr_arch.degradations.whole_image import crop_to_multiple


class Place(NamedTuple):
    """Where the patches of a sample lie."""

    image: int  # number among the usable images
    size: tuple[int, int]  # height and width of the image, resized
    turns: Turns
    corners: list[tuple[int, int]]  # first row and column of each patch in the turned image
    turned_size: tuple[int, int]  # height and width of that, cropped to multiples of the scale

    @property
    def window(self) -> Tensor:
        """The fields of a Window, (4, P) int64."""
        tops, lefts = zip(*self.corners, strict=True)
        return torch.tensor([tops, lefts, *([side] * len(tops) for side in self.turned_size)])


@DATASET_REGISTRY.register()
class DegradationDataset(SampledDataset):
    """Patches of HR images that share augmentation and degradation, in LMDB stores or folders.

    Args:
        opt: 'dataroot_gt' (path or list of paths), 'scale', 'gt_size' (HR patch, a multiple of the scale),
            'degradation' (see build_degradation); optional 'num_patches' of each image (2; 1 for models that take
            pairs), 'use_hflip' and 'use_rot' (true), 'resize_range' (factors in (0, 2] that each image is resized by
            before patches are cut, but not below the size of a patch; none), 'crop_first' (false: a patch is what
            degrading the whole image and then cropping would give; true: as the released code, each patch is degraded
            by itself), 'degrade_on' ('device': the model degrades the batch; 'worker': done here, and items are
            ordinary pairs, as BasicSR's models take them), 'cache_mib' (512: decoded images that each loading process
            keeps, MiB), 'images_on' ('auto': a GPU keeps the decoded images and cuts the patches, if half of its memory
            is enough; 'device'; 'host': loading processes do), 'seed' (0).

    Raises:
        InputError: if an option is wrong or no image is as large as a patch.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.scale: int = opt['scale']
        self.degradation = build_degradation(opt['degradation'], self.scale)
        self.num_patches: int = opt.get('num_patches', 1 if opt.get('degrade_on') == 'worker' else 2)
        self.crop_first: bool = opt.get('crop_first', False)
        size = opt['gt_size']
        if size % self.scale or size <= 0:
            raise InputError(f'gt_size must be a positive multiple of scale {self.scale}, got {size}')
        if self.num_patches < 1:
            raise InputError(f'num_patches must be 1 or more, got {self.num_patches}')
        self.degrade_on: str = opt.get('degrade_on', 'device')
        check_choice('degrade_on', self.degrade_on, ('device', 'worker'))
        check_choice('images_on', opt.get('images_on', 'auto'), ('auto', 'device', 'host'))
        self.resize_range: tuple[float, float] | None = None
        if opt.get('resize_range') is not None:
            self.resize_range = tuple(opt['resize_range'])
            check_range('resize_range', self.resize_range, low=0, high=2, above_low=True)
        if opt.get('images_on') == 'device' and self.degrade_on == 'worker':
            raise InputError('images_on: degrade_on: worker degrades in the loading processes; write host')
        self.geometry = (
            PatchGeometry(size) if self.crop_first else PatchGeometry(size, self.degradation.margin, self.scale)
        )
        super().__init__(opt, opt['dataroot_gt'], size)

    def fill_cache(self) -> None:
        """Decodes the images that are kept decoded, so that no sample waits for it."""
        for index in self.usable:
            if self.source.is_full:
                return
            self.source.read(index)

    def read(self, image: int, *, cached: bool = True) -> NDArray[np.uint8]:
        """An image by its number among the usable ones; InputError if it is damaged or its size has changed."""
        index = self.usable[image]
        pixels = (self.source if cached else self.source.source).read(index)
        if pixels.shape[:2] != self.sizes[image]:
            raise InputError(f"image '{self.source.names[index]}' was replaced during the training; start it again")
        return pixels

    def __getitem__(self, item: int | Item) -> dict[str, Any]:
        """A sample of (image, sample number) or an index.

        With degrade_on 'device': 'hr' (P, 3, side, side) uint8 with margin, 'window' (4, P) int64 (see Window; not with
        crop_first) and the draws of the degradation. With 'worker': 'lq' (3, h, w) and 'gt' (3, H, W), float in [0, 1].
        Always 'gt_path'.
        """
        place, sample = self.draw(item)
        index = self.usable[place.image]
        sample['hr'] = self._cut(self.read(place.image), place)
        if not self.crop_first:
            sample['window'] = place.window
        name = self.source.names[index]
        if self.degrade_on == 'worker':
            lq, gt = degrade_batch(self.degradation, {key: value.unsqueeze(0) for key, value in sample.items()})
            return {'lq': lq[0, 0], 'gt': gt[0, 0], 'gt_path': name, 'lq_path': name}
        return {**sample, 'gt_path': name}

    def _cut(self, image: NDArray[np.uint8], place: Place) -> Tensor:
        if self.resize_range is None:
            turned = turn(crop_to_multiple(image, self.scale), place.turns)
            return torch.stack([cut_patch(turned, top, left, self.geometry) for top, left in place.corners])
        first, size = torch.zeros(1, dtype=torch.int64), image.shape[:2]
        pixels = torch.from_numpy(image.copy()).flatten(0, 1)  # a copy: images of the cache are read-only
        table = Table(pixels, first, torch.tensor([size]))
        turns, resized = torch.tensor([place.turns]), torch.tensor([place.size])
        places = Places(first, turns, place.window.unsqueeze(0), resized)
        return cut_patches(table, places, self.geometry, find_ratio(size, place.size))[0]

    def draw(self, item: int | Item) -> tuple[Place, dict[str, Any]]:
        """Everything random about a sample: where its patches lie, and the draws of the degradation."""
        image, generator = sample_generator(self.opt.get('seed', 0), item)
        size = self.sizes[image]
        if self.resize_range is not None:
            size = find_resized(*size, draw_uniform(None, self.resize_range, generator), self.geometry.size)
        turns = draw_turns(generator, self.opt.get('use_hflip', True), self.opt.get('use_rot', True))
        height, width = (side // self.scale * self.scale for side in size)
        if turns.transpose:
            height, width = width, height
        corners = [draw_position(height, width, self.geometry, generator) for _ in range(self.num_patches)]
        lq_side = self.geometry.size // self.scale
        draws = self.degradation.draw(generator, (lq_side, lq_side), self.num_patches)
        return Place(image, size, turns, corners, (height, width)), draws


def degrade_batch(
    degradation: Degradation, batch: Mapping[str, Any], device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Makes LR and HR patches of a batch of samples of :class:`DegradationDataset`.

    The collated samples hold 'hr' (B, P, 3, side, side) uint8, the draws, and 'window' (B, 4, P) unless patches carry
    no margin. The work is done on ``device``, by default where the patches are. Returns patches in [0, 1], LR of shape
    (B, P, 3, h, w) and HR of shape (B, P, 3, h * scale, w * scale).
    """
    hr = batch['hr'].to(device, non_blocking=True)
    count, patches = hr.shape[:2]
    flat = hr.flatten(0, 1).float().div_(255)
    shared = [key for key in degradation.shared_draws if key in batch]
    draws: dict[str, Tensor] = {key: batch[key].repeat_interleave(patches, 0) for key in shared}
    if 'noise' in batch:
        draws['noise'] = batch['noise'].flatten(0, 1)
    window, gt = None, flat
    if 'window' in batch:
        window = Window(*batch['window'].transpose(0, 1).flatten(1))
        margin = degradation.margin
        gt = flat[..., margin:-margin, margin:-margin]
    lq = degradation.apply(flat, draws, window)
    return lq.unflatten(0, (count, patches)), gt.unflatten(0, (count, patches))


def exchange_second_patches(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Gives each sample the second patch of its neighbour in the batch, the last that of the first.

    The degradation stays: the two patches of a sample then share nothing but that. The given batch of collated samples
    with two patches or more is not changed. InputError if there is one sample alone.
    """
    if len(batch['hr']) < 2:
        raise InputError('patches of other images need at least 2 images in a batch, got 1')
    changed = dict(batch)
    for key, dim in (('hr', 1), ('window', 2)):
        if key in batch:
            moved = batch[key].clone()
            moved.select(dim, 1).copy_(batch[key].select(dim, 1).roll(1, 0))
            changed[key] = moved
    return changed
