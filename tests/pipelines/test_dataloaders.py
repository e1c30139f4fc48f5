"""Errors of loader processes."""

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
