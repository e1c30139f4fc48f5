"""The order of images and their random numbers depend on seed and position alone."""

from itertools import islice

import pytest
import torch

from dasr_arch.data.sampling import SampleStream, mix_seeds, sample_generator
from dasr_arch.pipelines.dataloaders import build_training_stream


def take(stream: SampleStream, count: int) -> list[list[tuple[int, int]]]:
    return list(islice(stream, count))


def test_every_image_comes_once_in_each_epoch():
    items = [item for batch in take(SampleStream(10, 4, seed=0), 15) for item in batch]
    for epoch in range(6):
        assert sorted(image for image, _ in items[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    assert [number for _, number in items] == list(range(60))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = set()
    for seed in (0, 1, -5, 2**40):
        images = [image for batch in take(SampleStream(20, 20, seed), 3) for image, _ in batch]
        orders |= {tuple(images[start : start + 20]) for start in (0, 20, 40)}
    assert len(orders) == 12


@pytest.mark.parametrize('start', [0, 1, 7, 1000])
def test_resuming_equals_skipping(start):
    skipped = take(SampleStream(7, 3, seed=2), start + 5)[start:]
    assert take(SampleStream(7, 3, seed=2, start=start), 5) == skipped


@pytest.mark.parametrize(('world_size', 'batch_size'), [(2, 2), (4, 1)])
def test_processes_together_see_the_batches_of_one(world_size, batch_size):
    parts = [
        take(SampleStream(7, batch_size, 3, start=4, rank=rank, world_size=world_size), 6) for rank in range(world_size)
    ]
    together = [[item for part in batches for item in part] for batches in zip(*parts, strict=True)]
    assert together == take(SampleStream(7, 4, 3, start=4), 6)


def test_batch_may_be_larger_than_the_data_set():
    (batch,) = take(SampleStream(3, 8, seed=0), 1)
    assert len(batch) == 8
    assert {image for image, _ in batch[:3]} == {0, 1, 2}


def test_stream_can_be_started_anew():
    stream = SampleStream(5, 2, seed=0)
    assert take(stream, 4) == take(stream, 4)


def test_foreign_data_sets_get_the_same_images():
    images = [[image for image, _ in batch] for batch in take(SampleStream(5, 2, seed=1), 6)]
    section = {'batch_size_per_gpu': 2}
    options = {'datasets': {'train': section}, 'manual_seed': 1, 'rank': 0, 'world_size': 1, 'num_gpu': 0}
    batches, _ = build_training_stream(options, 0, list(range(5)))
    assert [batch.tolist() for batch in islice(batches, 6)] == images


def test_mixed_seeds_are_all_different_and_in_range():
    seeds = [mix_seeds(seed, number) for seed in range(-3, 30) for number in range(-50, 1000)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert len({value % 2**32 for value in seeds}) > len(seeds) - 5  # torch's CPU generator takes the lower half


def test_neighbouring_seeds_flip_half_of_the_bits():
    flips = [(mix_seeds(0, number) ^ mix_seeds(0, number + 1)).bit_count() for number in range(500)]
    assert sum(flips) / len(flips) == pytest.approx(31.5, abs=0.6)  # three standard errors


def test_sample_has_the_same_random_numbers_at_any_time():
    draws = []
    for _ in range(2):
        torch.rand(3)  # of the global generator
        image, generator = sample_generator(5, (2, 77))
        draws.append((image, torch.rand(4, generator=generator).tolist()))
    assert draws[0] == draws[1]
    assert draws[0][0] == 2


def test_samples_and_seeds_have_random_numbers_of_their_own():
    pairs = [(seed, number) for seed in range(3) for number in range(50)]
    draws = {tuple(torch.rand(2, generator=sample_generator(seed, (0, n))[1]).tolist()) for seed, n in pairs}
    assert len(draws) == 150


def test_index_alone_takes_its_random_numbers_from_the_global_generator():
    torch.manual_seed(0)
    first, second = (torch.rand(2, generator=sample_generator(0, 3)[1]).tolist() for _ in range(2))
    assert first != second
    torch.manual_seed(0)
    assert torch.rand(2, generator=sample_generator(0, 3)[1]).tolist() == first
