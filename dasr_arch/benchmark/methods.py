"""A system of a comparison: a network with what it needs around it, from one line of an option file.

Around it may stand a network that removes noise before, one that estimates the kernel, and the training on the test
image itself that ZSSR and MZSR consist of. Nothing here ever sees an HR image.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from dasr_arch._errors import InputError
from dasr_arch.archs.contract import facts_of
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.ikc_arch import IKC
from dasr_arch.benchmark.build import build_network, construct, first_line, run_network
from dasr_arch.benchmark.config import NetworkPlan, PartPlan
from dasr_arch.benchmark.oracle_inputs import gather_conditions
from dasr_arch.benchmark.result_cache import digest_weights
from dasr_arch.checkpoints.io import choose_part, load_strictly, read_weights
from dasr_arch.degradations import Degradation, image_generator
from dasr_arch.degradations.noise import quantise
from dasr_arch.inference.tiling import plan_squares
from dasr_arch.zero_shot.adaptation import Adapter, adapts, build_adapter
from dasr_arch.zero_shot.kernel_estimation import estimate_kernel

PROBE_SIDE = 48  # LR pixels: the paper's patch, and a multiple of the windows of common archs
TILE_PAD = 32  # LR pixels that are computed around a tile and cut off


@dataclass
class System:
    """Everything that makes an SR image from an LR image.

    Attributes:
        plan: how it was asked for.
        network: the network, in evaluation mode.
        digest: SHA-256 of all weights, empty if there are none.
        denoiser: network of scale 1 that comes first.
        estimator: the IKC whose Predictor estimates the kernel.
        adapter: trains the network on the image.
    """

    plan: NetworkPlan
    network: nn.Module
    digest: str
    denoiser: nn.Module | None = None
    estimator: IKC | None = None
    adapter: Adapter | None = None

    def to(self, device: torch.device) -> 'System':
        """Moves all networks."""
        self.network.to(device)
        if self.denoiser is not None:
            self.denoiser.to(device)
        if self.estimator is not None:
            self.estimator.to(device)
        return self

    def estimate(self, lq: Tensor) -> Tensor:
        """The kernel (1, k, k) that the Predictor finds in an LR image (1, 3, h, w)."""
        if self.estimator is None:
            raise ValueError('the kernel is to be predicted, but there is no predictor')
        with torch.inference_mode():
            return estimate_kernel(self.estimator, lq)

    @property
    def needs(self) -> tuple[str, ...]:
        """What it must be told."""
        return facts_of(self.network).conditions

    def list_networks(self) -> list[nn.Module]:
        """All networks that compute, in the order in which they do."""
        found = [self.denoiser, self.estimator.predictor if self.estimator else None, self.network]
        return [network for network in found if network is not None]

    def restore(self, lq: Tensor, draws: Mapping[str, Tensor], scale: int, generator: torch.Generator) -> Tensor:
        """The SR image of one LR image.

        Args:
            lq: RGB of shape (1, 3, h, w) in [0, 1], on the networks' device.
            draws: the true degradation, of which the system is told what its plan says; may be empty if
                it needs nothing.
            scale: the factor it must enlarge by.
            generator: CPU generator of what a training on the image draws.

        Returns:
            RGB of shape (1, 3, h * scale, w * scale), not clamped.

        Raises:
            ValueError: if a network gives something else than such an image.
        """
        if self.denoiser is not None:
            lq = quantise(run_network(self.denoiser, lq, {}, 1))  # as an image that was stored in between
        sources = (self.plan.kernel, self.plan.noise_level)
        conditions = gather_conditions(self.needs, sources, lq, draws, self.estimate)
        if self.adapter is not None:
            sr = self.adapter(self.network, lq, kernel=conditions.get('kernel'), generator=generator).sr
            expected = (1, 3, lq.shape[2] * scale, lq.shape[3] * scale)
            if tuple(sr.shape) != expected:
                raise ValueError(f'expected an output of shape {expected}, got {tuple(sr.shape)}')
            return sr
        if self.plan.tile is not None:
            return _run_tiled(self.network, lq, conditions, scale, self.plan.tile)
        return run_network(self.network, lq, conditions, scale)


def build_system(plan: NetworkPlan, scale: int) -> System:
    """A system in evaluation mode, on the CPU, in float32.

    Args:
        plan: what the option file says.
        scale: the factor it enlarges by.

    Returns:
        The system.

    Raises:
        InputError: if weights are missing, unreadable or of another network, a part is missing, or an option is wrong.
    """
    where = f'networks.{plan.label}'
    network, digest = build_network(plan)
    if not facts_of(network).restores:
        raise InputError(f'{where}: {plan.type} gives no image; it can be the predictor of another network')
    system = System(plan, network, digest)
    _check_told(system, where)
    digests = [digest]
    try:
        if plan.denoiser is not None:
            system.denoiser, state = _build_part(plan.denoiser)
            digests.append(digest_weights(state))
        if plan.predictor is not None:
            system.estimator, state = _build_estimator(plan.predictor, scale)
            digests.append(digest_weights(state))
        if adapts(network):
            system.adapter = build_adapter(plan.type, plan.adapt)
    except InputError as error:
        raise InputError(f'{where}: {error}') from error
    if len(digests) > 1:
        system.digest = hashlib.sha256('|'.join(digests).encode()).hexdigest()
    return system


def describe_system(system: System) -> dict[str, object]:
    """What stands beside a system's numbers, ready for JSON.

    Returns:
        'type', 'known' (non-blind inputs in words), 'upper_bound' (true if any of them is the ground truth),
        'predictor', 'denoiser' (names of archs or None), 'adapts' (whether it trains on the test image), 'tile'.
    """
    plan, needs = system.plan, system.needs
    words = []
    if 'kernel' in needs and plan.kernel != 'none':
        words.append('kernel' if plan.kernel == 'true' else 'predicted kernel')
    if 'noise_level' in needs and plan.noise_level == 'true':
        words.append('noise level')
    return {
        'type': plan.type,
        'known': ', '.join(words) or 'nothing',
        'upper_bound': any(word != 'predicted kernel' for word in words),
        'predictor': plan.predictor.type if plan.predictor else None,
        'denoiser': plan.denoiser.type if plan.denoiser else None,
        'adapts': system.adapter is not None,
        'tile': plan.tile,
    }


def probe_system(system: System, degradation: Degradation) -> None:
    """Runs a system once on a small grey image, so that a wrong scale shows before the benchmark starts.

    The training on the image is left out, which may take long.

    Args:
        system: the system, on the CPU.
        degradation: any degradation of the benchmark; gives the scale and what the system is told.

    Raises:
        InputError: if a network fails, or does not enlarge by the scale.
    """
    plan = system.plan
    where = f'networks.{plan.label}'
    size = (PROBE_SIDE, PROBE_SIDE)
    generator = image_generator(0, '')
    draws = degradation.draw(generator, size)
    lq = torch.full((1, 3, *size), 0.5)
    trained = System(plan, system.network, system.digest, system.denoiser, system.estimator)
    try:
        if system.adapter is None:
            trained.restore(lq, draws, degradation.scale, generator)
        else:
            gather_conditions(system.needs, (plan.kernel, plan.noise_level), lq, draws, system.estimate)
            run_network(system.network, lq, {}, degradation.scale)
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError) as error:
        side = f'{PROBE_SIDE} x {PROBE_SIDE}'
        raise InputError(f'{where}: {plan.type} fails on an image of {side}: {first_line(error)}') from error


def _check_told(system: System, where: str) -> None:
    """What a system is told must be what it can be told."""
    plan, needs = system.plan, system.needs
    must = 'kernel' in facts_of(system.network).needs  # the training on the image can do without
    if must and plan.kernel == 'none':
        raise InputError(
            f'{where}: {plan.type} must be told the blur kernel, and `kernel: none` tells it nothing; '
            'use true or predicted'
        )
    if plan.kernel == 'predicted' and 'kernel' not in needs:
        raise InputError(f'{where}: {plan.type} is not told a kernel; remove `kernel: predicted`')
    if plan.kernel == 'predicted' and plan.predictor is None:
        raise InputError(
            f'{where}: `kernel: predicted` needs `predictor: {{path: FILE}}`, the weights of a Predictor or of an IKC'
        )
    if plan.kernel != 'predicted' and plan.predictor is not None:
        raise InputError(f'{where}: a predictor is given but not used; write `kernel: predicted`, or remove it')
    if plan.adapt and not adapts(system.network):
        raise InputError(f'{where}: {plan.type} does not train on test images; remove `adapt`')
    if plan.tile is not None and adapts(system.network):
        raise InputError(f'{where}: {plan.type} trains on the whole image and cannot be cut into tiles; remove `tile`')


def _build_part(plan: PartPlan) -> tuple[nn.Module, Mapping[str, Tensor]]:
    """A network that works for another one, in evaluation mode, and its weights as the file holds them."""
    network = construct(ARCH_REGISTRY.get(plan.type), plan.arguments, plan.type)
    state = read_weights(plan.weights, plan.param_key)
    load_strictly(network, state, f"weights file '{plan.weights}'")
    return network.eval(), state


def _build_estimator(plan: PartPlan, scale: int) -> tuple[IKC, Mapping[str, Tensor]]:
    """The IKC whose Predictor is asked, from a file of the whole or of the Predictor alone, and the file's tensors."""
    kind: type[nn.Module] = ARCH_REGISTRY.get(plan.type)
    if not issubclass(kind, IKC):
        raise InputError(f'predictor: expected an IKC, got {plan.type}; its coefficients have no known basis')
    network = construct(kind, {'scale': scale, **plan.arguments}, 'predictor')
    assert isinstance(network, IKC)
    if network.scale != scale:
        raise InputError(f'predictor: scale is {network.scale}, but the test has scale {scale}; make them equal')
    name = f"weights file '{plan.weights}'"
    state = read_weights(plan.weights, plan.param_key)
    part = choose_part(network, state)
    if part not in {network, network.predictor}:
        raise InputError(f'predictor: {name} is of {type(part).__name__}; give one of a Predictor or of a whole IKC')
    if part is network.predictor and 'basis_path' not in plan.arguments and any(map(is_released_name, state)):
        raise InputError(
            f"predictor: {name} is the authors', whose coefficients mean nothing without their kernel basis; give that "
            'as predictor.basis_path'
        )
    load_strictly(part, state, name)
    return network.eval(), state


def is_released_name(name: str) -> bool:
    """Whether a tensor of a Predictor is called as in the authors' files."""
    return name.startswith('ConvNet.')


def _run_tiled(network: nn.Module, lq: Tensor, conditions: Mapping[str, Tensor], scale: int, size: int) -> Tensor:
    """The image in tiles with margins; a DASR adapts them to the whole image, other networks to each alone."""
    conditions = dict(conditions)
    if isinstance(network, DASR):
        with torch.inference_mode():
            conditions = {'representation': network.encode(lq, **conditions)}
    height, width = lq.shape[2:]
    sr = lq.new_empty(1, 3, height * scale, width * scale)
    for rows, columns in plan_squares(height, width, TILE_PAD, size).tiles:
        piece = lq[..., rows.outer_start : rows.outer_stop, columns.outer_start : columns.outer_stop]
        out = run_network(network, piece, conditions, scale)
        top, left = (rows.start - rows.outer_start) * scale, (columns.start - columns.outer_start) * scale
        inner = out[
            ..., top : top + (rows.stop - rows.start) * scale, left : left + (columns.stop - columns.start) * scale
        ]
        sr[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale] = inner
    return sr
