"""Cache of values that backends derive from a network's weights.

Neither the address nor the version of a tensor says that its content is unchanged: writes through ``.data`` (BasicSR's
moving average of weights) or through NumPy change neither. So the cache keeps a copy of the weights that a value was
derived from and compares all of it at every use. Comparing reads each weight once, where inference multiplies it with
every pixel: for DASR it takes 4 ms, 0.2 % of an inference of 180 x 180 pixels and 5 % of 32 x 32
(docs/results/speed.md). Below that ncnn with the comparison is still the fastest backend.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

Value = TypeVar('Value')


class _Entry(NamedTuple):
    weights: list[Tensor]  # copies
    setting: Hashable
    value: Any


class DerivedWeights:
    """Values derived from weights, each derived anew when the content of its weights has changed; thread-safe."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __reduce__(self) -> tuple[type['DerivedWeights'], tuple[()]]:
        """Copies start empty: some values, such as ncnn's networks, can be neither copied nor pickled."""
        return type(self), ()

    def get(self, name: str, weights: Sequence[Tensor], derive: Callable[[], Value], setting: Hashable = None) -> Value:
        """The value of a name that the present weights and setting give; kept until one of them changes.

        ``weights`` are all tensors that ``derive`` reads, ``setting`` is anything else that the value depends on, such
        as a number of threads. What ``derive`` raises is passed on.
        """
        entry = self._entries.get(name)  # one read: another thread may replace or drop the entry meanwhile
        if entry is None or entry.setting != setting or not _equal(entry.weights, weights):
            # Copied before the value is derived: if another thread writes in between, the next comparison fails.
            copies = [weight.detach().clone() for weight in weights]
            entry = self._entries[name] = _Entry(copies, setting, derive())
        value: Value = entry.value
        return value

    def drop(self) -> None:
        """Frees all values."""
        self._entries.clear()


def _equal(kept: Sequence[Tensor], weights: Sequence[Tensor]) -> bool:
    return len(kept) == len(weights) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
        for a, b in zip(kept, weights, strict=True)
    )
