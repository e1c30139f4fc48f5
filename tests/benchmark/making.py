"""Small images, option mappings and weights for the tests of the benchmark."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from torch import nn

from dasr_arch.data.image_io import write_image


def make_image(height: int = 40, width: int = 44, seed: int = 0) -> np.ndarray:
    """Smooth waves with some noise, (H, W, 3), uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases = generator.uniform(0, 6, 3)
    waves = [127 + 90 * np.sin(x / 5 + phase) * np.cos(y / 7 - phase) for phase in phases]
    return (np.stack(waves, 2) + generator.normal(0, 8, (height, width, 3))).round().clip(0, 255).astype(np.uint8)


def write_images(folder: Path, count: int = 2, height: int = 40, width: int = 44) -> Path:
    """A folder of PNG files p0.png, p1.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        write_image(folder / f'p{index}.png', make_image(height, width, index))
    return folder


def write_lmdb(folder: Path, count: int = 2) -> Path:
    """The same images in an LMDB made by BasicSR."""
    images = write_images(folder.with_suffix('.source'), count)
    names = [f'p{index}' for index in range(count)]
    make_lmdb_from_imgs(str(images), str(folder), [f'{name}.png' for name in names], names)
    return folder


def small_dasr(**changes: Any) -> dict[str, Any]:
    """Constructor arguments of a DASR that runs in milliseconds."""
    sizes = {'num_feat': 8, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 16, 'encoder_feat': 4}
    return {'scale': 4, **sizes, 'reduction': 4, **changes}


def save_weights(network: nn.Module, path: Path) -> Path:
    """A checkpoint as BasicSR writes it."""
    torch.save({'params': network.state_dict()}, path)
    return path


def make_options(root: Path, **changes: Any) -> dict[str, Any]:
    """A test of Bicubic on the images under ``root`` with two widths."""
    options: dict[str, Any] = {
        'name': 'trial',
        'scale': 4,
        'num_gpu': 0,
        'datasets': {'Own': {'dataroot_gt': str(root)}},
        'degradations': [{'type': 'IsotropicGaussian', 'sigma': [0, 1.2]}],
        'networks': {'Bicubic': {'type': 'Bicubic'}},
        'metrics': {
            'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True},
            'ssim': {'type': 'calculate_ssim', 'crop_border': 4, 'test_y_channel': True},
        },
    }
    return {**options, **changes}
