"""Public names and registry keys; they may grow, and removing one takes a deprecation."""

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY, Registry

import dasr_arch
from dasr_arch._registration import DEGRADATION_REGISTRY

PUBLIC = {
    'AdaptationOptions',
    'DASR',
    'DASROutput',
    'InputError',
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
    'degradation': {'AnisotropicGaussian', 'CovarianceGaussian', 'IsotropicGaussian'},
    'metric': {'calculate_ssim_release'},
    'model': {'DASRModel', 'IKCModel', 'MZSRModel', 'SupervisedModel'},
}


def test_recorded_public_names_are_there_and_no_other() -> None:
    assert set(dasr_arch.__all__) == PUBLIC
    assert all(hasattr(dasr_arch, name) for name in PUBLIC)


def test_recorded_registry_keys_are_there() -> None:
    registries: dict[str, Registry] = {
        'arch': ARCH_REGISTRY,
        'dataset': DATASET_REGISTRY,
        'degradation': DEGRADATION_REGISTRY,
        'metric': METRIC_REGISTRY,
        'model': MODEL_REGISTRY,
    }
    for kind, keys in KEYS.items():
        assert keys <= {name for name, _ in registries[kind]}, kind
