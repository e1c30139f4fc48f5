"""Precision of computations: float32, and bfloat16 on hardware that supports it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from dasr_arch._errors import InputError

Precision = Literal['auto', 'fp32', 'bf16']

_LOCK = threading.Lock()
_INSIDE: list[bool] = []  # for every thread inside `exact_float32`, the setting before the first of them


def has_fast_bfloat16(device: torch.device) -> bool:
    """True if a device multiplies bfloat16 in hardware: GPUs from Ampere on, CPUs with AVX512-BF16 or AMX."""
    if device.type == 'cuda':
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != 'cpu':
        return False
    if not hasattr(torch.cpu, 'get_capabilities'):  # before torch 2.9
        return bool(getattr(torch.cpu, '_is_avx512_bf16_supported', bool)())  # unknown before torch 2.6
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get('amx_bf16') or capabilities.get('avx512_bf16'))


def has_amx() -> bool:
    """True if the processor multiplies matrices of bfloat16 (AMX)."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, 'get_capabilities') else {}
    return bool(capabilities.get('amx_bf16'))


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """The number format of 'fp32', 'bf16' or 'auto', bfloat16 where the device multiplies it; InputError for others."""
    if precision not in ('auto', 'fp32', 'bf16'):
        raise InputError(f"precision must be auto, fp32 or bf16, got '{precision}'")
    fast = precision == 'bf16' or (precision == 'auto' and has_fast_bfloat16(device))
    return torch.bfloat16 if fast else torch.float32


@contextmanager
def exact_float32() -> Iterator[None]:
    """Keeps GPUs from rounding the factors of float32 convolutions to ten bits (TensorFloat-32), torch's default.

    Inside it, results of a GPU are comparable with those of a CPU. The setting is global to the process and is restored
    when the last thread leaves the context.
    """
    cudnn = torch.backends.cudnn
    with _LOCK:
        _INSIDE.append(_INSIDE[0] if _INSIDE else cudnn.allow_tf32)
        cudnn.allow_tf32 = False
    try:
        yield
    finally:
        with _LOCK:
            before = _INSIDE.pop()
            if not _INSIDE:
                cudnn.allow_tf32 = before
