"""Facts that a network declares: inputs, output, submodules with their own weights, released tensor names.

Training, tests and checkpoints ask :func:`facts_of`, for networks of this package and for BasicSR's alike.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn


class KeyMap:
    """Translation of the tensor names of one public checkpoint format; an arch declares it as ``released_names``.

    ``marker`` is a name that only the authors' files contain. ``rules`` are patterns of their names and our names, of
    which the first full match applies; ``unused`` are patterns of tensors that their code saves but never uses.
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
            if match := pattern.fullmatch(name):
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


@dataclass
class NetworkFacts:
    """Facts of one network, with their defaults."""

    blind: bool = False  # estimates the degradation from the LR image; not if non-blind or trained for a fixed one
    # Inputs of ``forward`` beside the image: 'kernel', blur kernels of shape (B, k, k), and 'noise_level', standard
    # deviations on the scale 0..255 of shape (B,).
    needs: tuple[str, ...] = ()
    adapts_to: tuple[str, ...] = ()  # inputs of the test-time adaptation; empty for networks without one
    trains_per_image: bool = False  # weights are drawn anew and trained for every image, so that no file has them
    restores: bool = True  # ``forward`` returns an image; False for estimators of the degradation
    kernel_size: int = 21  # side in pixels of the blur kernels that the network is trained with, odd
    parts: tuple[str, ...] = ()  # names of submodules that have weights files of their own
    released_names: KeyMap | None = None  # tensor names of the authors' checkpoints; None if none, or equal to ours

    @property
    def conditions(self) -> tuple[str, ...]:
        """Inputs of the network or of its test-time adaptation."""
        return self.needs + self.adapts_to


class SRNetwork(nn.Module, NetworkFacts):
    """Base class of the package's networks; a network overrides the facts that differ from the defaults.

    ``forward(lq)`` maps RGB of shape (B, 3, h, w) in [0, 1] to (B, 3, h * scale, w * scale); the inputs in
    ``needs`` are keyword arguments. A fact is a class attribute, or an instance attribute where an argument decides it.
    """

    __eq__, __hash__ = object.__eq__, object.__hash__  # networks are compared by identity, unlike their facts

    def missing_in_released(self) -> dict[str, Tensor]:
        """Tensors that the authors' checkpoints lack, by our names; they complete such a checkpoint."""
        return {}


def facts_of(network: nn.Module | type[nn.Module]) -> NetworkFacts:
    """Facts that a network or its class declares, with the defaults for the others.

    One that does not derive from :class:`SRNetwork`, such as BasicSR's, may declare facts as attributes of the same
    names.
    """
    declared: dict[str, Any] = {item.name: getattr(network, item.name, item.default) for item in fields(NetworkFacts)}
    return NetworkFacts(**declared)
