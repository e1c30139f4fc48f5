"""Registries of our own that pass on to BasicSR's, and finding modules by suffix."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Protocol, TypeVar

Class = TypeVar('Class', bound=type)


class RegistryLike(Protocol):
    """What BasicSR's registries are used for here."""

    def register(self, obj: type) -> object:
        """Adds a class under its own name."""


class Registry:
    """Classes under their own names, as in BasicSR's registries, which they reach as soon as there are such.

    A network can so be used without BasicSR, whose import takes as long as torch's.

    Args:
        name: what the classes are, for messages: 'arch'.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._classes: dict[str, type] = {}
        self._target: RegistryLike | None = None

    def register(self) -> Callable[[Class], Class]:
        """Decorator that adds a class.

        Returns:
            The decorator; it raises ValueError if there is another class of that name.
        """

        def add(cls: Class) -> Class:
            if cls.__name__ in self._classes:
                raise ValueError(f"{self._name} '{cls.__name__}' is registered already")
            self._classes[cls.__name__] = cls
            if self._target is not None:
                self._target.register(cls)
            return cls

        return add

    def pass_on(self, target: RegistryLike) -> None:
        """Adds every class to another registry, those that come later as well.

        Args:
            target: one of BasicSR's registries. Nothing happens if it was given before.
        """
        if target is self._target:
            return
        for cls in self._classes.values():
            target.register(cls)
        self._target = target

    def get(self, name: str) -> Any:
        """The class of a name.

        Raises:
            KeyError: if there is none.
        """
        return self._classes[name]

    def __iter__(self) -> Iterator[tuple[str, type]]:
        """Names and classes, in the order in which they came."""
        return iter(self._classes.items())


ARCH_REGISTRY = Registry('arch')
DATASET_REGISTRY = Registry('dataset')
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
