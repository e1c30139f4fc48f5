"""Devices by name, and how much memory they have left."""

import os

import pytest
import torch

from dasr_arch import InputError
from dasr_arch.inference.devices import _read_available, _read_container, available_memory, choose_device


def test_automatic_choice_is_the_gpu_where_there_is_one():
    assert choose_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')
    assert choose_device(torch.device('cpu')) == choose_device('cpu') == torch.device('cpu')


@pytest.mark.parametrize('name', ['gpu', 'cuda:99', 'meta', 'mps', ''])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(InputError, match='use auto, cpu or cuda'):
        choose_device(name)


def test_available_memory_is_between_nothing_and_all():
    assert 0 < available_memory(torch.device('cpu')) <= os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def test_systems_estimate_is_read_in_bytes(tmp_path):
    file = tmp_path / 'meminfo'
    file.write_text('MemTotal: 9 kB\nMemAvailable:    1024 kB\n')
    assert _read_available(file) == 1 << 20
    assert _read_available(tmp_path / 'none') is None


def test_limit_of_a_container_counts(tmp_path):
    assert _read_container(tmp_path) is None
    (tmp_path / 'memory.max').write_text('max\n')
    (tmp_path / 'memory.current').write_text('300\n')
    assert _read_container(tmp_path) is None
    (tmp_path / 'memory.max').write_text('1000\n')
    assert _read_container(tmp_path) == 700
