"""Arguments from which a command, or a worker of a cluster, makes its networks."""

import os
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

from dasr_arch.backends.precision import Precision
from dasr_arch.inference.load_model import names_file
from dasr_arch.inference.model_pool import AUTO, ModelPool
from dasr_arch.inference.tiling import Tiling
from dasr_arch.inference.upscaler import Upscaler
from dasr_arch.probe.auto_model import AutoPool


@dataclass(frozen=True)
class PoolOptions:
    """Arguments of a ModelPool and of its upscalers, such as those of a command; see ``Upscaler``."""

    model: str | os.PathLike[str] | None = None
    scale: int | None = None
    device: str = 'auto'
    precision: Precision = 'auto'
    tiling: Tiling = field(default_factory=Tiling)

    def make_pool(self) -> ModelPool:
        """The pool, for the model 'auto' an AutoPool; InputError if there are no such weights."""
        make = partial(Upscaler, device=self.device, precision=self.precision, tiling=self.tiling)
        if self.model == AUTO:
            return AutoPool(AUTO, self.scale, make)
        return ModelPool(self.model, self.scale, make)

    def with_absolute_path(self) -> Self:
        """The same for other processes, which may work in another folder."""
        is_file = self.model is not None and names_file(self.model)
        return replace(self, model=Path(os.path.abspath(str(self.model)))) if is_file else self
