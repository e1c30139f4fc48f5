"""Published figures: as printed, matched by degradation, and held against what is known of them."""

import pytest

from dasr_arch._errors import InputError
from dasr_arch.benchmark.published_figures import describe_published, key_of, list_published, read_published
from dasr_arch.degradations import build_degradation


def find(name: str, scale: int, system: str, dataset: str, metric: str = 'psnr') -> list[float]:
    return [
        figure.value
        for figure in read_published(name, scale)
        if (figure.system, figure.dataset, figure.metric) == (system, dataset, metric)
    ]


def test_figures_are_those_that_are_printed() -> None:
    assert find('dasr_table2', 4, 'DASR', 'Set14') == [28.50, 28.45, 28.28, 27.45]
    assert find('dasr_table2', 2, 'MZSR + Predictor', 'Set5') == [35.96, 35.66, 35.22, 32.32]
    assert find('dasr_table3', 4, 'DASR', 'Set14')[9] == 27.25  # first kernel, noise 5
    assert find('gaussian8', 4, 'KDSR_S-M', 'B100', 'ssim') == [0.7281]
    assert find('gaussian8', 3, 'DANv2', 'Manga109') == [33.28]
    assert find('after_dasr', 4, 'DCLS', 'B100') == [27.69, 27.73, 27.65, 27.02]


@pytest.mark.parametrize(
    ('name', 'scale', 'systems', 'cells'),
    [
        ('dasr_table2', 2, 5, 16),
        ('dasr_table2', 3, 4, 16),
        ('dasr_table2', 4, 5, 16),
        ('dasr_table3', 4, 4, 27),
        ('gaussian8', 2, 3, 10),
        ('gaussian8', 3, 3, 10),
        ('gaussian8', 4, 11, 10),
        ('after_dasr', 2, 2, 4),
        ('after_dasr', 3, 2, 4),
        ('after_dasr', 4, 3, 16),
    ],
)
def test_tables_are_whole_and_plausible(name: str, scale: int, systems: int, cells: int) -> None:
    figures = read_published(name, scale)
    assert len({figure.system for figure in figures}) == systems
    assert len(figures) == systems * cells
    for figure in figures:
        assert 20 < figure.value < 40 if figure.metric == 'psnr' else 0.5 < figure.value < 1


def test_wider_blur_is_never_easier_for_bicubic() -> None:
    for scale in (2, 3, 4):
        for dataset in ('Set5', 'Set14', 'B100', 'Urban100'):
            values = find('dasr_table2', scale, 'Bicubic', dataset)
            assert values == sorted(values, reverse=True)


def test_degradation_is_matched_by_its_parameters_alone() -> None:
    same = [{'type': 'IsotropicGaussian', 'sigma': sigma} for sigma in (2, 2.0)]
    first, second = (key_of(build_degradation(block, 4).specification()) for block in same)
    assert first == second
    other = key_of(build_degradation({'type': 'IsotropicGaussian', 'sigma': 2, 'noise': 5}, 4).specification())
    assert other != first


def test_every_file_says_where_it_comes_from() -> None:
    assert list_published() == ['after_dasr', 'dasr_table2', 'dasr_table3', 'gaussian8']
    for name in list_published():
        described = describe_published(name)
        assert 'et al.' in described['source']
        assert described['remark']


def test_unknown_file_and_scale_are_one_line() -> None:
    with pytest.raises(InputError, match="published: no figures are called 'dasr_table4'; did you mean 'dasr_table"):
        read_published('dasr_table4', 4)
    with pytest.raises(InputError, match="published: 'dasr_table3' has figures for x4, not for x2; remove it"):
        read_published('dasr_table3', 2)
