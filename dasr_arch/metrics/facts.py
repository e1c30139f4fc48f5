"""Sizes of images that metrics need, and which of their values is the better one."""

from collections.abc import Iterable, Mapping

from dasr_arch._errors import InputError
from dasr_arch.metrics.structural_similarity import WINDOW_SIZE

_SMALLEST = {'calculate_niqe': 96, 'calculate_lpips': 64}  # instead of SSIM's window, after the border is cut off
_LOWER = ('calculate_niqe', 'calculate_lpips')


def smallest_side(metrics: Iterable[Mapping[str, object]]) -> int:
    """The shortest side in pixels of an image that every metric, given by `type` and options, can measure."""
    sides = []
    for metric in metrics:
        border = metric.get('crop_border', 0)
        sides.append(2 * (border if isinstance(border, int) else 0) + _SMALLEST.get(str(metric['type']), WINDOW_SIZE))
    return max(sides, default=1)


def prefers_lower(metric: Mapping[str, object]) -> bool:
    """True if lower values of a metric are better, by its `better`, which is 'higher' or 'lower', or else its `type`.

    Raises InputError for another value of `better`.
    """
    better = metric.get('better', 'lower' if metric['type'] in _LOWER else 'higher')
    if better not in ('higher', 'lower'):
        raise InputError(f"expected 'higher' or 'lower', got {better!r}")
    return better == 'lower'
