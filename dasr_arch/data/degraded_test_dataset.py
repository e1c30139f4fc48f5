"""HR images with fixed degradations, for validation during training."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset

from dasr_arch._errors import InputError
from dasr_arch._registration import DATASET_REGISTRY
from dasr_arch.data.image_source import open_source
from dasr_arch.degradations import build_degradation, image_generator
from dasr_arch.degradations.whole_image import crop_to_multiple


@DATASET_REGISTRY.register()
class DegradedTestDataset(Dataset[dict[str, Any]]):
    """Whole images, each under every one of some fixed degradations.

    Args:
        opt: 'dataroot_gt' (path or list of paths), 'scale', 'degradation' (one specification or a list, see
            build_degradation); optional 'seed' (0) of the noise, 'max_images' to take only the first so many.

    Raises:
        InputError: if an option is wrong or a degradation is not fixed.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.scale: int = opt['scale']
        specifications = opt['degradation'] if isinstance(opt['degradation'], list) else [opt['degradation']]
        self.degradations = [build_degradation(specification, self.scale) for specification in specifications]
        for degradation in self.degradations:
            if not degradation.fixed:
                raise InputError(f"degradation '{degradation.label}' is random; a test needs fixed values, no ranges")
        self.source = open_source(opt['dataroot_gt'])
        self.num_images = min(len(self.source), opt.get('max_images') or len(self.source))

    def __len__(self) -> int:
        """Number of images times number of degradations."""
        return self.num_images * len(self.degradations)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One image under one degradation; of the index, degradations count slowest.

        'lq' (3, h, w) and 'gt' (3, h * scale, w * scale), float in [0, 1]; 'kernel' and 'noise_level' of the true
        degradation; 'degradation', its label; 'lq_path' and 'gt_path', names made of image and degradation.
        """
        which, image_index = divmod(index, self.num_images)
        degradation, name = self.degradations[which], self.source.names[image_index]
        image = crop_to_multiple(self.source.read(image_index), self.scale, name)
        gt = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        size = (gt.shape[1] // self.scale, gt.shape[2] // self.scale)
        draws = degradation.draw(image_generator(self.opt.get('seed', 0), name), size)
        lq = degradation.apply(gt.unsqueeze(0), {key: value.unsqueeze(0) for key, value in draws.items()})[0]
        suffix = re.sub(r'[^0-9a-zA-Z-]+', '_', degradation.label)
        return {
            'lq': lq,
            'gt': gt,
            'kernel': draws['kernel'],
            'noise_level': draws['noise_level'],
            'degradation': degradation.label,
            'lq_path': f'{name}_{suffix}.png',
            'gt_path': f'{name}.png',
        }
