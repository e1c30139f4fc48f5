"""What a non-blind network is told about the degradation of a test picture.

An arch names what it must be told in its class attribute ``needs``; blind archs, and BasicSR's, name nothing.
"""

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor, nn

from dasr_arch.benchmark.suites import Told

Teller = Callable[[Tensor, Mapping[str, Tensor]], dict[str, Tensor]]
"""Takes the LR picture (1, 3, h, w) and the draws of its degradation; gives 'kernel' (1, k, k), 'noise_level' (1,)."""


def tell_truth(lq: Tensor, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The kernel and the noise level that the picture was really made with, on its device."""
    return {name: draws[name].unsqueeze(0).to(lq.device) for name in ('kernel', 'noise_level')}


def tell_nothing(lq: Tensor, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Nothing: the arch falls back on the defaults of its ``forward``."""
    return {}


TELLERS: dict[Told, Teller] = {'truth': tell_truth, 'nothing': tell_nothing}
"""How networks come to know a degradation, by the word that option files use."""


def list_needs(network: nn.Module) -> tuple[str, ...]:
    """The keyword arguments that a network must be told, empty for blind and foreign archs."""
    return cast('tuple[str, ...]', getattr(network, 'needs', ()))


def gather_conditions(network: nn.Module, told: Told, lq: Tensor, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keyword arguments for one call of a network.

    Args:
        network: the network; its ``needs`` decide what it gets.
        told: who tells it.
        lq: LR picture of shape (1, 3, h, w).
        draws: draws of one picture, without batch axis.

    Returns:
        What the network needs and the teller knows.
    """
    needs = list_needs(network)
    if not needs:
        return {}
    facts = TELLERS[told](lq, draws)
    return {name: facts[name] for name in needs if name in facts}
