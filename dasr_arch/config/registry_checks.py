"""Validates options of registered classes against their constructors, before anything is created.

The classes are networks, losses, metrics, optimisers and schedules. Each check raises InputError if a name is unknown,
or an argument unknown, missing, of the wrong type or refused. ``where``, file and dotted key, opens the message.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, Registry
from torch import nn

from dasr_arch._errors import FOREIGN_ERRORS, InputError, naming
from dasr_arch.archs.contract import facts_of
from dasr_arch.config.train_schema import SCHEDULE_OPTIONS, ImportOptions, RateOptions
from dasr_arch.config.typed import check_arguments, check_known, convert
from dasr_arch.metrics.facts import prefers_lower
from dasr_arch.metrics.lpips_metric import check_backbone

imported_modules: list[str] = []
"""Modules of the user that this process has imported; processes that it starts need them, too."""


def import_modules(options: Mapping[str, object], where: str) -> None:
    """Imports the modules that a file names, also from the current folder; their classes can then be named in it."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    for name in convert({'imports': options.get('imports')}, ImportOptions, where).imports or ():
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise InputError(f"{where}: imports: cannot import '{name}': {describe_briefly(error)}") from error
        imported_modules.append(name)


def find_class(options: Mapping[str, object], registry: Registry, where: str, what: str) -> Callable[..., object]:
    """The registered class or function that a mapping names by its `type`; ``what`` is its kind, such as 'arch'."""
    found: Callable[..., object] = registry.get(
        check_known(options.get('type'), registry.keys(), f'{where}.type', what)
    )
    return found


def check_class(
    options: Mapping[str, object], registry: Registry, where: str, what: str, skip: Sequence[str] = ()
) -> Callable[..., object]:
    """As find_class; also validates the options against its arguments, except 'type' and those in ``skip``."""
    found = find_class(options, registry, where, what)
    check_arguments(found, options, where, ('type', *skip))
    return found


def build(options: Mapping[str, object], registry: Registry, where: str, what: str) -> Any:
    """As check_class, and builds the object on the CPU; torch's random state is left as it was."""
    found = check_class(options, registry, where, what)
    with torch.random.fork_rng(devices=[]):
        return try_call(found, options, where)


def check_network(options: Mapping[str, object], scale: int, where: str) -> nn.Module:
    """Builds a network on the CPU; its scale must be that of the file. Torch's random state is restored."""
    arch = check_class(options, ARCH_REGISTRY, where, 'arch')
    parameters = inspect.signature(arch).parameters
    for name in ('scale', 'upscale'):
        if name in parameters:
            got = options.get(name, parameters[name].default)
            if got != scale:
                raise InputError(f'{where}.{name}: expected the scale of the file, {scale}, got {got}')
    with torch.random.fork_rng(devices=[]):
        network = try_call(arch, options, where)
    if not isinstance(network, nn.Module):
        raise InputError(f'{where}.type: {options["type"]} is no network')
    return network


def probe_network(network: nn.Module, scale: int, sides: Sequence[int], where: str) -> None:
    """Runs a network on a grey image, so that impossible arguments are found before training.

    The sides of the image, in pixels, are tried in order: some networks refuse small ones. The network is in evaluation
    mode afterwards.
    """
    facts = facts_of(network)
    size = facts.kernel_size
    inputs = {'kernel': torch.full((1, size, size), 1 / size**2), 'noise_level': torch.zeros(1)}
    conditions = {key: inputs[key] for key in facts.needs}
    name = type(network).__name__
    network.eval()
    for side in sides:
        try:
            with torch.inference_mode():
                sr = network(torch.full((1, 3, side, side), 0.5), **conditions)
            break
        except FOREIGN_ERRORS as error:
            if side == sides[-1]:
                reason = describe_briefly(error)
                raise InputError(f'{where}: {name} fails on an image of {side} x {side}: {reason}') from error
    expected = (1, 3, side * scale, side * scale)
    if not isinstance(sr, torch.Tensor) or tuple(sr.shape) != expected or not torch.isfinite(sr).all():
        got = tuple(sr.shape) if isinstance(sr, torch.Tensor) else type(sr).__name__
        raise InputError(f'{where}: expected finite images of shape {expected} from {name}, got {got}')


def check_pixel_loss(options: Mapping[str, object], side: int, where: str) -> None:
    """Builds a loss and computes it once on patches of ``side`` x ``side``; it must be a finite number."""
    if options.get('type') == 'PerceptualLoss':
        raise InputError(f"{where}: PerceptualLoss belongs under perceptual_opt of BasicSR's models")
    criterion = build(options, LOSS_REGISTRY, where, 'loss')
    weight = options.get('loss_weight')
    if isinstance(weight, int | float) and weight < 0:
        raise InputError(f'{where}.loss_weight: expected a number of at least 0, got {weight}')
    patches = torch.zeros(1, 3, side, side), torch.ones(1, 3, side, side)
    value = try_call(criterion, {}, where, *patches)
    if not isinstance(value, torch.Tensor) or value.ndim or not torch.isfinite(value):
        raise InputError(f'{where}: {options["type"]} gives no finite number with these arguments')


def check_metrics(metrics: Mapping[str, Mapping[str, object]] | None, where: str) -> None:
    """Validates the options of every metric, including `better` (higher or lower)."""
    for label, options in (metrics or {}).items():
        place = f'{where}.{label}'
        check_class(options, METRIC_REGISTRY, place, 'metric', skip=('better', 'img', 'img2'))
        check_metric_values(options, place)
        if None in options.values():
            raise InputError(f'{place}: expected a value for every key, got nothing (~); remove the key')


def check_metric_values(options: Mapping[str, object], where: str) -> None:
    """Validates what the signature of a metric does not: its `type`, `crop_border`, `better` and `backbone_path`."""
    name = str(options['type'])
    if name.endswith('_pt'):
        raise InputError(f"{where}.type: '{name}' measures tensors; write '{name.removesuffix('_pt')}'")
    border = options.get('crop_border', 0)
    if isinstance(border, bool) or not isinstance(border, int) or border < 0:
        raise InputError(f'{where}.crop_border: expected a whole number of pixels of at least 0, got {border!r}')
    with naming(f'{where}.better'):
        prefers_lower(options)
    if 'backbone_path' in options:
        check_backbone(options['backbone_path'], str(options.get('net', 'alex')), where)


def check_optimizer(options: Mapping[str, object], where: str, path: str) -> None:
    """Validates BasicSR's `optim_g`, at a dotted key of a file, against the optimiser of torch that it names."""
    place = f'{where}: {path}'
    known = [name for name in torch.optim.__all__ if inspect.isclass(getattr(torch.optim, name, None))]
    name = check_known(options.get('type'), known, f'{place}.type', 'optimiser')
    optimizer: Callable[..., object] = getattr(torch.optim, name)
    check_arguments(optimizer, options, place, skip=('type', 'params'))
    convert({key: value for key, value in options.items() if key in {'type', 'lr'}}, RateOptions, where, path)
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try_call(optimizer, {'params': [torch.zeros(1, requires_grad=True)], **arguments}, place)


def check_schedule(options: Mapping[str, object], where: str, path: str) -> None:
    """Validates BasicSR's `scheduler`, at a dotted key of a file, against the options of the schedule that it names."""
    name = check_known(options.get('type'), SCHEDULE_OPTIONS, f'{where}: {path}.type', 'schedule')
    convert(options, SCHEDULE_OPTIONS[name], where, path)


def try_call(function: Callable[..., object], options: Mapping[str, object], where: str, *images: torch.Tensor) -> Any:
    """Calls a function with options but for `type`; InputError in one line if it refuses them."""
    try:
        return function(*images, **{key: value for key, value in options.items() if key != 'type'})
    except FOREIGN_ERRORS as error:
        name = getattr(function, '__name__', str(function))
        raise InputError(f'{where}: {name} refuses these arguments: {describe_briefly(error)}') from error


def describe_briefly(error: BaseException) -> str:
    """Type and first 200 characters of the text of an error, in one line; of an InputError the whole text alone."""
    text = ' '.join(str(error).split())
    if isinstance(error, InputError):
        return text
    return f'{type(error).__name__}: {text if len(text) <= 200 else f"{text[:197]}..."}'
