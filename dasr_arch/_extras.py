"""Import of optional packages; the message about a missing one names its extra."""

import importlib
from types import ModuleType

from dasr_arch._errors import InputError


def import_extra(module: str, extra: str) -> ModuleType:
    """Imports a module that belongs to an extra of this package.

    InputError if it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split('.')[0] != module.split('.', maxsplit=1)[0]:
            raise  # the package is there, and something that it needs is not
        raise InputError(
            f"{module.split('.', maxsplit=1)[0]} is not installed, it belongs to the extra '{extra}'; "
            f"pip install 'dasr-representation-learning[{extra}]'"
        ) from error
