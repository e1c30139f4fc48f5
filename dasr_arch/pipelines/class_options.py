"""Holds the free parts of an option file against the registered classes that will take them.

Networks, losses, metrics, optimisers and schedules take whatever their authors chose, so their names are looked up and
their arguments held against the constructors, before anything is created.
"""

import inspect
from collections.abc import Callable, Mapping

import torch
from basicsr.models import lr_scheduler
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, Registry
from torch import nn

from dasr_arch._errors import InputError, suggest
from dasr_arch.pipelines.schema import check_arguments, check_known

SCHEDULES: dict[str, Callable[..., object]] = {
    'MultiStepLR': lr_scheduler.MultiStepRestartLR,
    'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
    'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR,
}
"""What BasicSR's models call their schedules."""

BAD_ARGUMENTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What constructors of other people raise on an argument that they cannot take."""


def find_class(options: Mapping[str, object], registry: Registry, where: str, what: str) -> Callable[..., object]:
    """The registered class or function that a mapping names by its `type`.

    Args:
        options: a mapping with `type`.
        registry: where to look.
        where: what opens a message: the file and the dotted key.
        what: what is looked for: 'arch', 'metric'.

    Returns:
        What is registered.

    Raises:
        InputError: if there is no `type`, or none of that name.
    """
    found: Callable[..., object] = registry.get(
        check_known(options.get('type'), registry.keys(), f'{where}.type', what)
    )
    return found


def check_network(options: Mapping[str, object], scale: int, where: str) -> nn.Module:
    """Hold a network's options against its constructor, and build it once.

    Args:
        options: `type` and the arguments.
        scale: what the file trains for.
        where: what opens a message: the file and `network_g`.

    Returns:
        The network, on the CPU. Torch's random state is left as it was.

    Raises:
        InputError: if the arch is unknown, an argument unknown, missing or refused, or the scale another one.
    """
    arch = find_class(options, ARCH_REGISTRY, where, 'arch')
    check_arguments(arch, options, where, skip=('type',))
    parameters = inspect.signature(arch).parameters
    for name in ('scale', 'upscale'):
        if name in parameters:
            got = options.get(name, parameters[name].default)
            if got != scale:
                raise InputError(f'{where}.{name}: expected the scale of the file, {scale}, got {got}')
    arguments = {key: value for key, value in options.items() if key != 'type'}
    with torch.random.fork_rng(devices=[]):
        network = _try(arch, arguments, where)
    if not isinstance(network, nn.Module):
        raise InputError(f'{where}.type: {options["type"]} is no network')
    return network


def check_pixel_loss(options: Mapping[str, object], where: str) -> None:
    """Hold a loss's options against its constructor, and build it once.

    Args:
        options: `type` and the arguments.
        where: what opens a message: the file and the dotted key.

    Raises:
        InputError: if the loss is unknown, or an argument unknown, missing or refused.
    """
    loss = find_class(options, LOSS_REGISTRY, where, 'loss')
    check_arguments(loss, options, where, skip=('type',))
    _try(loss, {key: value for key, value in options.items() if key != 'type'}, where)


def check_loss_arguments(options: Mapping[str, object], where: str) -> None:
    """Hold a loss's options against its constructor without building it, since some fetch weights.

    Args:
        options: `type` and the arguments.
        where: what opens a message: the file and the dotted key.

    Raises:
        InputError: if the loss is unknown, or an argument unknown or missing.
    """
    check_arguments(find_class(options, LOSS_REGISTRY, where, 'loss'), options, where, skip=('type',))


def check_metrics(metrics: Mapping[str, Mapping[str, object]] | None, where: str) -> None:
    """Hold every metric's options against the metric.

    Args:
        metrics: label: `type` and the arguments, `better` (higher or lower) included.
        where: what opens a message: the file and the dotted key.

    Raises:
        InputError: if a metric is unknown, or an argument unknown or missing.
    """
    for label, options in (metrics or {}).items():
        place = f'{where}.{label}'
        metric = find_class(options, METRIC_REGISTRY, place, 'metric')
        check_arguments(metric, options, place, skip=('type', 'better', 'img', 'img2'))
        if options.get('better', 'higher') not in {'higher', 'lower'}:
            raise InputError(f"{place}.better: expected 'higher' or 'lower', got {options['better']!r}")


def check_optimizer(options: Mapping[str, object], where: str) -> None:
    """Hold BasicSR's `optim_g` against the optimiser of torch that it names.

    Args:
        options: `type` and the arguments, `lr` among them.
        where: what opens a message: the file and the dotted key.

    Raises:
        InputError: if the optimiser is unknown, an argument unknown, or refused.
    """
    known = [name for name in torch.optim.__all__ if inspect.isclass(getattr(torch.optim, name, None))]
    name = check_known(options.get('type'), known, f'{where}.type', 'optimiser')
    optimizer: Callable[..., object] = getattr(torch.optim, name)
    check_arguments(optimizer, options, where, skip=('type', 'params'))
    if 'lr' not in options:
        raise InputError(f"{where}: the key 'lr' is missing; expected a number above 0")
    arguments = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items() if key != 'type'}
    _try(optimizer, {'params': [torch.zeros(1, requires_grad=True)], **arguments}, where)


def check_schedule(options: Mapping[str, object], where: str) -> None:
    """Hold BasicSR's `scheduler` against the schedule that it names.

    Args:
        options: `type` and the arguments.
        where: what opens a message: the file and the dotted key.

    Raises:
        InputError: if the schedule is unknown, or an argument unknown, missing or refused.
    """
    name = options.get('type')
    if not isinstance(name, str) or name not in SCHEDULES:
        raise InputError(f"{where}.type: no schedule is called '{name}'{suggest(str(name), SCHEDULES)}")
    check_arguments(SCHEDULES[name], options, where, skip=('type', 'optimizer', 'last_epoch'))
    arguments = {key: value for key, value in options.items() if key != 'type'}
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1.0)
    _try(SCHEDULES[name], {'optimizer': optimizer, **arguments}, where)


def _try(function: Callable[..., object], arguments: Mapping[str, object], where: str) -> object:
    try:
        return function(**arguments)
    except BAD_ARGUMENTS as error:
        name = getattr(function, '__name__', str(function))
        raise InputError(f'{where}: {name} refuses these arguments: {" ".join(str(error).split())}') from error
