"""Entries under `networks` of a test file, checked against the archs that they name."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from basicsr.utils.registry import ARCH_REGISTRY
from msgspec import Meta

from dasr_arch._errors import InputError
from dasr_arch.benchmark.config import NetworkPlan, PartPlan
from dasr_arch.config.train_schema import Options
from dasr_arch.config.typed import check_arguments, check_known, convert

SCALE_ARGUMENTS = ('scale', 'upscale')

Block = dict[str, object]
Missing = Literal['skip', 'error']


class SystemOptions(Options, kw_only=True, frozen=True):
    """Keys of an entry beside the arguments of its arch."""

    type: str
    path: Annotated[str, Meta(min_length=1)] | None = None
    param_key: str | None = None
    kernel: Literal['true', 'predicted', 'none'] = 'true'
    noise_level: Literal['true', 'none'] | None = None
    predictor: Block | None = None
    denoiser: Block | None = None
    adapt: Block | None = None
    tile: Annotated[int, Meta(ge=16)] | None = None  # LR pixels
    datasets: list[str] | None = None  # all, if absent
    missing: Missing | None = None  # what the file says for all, if absent


class PartOptions(Options, kw_only=True, frozen=True):
    """Keys of a predictor or denoiser beside the arguments of its arch."""

    path: Annotated[str, Meta(min_length=1)]
    type: str | None = None
    param_key: str | None = None


def plan_network(label: str, block: Mapping[str, object], scale: int) -> NetworkPlan:
    """The plan of a system from its entry; files are not opened.

    ``scale`` is the factor of the test, which the arch gets unless the entry says the same. Raises InputError on an
    unknown arch, argument or choice.
    """
    where = f'networks.{label}'
    name = check_known(block.get('type'), {name for name, _ in ARCH_REGISTRY}, where, 'arch')
    kind = ARCH_REGISTRY.get(name)
    keys = SystemOptions.__struct_fields__
    own = {key: _read_truth(key, value) for key, value in block.items() if key in keys}
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
    """The first weights file of a system that does not exist."""
    parts = [part.weights for part in (plan.denoiser, plan.predictor) if part is not None]
    return next((path for path in (plan.weights, *parts) if path is not None and not path.exists()), None)


def _plan_part(block: Block | None, usual: str, where: str) -> PartPlan | None:
    if block is None:
        return None
    keys = PartOptions.__struct_fields__
    options = convert({key: value for key, value in block.items() if key in keys}, PartOptions, where)
    name = check_known(options.type or usual, {name for name, _ in ARCH_REGISTRY}, where, 'arch')
    arguments = {key: value for key, value in block.items() if key not in keys}
    check_arguments(ARCH_REGISTRY.get(name), arguments, where, skip=keys)
    return PartPlan(name, arguments, Path(options.path).expanduser(), options.param_key)


def _read_truth(key: str, value: object) -> object:
    """YAML reads `kernel: true` as a truth value, which stands for the word."""
    return 'true' if value is True and key in {'kernel', 'noise_level'} else value
