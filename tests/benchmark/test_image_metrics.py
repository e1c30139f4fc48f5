"""Metrics are BasicSR's, on BT.601 luma without rounding, and their options are checked first."""

import numpy as np
import pytest
from basicsr.metrics import calculate_psnr, calculate_ssim

from dasr_arch._errors import InputError
from dasr_arch.benchmark.config import MetricPlan
from dasr_arch.benchmark.image_metrics import check_metric, measure_image
from dasr_arch.metrics.facts import smallest_side
from tests.benchmark.making import make_image

PSNR = MetricPlan('psnr', 'calculate_psnr', {'crop_border': 4, 'test_y_channel': True})
SSIM = MetricPlan('ssim', 'calculate_ssim', {'crop_border': 4, 'test_y_channel': True})


def release_psnr(sr: np.ndarray, hr: np.ndarray, border: int) -> float:
    """The released code's formula: difference in [-1, 1], weights over 256, no rounding."""
    difference = (sr.astype(np.float64) - hr) / 255
    luma = difference @ np.array([65.738, 129.057, 25.064]) / 256
    inner = luma[border:-border, border:-border]
    return float(-10 * np.log10((inner**2).mean()))


def test_psnr_is_the_released_codes_for_rgb_images() -> None:
    sr, hr = make_image(seed=1), make_image(seed=2)
    assert measure_image(PSNR, sr, hr) == pytest.approx(release_psnr(sr, hr, 4), abs=2e-4)


def test_red_counts_as_red() -> None:
    hr = np.full((30, 30, 3), 128, np.uint8)
    red, blue = hr.copy(), hr.copy()
    red[..., 0] += 40
    blue[..., 2] += 40
    assert measure_image(PSNR, red, hr) < measure_image(PSNR, blue, hr) - 6  # red weighs 2.6 times as much as blue


def test_ssim_is_basicsrs() -> None:
    sr, hr = make_image(seed=1), make_image(seed=2)
    expected = calculate_ssim(sr[..., ::-1], hr[..., ::-1], crop_border=4, test_y_channel=True)
    assert measure_image(SSIM, sr, hr) == pytest.approx(expected, abs=1e-10)


def test_equal_images_have_infinite_psnr() -> None:
    image = make_image()
    assert measure_image(PSNR, image, image) == float('inf')
    assert calculate_psnr(image, image, crop_border=0) == float('inf')


def test_metric_without_reference_gets_the_network_output_alone() -> None:
    niqe = MetricPlan('niqe', 'calculate_niqe', {'crop_border': 0})
    check_metric(niqe)
    sr = make_image(200, 200, seed=1)
    assert measure_image(niqe, sr, make_image(200, 200, seed=2)) == measure_image(niqe, sr, sr)


def test_smallest_side_leaves_room_for_border_and_window() -> None:
    metrics = [{'type': 'calculate_psnr', 'crop_border': 4}, {'type': 'calculate_ssim', 'crop_border': 2}]
    assert smallest_side([]) == 1
    assert smallest_side(metrics) == 19
    assert smallest_side([*metrics, {'type': 'calculate_niqe', 'crop_border': 4}]) == 104


@pytest.mark.parametrize(
    ('kind', 'options', 'message'),
    [
        ('calculate_pnsr', {}, "did you mean 'calculate_psnr'"),
        ('calculate_psnr_pt', {'crop_border': 4}, "measures tensors; write 'calculate_psnr'"),
        ('calculate_psnr', {}, "needs 'crop_border'"),
        ('calculate_psnr', {'crop_boarder': 4}, "no option 'crop_boarder'; did you mean 'crop_border'"),
        ('calculate_psnr', {'crop_border': 4, 'anything': 1}, "no option 'anything'"),
        ('calculate_psnr', {'crop_border': -1}, 'crop_border: expected a whole number'),
        ('calculate_psnr', {'crop_border': '4'}, 'crop_border: expected a whole number'),
        ('calculate_psnr', {'crop_border': 4, 'test_y_channel': 'yes'}, 'must be true or false'),
        ('calculate_psnr', {'crop_border': 4, 'input_order': 'CHW'}, "must be 'HWC'"),
        ('calculate_lpips', {'net': 'resnet', 'backbone_path': 'a.pth'}, "net must be one of alex, .*, got 'resnet'"),
        ('calculate_ssim_release', {'crop_border': 4, 'test_y_channel': True}, "no option 'test_y_channel'"),
    ],
)
def test_wrong_metrics_are_refused_before_anything_is_computed(
    kind: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_metric(MetricPlan('mine', kind, options))
    assert str(caught.value).startswith('metrics.mine')
    assert '\n' not in str(caught.value)
