"""Networks of a benchmark: built and checked before anything is computed."""

from collections.abc import Mapping

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from dasr_arch._errors import InputError
from dasr_arch.archs.contract import facts_of
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.benchmark.config import NetworkPlan
from dasr_arch.benchmark.result_cache import digest_weights
from dasr_arch.checkpoints.io import infer_arguments, load_strictly, read_dasr_weights, read_weights


def build_network(plan: NetworkPlan) -> tuple[nn.Module, str]:
    """A network in evaluation mode on the CPU in float32, and the SHA-256 of its weights (empty without a file).

    Missing arguments of a DASR are inferred from its weights file: ``{type: DASR, path: FILE}`` fits any size. Raises
    InputError if the constructor refuses the arguments, or if the weights are unreadable or do not fit.
    """
    where = f'networks.{plan.label}'
    kind: type[nn.Module] = ARCH_REGISTRY.get(plan.type)
    if plan.weights is None:
        network = construct(kind, plan.arguments, where)
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
        network = construct(kind, arguments, where)
        load_strictly(network, state, f"weights file '{plan.weights}'")
    except InputError as error:
        raise InputError(f'{where}: {str(error).removeprefix(f"{where}: ")}') from error
    return network.eval(), digest_weights(state)


def construct(kind: type[nn.Module], arguments: Mapping[str, object], where: str) -> nn.Module:
    """A network from the arguments of an option file; raises InputError in one line if its class refuses them."""
    try:
        return kind(**arguments)
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError) as error:
        raise InputError(f'{where}: {kind.__name__} refuses its arguments: {first_line(error)}') from error


def _infer_dasr_arguments(state: Mapping[str, Tensor], given: dict[str, object], name: str) -> dict[str, object]:
    """The arguments of the DASR in a file; given ones take precedence, except for the scale."""
    try:
        inferred = infer_arguments(state)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"weights file '{name}' is no complete DASR ({first_line(error)})") from error
    if 'scale' in given and given['scale'] != inferred['scale']:
        raise InputError(
            f"weights file '{name}' is for x{inferred['scale']}, not for x{given['scale']}; choose another"
        )
    return {**inferred, **given}


def run_network(network: nn.Module, lq: Tensor, conditions: Mapping[str, Tensor], scale: int) -> Tensor:
    """One forward pass with a checked result.

    ``lq`` and the result are of shape (1, 3, h, w) and (1, 3, h * scale, w * scale), the latter not clamped. Raises
    ValueError if the result is no tensor or has another shape.
    """
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


def first_line(error: BaseException) -> str:
    """The type and the first line of an error's message."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__
