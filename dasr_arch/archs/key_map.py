"""Translation of tensor names in authors' checkpoints."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor


class KeyMap:
    """Key map of one public checkpoint format; an arch declares it as ``released_names``.

    Args:
        marker: a name that only the authors' files contain.
        rules: patterns of the authors' names and our names; the first full match applies.
        unused: patterns of tensors that the authors' code saves but never uses.
    """

    def __init__(self, marker: str, rules: Mapping[str, str], unused: Iterable[str] = ()) -> None:
        self.marker = marker
        self._rules = tuple((re.compile(pattern), name) for pattern, name in rules.items())
        self._unused = tuple(re.compile(pattern) for pattern in unused)

    def is_released(self, state: Mapping[str, Tensor]) -> bool:
        """True for a state dict with the authors' names."""
        return self.marker in state

    def our_name(self, name: str) -> str | None:
        """Our name of a tensor in a released checkpoint; None if there is none."""
        for pattern, replacement in self._rules:
            match = pattern.fullmatch(name)
            if match:
                return match.expand(replacement)
        return None

    def translate(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Tensors of a released checkpoint under our names, without the unused ones, and the unknown names."""
        translated: dict[str, Tensor] = {}
        unknown = []
        for name, tensor in state.items():
            if any(pattern.fullmatch(name) for pattern in self._unused):
                continue
            ours = self.our_name(name)
            if ours is None or ours in translated:
                unknown.append(name)
            else:
                translated[ours] = tensor
        return translated, unknown
