"""Plan of a test: data sets x degradations x networks x metrics, and the grids of option files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

from dasr_arch._errors import InputError
from dasr_arch.degradations import Degradation, build_degradation

KernelSource = Literal['true', 'predicted', 'none']
"""Source of the kernel of a non-blind network: ground truth, estimate of a Predictor, or none."""

NoiseSource = Literal['true', 'none']
"""Source of the noise level of a non-blind network: ground truth, or the default of the arch."""


@dataclass(frozen=True)
class DatasetPlan:
    """A named set of HR images.

    Attributes:
        name: its name in tables.
        root: folder of images, or LMDB folder.
    """

    name: str
    root: Path


@dataclass(frozen=True)
class PartPlan:
    """An auxiliary network of a method: a denoiser or a kernel estimator.

    Attributes:
        type: name of the arch in BasicSR's registry.
        arguments: of its constructor.
        weights: checkpoint.
        param_key: key of the state dict in a BasicSR checkpoint; None prefers the averaged one.
    """

    type: str
    arguments: Mapping[str, object]
    weights: Path
    param_key: str | None = None


@dataclass(frozen=True)
class NetworkPlan:
    """A method to test: a network with its auxiliary networks and options.

    Attributes:
        label: its name in tables.
        type: name of the arch in BasicSR's registry.
        arguments: of its constructor.
        weights: checkpoint, None for a network without weights.
        param_key: key of the state dict in a BasicSR checkpoint; None prefers the averaged one.
        kernel: source of the blur kernel of a non-blind arch.
        noise_level: source of the noise level of a non-blind arch.
        predictor: network that estimates the kernel, for ``kernel='predicted'``.
        denoiser: network of scale 1 that is applied first.
        adapt: options of test-time training, for archs that have one.
        tile: side of tiles in LR pixels; None computes whole images, as the protocol does.
        datasets: names of the data sets that it is tested on; None for all.
    """

    label: str
    type: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    weights: Path | None = None
    param_key: str | None = None
    kernel: KernelSource = 'true'
    noise_level: NoiseSource = 'true'
    predictor: PartPlan | None = None
    denoiser: PartPlan | None = None
    adapt: Mapping[str, object] = field(default_factory=dict)
    tile: int | None = None
    datasets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class MetricPlan:
    """A named metric.

    Attributes:
        label: its name in tables.
        type: name of the function in BasicSR's registry.
        options: its keyword arguments.
    """

    label: str
    type: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Data set, degradation and scale of one benchmark row."""

    dataset: DatasetPlan
    degradation: Degradation

    @property
    def scale(self) -> int:
        """Integer upsampling factor."""
        return self.degradation.scale


@dataclass(frozen=True)
class Benchmark:
    """Plan of one option file.

    Attributes:
        name: name of the results' folder.
        scale: integer upsampling factor.
        seed: seed of the noise; with an image's name it determines the image's draws.
        datasets: sets of HR images.
        degradations: settings, with different labels.
        networks: networks, with different labels.
        metrics: metrics, with different labels.
        save_img: writes all SR images.
        shown: names of the images, by data set, whose SR images are always written.
    """

    name: str
    scale: int
    seed: int
    datasets: tuple[DatasetPlan, ...]
    degradations: tuple[Degradation, ...]
    networks: tuple[NetworkPlan, ...]
    metrics: tuple[MetricPlan, ...]
    save_img: bool = False
    shown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def suites(self, network: NetworkPlan | None = None) -> list[Suite]:
        """Every data set of a network (all for None) with every degradation, in the order of the option file."""
        chosen = network.datasets if network is not None else None
        datasets = [dataset for dataset in self.datasets if chosen is None or dataset.name in chosen]
        return [Suite(*pair) for pair in product(datasets, self.degradations)]


def expand_grid(specification: Mapping[str, object]) -> list[dict[str, object]]:
    """Expands a degradation block with lists into its combinations.

    Args:
        specification: a degradation block; a list under a key that takes one value, such as ``sigma: [0, 1.2]``, is a
            grid. Keys ending in ``_range`` take two numbers and stay as they are.

    Returns:
        One block per combination; the last list varies fastest.

    Raises:
        InputError: if a list is empty.
    """
    axes = {key: value for key, value in specification.items() if _is_grid(key, value)}
    for key, values in axes.items():
        if not values:
            raise InputError(f'degradations: {key} is an empty list; expected a value or a list of values')
    combinations = product(*[value for value in axes.values() if isinstance(value, list)])
    return [{**specification, **dict(zip(axes, values, strict=True))} for values in combinations]


def build_degradations(specifications: Sequence[Mapping[str, object]], scale: int) -> tuple[Degradation, ...]:
    """Builds every degradation of an option file.

    Args:
        specifications: blocks, possibly grids.
        scale: integer downsampling factor.

    Returns:
        Degradations with different labels, in the order of the file.

    Raises:
        InputError: if there is none, a block is wrong, or two settings are the same.
    """
    built: dict[str, Degradation] = {}
    for position, block in enumerate(specifications, start=1):
        for specification in expand_grid(block):
            try:
                degradation = build_degradation(specification, scale)
            except InputError as error:
                raise InputError(f'degradations, entry {position}: {error}') from error
            if degradation.label in built:
                raise InputError(
                    f"degradations, entry {position}: '{degradation.label}' is there twice; remove one of the two"
                )
            built[degradation.label] = degradation
    if not built:
        raise InputError('degradations: expected at least one setting, such as {type: IsotropicGaussian, sigma: 0}')
    return tuple(built.values())


def folder_name(label: str) -> str:
    """A label as the name of a folder; characters that file systems may refuse become underscores.

    Args:
        label: name of a network, data set or degradation.

    Returns:
        A name without separators that is not hidden.

    Raises:
        InputError: if nothing is left.
    """
    name = re.sub(r'[^\w.()+,@=-]+', '_', label).strip('_.')
    if not name:
        raise InputError(f"'{label}' cannot name a folder; use letters or digits")
    return name


def check_folder_names(kind: str, labels: Sequence[str]) -> None:
    """Raises InputError if two labels would share one folder, also on file systems that ignore case."""
    seen: dict[str, str] = {}
    for label in labels:
        key = folder_name(label).casefold()
        if key in seen:
            raise InputError(f"{kind}: '{seen[key]}' and '{label}' would be written to one folder; rename one of them")
        seen[key] = label


def _is_grid(key: str, value: object) -> bool:
    return isinstance(value, list) and not key.endswith('_range') and key != 'beta'
