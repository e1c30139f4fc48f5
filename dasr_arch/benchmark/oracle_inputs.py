"""Inputs of non-blind networks in a test: ground-truth or estimated blur kernel, and noise level.

An arch lists its inputs in the class attribute ``needs``, and those of its test-time training in ``adapts_to``. Blind
archs and those of BasicSR list none.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from dasr_arch.benchmark.config import KernelSource, NoiseSource

Estimate = Callable[[Tensor], Tensor]
"""Estimates the blur kernel (1, k, k) of an LR image (1, 3, h, w) in [0, 1]."""


def gather_conditions(
    needs: tuple[str, ...],
    sources: tuple[KernelSource, NoiseSource],
    lq: Tensor,
    draws: Mapping[str, Tensor],
    estimate: Estimate,
) -> dict[str, Tensor]:
    """Keyword arguments for one call of a network.

    Args:
        needs: non-blind inputs of the network: 'kernel', 'noise_level'.
        sources: source of the kernel, and of the noise level.
        lq: LR image of shape (1, 3, h, w) in [0, 1].
        draws: true degradation of one image, without batch axis.
        estimate: estimates the kernel, for the source 'predicted'.

    Returns:
        'kernel' (1, k, k) and 'noise_level' (1,), as far as they are needed and known, on the image's device.
    """
    kernel, noise_level = sources
    known_inputs: dict[str, Tensor] = {}
    if 'kernel' in needs and kernel == 'true':
        known_inputs['kernel'] = draws['kernel'].unsqueeze(0).to(lq.device)
    if 'kernel' in needs and kernel == 'predicted':
        known_inputs['kernel'] = estimate(lq)
    if 'noise_level' in needs and noise_level == 'true':
        known_inputs['noise_level'] = draws['noise_level'].unsqueeze(0).to(lq.device)
    return known_inputs
