"""The random numbers of a test image depend on the seed and on the image's name, and on nothing else."""

import os

import torch

from dasr_arch.degradations import image_generator


def draw(seed: int, name: str) -> tuple[float, ...]:
    return tuple(torch.randn(8, generator=image_generator(seed, name)).tolist())


def test_same_seed_and_name_give_the_same_numbers() -> None:
    assert draw(3, 'baby') == draw(3, 'baby')


def test_seeds_and_names_give_different_numbers() -> None:
    draws = {draw(seed, name) for seed in (0, 1, 2, 2**32, 2**32 + 1) for name in ('baby', 'bird', '')}
    assert len(draws) == 15


def test_names_that_are_not_utf8_have_a_generator():
    name = os.fsdecode(b'bad\xff')
    draws = [torch.rand((), generator=image_generator(0, one)) for one in (name, name, 'bad')]
    assert draws[0] == draws[1] != draws[2]
