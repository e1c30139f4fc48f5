"""Several stores or folders of images behind one index, such as DIV2K and Flickr2K."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dasr_arch._errors import InputError
from dasr_arch.data.image_source import ImageSource, open_source


class JoinedSource(ImageSource):
    """Images of one or more sources, one after the other; names of different sources may be equal."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self.sources = list(sources)
        self.root = Path(', '.join(str(source.root) for source in sources))
        self.names = [name for source in sources for name in source.names]
        self._ends = list(accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        """Number of images in all sources."""
        return self._ends[-1]

    def read(self, index: int) -> NDArray[np.uint8]:
        """RGB image of shape (H, W, 3); see :meth:`ImageSource.read`."""
        source, local = self._locate(index)
        return source.read(local)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        source, local = self._locate(index)
        return source.size(local)

    def _locate(self, index: int) -> tuple[ImageSource, int]:
        which = bisect_right(self._ends, index)
        return self.sources[which], index - (self._ends[which - 1] if which else 0)


def open_sources(dataroot: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> ImageSource:
    """Opens an LMDB store or a folder of images, or a list of them, joined in this order.

    InputError if there is none, or one is missing, empty or damaged.
    """
    if isinstance(dataroot, str | os.PathLike):
        return open_source(dataroot)
    sources = [open_source(root) for root in dataroot]
    if not sources:
        raise InputError('an empty list of data roots; name at least one folder or LMDB')
    return sources[0] if len(sources) == 1 else JoinedSource(sources)
