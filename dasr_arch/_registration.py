"""Registries of the package, which BasicSR's registries mirror once it is imported, and imports by suffix."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, TypeVar

Entry = TypeVar('Entry', bound=Callable[..., Any])


class Registry:
    """Classes or functions under their own names, as in BasicSR's registries; ``name`` is their kind: 'arch'.

    They are passed on to BasicSR as soon as it is imported. So a network works without BasicSR, whose import takes as
    long as torch's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries: dict[str, Any] = {}
        self._target: Any = None  # a registry of BasicSR

    def register(self) -> Callable[[Entry], Entry]:
        """Decorator that adds a class or function; ValueError if the name is taken."""

        def add(entry: Entry) -> Entry:
            if entry.__name__ in self._entries:
                raise ValueError(f"{self._name} '{entry.__name__}' is registered already")
            self._entries[entry.__name__] = entry
            if self._target is not None:
                self._target.register(entry)
            return entry

        return add

    def pass_on(self, target: Any) -> None:
        """Adds every entry to one of BasicSR's registries, also later ones; the current target is left alone."""
        if target is self._target:
            return
        for entry in self._entries.values():
            target.register(entry)
        self._target = target

    def get(self, name: str) -> Any:
        """The entry of a name; KeyError if there is none."""
        return self._entries[name]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Names and entries, in the order of registration."""
        return iter(self._entries.items())


ARCH_REGISTRY = Registry('arch')
DATASET_REGISTRY = Registry('dataset')
DEGRADATION_REGISTRY = Registry('degradation')
"""Known to this package alone; BasicSR has no such registry."""

LOSS_REGISTRY = Registry('loss')
METRIC_REGISTRY = Registry('metric')
MODEL_REGISTRY = Registry('model')


def import_all(package: str, suffix: str) -> list[ModuleType]:
    """Imports every module of a package whose name ends in ``suffix`` ('_arch'), which registers its classes.

    Returns the modules in alphabetical order. A broken one raises its own error.
    """
    folder = importlib.import_module(package)
    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if module.name.endswith(suffix))
    return [importlib.import_module(f'{package}.{name}') for name in names]
