"""Methods of a comparison: an SR network with optional denoiser, kernel estimator and test-time training.

Test-time training is that of ZSSR and MZSR. Methods are never given an HR image.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from dasr_arch._errors import InputError, naming
from dasr_arch.archs.contract import facts_of
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.ikc_arch import IKC
from dasr_arch.benchmark.config import NetworkPlan, PartPlan
from dasr_arch.benchmark.result_cache import digest_weights
from dasr_arch.checkpoints.io import choose_part, infer_arguments, load_strictly, read_dasr_weights, read_weights
from dasr_arch.config.registry_checks import describe_briefly, try_call
from dasr_arch.degradations import Degradation, image_generator
from dasr_arch.degradations.noise_compression import quantise
from dasr_arch.inference.tiling import plan_squares
from dasr_arch.zero_shot.adaptation import Adapter, adapts, build_adapter
from dasr_arch.zero_shot.kernel_estimation import estimate_kernel

PROBE_SIDE = 48  # LR pixels: the paper's patch, and a multiple of the window sizes of common archs
TILE_PAD = 32  # LR pixels around a tile that are computed and cut off


@dataclass
class Method:
    """The networks that turn an LR image into an SR image, in evaluation mode."""

    plan: NetworkPlan
    network: nn.Module
    digest: str  # SHA-256 of all weights, empty if there are none
    denoiser: nn.Module | None = None  # of scale 1; comes first
    estimator: IKC | None = None  # its Predictor estimates the kernel
    adapter: Adapter | None = None  # test-time training

    def to(self, device: torch.device) -> 'Method':
        """Moves all networks."""
        for network in (self.network, self.denoiser, self.estimator):
            if network is not None:
                network.to(device)
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """Its non-blind inputs."""
        return facts_of(self.network).conditions

    def list_networks(self) -> list[nn.Module]:
        """All networks, in the order of computation."""
        found = [self.denoiser, self.estimator.predictor if self.estimator else None, self.network]
        return [network for network in found if network is not None]

    def restore(self, lq: Tensor, draws: Mapping[str, Tensor], scale: int, generator: torch.Generator) -> Tensor:
        """The SR image (1, 3, h * scale, w * scale), not clamped, of an LR image (1, 3, h, w) in [0, 1].

        The LR image is on the networks' device, ``draws`` as in `gather_conditions`. The CPU generator is for test-time
        training. Raises ValueError if a network returns anything else, DivergedError if that training diverges.
        """
        if self.denoiser is not None:
            lq = run_network(self.denoiser, lq, {}, 1)
            check_finite(lq)
            lq = quantise(lq)  # as if the image were stored in between
        conditions = self.gather_conditions(lq, draws)
        if self.adapter is not None:
            return self.adapter(self.network, lq, kernel=conditions.get('kernel'), generator=generator).sr
        if self.plan.tile is not None:
            return _run_tiled(self.network, lq, conditions, scale, self.plan.tile)
        return run_network(self.network, lq, conditions, scale)

    def gather_conditions(self, lq: Tensor, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The non-blind inputs of the network: 'kernel' (1, k, k) and 'noise_level' (1,), as far as needed and known.

        They are on the device of the LR image (1, 3, h, w). ``draws`` hold the true degradation without batch axis.
        """
        known_inputs: dict[str, Tensor] = {}
        if 'kernel' in self.needs and self.plan.kernel == 'true':
            known_inputs['kernel'] = draws['kernel'].unsqueeze(0).to(lq.device)
        if 'kernel' in self.needs and self.plan.kernel == 'predicted':
            assert self.estimator is not None  # as build_method has checked
            with torch.inference_mode():
                known_inputs['kernel'] = estimate_kernel(self.estimator, lq)
        if 'noise_level' in self.needs and self.plan.noise_level == 'true':
            known_inputs['noise_level'] = draws['noise_level'].unsqueeze(0).to(lq.device)
        return known_inputs


def build_method(plan: NetworkPlan, scale: int) -> Method:
    """Builds a method in evaluation mode, on the CPU, in float32.

    Raises InputError if an option is wrong, a part is missing, or weights are missing, unreadable or do not fit.
    """
    where = f'networks.{plan.label}'
    network, digest = build_network(plan)
    if not facts_of(network).restores:
        raise InputError(f'{where}: {plan.type} returns no image; it can be the predictor of another network')
    method = Method(plan, network, digest)
    _check_inputs(method, where)
    digests = [digest]
    with naming(where):
        if plan.denoiser is not None:
            method.denoiser, state = _build_part(plan.denoiser)
            digests.append(digest_weights(state))
        if plan.predictor is not None:
            method.estimator, state = _build_estimator(plan.predictor, scale)
            digests.append(digest_weights(state))
        if adapts(network):
            method.adapter = build_adapter(plan.type, plan.adapt)
    if len(digests) > 1:
        method.digest = hashlib.sha256('|'.join(digests).encode()).hexdigest()
    return method


def build_network(plan: NetworkPlan) -> tuple[nn.Module, str]:
    """A network in evaluation mode on the CPU in float32, and the SHA-256 of its weights (empty without a file).

    Missing arguments of a DASR are inferred from its weights file: ``{type: DASR, path: FILE}`` fits any size. Raises
    InputError if the constructor refuses the arguments, or if the weights are unreadable or do not fit.
    """
    where = f'networks.{plan.label}'
    kind: type[nn.Module] = ARCH_REGISTRY.get(plan.type)
    if plan.weights is None:
        network = try_call(kind, plan.arguments, where)
        if any(True for _ in network.parameters()) and not facts_of(network).trains_per_image:
            raise InputError(f"{where}: {plan.type} has learnable weights; give 'path', a .pth or .safetensors file")
        return network.eval(), ''
    arguments = dict(plan.arguments)
    try:
        if issubclass(kind, DASR):
            state = read_dasr_weights(plan.weights, plan.param_key).network
            arguments = _infer_dasr_arguments(state, arguments, str(plan.weights))
        else:
            state = read_weights(plan.weights, plan.param_key)
        network = try_call(kind, arguments, where)
        load_strictly(network, state, f"weights file '{plan.weights}'")
    except InputError as error:
        raise InputError(f'{where}: {str(error).removeprefix(f"{where}: ")}') from error
    return network.eval(), digest_weights(state)


def _infer_dasr_arguments(state: Mapping[str, Tensor], given: dict[str, object], name: str) -> dict[str, object]:
    """The arguments of the DASR in a file; given ones take precedence, except for the scale."""
    try:
        inferred = infer_arguments(state)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"weights file '{name}' is no complete DASR ({describe_briefly(error)})") from error
    if 'scale' in given and given['scale'] != inferred['scale']:
        raise InputError(
            f"weights file '{name}' is for x{inferred['scale']}, not for x{given['scale']}; choose another"
        )
    return {**inferred, **given}


def describe_method(method: Method) -> dict[str, object]:
    """Facts of a method for its table, ready for JSON."""
    plan, needs = method.plan, method.needs
    words = []
    if 'kernel' in needs and plan.kernel != 'none':
        words.append('kernel' if plan.kernel == 'true' else 'predicted kernel')
    if 'noise_level' in needs and plan.noise_level == 'true':
        words.append('noise level')
    return {
        'type': plan.type,
        'known': ', '.join(words) or 'nothing',  # non-blind inputs
        'upper_bound': any(word != 'predicted kernel' for word in words),
        'predictor': plan.predictor.type if plan.predictor else None,
        'denoiser': plan.denoiser.type if plan.denoiser else None,
        'adapts': method.adapter is not None,  # test-time training
        'tile': plan.tile,
    }


def probe_method(method: Method, degradation: Degradation) -> None:
    """Raises InputError if a method fails on a small grey image on the CPU, or has another scale than the degradation.

    Test-time training is left out.
    """
    plan = method.plan
    where = f'networks.{plan.label}'
    size = (PROBE_SIDE, PROBE_SIDE)
    generator = image_generator(0, '')
    draws = degradation.draw(generator, size)
    lq = torch.full((1, 3, *size), 0.5)
    try:
        if method.adapter is None:
            method.restore(lq, draws, degradation.scale, generator)
        else:
            method.gather_conditions(lq, draws)
            run_network(method.network, lq, {}, degradation.scale)
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError) as error:
        side = f'{PROBE_SIDE} x {PROBE_SIDE}'
        raise InputError(f'{where}: {plan.type} fails on an image of {side}: {describe_briefly(error)}') from error


def _check_inputs(method: Method, where: str) -> None:
    """Checks that the options of a method fit the inputs of its network."""
    plan, needs = method.plan, method.needs
    must = 'kernel' in facts_of(method.network).needs  # test-time training does not require it
    if must and plan.kernel == 'none':
        raise InputError(
            f'{where}: {plan.type} is non-blind and needs the blur kernel, which `kernel: none` withholds; '
            'use true or predicted'
        )
    if plan.kernel == 'predicted' and 'kernel' not in needs:
        raise InputError(f'{where}: {plan.type} takes no kernel; remove `kernel: predicted`')
    if plan.kernel == 'predicted' and plan.predictor is None:
        raise InputError(
            f'{where}: `kernel: predicted` needs `predictor: {{path: FILE}}`, the weights of a Predictor or of an IKC'
        )
    if plan.kernel != 'predicted' and plan.predictor is not None:
        raise InputError(f'{where}: a predictor is given but not used; write `kernel: predicted`, or remove it')
    if plan.adapt and not adapts(method.network):
        raise InputError(f'{where}: {plan.type} has no test-time training; remove `adapt`')
    if plan.tile is not None and adapts(method.network):
        raise InputError(f'{where}: {plan.type} trains on the whole image and cannot be cut into tiles; remove `tile`')


def _build_part(plan: PartPlan) -> tuple[nn.Module, Mapping[str, Tensor]]:
    """An auxiliary network in evaluation mode, and its weights as in the file."""
    network = try_call(ARCH_REGISTRY.get(plan.type), plan.arguments, plan.type)
    state = read_weights(plan.weights, plan.param_key)
    load_strictly(network, state, f"weights file '{plan.weights}'")
    return network.eval(), state


def _build_estimator(plan: PartPlan, scale: int) -> tuple[IKC, Mapping[str, Tensor]]:
    """The IKC that estimates kernels, from a file of the whole IKC or of its Predictor, and the file's tensors."""
    kind: type[nn.Module] = ARCH_REGISTRY.get(plan.type)
    if not issubclass(kind, IKC):
        raise InputError(f'predictor: expected an IKC, got {plan.type}; its coefficients have no known basis')
    network = try_call(kind, {'scale': scale, **plan.arguments}, 'predictor')
    assert isinstance(network, IKC)
    if network.scale != scale:
        raise InputError(f'predictor: scale is {network.scale}, but the test has scale {scale}; make them equal')
    name = f"weights file '{plan.weights}'"
    state = read_weights(plan.weights, plan.param_key)
    part = choose_part(network, state)
    if part not in {network, network.predictor}:
        raise InputError(f'predictor: {name} is of {type(part).__name__}; give one of a Predictor or of a whole IKC')
    released = any(key.startswith('ConvNet.') for key in state)  # names of the authors' files
    if part is network.predictor and released and 'basis_path' not in plan.arguments:
        raise InputError(
            f"predictor: {name} is the authors', whose coefficients mean nothing without their kernel basis; give that "
            'as predictor.basis_path'
        )
    load_strictly(part, state, name)
    return network.eval(), state


def _run_tiled(network: nn.Module, lq: Tensor, conditions: Mapping[str, Tensor], scale: int, size: int) -> Tensor:
    """The image in overlapping tiles; a DASR takes the representation of the whole image for all of them."""
    conditions = dict(conditions)
    if isinstance(network, DASR):
        with torch.inference_mode():
            conditions = {'representation': network.encode(lq, **conditions)}
    height, width = lq.shape[2:]
    sr = lq.new_empty(1, 3, height * scale, width * scale)
    for rows, columns in plan_squares(height, width, TILE_PAD, size).tiles:
        out = run_network(network, lq[..., rows.outer, columns.outer], conditions, scale)
        inner = out[..., rows.inside(scale), columns.inside(scale)]
        sr[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale] = inner
    return sr


def run_network(network: nn.Module, lq: Tensor, conditions: Mapping[str, Tensor], scale: int) -> Tensor:
    """One forward pass, (1, 3, h, w) to (1, 3, h * scale, w * scale), not clamped; ValueError for another result."""
    with torch.inference_mode():
        sr = network(lq, **conditions)
    expected = (*lq.shape[:2], lq.shape[2] * scale, lq.shape[3] * scale)
    if not isinstance(sr, Tensor):
        raise ValueError(f'expected an image as the output, got {type(sr).__name__}')
    if tuple(sr.shape) != expected:
        got = f'{sr.shape[-1]} x {sr.shape[-2]}' if sr.ndim == 4 else str(tuple(sr.shape))
        raise ValueError(f'expected an output of {expected[3]} x {expected[2]} pixels (scale {scale}), got {got}')
    return sr


def check_finite(sr: Tensor) -> None:
    """Raises ValueError if an SR image holds NaN or infinity, as after a diverged training."""
    if not torch.isfinite(sr).all():
        raise ValueError('the output holds NaN or infinite values; the weights have diverged or overflowed')
