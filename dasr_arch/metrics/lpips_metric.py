"""LPIPS, an extra because it needs backbone weights that are not part of the package.

Zhang, Isola, Efros, Shechtman, Wang: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018.
The package `lpips` (BSD-2-Clause) holds the weights of the comparison; those of the backbone, which were trained on
ImageNet, the user supplies as a file: torchvision's AlexNet, VGG-16 or SqueezeNet 1.1. Nothing is downloaded.
"""

import importlib
import importlib.util
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dasr_arch._errors import InputError
from dasr_arch._registration import METRIC_REGISTRY

BACKBONES = ('alex', 'vgg', 'squeeze')


@METRIC_REGISTRY.register()
def calculate_lpips(
    img: NDArray[np.generic],
    img2: NDArray[np.generic],
    crop_border: int,
    backbone_path: str,
    net: str = 'alex',
    input_order: str = 'HWC',
) -> float:
    """Perceptual distance of two images; lower is better, 0 for equal ones.

    Args:
        img: an image in BGR, shape (H, W, 3), values 0..255.
        img2: the other one.
        crop_border: pixels ignored on each side; 64 must be left.
        backbone_path: weights file of the backbone as torchvision publishes it.
        net: 'alex' (the usual choice for reporting), 'vgg' or 'squeeze'.
        input_order: 'HWC'; images have no other order here.

    Returns:
        The distance, version 0.1 of the authors' weights.

    Raises:
        InputError: if the package is missing, or the file is missing or of another network.
        ValueError: if the shapes differ or input_order is another.

    Source:
        Zhang et al., CVPR 2018; package lpips 0.1.4.
    """
    if img.shape != img2.shape or input_order != 'HWC':
        raise ValueError(f'expected two images of one shape (H, W, 3), got {img.shape} and {img2.shape}')
    path = Path(backbone_path).expanduser()
    check_backbone(backbone_path, net, 'calculate_lpips')
    distance = _load(path, path.stat().st_mtime_ns, net)
    border = slice(crop_border, -crop_border or None)
    with torch.inference_mode():
        return float(distance(_to_tensor(img[border, border]), _to_tensor(img2[border, border])))


def check_backbone(path: object, net: str, where: str) -> None:
    """Checks that LPIPS can be computed, without reading the weights.

    InputError, opened by ``where``, if the package or the file is missing, or there is no such backbone.
    """
    if net not in BACKBONES:
        raise InputError(f"{where}: net must be one of {', '.join(BACKBONES)}, got '{net}'")
    if importlib.util.find_spec('lpips') is None:
        raise InputError(f"{where}: LPIPS needs the package lpips; pip install 'dasr-representation-learning[lpips]'")
    if not isinstance(path, str) or not Path(path).expanduser().is_file():
        raise InputError(
            f"{where}: backbone_path: '{path}' does not exist; give the weights file of torchvision's "
            f'{ {"alex": "AlexNet", "vgg": "VGG-16", "squeeze": "SqueezeNet 1.1"}[net] }'
        )


@lru_cache(maxsize=2)
def _load(path: Path, changed: int, net: str) -> Any:
    """LPIPS with the user's backbone in evaluation mode; loaded again after the file has changed."""
    lpips = importlib.import_module('lpips')
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter('ignore')  # it builds torchvision's networks with arguments of an older version
        distance = lpips.LPIPS(net=net, version='0.1', pnet_rand=True, verbose=False)
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        names = {name.split('.', 1)[1]: name for name in distance.net.state_dict()}  # sliceN.<layer>.weight
        own = {names[key]: state[f'features.{key}'] for key in names}
        distance.net.load_state_dict(own)
    except Exception as error:  # other or damaged files raise exceptions of any type
        raise InputError(f"'{path}' holds no weights of torchvision's network for net={net}") from error
    return distance.eval()


def _to_tensor(img: NDArray[np.generic]) -> torch.Tensor:
    """BGR in 0..255 as (1, 3, H, W), RGB in [-1, 1]."""
    rgb = np.ascontiguousarray(img[..., ::-1], np.float32)
    return torch.from_numpy(rgb).permute(2, 0, 1).unsqueeze(0) / 127.5 - 1
