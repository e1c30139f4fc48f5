"""Test-time adaptation of ZSSR and MZSR: training on the LR image alone before it is upsampled.

The LR image serves as HR image: it is downscaled with the blur kernel, and the network learns the inverse. Ground
truth is never used. Shocher et al., Zero-Shot Super-Resolution using Deep Internal Learning, CVPR 2018; Soh et al.,
Meta-Transfer Learning for Zero-Shot Super-Resolution, CVPR 2020. Facts are from the papers and from descriptions of
the authors' code; no code is taken from it.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dasr_arch._errors import InputError, suggest
from dasr_arch.archs.contract import facts_of
from dasr_arch.archs.zssr_arch import ZSSR, ResidualCNN
from dasr_arch.config.typed import convert
from dasr_arch.config.zero_shot_schema import MZSROptions, ZSSROptions
from dasr_arch.zero_shot.pairs import Downscaler, back_project, run_finite, run_self_ensemble, upsample_to
from dasr_arch.zero_shot.zssr import train_zssr


class Adapted(NamedTuple):
    """Result of the adaptation to one image."""

    sr: Tensor  # RGB of shape (1, 3, h * scale, w * scale), in [0, 1]
    network: nn.Module  # the adapted copy
    losses: tuple[float, ...]  # mean absolute error on [0, 1] before every step
    rates: tuple[float, ...]  # learning rate of every step


Adapter = Callable[..., Adapted]
"""Called as ``adapter(network, lq, kernel=None, generator=generator)``, see :func:`build_adapter`."""

_OPTIONS: dict[str, type[ZSSROptions] | type[MZSROptions]] = {'ZSSR': ZSSROptions, 'MZSR': MZSROptions}


def adapts(network: nn.Module) -> bool:
    """True for networks that adapt to every test image: ZSSR and MZSR."""
    return bool(facts_of(network).adapts_to)


def build_adapter(kind: str, options: Mapping[str, Any] | None = None) -> Adapter:
    """Builds the test-time adaptation of 'ZSSR' or 'MZSR'.

    ``options`` are fields of :class:`ZSSROptions` or :class:`MZSROptions`. InputError if there
    is no such arch or option, or a value is out of range.

    The result is a function of ``network`` (on any device; ZSSR draws its weights anew), ``lq`` (one image, RGB of
    shape (1, 3, h, w) in [0, 1], on the network's device) and, by keyword, ``kernel`` ((k, k) or (1, k, k); None
    assumes bicubic downsampling) and ``generator`` (a CPU generator: the same state gives the same image). It works
    inside ``torch.inference_mode()`` and ``torch.no_grad()``.
    """
    if kind not in _OPTIONS:
        raise InputError(f"no test-time adaptation for '{kind}'{suggest(kind, _OPTIONS)}")
    found = convert(dict(options or {}), _OPTIONS[kind], f"{kind}'s test-time adaptation")
    if isinstance(found, ZSSROptions):
        return lambda network, lq, *, kernel=None, generator: adapt_zssr(network, lq, found, kernel, generator)
    return lambda network, lq, *, kernel=None, generator=None: adapt_mzsr(network, lq, found, kernel)


def adapt_mzsr(network: ResidualCNN, lq: Tensor, options: MZSROptions, kernel: Tensor | None = None) -> Adapted:
    """Takes a few gradient steps on the whole image, then super-resolves it: Soh et al., CVPR 2020, algorithm 2.

    Inputs are as in :func:`build_adapter`; ValueError if a shape does not fit, DivergedError if the result is not
    finite.
    """
    with torch.inference_mode(False), torch.enable_grad():
        lq = _check_image(lq)
        downscaler = Downscaler(network.scale, _check_kernel(kernel, lq), options.downsample)
        adapted = deepcopy(network).requires_grad_()
        parameters: list[Tensor] = list(adapted.parameters())
        upsampled = upsample_to(downscaler(lq), network.scale, lq)
        losses, rates = [], []
        for step in range(options.steps):
            loss = (adapted(upsampled, is_upsampled=True) - lq).abs().mean()
            gradients = torch.autograd.grad(loss, parameters)
            losses.append(float(loss.detach()))
            rates.append(options.rate(step))
            with torch.no_grad():
                torch._foreach_add_(parameters, list(gradients), alpha=-rates[-1])
        with torch.no_grad():
            sr = back_project(run_finite(adapted, lq), lq, downscaler, options.back_projections)
    return Adapted(sr, adapted, tuple(losses), tuple(rates))


def adapt_zssr(
    network: ResidualCNN, lq: Tensor, options: ZSSROptions, kernel: Tensor | None, generator: torch.Generator
) -> Adapted:
    """Trains a network from scratch on crops of the image, then super-resolves it.

    Inputs are as in :func:`build_adapter`; the generator draws initial weights, crops and noise. Errors are as in
    :func:`adapt_mzsr`. Source: Shocher et al., CVPR 2018, section 3.
    """
    with torch.inference_mode(False), torch.enable_grad():
        lq = _check_image(lq)
        known_kernel = kernel is not None
        downscaler = Downscaler(network.scale, _check_kernel(kernel, lq), options.downsample, centred=True)
        adapted = deepcopy(network).requires_grad_()
        assert isinstance(adapted, ZSSR)
        adapted.draw_weights(generator)
        losses, rates = train_zssr(adapted, lq, downscaler, options, generator, augment=not known_kernel)
        rounds = options.rounds(known_kernel)
        with torch.no_grad():
            if options.uses_ensemble(known_kernel):
                sr = run_self_ensemble(adapted, lq, downscaler, rounds)
            else:
                sr = run_finite(adapted, lq)
            sr = back_project(sr, lq, downscaler, rounds)
    return Adapted(sr, adapted, losses, rates)


def _check_image(lq: Tensor) -> Tensor:
    """A detached copy of one image; ValueError for another shape."""
    if lq.ndim != 4 or lq.shape[:2] != (1, 3):
        raise ValueError(f'lq must be one image of shape (1, 3, h, w), got {tuple(lq.shape)}')
    return lq.detach().clone()


def _check_kernel(kernel: Tensor | None, lq: Tensor) -> Tensor | None:
    """The kernel as (1, k, k) on the image's device, or None; ValueError for another shape."""
    if kernel is None:
        return None
    kernel = kernel.detach().clone().to(lq.device, lq.dtype)
    kernel = kernel if kernel.ndim == 3 else kernel[None]
    if kernel.ndim != 3 or kernel.shape[0] != 1 or kernel.shape[1] != kernel.shape[2] or kernel.shape[1] % 2 == 0:
        raise ValueError(f'kernel must have shape (1, k, k) with k odd, got {tuple(kernel.shape)}')
    return kernel
