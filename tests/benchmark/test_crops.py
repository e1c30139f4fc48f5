"""Crops for reports lie where the detail is, and LR and SR show the same part."""

from pathlib import Path

import numpy as np
import pytest

from dasr_arch.benchmark.config import Benchmark, DatasetPlan, MetricPlan, NetworkPlan, build_degradations
from dasr_arch.benchmark.crops import Crop, choose_window, cut, read_result_crop, write_crops
from dasr_arch.data.image_io import read_image, write_image
from dasr_arch.degradations import degrade_image
from tests.benchmark.making import make_image, write_images

DEGRADATIONS = build_degradations([{'type': 'IsotropicGaussian', 'sigma': [0, 1.2], 'noise': 5}], 4)


def test_window_lies_on_the_detail_and_on_the_grid() -> None:
    image = np.full((80, 120, 3), 128, np.uint8)
    image[40:60:2, 84:100] = 0
    left, top = choose_window(image, 24, 4)
    assert left % 4 == top % 4 == 0
    assert left <= 84
    assert left + 24 >= 100
    assert top <= 40
    assert top + 24 >= 60


def test_window_may_be_the_whole_image() -> None:
    assert choose_window(make_image(40, 40), 40, 4) == (0, 0)


def test_crops_of_hr_and_lr_are_parts_of_what_was_tested(tmp_path: Path) -> None:
    root = write_images(tmp_path / 'own', count=1, height=61, width=70)
    benchmark = Benchmark(
        'trial',
        4,
        3,
        (DatasetPlan('Own', root),),
        DEGRADATIONS,
        (NetworkPlan('Bicubic', 'Bicubic'),),
        (MetricPlan('psnr', 'calculate_psnr'),),
    )
    (crop,) = write_crops(benchmark, {'Own': ('p0',)}, 30, tmp_path / 'crops')
    assert crop.side == 28  # a multiple of the scale
    hr = read_image(root / 'p0.png')[:60, :68]
    assert np.array_equal(read_image(tmp_path / 'crops/Own/p0/hr.png'), cut(hr, crop, 1))
    for degradation in DEGRADATIONS:
        small = degrade_image(degradation, hr, 3, 'p0')
        name = degradation.label.replace(' ', '_')
        assert np.array_equal(read_image(tmp_path / f'crops/Own/p0/{name}.png'), cut(small, crop, 4))


def test_result_is_cut_where_it_was_written(tmp_path: Path) -> None:
    crop, labels = Crop('Own', 'p0', 8, 4, 16), ('A b', 'Own', 'sigma 0')
    assert read_result_crop(tmp_path, labels, crop) is None
    image = make_image()
    write_image(tmp_path / 'A_b/Own/sigma_0/p0.png', image)
    found = read_result_crop(tmp_path, labels, crop)
    assert found is not None
    assert np.array_equal(found, image[4:20, 8:24])


@pytest.mark.parametrize('size', [(1, 20), (20, 1), (1, 1)])
def test_images_of_one_pixel_have_a_window(size):
    assert choose_window(np.zeros((*size, 3), np.uint8), 1, 1) == (0, 0)
