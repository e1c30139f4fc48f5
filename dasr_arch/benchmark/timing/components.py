"""Timing of components other than networks, each interleaved with a baseline."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_ssim
from basicsr.utils.matlab_functions import imresize
from numpy.typing import NDArray

from dasr_arch.data.prepare import RunSettings, prepare
from dasr_arch.data.sample_images import find_sample_images
from dasr_arch.data.sub_images import Cutting
from dasr_arch.data.worker_pool import count_cores
from dasr_arch.degradations.base import Window, image_generator
from dasr_arch.degradations.isotropic_degradation import IsotropicGaussian
from dasr_arch.degradations.resize import downsample_bicubic
from dasr_arch.metrics.structural_similarity import calculate_ssim_separable

_SIDE = 1024  # of the image that is downsampled and measured, pixels
_PATCHES = 16
_PATCH = 192  # HR pixels
_SCALE = 4

Image = NDArray[np.float32]
Action = Callable[[], object]


class _Component(NamedTuple):
    component: str  # the task
    ours: tuple[str, Action]  # our implementation
    baseline: tuple[str, Action]  # the implementation that ours is compared with
    compare: Callable[[Any, Any], float] | None  # largest difference of the results, None if they are not comparable


def measure_components(repeats: int, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measures every component after reporting its name; rows ready for JSON.

    Times are medians. InputError if the sample images are missing.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix='dasr-bench-') as folder:
        others = (_describe_ssim(), _describe_degrading(), _describe_preparing(Path(folder)))
        for component in (*_list_downsampling(), *others):
            report(component.component)
            rows.append(_measure(component, repeats))
    return rows


def format_components(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as aligned lines of text, the first one the head."""
    table = [['component', 'here', 'ms', 'baseline', 'ms', 'speedup', 'difference']]
    for row in rows:
        difference = '' if row['difference'] is None else f'{row["difference"]:.1e}'
        times = [f'{row[key]:.1f}' for key in ('milliseconds', 'baseline_milliseconds')]
        table.append([row['part'], row['ours'], times[0], row['baseline'], times[1], f'{row["ratio"]:.2f}', difference])
    return align_columns(table)


def align_columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of text with the columns of a table, aligned on the left."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ['  '.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _measure(component: _Component, repeats: int) -> dict[str, Any]:
    actions = [component.ours[1], component.baseline[1]]
    results = [action() for action in actions]  # warms up, before interleaved runs
    seconds: list[list[float]] = [[], []]
    for _ in range(repeats):
        for action, found in zip(actions, seconds, strict=True):
            started = time.perf_counter()
            action()
            found.append(time.perf_counter() - started)
    ours, baseline = (1000 * statistics.median(found) for found in seconds)
    return {
        'part': component.component,  # the key of stored results
        'ours': component.ours[0],
        'baseline': component.baseline[0],
        'milliseconds': ours,
        'baseline_milliseconds': baseline,
        'ratio': baseline / ours,
        'difference': component.compare(*results) if component.compare else None,
    }


def _make_image() -> Image:
    """A smooth image with noise, RGB of shape (H, W, 3) in [0, 1]."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:_SIDE, :_SIDE] / 40
    waves = np.stack([np.sin(rows + channel) * np.cos(columns - channel) for channel in range(3)], -1)
    noisy = 0.5 + 0.4 * waves + generator.normal(0, 0.03, waves.shape)
    return np.ascontiguousarray(noisy.clip(0, 1).astype(np.float32))


def _list_downsampling() -> list[_Component]:
    image = _make_image()
    tensor = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0).contiguous()

    def make(scale: int) -> _Component:
        side = _SIDE - _SIDE % scale
        cropped, tensor_cropped = image[:side, :side], tensor[..., :side, :side]
        return _Component(
            f'bicubic down-sampling x{scale}, {_SIDE} x {_SIDE}',
            ('downsample_bicubic', lambda: downsample_bicubic(tensor_cropped, scale, 'mirror')),
            ("BasicSR's imresize", lambda: imresize(cropped, 1 / scale)),
            lambda ours, other: float(np.abs(ours[0].permute(1, 2, 0).numpy() - other).max()),
        )

    return [make(scale) for scale in (2, 3, 4)]


def _describe_ssim() -> _Component:
    first = (_make_image() * 255).round().astype(np.uint8)
    noise = np.random.default_rng(1).integers(-9, 10, first.shape)
    second = (first.astype(np.int64) + noise).clip(0, 255).astype(np.uint8)
    return _Component(
        f'SSIM of luma, {_SIDE} x {_SIDE}',
        ('calculate_ssim_separable', lambda: calculate_ssim_separable(first, second, 4, test_y_channel=True)),
        ("BasicSR's calculate_ssim", lambda: calculate_ssim(first, second, 4, test_y_channel=True)),
        lambda ours, other: abs(ours - other),
    )


def _describe_degrading() -> _Component:
    """Degrading a batch of patches from the inside of an image, where padding does not matter."""
    degradation = IsotropicGaussian(scale=_SCALE, sigma_range=(0.2, 4.0))
    margin, side = degradation.margin, _PATCH + 2 * degradation.margin
    generator = image_generator(0, 'patches')
    draws = [degradation.draw(generator, (_PATCH // _SCALE,) * 2) for _ in range(_PATCHES)]
    stacked = {key: torch.stack([draw[key] for draw in draws]) for key in draws[0]}
    image = _make_image()
    starts = [(side * (index // 4), side * (index % 4)) for index in range(_PATCHES)]
    cuts = [image[top : top + side, left : left + side] for top, left in starts]
    batch = torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).contiguous()
    inside = Window(*(torch.full((_PATCHES,), value) for value in (side, side, 4 * side, 4 * side)))

    def one_by_one() -> NDArray[np.floating]:
        kernels = stacked['kernel'].numpy()
        blurred = [cv2.filter2D(cut, -1, kernel) for cut, kernel in zip(cuts, kernels, strict=True)]
        crop = margin // _SCALE
        shrunk = [imresize(cut, 1 / _SCALE)[crop:-crop, crop:-crop] for cut in blurred]
        return (np.stack(shrunk) * 255).round().clip(0, 255) / 255

    return _Component(
        f'degrading {_PATCHES} patches of {_PATCH} x {_PATCH}, x{_SCALE}',
        ('a batch at once', lambda: degradation.apply(batch, stacked, inside)),
        ('filter2D and imresize, one by one', one_by_one),
        lambda ours, other: float(np.abs(ours.permute(0, 2, 3, 1).numpy() - other).max()),
    )


def _describe_preparing(folder: Path) -> _Component:
    images = find_sample_images('train')

    def run(workers: int) -> None:
        settings = RunSettings(workers=workers, force=True, progress=False)
        prepare(images, folder / f'{workers}.lmdb', Cutting(256, 64, 64), settings)

    cores = count_cores()
    return _Component(
        f'preparing an LMDB of {len(images)} images',
        (f'{cores} processes', lambda: run(cores)),
        ('1 process', lambda: run(1)),
        None,
    )
