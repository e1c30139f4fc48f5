"""DASR: unsupervised degradation representation learning for blind super-resolution, a plugin for BasicSR.

Importing the package registers every arch, model, dataset, loss and metric in BasicSR's registries.
Wang et al., CVPR 2021, arXiv 2104.00416.
"""

from dasr_arch import _compat  # noqa: F401  (before the first import of BasicSR)
from dasr_arch._errors import InputError
from dasr_arch._registration import import_all
from dasr_arch.version import __version__

SUFFIXES = {
    'degradations': '_degradation',
    'metrics': '_metric',
    'losses': '_loss',
    'archs': '_arch',
    'data': '_dataset',
    'models': '_model',
}
for _folder, _suffix in SUFFIXES.items():
    import_all(f'{__name__}.{_folder}', _suffix)

from dasr_arch.archs.dasr_arch import DASR, DASROutput
from dasr_arch.archs.weights import load_network
from dasr_arch.degradations import build_degradation, degrade_picture
from dasr_arch.inference.tiling import Tiling
from dasr_arch.inference.upscaler import Look, Upscaler

__all__ = [
    'DASR',
    'DASROutput',
    'InputError',
    'Look',
    'Tiling',
    'Upscaler',
    '__version__',
    'build_degradation',
    'degrade_picture',
    'load_network',
]
