"""What ZSSR and MZSR do with every test image before they enlarge it: they train on that image alone.

The image is taken for an HR image, shrunk once more by the kernel that is told, and the network learns to undo
that. Nothing here ever sees a ground truth. Shocher et al., Zero-Shot Super-Resolution using Deep Internal Learning,
CVPR 2018; Soh et al., Meta-Transfer Learning for Zero-Shot Super-Resolution, CVPR 2020. Facts are from the papers and
from descriptions of the authors' code, of which nothing is taken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dasr_arch._errors import InputError, suggest
from dasr_arch.archs.contract import facts_of
from dasr_arch.archs.layers.residual_cnn import ResidualRestorer
from dasr_arch.archs.mzsr_arch import MZSR
from dasr_arch.archs.zssr_arch import ZSSR
from dasr_arch.degradations.base import check_choice, check_number
from dasr_arch.zero_shot.pairs import Shrinking, back_project, enlarge_to, run_on_variants
from dasr_arch.zero_shot.zssr import ZSSROptions, train_zssr


class Adapted(NamedTuple):
    """What came out for one image.

    Attributes:
        sr: RGB of shape (1, 3, h * scale, w * scale), in [0, 1].
        network: the network that was trained on the image; the one that was given stays as it was.
        losses: mean absolute error on [0, 1] of every step, before it was taken.
        rates: learning rate of every step.
    """

    sr: Tensor
    network: nn.Module
    losses: tuple[float, ...]
    rates: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class MZSROptions:
    """How MZSR adapts to an image.

    Attributes:
        steps: gradient steps, 0 or more; the paper shows 1 and 10.
        rates: learning rate of the first step, of the second and so on; the last one holds for all that follow. The
            authors' are (0.01, 0.01, 0.01, 0.001) for bicubic sampling at x2, (0.01, 0.005, 0.005, 0.005, 0.005, 0.001)
            for direct sampling at x4.
        downsample: how sons are made, as the network was trained: 'bicubic' blurs and shrinks as DASR's protocol does,
            'direct' blurs and takes every s-th pixel from the top left.
        back_projections: rounds after the last step; the authors' code has them, switched off.

    Raises:
        InputError: if a value has the wrong type or lies outside its range.
    """

    steps: int = 10
    rates: tuple[float, ...] = (0.01, 0.01, 0.01, 0.001)
    downsample: Literal['bicubic', 'direct'] = 'bicubic'
    back_projections: int = 0

    def __post_init__(self) -> None:
        """Checks every value."""
        check_number('steps', self.steps, low=0, high=1e6)
        check_number('back_projections', self.back_projections, low=0, high=1e6)
        check_choice('downsample', self.downsample, ('bicubic', 'direct'))
        if not isinstance(self.rates, tuple) or not self.rates:
            raise InputError(f'rates must be a list of learning rates, got {self.rates!r}')
        for rate in self.rates:
            check_number('rates', rate, low=0, high=1)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return self.rates[min(step, len(self.rates) - 1)]


Adapter = Callable[..., Adapted]
"""Called as ``adapter(network, lq, kernel=None, generator=generator)``, see :func:`build_adapter`."""

_OPTIONS: dict[type[nn.Module], type[ZSSROptions] | type[MZSROptions]] = {ZSSR: ZSSROptions, MZSR: MZSROptions}


def adapts(network: nn.Module) -> bool:
    """Whether a network is trained on every test image; its fact ``adapts_to`` is not empty then.

    Args:
        network: any network.

    Returns:
        True for ZSSR and MZSR.
    """
    return bool(facts_of(network).adapts_to)


def build_adapter(kind: str, options: Mapping[str, Any] | None = None) -> Adapter:
    """Makes the test-time training of an arch.

    Args:
        kind: name of the arch: 'ZSSR' or 'MZSR'.
        options: fields of :class:`ZSSROptions` or :class:`MZSROptions` that differ from their defaults; lists stand for
            tuples.

    Returns:
        A function of ``network`` (a :class:`ResidualRestorer`, on any device; for ZSSR its weights do not matter,
        since they are drawn anew), ``lq`` (one image, RGB of shape (1, 3, h, w) in [0, 1], on the network's device)
        and, by keyword, ``kernel`` ((k, k) or (1, k, k); None takes the image for bicubically shrunk) and
        ``generator`` (a CPU generator: the same state gives the same image). It works inside
        ``torch.inference_mode()`` and ``torch.no_grad()`` too, and returns :class:`Adapted`.

    Raises:
        InputError: if there is no such arch or option, or a value is out of range.
    """
    known = {arch.__name__: arch for arch in _OPTIONS}
    if kind not in known:
        raise InputError(f"no test-time training for '{kind}'{suggest(kind, known)}")
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in (options or {}).items()}
    allowed = {item.name for item in fields(_OPTIONS[known[kind]])}
    for key in values:
        if key not in allowed:
            raise InputError(f"unknown key '{key}' of {kind}'s test-time training{suggest(str(key), allowed)}")
    if kind == 'ZSSR':
        zssr = ZSSROptions(**values)
        return lambda network, lq, *, kernel=None, generator: adapt_zssr(network, lq, zssr, kernel, generator)
    mzsr = MZSROptions(**values)
    return lambda network, lq, *, kernel=None, generator=None: adapt_mzsr(network, lq, mzsr, kernel)


def adapt_mzsr(
    network: ResidualRestorer, lq: Tensor, options: MZSROptions | None = None, kernel: Tensor | None = None
) -> Adapted:
    """Takes a few plain gradient steps on the whole image, then enlarges it.

    Args:
        network: meta-trained network.
        lq: RGB of shape (1, 3, h, w) in [0, 1].
        options: how; the defaults if None.
        kernel: the blur kernel, (k, k) or (1, k, k); None takes the image for bicubically shrunk.

    Returns:
        The image, the adapted network and its losses. Nothing in it is random.

    Raises:
        ValueError: if a shape does not fit.

    Source:
        Soh et al., CVPR 2020, algorithm 2.
    """
    options = options or MZSROptions()
    with torch.inference_mode(False), torch.enable_grad():
        lq = _take_image(lq)
        shrinking = Shrinking(network.scale, _take_kernel(kernel, lq), options.downsample)
        adapted = copy_network(network)
        parameters: list[Tensor] = list(adapted.parameters())
        son = enlarge_to(shrinking(lq), network.scale, lq)
        losses, rates = [], []
        for step in range(options.steps):
            loss = (adapted(son, enlarged=True) - lq).abs().mean()
            gradients = torch.autograd.grad(loss, parameters)
            losses.append(float(loss.detach()))
            rates.append(options.rate(step))
            with torch.no_grad():
                torch._foreach_add_(parameters, list(gradients), alpha=-rates[-1])
        with torch.no_grad():
            sr = back_project(adapted(lq).clamp(0, 1), lq, shrinking, options.back_projections)
    return Adapted(sr, adapted, tuple(losses), tuple(rates))


def adapt_zssr(
    network: ResidualRestorer,
    lq: Tensor,
    options: ZSSROptions | None = None,
    kernel: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Adapted:
    """Trains a network from nothing on crops of the image, then enlarges it.

    Args:
        network: a ZSSR; its weights do not matter.
        lq: RGB of shape (1, 3, h, w) in [0, 1].
        options: how; the defaults if None.
        kernel: the blur kernel, (k, k) or (1, k, k); None takes the image for bicubically shrunk.
        generator: CPU generator of the initial weights, the crops and the noise; seeded with 0 if None.

    Returns:
        The image, the trained network and its losses.

    Raises:
        ValueError: if a shape does not fit.

    Source:
        Shocher et al., CVPR 2018, section 3.
    """
    options = options or ZSSROptions()
    generator = generator or torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        lq = _take_image(lq)
        told = kernel is not None
        shrinking = Shrinking(network.scale, _take_kernel(kernel, lq), options.downsample, centred=True)
        adapted = copy_network(network)
        assert isinstance(adapted, ZSSR)
        adapted.draw_weights(generator)
        losses, rates = train_zssr(adapted, lq, shrinking, options, generator, may_turn=not told)
        rounds = options.rounds(told)
        with torch.no_grad():
            if options.uses_ensemble(told):
                sr = run_on_variants(adapted, lq, shrinking, rounds)
            else:
                sr = adapted(lq).clamp(0, 1)
            sr = back_project(sr, lq, shrinking, rounds)
    return Adapted(sr, adapted, losses, rates)


def copy_network(network: ResidualRestorer) -> ResidualRestorer:
    """A copy whose parameters can be trained, even if the original was made in inference mode."""
    arguments = {'scale': network.scale, 'num_feat': network.num_feat, 'num_layers': network.num_layers}
    first = next(network.parameters())
    copy: ResidualRestorer = type(network)(**arguments).to(first.device, first.dtype)  # type: ignore[arg-type]
    copy.load_state_dict({name: value.clone() for name, value in network.state_dict().items()})
    return copy.train(network.training)


def _take_image(lq: Tensor) -> Tensor:
    """A copy that gradients can pass, checked."""
    if lq.ndim != 4 or lq.shape[:2] != (1, 3):
        raise ValueError(f'lq must be one image of shape (1, 3, h, w), got {tuple(lq.shape)}')
    return lq.detach().clone()


def _take_kernel(kernel: Tensor | None, lq: Tensor) -> Tensor | None:
    """The kernel as (1, k, k) beside the image, or None."""
    if kernel is None:
        return None
    kernel = kernel.detach().clone().to(lq.device, lq.dtype)
    kernel = kernel if kernel.ndim == 3 else kernel[None]
    if kernel.ndim != 3 or kernel.shape[0] != 1 or kernel.shape[1] != kernel.shape[2] or kernel.shape[1] % 2 == 0:
        raise ValueError(f'kernel must have shape (1, k, k) with k odd, got {tuple(kernel.shape)}')
    return kernel
