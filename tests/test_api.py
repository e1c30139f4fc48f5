"""Inventory of public names and registry keys: it fails for a missing one and for one that is not recorded.

A new name is recorded here; removing one takes a deprecation.
"""

from types import ModuleType

import pytest
from basicsr.utils import registry as basicsr_registries

import dasr_arch
from dasr_arch import _registration

PUBLIC = {
    'AdaptationOptions',
    'DASR',
    'DASROutput',
    'InputError',
    'TargetSize',
    'Tiling',
    'Upscaler',
    '__version__',
    'build_degradation',
    'degrade_image',
    'load_network',
}
KEYS = {
    'arch': {
        'Bicubic',
        'Corrector',
        'DASR',
        'DASRW',
        'DnCNN',
        'IKC',
        'MZSR',
        'Predictor',
        'SAN',
        'SFTMD',
        'SRCNN',
        'SRMD',
        'SRMDNF',
        'UDVD',
        'Wiener',
        'ZSSR',
    },
    'dataset': {'DegradationDataset', 'DegradedTestDataset', 'LQDataset'},
    'degradation': {'AnisotropicGaussian', 'CovarianceGaussian', 'IsotropicGaussian', 'Photographic'},
    'loss': set(),
    'metric': {'calculate_lpips', 'calculate_ssim_release'},
    'model': {'DASRModel', 'IKCModel', 'MZSRModel', 'SupervisedModel'},
}
OF_BASICSR = sorted(set(KEYS) - {'degradation'})  # the kinds that it has registries for


def list_ours(registry: object) -> set[str]:
    """Keys of a registry whose classes and functions are this package's."""
    return {name for name, entry in registry if entry.__module__.startswith('dasr_arch.')}  # type: ignore[attr-defined]


def test_public_names_are_the_recorded_ones():
    assert set(dasr_arch.__all__) == PUBLIC
    assert len(dasr_arch.__all__) == len(PUBLIC)
    assert all(hasattr(dasr_arch, name) for name in PUBLIC)
    found = {name for name, value in vars(dasr_arch).items() if not isinstance(value, ModuleType)}
    assert {name for name in found if not name.startswith('_')} == PUBLIC - {'__version__'}


@pytest.mark.parametrize('kind', KEYS)
def test_registry_keys_are_the_recorded_ones(kind):
    assert list_ours(getattr(_registration, f'{kind.upper()}_REGISTRY')) == KEYS[kind]


@pytest.mark.parametrize('kind', OF_BASICSR)
def test_basicsr_holds_the_same_keys(kind):
    assert list_ours(getattr(basicsr_registries, f'{kind.upper()}_REGISTRY')) == KEYS[kind]


def test_every_registry_is_recorded():
    registries = {name for name, value in vars(_registration).items() if isinstance(value, _registration.Registry)}
    assert registries == {f'{kind.upper()}_REGISTRY' for kind in KEYS}
