"""Validation during training, through the interface that every BasicSR model has."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import imwrite, tensor2img
from torch.utils.data import DataLoader
from tqdm import tqdm

from dasr_arch._errors import DivergedError
from dasr_arch.metrics.facts import prefers_lower

OVERALL = 'mean'
Results = dict[str, dict[str, dict[str, float]]]  # data set, degradation or 'mean', metric


def validate(
    model: Any, loaders: Mapping[str, DataLoader[dict[str, Any]]], options: Mapping[str, Any], iteration: int
) -> Results:
    """Measures a model on data sets with one image per batch; training and random states are not affected.

    Returns means over images, by data set, degradation (if a data set has several) and metric, and over all under
    'mean'. The number of finished iterations is part of the names of saved images.
    """
    results: Results = {}
    metrics: Mapping[str, Any] = options['val'].get('metrics') or {}
    calls = [{key: value for key, value in metric.items() if key != 'better'} for metric in metrics.values()]
    for name, loader in loaders.items():
        rows: dict[str, list[list[float]]] = {}
        for batch in tqdm(loader, desc=f'validation {name}', unit='image', leave=False, disable=None):
            restored, truth = restore(model, batch)
            pair = {'img': restored, 'img2': truth}  # without metrics there need be no truth
            values = [calculate_metric(pair, dict(arguments)) for arguments in calls]
            rows.setdefault(batch['degradation'][0] if 'degradation' in batch else OVERALL, []).append(values)
            if options['val'].get('save_img'):
                folder = Path(options['path']['visualization']) / name
                imwrite(restored, str(folder / f'{Path(batch["lq_path"][0]).stem}_{iteration}.png'))
        means = {label: average(metrics, values) for label, values in rows.items()}
        everything = [row for values in rows.values() for row in values]
        results[name] = {**means, OVERALL: average(metrics, everything)}
    return results


@torch.no_grad()
def restore(model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """Super-resolved image and ground truth, None if unknown, as 8-bit BGR, which metrics need.

    Raises DivergedError if the super-resolved image is not finite.
    """
    model.feed_data(batch)
    wrapped = model.net_g
    model.net_g = model.get_bare_model(wrapped)  # DDP would wait for processes that do not validate
    try:
        model.test()
    finally:
        model.net_g = wrapped
    visuals = model.get_current_visuals()
    if not torch.isfinite(visuals['result']).all():
        raise DivergedError(f'validation: the output for {batch["lq_path"][0]} is not finite; lower the learning rate')
    truth = visuals.get('gt')
    return tensor2img([visuals['result']]), None if truth is None else tensor2img([truth])


def average(names: Mapping[str, Any], values: list[list[float]]) -> dict[str, float]:
    """Means by metric."""
    return dict(zip(names, np.mean(values, axis=0).tolist(), strict=True)) if names else {}


class BestResult:
    """The best validation so far, by the first metric, averaged over data sets."""

    def __init__(self, metrics: Mapping[str, Any], value: float | None = None, iteration: int = 0) -> None:
        self.name = next(iter(metrics), None)
        self.higher = self.name is None or not prefers_lower(metrics[self.name])
        self.value = value
        self.iteration = iteration

    def update(self, results: Results, iteration: int) -> bool:
        """True if a validation is better than all before; it becomes the best one."""
        if self.name is None or not results:
            return False
        value = sum(rows[OVERALL][self.name] for rows in results.values()) / len(results)
        if math.isnan(value):  # an image is too small for the metric
            return False
        if self.value is not None and (value <= self.value if self.higher else value >= self.value):
            return False
        self.value, self.iteration = value, iteration
        return True
