"""What a network is told about the degradation of a test image, and by whom.

An arch names what it must be told in its class attribute ``needs``, one that trains on the test image in
``adapts_to``; blind archs, and BasicSR's, name nothing.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from dasr_arch.benchmark.config import KernelSource, NoiseSource

Estimate = Callable[[Tensor], Tensor]
"""Takes an LR image (1, 3, h, w) in [0, 1] and gives its blur kernel (1, k, k)."""


def gather_conditions(
    needs: tuple[str, ...],
    sources: tuple[KernelSource, NoiseSource],
    lq: Tensor,
    draws: Mapping[str, Tensor],
    estimate: Estimate,
) -> dict[str, Tensor]:
    """Keyword arguments for one call of a network.

    Args:
        needs: what the network must be told: 'kernel', 'noise_level'.
        sources: where it has the kernel from, and the noise level.
        lq: LR image of shape (1, 3, h, w) in [0, 1].
        draws: draws of one image, without batch axis; the truth.
        estimate: what guesses the kernel from the image, for the source 'predicted'.

    Returns:
        'kernel' (1, k, k) and 'noise_level' (1,), as far as they are needed and known, on the image's device.
    """
    kernel, noise_level = sources
    told: dict[str, Tensor] = {}
    if 'kernel' in needs and kernel == 'true':
        told['kernel'] = draws['kernel'].unsqueeze(0).to(lq.device)
    if 'kernel' in needs and kernel == 'predicted':
        told['kernel'] = estimate(lq)
    if 'noise_level' in needs and noise_level == 'true':
        told['noise_level'] = draws['noise_level'].unsqueeze(0).to(lq.device)
    return told
