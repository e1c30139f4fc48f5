"""LR images without HR images, for training the degradation encoder."""

from collections.abc import Mapping
from typing import Any

import torch

from dasr_arch._errors import InputError
from dasr_arch._registration import DATASET_REGISTRY
from dasr_arch.data.patches import PatchGeometry, cut_patch, draw_position, draw_turns, turn
from dasr_arch.data.sampling import Item, SampledDataset, sample_generator


@DATASET_REGISTRY.register()
class LQDataset(SampledDataset):
    """Two patches of each LR image, which share its degradation.

    Args:
        opt: 'dataroot_lq' (path or list of paths), 'lq_size' (side of a patch); optional 'use_hflip' and 'use_rot'
            (true), 'cache_mib' (512: decoded images that each loading process keeps, MiB), 'seed' (0).

    Raises:
        InputError: if an option is wrong or no image is as large as a patch.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        if opt['lq_size'] < 1:
            raise InputError(f'lq_size must be 1 or more, got {opt["lq_size"]}')
        self.geometry = PatchGeometry(opt['lq_size'])
        super().__init__(opt, opt['dataroot_lq'], opt['lq_size'])

    def __getitem__(self, item: int | Item) -> dict[str, Any]:
        """A sample of (image, sample number) or an index: 'lq' (2, 3, h, w), float in [0, 1]; 'lq_path'."""
        image_index, generator = sample_generator(self.opt.get('seed', 0), item)
        index = self.usable[image_index]
        flips = self.opt.get('use_hflip', True), self.opt.get('use_rot', True)
        image = turn(self.source.read(index), draw_turns(generator, *flips))
        height, width = image.shape[:2]
        places = [draw_position(height, width, self.geometry, generator) for _ in range(2)]
        lq = torch.stack([cut_patch(image, top, left, self.geometry) for top, left in places])
        return {'lq': lq.float() / 255, 'lq_path': self.source.names[index]}
