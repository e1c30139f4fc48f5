"""Progress and cancelling in the middle of a tile: hooks that a network's blocks call as they are computed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn

from dasr_arch.archs.blocks import DABlock, DAConv
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.inference.self_ensemble import ORIENTATIONS
from dasr_arch.inference.tiling import TilePlan
from dasr_arch.inference.upscaler import CLEAN_SIDE, AdaptationOptions, Upscaler

Listener = Callable[[float], object]
"""Called with the number of LR pixels that were computed, parts of tiles as fractions; what it raises ends the work."""


class Watch:
    """Lets each thread that uses a network hear how far it is.

    Args:
        network: a DASR of this server's own; hooks are put into it.
    """

    def __init__(self, network: DASR) -> None:
        self._local = threading.local()
        marks = _find_marks(network)
        self._share = 1 / len(marks)
        network.register_forward_pre_hook(self._begin, with_kwargs=True)
        for mark in marks:
            mark.register_forward_pre_hook(self._go_on)
        for layer in network.encoder.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_pre_hook(self._encode)

    @contextmanager
    def following(self, listener: Listener) -> Iterator[None]:
        """Tells a listener of everything that the network computes in this thread inside the block."""
        self._local.listener = listener
        try:
            yield
        finally:
            self._local.listener = None

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        lq = args[0] if args else kwargs['lq']
        self._local.pixels = lq.shape[0] * lq.shape[-2] * lq.shape[-1]

    def _go_on(self, _: nn.Module, __: tuple[Any, ...]) -> None:
        self._tell(self._local.pixels * self._share)

    def _encode(self, _: nn.Module, __: tuple[Any, ...]) -> None:
        self._tell(0.0)

    def _tell(self, pixels: float) -> None:
        listener: Listener | None = getattr(self._local, 'listener', None)
        if listener is not None:
            listener(pixels)


class Size(NamedTuple):
    """Of one frame: LR pixels to each side, and how many layers the network enlarges (colour, black, alpha)."""

    height: int
    width: int
    layers: int = 1


def count_computed(upscaler: Upscaler, frames: list[Size], adaptation: AdaptationOptions, represented: int) -> float:
    """LR pixels that a listener will have been told of when a picture is done, margins of tiles included.

    Args:
        upscaler: what will do it.
        frames: size of each.
        adaptation: reference image, strength, self-ensemble.
        represented: how many of the frames' representations are asked for.
    """
    views = len(ORIENTATIONS) if adaptation.ensemble else 1
    plans = {size[:2]: _area(upscaler.plan(*size[:2])) for size in frames}
    total = sum(plans[size[:2]] * size.layers for size in frames)
    if adaptation.strength != 1:
        middle = [(min(size.height, CLEAN_SIDE), min(size.width, CLEAN_SIDE)) for size in frames[:1]]
        total += represented * sum(_area(upscaler.plan(*sides)) for sides in middle)
    return float(total * views)


def _area(plan: TilePlan) -> int:
    return sum(tile.padded_area for tile in plan.tiles)


def _find_marks(network: DASR) -> list[nn.Module]:
    """Modules that are called once in each block, whichever way the network computes."""
    blocks = [module for module in network.groups.modules() if isinstance(module, DABlock)]
    first = [block.da_conv1 for block in blocks]
    return [conv.kernel if isinstance(conv, DAConv) else conv for conv in first]
