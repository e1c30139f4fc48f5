"""Devices by name, and their free memory."""

import ctypes
import os
import sys
from types import SimpleNamespace

import pytest
import torch

from dasr_arch import InputError
from dasr_arch.backends import devices
from dasr_arch.backends.devices import _read_available, _read_container, available_memory, choose_device


def test_automatic_choice_is_the_gpu_where_there_is_one():
    gpu = 'cuda' if torch.cuda.is_available() else 'mps' if devices.has_mps() else 'cpu'
    assert choose_device('auto').type == gpu
    assert choose_device(torch.device('cpu')) == choose_device('cpu') == torch.device('cpu')


@pytest.mark.parametrize('name', ['gpu', 'cuda:99', 'meta', ''])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(InputError, match='use auto, cpu, cuda or mps'):
        choose_device(name)


@pytest.mark.parametrize(
    ('cuda', 'mps', 'version', 'expected'),
    [
        (False, True, '2.8.0', 'mps'),
        (False, True, '2.14.1+cpu', 'mps'),
        (False, True, '2.7.1', 'cpu'),  # no bicubic enlarging there
        (True, True, '2.14.1', 'cuda'),
        (False, False, '2.14.1', 'cpu'),
    ],
)
def test_automatic_choice_where_other_gpus_are(monkeypatch, cuda, mps, version, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: mps)
    monkeypatch.setattr(torch, '__version__', version)
    assert choose_device('auto') == torch.device(expected)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason='there is an Apple GPU here')
def test_apple_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="device 'mps' does not exist here"):
        choose_device('mps')


def test_memory_of_an_apple_gpu_is_what_the_system_recommends(monkeypatch):
    monkeypatch.setattr(torch.mps, 'recommended_max_memory', lambda: 1000)
    monkeypatch.setattr(torch.mps, 'current_allocated_memory', lambda: 300)
    assert available_memory(torch.device('mps')) == 700


def test_memory_where_there_is_no_proc(monkeypatch, tmp_path):
    """MacOS tells all of it, Windows what is available, through a call that is put in its place here."""
    monkeypatch.setattr(devices, '_MEMINFO', tmp_path / 'none')
    monkeypatch.setattr(devices, '_CGROUP', tmp_path)
    monkeypatch.setattr(os, 'sysconf', {'SC_PAGE_SIZE': 4096, 'SC_PHYS_PAGES': 100}.__getitem__, raising=False)
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert available_memory(torch.device('cpu')) == 4096 * 50

    def fill(reference):
        status = reference._obj
        assert status.length == ctypes.sizeof(status) == 64
        status.available_physical = 12345

    windll = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=fill))
    monkeypatch.setattr(ctypes, 'windll', windll, raising=False)
    monkeypatch.setattr(sys, 'platform', 'win32')
    assert available_memory(torch.device('cpu')) == 12345


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
    (tmp_path / 'memory.stat').write_text('anon 100\ninactive_file 120\nactive_file 30\n')
    assert _read_container(tmp_path) == 850  # files in memory make room
    (tmp_path / 'memory.stat').write_text('inactive_file 900\n')
    assert _read_container(tmp_path) == 1000
