"""`dasr probe`: fits a probe to an encoder, tests it on other images, and writes a report."""

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch._svg import Axes, Panel, Series, draw_figure, draw_scatter
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.packaged import Setting
from dasr_arch.data.image_source import ImageSource, open_source
from dasr_arch.degradations import build_degradation, degrade_image
from dasr_arch.probe.fit import (
    MAP_NOISE_LEVELS,
    Confusion,
    degradation_options,
    encode_image,
    fit_probe,
    gather_samples,
    list_kernels,
    list_noises,
    list_qualities,
)
from dasr_arch.probe.model import ProbeClass, Quantity, write_probe
from dasr_arch.probe.tsne import MIN_MAP_POINTS, EncodedPatches, RepresentationMap, map_by_tsne

_COLOURS = ('#2a78d6', '#eb6834', '#1baf7a', '#8a5cd1')


@dataclass(frozen=True)
class ProbeSettings:
    """Settings of `dasr probe`."""

    images: Sequence[str]  # folders or LMDBs of HR training images
    test: str  # folder or LMDB of HR test images
    setting: Setting  # degradations to classify, see list_kernels
    limit: int | None = None  # largest number of training images, spread evenly over all; None takes all
    progress: bool = True  # show a progress bar on stderr


class ProbeReport(NamedTuple):
    """Results of a probe."""

    confusions: Mapping[Quantity, Confusion]  # confusion matrices by quantity
    train_images: int  # number of training images, like test_images
    test_images: int
    maps: Sequence[RepresentationMap]  # of the test images under four kernels and, but for 'iso', four noise levels


def run_probing(
    network: DASR, settings: ProbeSettings, out: str | os.PathLike[str], with_maps: bool = False
) -> ProbeReport:
    """Fits, tests and saves a probe, and maps the test images by t-SNE if wished, which needs the extra `report`.

    Raises InputError if images are missing, the test images are training images or too few for maps, or scikit-learn is
    not installed, and OSError if the file cannot be written.
    """
    if with_maps and importlib.util.find_spec('sklearn') is None:
        raise InputError('maps need scikit-learn; install the extra `report`')
    if settings.limit is not None and settings.limit < 1:
        raise InputError(f'limit must be at least 1, got {settings.limit}')
    train, test = open_source(list(settings.images)), open_source(settings.test)
    same = set(train.names) & set(test.names)
    if same and len(same) == len(test):
        raise InputError(f'{settings.test}: every image is among those to fit to; test on others')
    if with_maps and 4 * len(test) <= MIN_MAP_POINTS:
        least = MIN_MAP_POINTS // 4 + 1
        raise InputError(f'{settings.test}: maps need at least {least} images, got {len(test)}; test on more')
    count = len(train) if settings.limit is None else min(settings.limit, len(train))
    chosen = (train.read(index * len(train) // count) for index in range(count))
    classes: dict[Quantity, list[ProbeClass]] = {
        'kernel': list_kernels(settings.setting, network.scale),
        'noise': list_noises(settings.setting),
        'jpeg': list_qualities(settings.setting),
    }
    with progress_bar(
        total=count + len(test), desc='images', unit='image', disable=not settings.progress, leave=False
    ) as bar:
        fitted = gather_samples(network, chosen, classes, bar.update)
        tested = gather_samples(network, map(test.read, range(len(test))), classes, bar.update)
    probe, confusions = fit_probe(network, fitted, tested, classes, Path(settings.test).name)
    maps = make_test_maps(network, test, settings.setting) if with_maps else []
    write_probe(out, probe)
    return ProbeReport(confusions, count, len(test), maps)


def make_test_maps(network: DASR, source: ImageSource, setting: Setting) -> list[RepresentationMap]:
    """Maps of whole images: four kernels; but for 'iso' four noise levels; for 'photo' four JPEG qualities.

    As in the paper's figures 3 and 6. 'iso' and 'photo' take four kernel widths; 'general' two isotropic and two
    anisotropic kernels.
    """
    clean, classes = ProbeClass('noise 0', {'noise': 0.0}), list_kernels(setting, network.scale)
    isotropic = [one for one in classes if 'sigma' in one.values]
    kernels = [isotropic[round(index * (len(isotropic) - 1) / 3)] for index in range(4)]
    if setting == 'general':
        upright = [one for one in classes if one.values.get('theta_deg') in (0.0, 90.0)]
        longest = sorted(upright, key=lambda one: one.values['lambda_2'] - one.values['lambda_1'])[:2]
        kernels = [isotropic[0], isotropic[-1], *longest]
    title = 'four kernels' if setting == 'general' else 'four blur widths'
    shown = {title: [(one, clean, one.label) for one in kernels]}
    middle = isotropic[len(isotropic) // 2]
    if setting != 'iso':
        levels = [ProbeClass(f'noise {level}', {'noise': float(level)}) for level in MAP_NOISE_LEVELS]
        shown[f'four noise levels, {middle.label}'] = [(middle, one, one.label) for one in levels]
    if setting == 'photo':
        qualities = list_qualities(setting)[::2]
        shown[f'four JPEG qualities, {middle.label}'] = [(middle, one, one.label) for one in qualities]
    return [_map(network, source, title, degradations) for title, degradations in shown.items()]


def write_report(folder: Path, report: ProbeReport, about: Mapping[str, object]) -> None:
    """Writes report.json, with the entries of ``about`` too, report.md and map_N.svg for each map into a folder."""
    content = {
        **about,
        'train_pictures': report.train_images,
        'test_pictures': report.test_images,
        'quantities': {
            quantity: {'accuracy': one.accuracy, 'labels': list(one.labels), 'counts': one.counts.tolist()}
            for quantity, one in report.confusions.items()
        },
    }
    texts = {'report.json': json.dumps(content, indent=1) + '\n', 'report.md': _format_markdown(report, about)}
    texts |= {f'map_{number}.svg': _draw(one) for number, one in enumerate(report.maps, 1)}
    for name, text in texts.items():
        write_whole(folder / name, text)


def _map(
    network: DASR, source: ImageSource, title: str, degradations: Sequence[tuple[ProbeClass, ProbeClass, str]]
) -> RepresentationMap:
    vectors = []
    for kernel, noise, _ in degradations:
        degradation = build_degradation(degradation_options(kernel, noise), network.scale)
        rows = [
            encode_image(network, degrade_image(degradation, source.read(index), 0, name))
            for index, name in enumerate(source.names)
        ]
        vectors.append(torch.stack(rows).double().numpy())
    encoded = EncodedPatches(list(source.names), [label for *_, label in degradations], np.stack(vectors))
    return map_by_tsne(encoded, title)


def _format_markdown(report: ProbeReport, about: Mapping[str, object]) -> str:
    lines = [
        '# Linear probe of the degradation representation',
        '',
        *(f'- {name}: {value}' for name, value in about.items()),
        f'- fitted to {report.train_images} images, tested on {report.test_images} others',
        '',
        '| quantity | classes | accuracy | at most one class off | chance |',
        '| --- | ---: | ---: | ---: | ---: |',
    ]
    for quantity, one in report.confusions.items():
        ordered = quantity != 'kernel' or all(label.startswith('width') for label in one.labels)
        near = f'{100 * one.within(1):.1f} %' if ordered else ''
        lines.append(
            f'| {quantity} | {len(one.labels)} | {100 * one.accuracy:.1f} % | {near} | {100 / len(one.labels):.1f} % |'
        )
    for quantity, one in report.confusions.items():
        rates = np.diag(one.counts) / one.counts.sum(1).clip(1)
        shown = ', '.join(f'{label} {100 * rate:.0f} %' for label, rate in zip(one.labels, rates, strict=True))
        lines += ['', f'Accuracy by {quantity}: {shown}.']
    for number, one_map in enumerate(report.maps, 1):
        lines += ['', f'![{one_map.title}](map_{number}.svg)', '', f'{one_map.title}. {one_map.method}']
    return '\n'.join(lines) + '\n'


def _draw(one: RepresentationMap) -> str:
    groups = []
    for number, label in enumerate(dict.fromkeys(point.degradation for point in one.points)):
        points = [(point.x, point.y) for point in one.points if point.degradation == label]
        groups.append(Series(label, _COLOURS[number % len(_COLOURS)], points))
    return draw_figure([Panel(one.title, draw_scatter(groups, Axes('', '', description=one.title)), groups)])
