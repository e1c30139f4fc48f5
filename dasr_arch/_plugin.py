"""Registers our classes with BasicSR when it is first imported, by an import hook.

Upscaling, exporting and serving need no BasicSR, whose import takes as long as torch's because it loads torchvision,
SciPy and its own networks. So only modules that look into its registries import it.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from dasr_arch import _compat, _registration

SUFFIXES = {'metrics': '_metric', 'losses': '_loss', 'archs': '_arch', 'data': '_dataset', 'models': '_model'}
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
    for kind in ('ARCH', 'DATASET', 'LOSS', 'METRIC', 'MODEL'):
        name = f'{kind}_REGISTRY'
        getattr(_registration, name).pass_on(getattr(registry, name))
    for folder, suffix in SUFFIXES.items():
        _registration.import_all(f'dasr_arch.{folder}', suffix)


class _BasicSRFinder(importlib.abc.MetaPathFinder):
    """Finds BasicSR where the other finders do, and has its loader fill the registries."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The specification of BasicSR; None for all other modules, and where it is not installed."""
        if fullname != _BASICSR:
            return None
        for finder in sys.meta_path:
            found = finder.find_spec(fullname, path, target) if finder is not self else None
            if found is not None and found.loader is not None:
                self._extend(found.loader)
                return found
        return None

    def _extend(self, loader: Any) -> None:
        """Applies the workarounds before, and fills the registries after the loader has run BasicSR."""

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # from here on its own method again
            _compat.provide_functional_tensor()
            loader.exec_module(module)
            _fill_registries()
            sys.meta_path.remove(self)

        loader.exec_module = exec_module
