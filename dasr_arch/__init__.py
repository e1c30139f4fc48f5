"""DASR: unsupervised degradation representation learning for blind super-resolution, a plugin for BasicSR.

Once the package is imported, BasicSR's registries hold its archs, models, datasets and metrics, whichever of the two is
imported first. Wang et al., CVPR 2021, arXiv 2104.00416.
"""

from dasr_arch import _compat  # noqa: F401  (before the first import of torch)
from dasr_arch import _plugin
from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR, DASROutput
from dasr_arch.checkpoints.io import load_network
from dasr_arch.degradations import build_degradation, degrade_image
from dasr_arch.inference.target_size import TargetSize
from dasr_arch.inference.tiling import Tiling
from dasr_arch.inference.upscaler import AdaptationOptions, Upscaler
from dasr_arch.version import __version__

_plugin.attach()

__all__ = [
    'DASR',
    'AdaptationOptions',
    'DASROutput',
    'InputError',
    'TargetSize',
    'Tiling',
    'Upscaler',
    '__version__',
    'build_degradation',
    'degrade_image',
    'load_network',
]
