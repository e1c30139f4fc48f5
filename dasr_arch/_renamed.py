"""Old names of public modules and functions: they keep working for one release and warn."""

import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec('P')
R = TypeVar('R')

MODULES = {
    'dasr_arch.archs.blocks': 'dasr_arch.archs.dasr_variants',
    'dasr_arch.archs.encoder': 'dasr_arch.archs.dasr_variants',
    'dasr_arch.archs.kernel_estimate': 'dasr_arch.zero_shot.kernel_estimation',
    'dasr_arch.archs.key_map': 'dasr_arch.archs.contract',
    'dasr_arch.archs.moco': 'dasr_arch.losses.contrastive',
    'dasr_arch.archs.weights': 'dasr_arch.checkpoints.io',
    'dasr_arch.data.concat_source': 'dasr_arch.data.image_source',
    'dasr_arch.degradations.codecs': 'dasr_arch.degradations.noise_compression',
    'dasr_arch.degradations.covariance_gaussian_degradation': 'dasr_arch.degradations.anisotropic_degradation',
    'dasr_arch.degradations.noise': 'dasr_arch.degradations.noise_compression',
    'dasr_arch.degradations.resize_filters': 'dasr_arch.degradations.resize',
    'dasr_arch.degradations.separable': 'dasr_arch.degradations.blur',
    'dasr_arch.inference.images.alpha': 'dasr_arch.inference.images.image_modes',
    'dasr_arch.inference.images.high_bit_depth': 'dasr_arch.inference.images.encode',
    'dasr_arch.inference.packaged_weights': 'dasr_arch.checkpoints.packaged',
    'dasr_arch.inference.receptive_field': 'dasr_arch.inference.tile_limits',
    'dasr_arch.inference.tile_memory': 'dasr_arch.inference.tile_limits',
    'dasr_arch.inference.video.output_paths': 'dasr_arch.inference.output_paths',
    'dasr_arch.models.test_time': 'dasr_arch.zero_shot.adaptation',
}
"""Modules that were documented or of use outside the package: old dotted name, new dotted name."""


def warn_renamed(old: str, new: str) -> None:
    """Warns that a name is deprecated; the warning points at the code that used it."""
    warnings.warn(f'{old} is now {new}; the old name will be removed', DeprecationWarning, stacklevel=3)


def find_renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for a module (dotted name), some of whose public names have changed from old to new."""

    def __getattr__(name: str) -> Any:  # noqa: N807  (this is what it becomes)
        if name not in names:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        warn_renamed(f'{module}.{name}', names[name])
        return getattr(sys.modules[module], names[name])

    return __getattr__


def rename_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator for functions that takes keyword arguments under their old names (old=new), too, and warns."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                if names[old] in kwargs:
                    raise TypeError(f"'{old}' is the old name of '{names[old]}'; give one of them")
                warn_renamed(f"the argument '{old}' of {function.__qualname__}", f"'{names[old]}'")
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


def rename_fields(**names: str) -> Callable[[type[R]], type[R]]:
    """Decorator for dataclasses that takes and gives fields under their old names (old=new), too, and warns."""

    def decorate(cls: type[R]) -> type[R]:
        cls.__init__ = rename_arguments(**names)(cls.__init__)  # type: ignore[method-assign]
        for old, new in names.items():
            setattr(cls, old, property(_make_getter(f'{cls.__name__}.{old}', new)))
        return cls

    return decorate


def _make_getter(old: str, new: str) -> Callable[[object], Any]:
    def get(instance: object) -> Any:
        warn_renamed(old, new)
        return getattr(instance, new)

    return get


class _RenamedFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules under their old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The specification of a renamed module; None for all others."""
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module under its new name, so that both names are one object."""
        warn_renamed(spec.name, MODULES[spec.name])
        module = importlib.import_module(MODULES[spec.name])
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restores what the import system has overwritten; the module is loaded already."""
        module.__spec__ = self._own


def attach() -> None:
    """Makes the old module names importable."""
    if not any(isinstance(finder, _RenamedFinder) for finder in sys.meta_path):
        sys.meta_path.append(_RenamedFinder())
