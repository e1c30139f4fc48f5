"""Registers our classes with BasicSR when it is first imported, by an import hook.

Upscaling, exporting and serving need no BasicSR, whose import takes as long as torch's because it loads torchvision,
SciPy and its own networks. So only modules that look into its registries import it.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

from dasr_arch import _compat, _registration

SUFFIXES = {
    'metrics': '_metric',
    'losses': '_loss',
    'archs': '_arch',
    'data': '_dataset',
    'models': '_model',
}
"""Folders of the package, and the suffix of the modules that register something with BasicSR."""

_BASICSR = 'basicsr'


def attach() -> None:
    """Registers everything with BasicSR: now if it is imported already, otherwise as soon as it is."""
    if sys.modules.get(_BASICSR) is not None:
        _fill_registries()
    elif not any(isinstance(finder, _BasicSRFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BasicSRFinder())


def _fill_registries() -> None:
    """Mends BasicSR, passes our registries on to its own, and imports the modules that register something."""
    from basicsr.utils import registry

    _compat.mend_basicsr()
    _registration.ARCH_REGISTRY.pass_on(registry.ARCH_REGISTRY)
    _registration.DATASET_REGISTRY.pass_on(registry.DATASET_REGISTRY)
    _registration.LOSS_REGISTRY.pass_on(registry.LOSS_REGISTRY)
    _registration.METRIC_REGISTRY.pass_on(registry.METRIC_REGISTRY)
    _registration.MODEL_REGISTRY.pass_on(registry.MODEL_REGISTRY)
    for folder, suffix in SUFFIXES.items():
        _registration.import_all(f'dasr_arch.{folder}', suffix)


class _BasicSRFinder(importlib.abc.MetaPathFinder):
    """Finds BasicSR where the other finders do, and has it loaded by ours."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The specification of BasicSR; None for all other modules, and where it is not installed."""
        if fullname != _BASICSR:
            return None
        for finder in sys.meta_path:
            found = finder.find_spec(fullname, path, target) if finder is not self else None
            if found is not None and found.loader is not None:
                found.loader = _BasicSRLoader(found.loader, self)
                return found
        return None


class _BasicSRLoader(importlib.abc.Loader):
    """Loads BasicSR as its own loader does, fills its registries, and removes the finder."""

    def __init__(self, loader: importlib.abc.Loader, finder: _BasicSRFinder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Runs BasicSR's own loader; applies the workarounds before and fills the registries after it."""
        _compat.provide_functional_tensor()
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _fill_registries()
        sys.meta_path.remove(self._finder)
