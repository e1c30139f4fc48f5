"""The names that authors gave to the tensors of their checkpoints, and what each is called here."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor


class KeyMap:
    """Explicit translation of one public checkpoint format; an arch has it as its class attribute ``released_names``.

    Args:
        marker: a name that only the authors' files hold, which tells them from ours.
        rules: pattern of the authors' name to our name; the first one that matches the whole name counts.
        unused: patterns of tensors that the authors' code makes and saves but never computes with.
    """

    def __init__(self, marker: str, rules: Mapping[str, str], unused: Iterable[str] = ()) -> None:
        self.marker = marker
        self._rules = tuple((re.compile(pattern), name) for pattern, name in rules.items())
        self._unused = tuple(re.compile(pattern) for pattern in unused)

    def is_released(self, state: Mapping[str, Tensor]) -> bool:
        """Whether a state dict carries the authors' names."""
        return self.marker in state

    def our_name(self, name: str) -> str | None:
        """What a tensor of a released checkpoint is called here; None if it has no place."""
        for pattern, replacement in self._rules:
            match = pattern.fullmatch(name)
            if match:
                return match.expand(replacement)
        return None

    def translate(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Renames the tensors of a released checkpoint.

        Args:
            state: tensors under the authors' names.

        Returns:
            The tensors under our names, without the unused ones, and the names that are neither.
        """
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
