"""Progress and cancelling within a tile, by hooks of the blocks of the network."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn

from dasr_arch.archs.dasr_arch import DASR, DABlock, DAConv
from dasr_arch.inference.self_ensemble import ORIENTATIONS
from dasr_arch.inference.tiling import TilePlan
from dasr_arch.inference.upscaler import CLEAN_SIDE, AdaptationOptions, Upscaler

Listener = Callable[[float], object]
"""Called with the number of LR pixels computed since the last call; an exception from it ends the work."""


class ProgressHooks:
    """Reports the progress of a network to the thread that uses it, by hooks registered in the network."""

    def __init__(self, network: DASR) -> None:
        self._local = threading.local()
        blocks = [module for module in network.groups.modules() if isinstance(module, DABlock)]
        first = [block.da_conv1 for block in blocks]
        modules = [conv.kernel if isinstance(conv, DAConv) else conv for conv in first]  # every backend calls them once
        share = 1 / len(modules)
        network.register_forward_pre_hook(self._begin, with_kwargs=True)
        for module in modules:
            module.register_forward_pre_hook(lambda *_: self._report(self._local.pixels * share))
        for layer in network.encoder.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_pre_hook(lambda *_: self._report(0.0))

    @contextmanager
    def following(self, listener: Listener) -> Iterator[None]:
        """Reports the progress of this thread to a listener within the ``with`` block."""
        self._local.listener = listener
        try:
            yield
        finally:
            self._local.listener = None

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        lq = args[0] if args else kwargs['lq']
        self._local.pixels = lq.shape[0] * lq.shape[-2] * lq.shape[-1]

    def _report(self, pixels: float) -> None:
        listener: Listener | None = getattr(self._local, 'listener', None)
        if listener is not None:
            listener(pixels)


class Size(NamedTuple):
    """Size of a frame in LR pixels, and number of the arrays that the network upscales: components and alpha."""

    height: int
    width: int
    passes: int = 1


def count_computed(upscaler: Upscaler, frames: list[Size], adaptation: AdaptationOptions, represented: int) -> float:
    """Number of LR pixels that a listener gets for an image in total, tile padding included.

    ``represented`` is the number of frames whose representations are computed.
    """
    views = len(ORIENTATIONS) if adaptation.ensemble else 1
    plans = {size[:2]: _area(upscaler.plan(*size[:2])) for size in frames}
    total = sum(plans[size[:2]] * size.passes for size in frames)
    if adaptation.strength != 1:
        middle = [(min(size.height, CLEAN_SIDE), min(size.width, CLEAN_SIDE)) for size in frames[:1]]
        total += represented * sum(_area(upscaler.plan(*sides)) for sides in middle)
    return float(total * views)


def _area(plan: TilePlan) -> int:
    return sum(tile.padded_area for tile in plan.tiles)
