"""Plan of a test: data sets x degradations x networks x metrics, with the networks and grids of option files."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from dasr_arch._errors import InputError, naming
from dasr_arch.config.train_schema import Options
from dasr_arch.config.typed import check_arguments, check_known, convert
from dasr_arch.degradations import Degradation, build_degradation

KernelSource = Literal['true', 'predicted', 'none']
"""Source of the kernel of a non-blind network: ground truth, estimate of a Predictor, or none."""

NoiseSource = Literal['true', 'none']
"""Source of the noise level of a non-blind network: ground truth, or the default of the arch."""

SCALE_ARGUMENTS = ('scale', 'upscale')

Block = dict[str, object]
Missing = Literal['skip', 'error']

_NUMBER = r'[\d.]+(?:-[\d.]+)?'  # or a range
_AXES = re.compile(rf'axes ({_NUMBER})(?: x ({_NUMBER}))? at (-?{_NUMBER})')
_WIDTH = re.compile(rf'width (?={_NUMBER})')


@dataclass(frozen=True)
class DatasetPlan:
    """A named set of HR images."""

    name: str
    root: Path  # folder of images, or LMDB folder


@dataclass(frozen=True)
class PartPlan:
    """An auxiliary network of a method: a denoiser or a kernel estimator."""

    type: str  # name of the arch in BasicSR's registry
    arguments: Mapping[str, object]
    weights: Path  # checkpoint
    param_key: str | None = None  # of the state dict in a BasicSR checkpoint; None prefers the averaged one


@dataclass(frozen=True)
class NetworkPlan:
    """A method to test: a network with its auxiliary networks and options."""

    label: str  # its name in tables
    type: str  # name of the arch in BasicSR's registry
    arguments: Mapping[str, object] = field(default_factory=dict)
    weights: Path | None = None  # checkpoint
    param_key: str | None = None  # of the state dict in a BasicSR checkpoint; None prefers the averaged one
    kernel: KernelSource = 'true'
    noise_level: NoiseSource = 'true'
    predictor: PartPlan | None = None  # estimates the kernel for ``kernel='predicted'``
    denoiser: PartPlan | None = None  # of scale 1; applied first
    adapt: Mapping[str, object] = field(default_factory=dict)  # options of test-time training
    tile: int | None = None  # side in LR pixels; None computes whole images, as the protocol does
    datasets: tuple[str, ...] | None = None  # names of those that it is tested on; None for all


class SystemOptions(Options, kw_only=True, frozen=True):
    """Keys of an entry beside the arguments of its arch."""

    type: str
    path: Annotated[str, Meta(min_length=1)] | None = None
    param_key: str | None = None
    kernel: KernelSource = 'true'
    noise_level: NoiseSource | None = None
    predictor: Block | None = None
    denoiser: Block | None = None
    adapt: Block | None = None
    tile: Annotated[int, Meta(ge=16)] | None = None  # LR pixels
    datasets: Annotated[list[str], Meta(min_length=1)] | None = None  # all, if absent
    missing: Missing | None = None  # the `missing_weights` of the file, if absent


class PartOptions(Options, kw_only=True, frozen=True):
    """Keys of a predictor or denoiser beside the arguments of its arch."""

    path: Annotated[str, Meta(min_length=1)]
    type: str | None = None
    param_key: str | None = None


@dataclass(frozen=True)
class MetricPlan:
    """A named metric."""

    label: str  # its name in tables
    type: str  # name of the function in BasicSR's registry
    options: Mapping[str, object] = field(default_factory=dict)  # keyword arguments, and `better`: 'higher' or 'lower'

    @property
    def arguments(self) -> dict[str, object]:
        """Keyword arguments of the function."""
        return {key: value for key, value in self.options.items() if key != 'better'}


@dataclass(frozen=True)
class Suite:
    """Data set and degradation of one benchmark row."""

    dataset: DatasetPlan
    degradation: Degradation


@dataclass(frozen=True)
class Benchmark:
    """Plan of one option file; labels of degradations, networks and metrics differ."""

    name: str  # of the results' folder
    scale: int
    seed: int  # of the noise; with an image's name it determines the image's draws
    datasets: tuple[DatasetPlan, ...]
    degradations: tuple[Degradation, ...]
    networks: tuple[NetworkPlan, ...]
    metrics: tuple[MetricPlan, ...]
    save_img: bool = False  # writes all SR images
    shown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # images by data set, always written

    def suites(self, network: NetworkPlan) -> list[Suite]:
        """Every data set of a network with every degradation, in the order of the option file."""
        chosen = network.datasets
        datasets = [dataset for dataset in self.datasets if chosen is None or dataset.name in chosen]
        return [Suite(*pair) for pair in product(datasets, self.degradations)]


def expand_grid(specification: Mapping[str, object]) -> list[dict[str, object]]:
    """The combinations of a degradation block with lists; the last list varies fastest.

    A list under a key that takes one value, such as ``sigma: [0, 1.2]``, is a grid. Keys ending in ``_range`` take two
    numbers, `beta` and `level_probabilities` several; they stay as they are. Raises InputError if a list is empty.
    """
    axes = {
        key: value
        for key, value in specification.items()
        if isinstance(value, list) and not key.endswith('_range') and key not in ('beta', 'level_probabilities')
    }
    for key, values in axes.items():
        if not values:
            raise InputError(f'degradations: {key} is an empty list; expected a value or a list of values')
    return [{**specification, **dict(zip(axes, values, strict=True))} for values in product(*axes.values())]


def build_degradations(specifications: Sequence[Mapping[str, object]], scale: int) -> tuple[Degradation, ...]:
    """The degradations of an option file, grids expanded; InputError if one is wrong, or two have one label."""
    built: dict[str, Degradation] = {}
    for position, block in enumerate(specifications, start=1):
        for specification in expand_grid(block):
            with naming(f'degradations, entry {position}'):
                degradation = build_degradation(specification, scale)
            if degradation.label in built:
                raise InputError(
                    f"degradations, entry {position}: '{degradation.label}' is there twice; remove one of the two"
                )
            built[degradation.label] = degradation
    return tuple(built.values())


def plan_network(label: str, block: Mapping[str, object], scale: int) -> NetworkPlan:
    """The plan of a method from its entry, for the scale of the test; files are not opened.

    Raises InputError on an unknown arch, argument or choice, or another scale.
    """
    where = f'networks.{label}'
    archs = _registered()
    name = check_known(block.get('type'), archs, where, 'arch')
    kind = archs[name]
    keys = SystemOptions.__struct_fields__
    own = {key: value for key, value in block.items() if key in keys}
    for key in {'kernel', 'noise_level'} & own.keys():
        own[key] = 'true' if own[key] is True else own[key]  # YAML reads the word as a truth value
    options = convert(own, SystemOptions, where)
    arguments = {key: value for key, value in block.items() if key not in keys}
    for key in inspect.signature(kind).parameters:
        if key in SCALE_ARGUMENTS and arguments.setdefault(key, scale) != scale:
            raise InputError(f'{where}: {key} is {arguments[key]}, but the test has scale {scale}; make them equal')
    check_arguments(kind, arguments, where, skip=keys)
    denoiser = _plan_part(options.denoiser, 'DnCNN', f'{where}.denoiser')
    return NetworkPlan(
        label,
        name,
        arguments,
        Path(options.path).expanduser() if options.path is not None else None,
        options.param_key,
        options.kernel,
        # A denoiser leaves an image without the noise that was added, so its level is no longer true.
        options.noise_level or ('true' if denoiser is None else 'none'),
        _plan_part(options.predictor, 'IKC', f'{where}.predictor'),
        denoiser,
        options.adapt or {},
        options.tile,
        tuple(options.datasets) if options.datasets is not None else None,
    )


def find_missing_file(plan: NetworkPlan) -> Path | None:
    """The first weights file of a method that does not exist."""
    parts = [part.weights for part in (plan.denoiser, plan.predictor) if part is not None]
    return next((path for path in (plan.weights, *parts) if path is not None and not path.exists()), None)


def folder_name(label: str) -> str:
    """A label as the name of a folder that is not hidden; characters that file systems may refuse become underscores.

    Raises InputError if nothing is left.
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


def _plan_part(block: Block | None, usual: str, where: str) -> PartPlan | None:
    if block is None:
        return None
    keys = PartOptions.__struct_fields__
    options = convert({key: value for key, value in block.items() if key in keys}, PartOptions, where)
    archs = _registered()
    name = check_known(options.type or usual, archs, where, 'arch')
    arguments = {key: value for key, value in block.items() if key not in keys}
    check_arguments(archs[name], arguments, where, skip=keys)
    return PartPlan(name, arguments, Path(options.path).expanduser(), options.param_key)


def _registered() -> dict[str, Any]:
    """All networks by name, BasicSR's as well; the playground, which uses this module, runs without BasicSR."""
    from basicsr.utils.registry import ARCH_REGISTRY  # noqa: PLC0415 (optional)

    return dict(iter(ARCH_REGISTRY))


def update_label(label: str) -> str:
    """Converts an old label of a degradation to the current form; all others are returned unchanged.

    'width 1.2, noise 5' becomes 'sigma 1.2, noise 5', and 'axes 2 x 0.5 at 10' becomes 'lambda 2 0.5, theta 10'.
    """
    found = _AXES.match(label)
    if found is not None:
        axes = ' '.join(filter(None, found.group(1, 2)))
        return f'lambda {axes}, theta {found[3]}{label[found.end() :]}'
    return _WIDTH.sub('sigma ', label, count=1) if label.startswith('width') else label
