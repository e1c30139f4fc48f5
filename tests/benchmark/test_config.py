"""Grids of degradations, and names of folders."""

import pytest

from dasr_arch._errors import InputError
from dasr_arch.benchmark.config import build_degradations, check_folder_names, expand_grid, folder_name


def test_list_of_a_scalar_key_is_a_grid() -> None:
    blocks = expand_grid({'type': 'IsotropicGaussian', 'sigma': [0, 1.2], 'noise': [0, 5]})
    assert [(block['sigma'], block['noise']) for block in blocks] == [(0, 0), (0, 5), (1.2, 0), (1.2, 5)]


def test_range_is_no_grid() -> None:
    block = {'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0]}
    assert expand_grid(block) == [block]


def test_shapes_and_probabilities_are_no_grid():
    block = {'type': 'IsotropicGaussian', 'sigma_range': [1, 2], 'distribution': 'beta', 'beta': [0.3, 0.3]}
    assert expand_grid(block) == [block]
    (degradation,) = build_degradations([{'type': 'Photographic', 'level_probabilities': [0.3, 0.35, 0.2]}], 4)
    assert degradation.level_probabilities == (0.3, 0.35, 0.2)


def test_expanding_leaves_the_block_as_it_was() -> None:
    block = {'type': 'IsotropicGaussian', 'sigma': [0, 1.2]}
    expand_grid(block)
    assert block == {'type': 'IsotropicGaussian', 'sigma': [0, 1.2]}


def test_degradations_come_in_the_order_of_the_file() -> None:
    built = build_degradations(
        [{'type': 'IsotropicGaussian', 'sigma': [3.6, 0]}, {'type': 'IsotropicGaussian', 'sigma': 1.2, 'noise': 5}], 4
    )
    assert [degradation.label for degradation in built] == ['sigma 3.6', 'sigma 0', 'sigma 1.2, noise 5']
    assert {degradation.scale for degradation in built} == {4}


@pytest.mark.parametrize(
    ('blocks', 'message'),
    [
        ([{'type': 'IsotropicGaussian', 'sigma': []}], 'sigma is an empty list'),
        ([{'type': 'IsotropicGaussian', 'sigma': [1.2, 1.2]}], "entry 1: 'sigma 1.2' is there twice"),
        ([{'type': 'IsotropicGausian', 'sigma': 1}], "entry 1: .*did you mean 'IsotropicGaussian'"),
        ([{'type': 'IsotropicGaussian', 'sigma': [1, -1]}], 'entry 1: .*-1'),
        ([{'type': 'IsotropicGaussian', 'sigma': 0}, {'type': 'IsotropicGaussian', 'sgima': 0}], 'entry 2: .*sigma'),
    ],
)
def test_wrong_degradations_are_named_by_their_entry(blocks: list[dict[str, object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_degradations(blocks, 4)


@pytest.mark.parametrize(
    ('label', 'folder'),
    [
        ('sigma 1.2, noise 5', 'sigma_1.2,_noise_5'),
        ('DASR (ours)', 'DASR_(ours)'),
        ('../../etc', 'etc'),
        ('a/b\\c:d', 'a_b_c_d'),
        ('.hidden', 'hidden'),
    ],
)
def test_labels_become_plain_folder_names(label: str, folder: str) -> None:
    assert folder_name(label) == folder


@pytest.mark.parametrize('label', ['', '..', '///'])
def test_label_without_letters_names_no_folder(label: str) -> None:
    with pytest.raises(InputError, match='cannot name a folder'):
        folder_name(label)


def test_labels_that_would_share_a_folder_are_refused() -> None:
    check_folder_names('networks', ['DASR', 'DASR-S'])
    with pytest.raises(InputError, match="networks: 'DASR a' and 'dasr_A'"):
        check_folder_names('networks', ['DASR a', 'dasr_A'])
