"""Finding modules by suffix, and the registry that BasicSR lacks."""

import importlib
import pkgutil
from types import ModuleType

from basicsr.utils.registry import Registry

DEGRADATION_REGISTRY = Registry('degradation')


def import_all(package: str, suffix: str) -> list[ModuleType]:
    """Imports every module of a package whose name ends in ``suffix``; importing is what registers its classes.

    Args:
        package: dotted name of an importable package.
        suffix: ending of the module names, for example '_arch'.

    Returns:
        The modules, in alphabetical order. A broken one raises its own error.
    """
    folder = importlib.import_module(package)
    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if module.name.endswith(suffix))
    return [importlib.import_module(f'{package}.{name}') for name in names]
