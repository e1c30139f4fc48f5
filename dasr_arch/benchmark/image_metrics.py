"""Metrics of BasicSR's registry on one SR image."""

import inspect
from collections.abc import Callable

import numpy as np
from basicsr.utils.registry import METRIC_REGISTRY
from numpy.typing import NDArray

from dasr_arch._errors import InputError, suggest
from dasr_arch.benchmark.config import MetricPlan
from dasr_arch.config.registry_checks import check_metric_values
from dasr_arch.metrics.structural_similarity import calculate_ssim_separable

FASTER: dict[str, Callable[..., float]] = {'calculate_ssim': calculate_ssim_separable}
"""Faster functions for registered metrics, with the same results (tested to 1e-10)."""

_IMAGES = ('img', 'img2')


def check_metric(metric: MetricPlan) -> None:
    """Raises InputError on an unknown metric, one that works on tensors, and unknown or missing options."""
    where = f'metrics.{metric.label}'
    check_metric_values({'type': metric.type, **metric.options}, where)
    known = {name for name, _ in METRIC_REGISTRY if not name.endswith('_pt')}
    if metric.type not in known:
        raise InputError(f"{where}: no metric is called '{metric.type}'{suggest(metric.type, known)}")
    parameters = _named_parameters(metric.type)
    options = {name: default for name, default in parameters.items() if name not in _IMAGES}
    for key, value in metric.arguments.items():
        if key not in options:
            raise InputError(f"{where}: {metric.type} takes no option '{key}'{suggest(key, options)}")
        if key == 'test_y_channel' and not isinstance(value, bool):
            raise InputError(f'{where}: test_y_channel must be true or false, got {value!r}')
        if key == 'input_order' and value != 'HWC':
            raise InputError(f"{where}: input_order must be 'HWC', as the benchmark holds images, got {value!r}")
    missing = [name for name, default in options.items() if default is inspect.Parameter.empty]
    missing = [name for name in missing if name not in metric.arguments]
    if missing:
        raise InputError(f"{where}: {metric.type} needs '{missing[0]}'; the protocol crops as many pixels as the scale")


def measure_image(metric: MetricPlan, sr: NDArray[np.uint8], hr: NDArray[np.uint8]) -> float:
    """A checked metric of two RGB images (H, W, 3); infinite for the PSNR of equal images."""
    # BasicSR's metrics take BGR, as OpenCV reads images.
    images = {'img': sr[..., ::-1], 'img2': hr[..., ::-1]}
    wanted = {name: images[name] for name in _IMAGES if name in _named_parameters(metric.type)}
    function = FASTER.get(metric.type) or METRIC_REGISTRY.get(metric.type)
    return float(function(**wanted, **metric.arguments))


def _named_parameters(name: str) -> dict[str, object]:
    """Parameters of a registered metric that have a name, and their defaults."""
    parameters = inspect.signature(METRIC_REGISTRY.get(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}}
