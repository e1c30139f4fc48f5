"""Number formats: what is asked for, or what the hardware is made for."""

import pytest
import torch

from dasr_arch import InputError
from dasr_arch.backends.precision import choose_precision, exact_float32, has_fast_bfloat16

CPU = torch.device('cpu')


def test_what_is_asked_for_is_taken():
    assert choose_precision('fp32', CPU) == torch.float32
    assert choose_precision('bf16', CPU) == torch.bfloat16


def test_automatic_choice_follows_the_hardware():
    assert choose_precision('auto', CPU) == (torch.bfloat16 if has_fast_bfloat16(CPU) else torch.float32)


def test_hardware_is_asked_on_the_cpu():
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, 'get_capabilities') else {}
    expected = (
        bool(flags.get('amx_bf16') or flags.get('avx512_bf16')) if flags else torch.cpu._is_avx512_bf16_supported()
    )
    assert has_fast_bfloat16(CPU) is expected


def test_other_devices_compute_in_float32():
    assert not has_fast_bfloat16(torch.device('meta'))
    assert choose_precision('auto', torch.device('meta')) == torch.float32


@pytest.mark.gpu
def test_ampere_and_later_are_fast():
    if not torch.cuda.is_available():
        pytest.skip('no GPU')
    device = torch.device('cuda')
    assert has_fast_bfloat16(device) == (torch.cuda.get_device_capability()[0] >= 8)


@pytest.mark.parametrize('precision', ['fp16', 'float32', 32, None])
def test_unknown_precision_is_refused(precision):
    with pytest.raises(InputError, match='precision must be auto, fp32 or bf16'):
        choose_precision(precision, CPU)


def test_float32_is_exact_until_the_last_one_leaves(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', True)
    first, second = exact_float32(), exact_float32()
    first.__enter__()
    second.__enter__()
    assert not torch.backends.cudnn.allow_tf32
    first.__exit__(None, None, None)
    assert not torch.backends.cudnn.allow_tf32
    second.__exit__(None, None, None)
    assert torch.backends.cudnn.allow_tf32
