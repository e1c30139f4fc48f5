"""Errors of loader processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from dasr_arch._errors import InputError
from dasr_arch.pipelines.dataloaders import iterate


class Damaged(Dataset[int]):
    """Its second item cannot be read."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if index:
            raise InputError('b.png: cannot be read as an image; replace or remove it')
        return index


@pytest.mark.parametrize('workers', [0, 1])
def test_error_of_a_worker_keeps_its_own_words(workers: int) -> None:
    batches = iterate(DataLoader(Damaged(), batch_size=1, num_workers=workers), None)
    assert next(batches) == 0
    with pytest.raises(InputError, match=r'^b\.png: cannot be read as an image; replace or remove it$'):
        next(batches)


class Poor(Dataset):
    """Images in a container with little shared memory."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise RuntimeError('unable to allocate shared memory(shm) for file </torch_1_2_3>: Resource temporarily unav')


@pytest.mark.parametrize('workers', [0, 1])
def test_small_shared_memory_is_one_line_with_the_remedy(workers):
    with pytest.raises(InputError, match=r'more shared memory .* --shm-size 8g.*num_worker_per_gpu=0'):
        next(iterate(DataLoader(Poor(), batch_size=1, num_workers=workers), None))


@pytest.mark.skipif(not hasattr(signal, 'sigwaitinfo'), reason='this system does not tell who sent a signal')
def test_loader_process_ends_with_its_parent_alone(tmp_path):
    """A signal of others leaves it, so that the training can save; that of its parent does not."""
    code = """
import multiprocessing, os, signal, sys, time
from torch.utils.data import DataLoader
from dasr_arch.pipelines.dataloaders import quiet_worker
loader = DataLoader(range(4), batch_size=1, num_workers=1, persistent_workers=True, worker_init_fn=quiet_worker)
batches = iter(loader)
next(batches)
(worker,) = multiprocessing.active_children()
os.system(f'kill -TERM {worker.pid}; kill -HUP {worker.pid}; kill -INT {worker.pid}')
time.sleep(1)
assert worker.is_alive()
next(batches)
raise SystemExit(7)
"""
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=environment, timeout=100, check=False)
    assert done.returncode == 7
