"""Image sources: folders and LMDBs behind one interface."""

import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain, count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import decode_stored_image, list_images, read_image, read_size
from dasr_arch.data.lmdb_store import DATA_NAME, META_NAME, count_entries, open_entry, read_meta_info


class ImageSource(ABC):
    """Images by name.

    A source holds no open file: it pickles, outlives a fork, and several sources may share one folder.
    """

    root: Path  # the folder or LMDB folder; of several, their paths for messages
    names: list[str]  # one for each image, sorted; the file name without its ending, or the key in the LMDB

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def read(self, index: int) -> NDArray[np.uint8]:
        """An image as RGB of shape (H, W, 3), not to be changed; InputError, naming it, if it is missing or damaged."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image, without decoding it; InputError, naming it, if its header cannot be read."""


class FolderSource(ImageSource):
    """The images directly inside a folder.

    InputError if the folder is missing or empty, or two images differ in their endings alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        paths: dict[str, Path] = {}
        for path in list_images(root):
            other = paths.setdefault(path.stem, path)
            if other != path:
                raise InputError(
                    f"{root}: two images are called '{path.stem}' ({other.name}, {path.name}); rename or remove one"
                )
        if not paths:
            raise InputError(f'{root}: holds no images (PNG, JPEG, BMP, TIFF, WebP); check the path')
        self.names = sorted(paths)
        self._paths = [paths[name] for name in self.names]

    def read(self, index: int) -> NDArray[np.uint8]:
        """See ``ImageSource``."""
        return read_image(self._paths[index])

    def size(self, index: int) -> tuple[int, int]:
        """See ``ImageSource``."""
        return read_size(self._paths[index])


class LmdbSource(ImageSource):
    """The images of an LMDB in BasicSR's layout; InputError if it is no complete LMDB."""

    def __init__(self, root: Path) -> None:
        self.root = root
        sizes = read_meta_info(root)
        entries = count_entries(root)
        if entries < len(sizes):
            raise InputError(
                f'{root}: {META_NAME} lists {len(sizes)} images, {DATA_NAME} holds {entries}; prepare the LMDB again'
            )
        self.names = list(sizes)
        self._sizes = list(sizes.values())

    def read(self, index: int) -> NDArray[np.uint8]:
        """See ``ImageSource``."""
        key = self.names[index]
        with open_entry(self.root, key) as entry:
            image = decode_stored_image(entry, f"{self.root}, entry '{key}'")
        if image.shape[:2] != self._sizes[index]:
            height, width = self._sizes[index]
            raise InputError(
                f"{self.root}, entry '{key}': {META_NAME} says {width} x {height}, "
                f'the image is {image.shape[1]} x {image.shape[0]}; prepare the LMDB again'
            )
        return image

    def size(self, index: int) -> tuple[int, int]:
        """See ``ImageSource``."""
        return self._sizes[index]


class CachedSource(ImageSource):
    """Cache of decoded images of another source; keeps the first images read, up to ``limit`` bytes.

    No image is evicted: training reads all images in turn, so an evicted image would never be read from the cache. The
    cache is not sent to other processes.
    """

    def __init__(self, source: ImageSource, limit: int) -> None:
        self.source = source
        self.root, self.names = source.root, source.names
        self.limit = limit
        self._room = limit
        self.is_full = False  # True once an image has not fitted into the cache
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def read(self, index: int) -> NDArray[np.uint8]:
        """See ``ImageSource``; the array is read-only."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        image = self.source.read(index)
        image.flags.writeable = False
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._kept[index] = image
        else:
            self.is_full = True
        return image

    def size(self, index: int) -> tuple[int, int]:
        """See ``ImageSource``."""
        return self.source.size(index)

    def __getstate__(self) -> dict[str, object]:
        """State without the cached images."""
        return {**self.__dict__, '_kept': {}, '_room': self.limit, 'is_full': False}


class JoinedSource(ImageSource):
    """Images of one or more sources, one after the other; of equal names, the later ones get a number."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self.sources = list(sources)
        self.root = Path(', '.join(str(source.root) for source in sources))
        self.names: list[str] = []
        taken: set[str] = set()
        for name in (name for source in sources for name in source.names):
            free = next(new for new in chain([name], (f'{name}-{n}' for n in count(2))) if new not in taken)
            taken.add(free)
            self.names.append(free)
        self._ends = list(accumulate(len(source) for source in sources))

    def read(self, index: int) -> NDArray[np.uint8]:
        """See ``ImageSource``."""
        source, local = self._locate(index)
        return source.read(local)

    def size(self, index: int) -> tuple[int, int]:
        """See ``ImageSource``."""
        source, local = self._locate(index)
        return source.size(local)

    def _locate(self, index: int) -> tuple[ImageSource, int]:
        which = bisect_right(self._ends, index)
        return self.sources[which], index - (self._ends[which - 1] if which else 0)


def open_source(dataroot: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> ImageSource:
    """The images of a folder or of an LMDB folder (.lmdb), or of a list of these, joined in its order.

    InputError if there is none, or one is missing, empty or damaged.
    """
    if isinstance(dataroot, str | os.PathLike):
        root = Path(dataroot)
        return LmdbSource(root) if root.suffix == '.lmdb' or (root / DATA_NAME).exists() else FolderSource(root)
    sources = [open_source(root) for root in dataroot]
    if not sources:
        raise InputError('an empty list of data roots; name at least one folder or LMDB')
    return sources[0] if len(sources) == 1 else JoinedSource(sources)
