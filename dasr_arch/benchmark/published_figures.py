"""Published results for comparison, read from data files.

A published figure is matched with a measured one if scale, data set, metric and every parameter of the degradation are
the same; labels are not compared.
"""

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
import numpy as np
import yaml

from dasr_arch._errors import InputError, suggest
from dasr_arch.benchmark.config import build_degradations

METRIC_TYPES = {'psnr': 'calculate_psnr', 'ssim': 'calculate_ssim'}
"""Registered metrics of published ones, on luma with a crop border of the scale."""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    system: str
    values: dict[str, list[Any]]
    parameters: float | None = None  # millions
    multiply_adds: float | None = None  # 1e9
    milliseconds: float | None = None


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scale: int
    rows: list[_Row]
    columns: list[dict[str, Any]] | None = None
    mean_over: dict[str, Any] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    source: str
    remark: str
    metrics: list[str]
    tables: list[_Table]


class PublishedFigure(NamedTuple):
    """One printed number; what is not printed is None."""

    table: str  # name of its data file
    system: str  # name of the method in the paper
    dataset: str
    degradations: frozenset[str]  # keys of the degradation, or of all that the figure is the mean over
    metric: str  # 'psnr' (dB) or 'ssim'
    value: float
    parameters: float | None  # millions
    multiply_adds: float | None  # 1e9, for the paper's image size
    milliseconds: float | None  # on the authors' hardware


def list_published() -> list[str]:
    """Names of the data files."""
    folder = files('dasr_arch.benchmark') / 'published'
    return sorted(entry.name.removesuffix('.yml') for entry in folder.iterdir() if entry.name.endswith('.yml'))


def describe_published(name: str) -> dict[str, str]:
    """Title, source and remark of a data file; see `read_published` for errors."""
    content = _read(name)
    return {'title': content.title, 'source': content.source, 'remark': content.remark}


def read_published(name: str, scale: int) -> list[PublishedFigure]:
    """All figures of a data file, such as 'dasr_table2', for one scale; InputError if there is no file, or none."""
    content = _read(name)
    figures = [
        figure for table in content.tables if table.scale == scale for figure in _list_figures(name, content, table)
    ]
    if not figures:
        scales = ', '.join(f'x{table.scale}' for table in content.tables)
        raise InputError(f"published: '{name}' has figures for {scales}, not for x{scale}; remove it")
    return figures


def key_of(specification: Mapping[str, object]) -> str:
    """A degradation's specification as text; equal degradations have equal keys."""
    plain = {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in specification.items()}
    return json.dumps(plain, sort_keys=True)


def _read(name: str) -> _File:
    known = list_published()
    if name not in known:
        raise InputError(f"published: no figures are called '{name}'{suggest(name, known)}")
    text = (files('dasr_arch.benchmark') / 'published' / f'{name}.yml').read_text(encoding='utf-8')
    return msgspec.convert(yaml.safe_load(text), _File)


def _list_figures(name: str, content: _File, table: _Table) -> Iterator[PublishedFigure]:
    blocks = table.columns or [] if table.mean_over is None else [table.mean_over]
    names = [key_of(degradation.specification()) for degradation in build_degradations(blocks, table.scale)]
    keys = [frozenset({name}) for name in names] if table.mean_over is None else [frozenset(names)]
    places = [(key, metric) for key in keys for metric in content.metrics]
    for row in table.rows:
        costs = (row.parameters, row.multiply_adds, row.milliseconds)
        for dataset, values in row.values.items():
            for (key, metric), value in zip(places, np.ravel(values).tolist(), strict=True):
                yield PublishedFigure(name, row.system, dataset, key, metric, value, *costs)
