"""Old labels of degradations are understood."""

import pytest

from dasr_arch.benchmark.config import update_label
from dasr_arch.degradations import build_degradation


@pytest.mark.parametrize(
    ('old', 'options'),
    [
        ('width 1.2', {'type': 'IsotropicGaussian', 'sigma': 1.2}),
        ('width 0, noise 5', {'type': 'IsotropicGaussian', 'sigma': 0, 'noise': 5}),
        ('width 0.2-4', {'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0]}),
        ('axes 2 x 0.5 at 10', {'type': 'AnisotropicGaussian', 'lambda_1': 2.0, 'lambda_2': 0.5, 'theta_deg': 10.0}),
        (
            'axes 2 x 0.5 at -30, noise 10, s-fold',
            {
                'type': 'AnisotropicGaussian',
                'lambda_1': 2.0,
                'lambda_2': 0.5,
                'theta_deg': -30.0,
                'noise': 10,
                'downsample': 's_fold',
            },
        ),
        (
            'axes 0.2-4 at 0-180, noise 0-25',
            {
                'type': 'AnisotropicGaussian',
                'lambda_range': [0.2, 4.0],
                'theta_deg_range': [0, 180],
                'noise_range': [0, 25],
            },
        ),
    ],
)
def test_old_label_becomes_the_present_one(old, options):
    label = build_degradation(options, 4).label
    assert update_label(old) == label
    assert update_label(label) == label


@pytest.mark.parametrize('label', ['mean', 'width of the blur', 'axes', 'variances 0.1-10'])
def test_other_labels_stay(label):
    assert update_label(label) == label
