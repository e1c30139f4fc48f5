"""Sizes of images that metrics need."""

from collections.abc import Iterable, Mapping

from dasr_arch.metrics.structural_similarity import WINDOW_SIZE

_SMALLEST = {'calculate_niqe': 96, 'calculate_lpips': 64}  # instead of SSIM's window, after the border is cut off


def smallest_side(metrics: Iterable[Mapping[str, object]]) -> int:
    """The shortest side in pixels of an image that every metric, given by `type` and options, can measure."""
    sides = []
    for metric in metrics:
        border = metric.get('crop_border', 0)
        sides.append(2 * (border if isinstance(border, int) else 0) + _SMALLEST.get(str(metric['type']), WINDOW_SIZE))
    return max(sides, default=1)
