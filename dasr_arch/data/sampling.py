"""Order of training images and their random generators, as functions of seed and position.

Nothing is carried from one item to the next, so the training data do not depend on the number of loader workers or
processes, never repeat their random draws, and go on exactly where an interrupted run stopped.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from dasr_arch._errors import InputError
from dasr_arch.data.image_source import CachedSource, open_source

Item = tuple[int, int]  # index of the image, running number of the sample


class SampledDataset(Dataset[dict[str, Any]]):
    """Base class of datasets whose index is an item of :class:`SampleStream`.

    All other datasets, such as BasicSR's, are indexed by the number of an image alone. The images are those of
    ``dataroot`` with sides of at least ``size`` pixels; InputError if there is none.
    """

    def __init__(self, opt: Mapping[str, Any], dataroot: Any, size: int) -> None:
        super().__init__()
        self.opt = opt
        self.source = CachedSource(open_source(dataroot), opt.get('cache_mib', 512) << 20)
        sizes = [self.source.size(index) for index in range(len(self.source))]
        self.usable = [index for index, one in enumerate(sizes) if min(one) >= size]
        self.sizes = [sizes[index] for index in self.usable]  # height and width
        if not self.usable:
            root = self.source.root
            raise InputError(f"no image in '{root}' is as large as a patch of {size} pixels; make the patches smaller")

    def __len__(self) -> int:
        """Number of images at least as large as a patch."""
        return len(self.usable)


@dataclass(eq=False)
class SampleStream(Sampler[list[Item]]):
    """Endless stream of batches; every image occurs once per epoch, in a new random order.

    ``batch_size`` is that of one process. A resumed run starts after iteration ``start``. All processes together see
    the batches that one process would with as many samples.
    """

    num_images: int
    batch_size: int
    seed: int
    start: int = 0
    rank: int = 0
    world_size: int = 1
    _order: tuple[int, list[int]] = field(default=(-1, []), init=False)  # epoch, and the order of its images

    def __iter__(self) -> Iterator[list[Item]]:
        """Batches of (image, sample) from the iteration after ``start`` on, without end."""
        for iteration in count(self.start):
            first = (iteration * self.world_size + self.rank) * self.batch_size
            yield [(self._image(number), number) for number in range(first, first + self.batch_size)]

    def _image(self, number: int) -> int:
        epoch, position = divmod(number, self.num_images)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(mix_seeds(self.seed, -1 - epoch))  # samples count upwards
            self._order = (epoch, torch.randperm(self.num_images, generator=generator).tolist())
        return self._order[1][position]


def mix_seeds(seed: int, number: int) -> int:
    """One seed in [0, 2^63) from any two integers, uncorrelated for neighbours (SplitMix64's finaliser)."""
    mask = (1 << 64) - 1
    value = (seed * 0x9E3779B97F4A7C15 + number + 0x632BE59BD9B4E019) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) >> 1


def sample_generator(seed: int, item: int | Item) -> tuple[int, torch.Generator]:
    """Splits an item of a stream into the image's index and the generator of everything random about the sample.

    For the index of an image alone, as BasicSR's own samplers give, random numbers come from torch's global generator,
    which differs in every worker and epoch.
    """
    if isinstance(item, tuple):
        image, number = item
        return image, torch.Generator().manual_seed(mix_seeds(seed, number))
    return item, torch.Generator().manual_seed(int(torch.randint(2**62, ())))
