"""Images of a dataset and their keys."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import is_image_name, list_images
from dasr_arch.data.input_lists import WHOLE, Shard

_LONGEST_KEY = 200  # characters; LMDB allows 511 bytes, and a suffix follows


class SourceImage(NamedTuple):
    """Image file and its unique key."""

    path: Path
    key: str


def collect_sources(inputs: Sequence[Path], recursive: bool = False, shard: Shard = WHOLE) -> list[SourceImage]:
    """The images of folders and single files, sorted by key; a file that is reached twice counts once.

    Those of a shard have the keys that they would have among all. InputError if an input is missing or holds no images.
    """
    paths: dict[str, Path] = {}
    names: list[Path] = []  # below the folder where each image was found
    for given in inputs:
        found = _find_images(given, recursive)
        if not found:
            hint = '' if recursive else '; images in folders inside it need --recursive'
            raise InputError(f'{given}: holds no images (PNG, JPEG, BMP, TIFF, WebP){hint}')
        for path in found:
            if paths.setdefault(os.path.abspath(path), path) is path:
                names.append(path if path == given else path.relative_to(given))
    keys = make_keys([path.stem for path in paths.values()])
    sources = [
        SourceImage(path, key) for path, key, name in zip(paths.values(), keys, names, strict=True) if shard.holds(name)
    ]
    return sorted(sources, key=lambda source: source.key)


def make_keys(stems: Sequence[str]) -> list[str]:
    """Unique keys for file names without endings: letters and digits of ASCII, '-' and '_'.

    BasicSR cuts a key at its first dot and encodes it as ASCII, so other names cannot stay as they are. A changed name
    gets a piece of its hash, which makes the same key of it in every dataset; a name that is taken already gets a
    number, in the order given.
    """
    return name_apart([_make_safe(stem) for stem in stems])


def name_apart(stems: Sequence[str]) -> list[str]:
    """Unique names: a stem that occurs again (a.png beside a.jpg) gets a number that no other image has."""
    taken, seen = set(stems), set()
    names = []
    for stem in stems:
        name, number = stem, 2
        while name in seen or (name != stem and name in taken):
            name, number = f'{stem}-{number}', number + 1
        seen.add(name)
        names.append(name)
    return names


def _make_safe(stem: str) -> str:
    if re.fullmatch(rf'[A-Za-z0-9_-]{{1,{_LONGEST_KEY}}}', stem):
        return stem
    plain = unicodedata.normalize('NFKD', stem).encode('ascii', errors='ignore').decode()
    readable = re.sub(r'[^A-Za-z0-9_-]+', '_', plain).strip('_') or 'picture'
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    return f'{readable[: _LONGEST_KEY - 9]}-{digest}'


def _find_images(given: Path, recursive: bool) -> list[Path]:
    if given.is_file():
        if not is_image_name(given.name):
            raise InputError(f'{given}: expected a folder or an image (PNG, JPEG, BMP, TIFF, WebP); check the path')
        return [given]
    if not recursive:
        return list_images(given)
    folders = [given, *sorted(path for path in given.rglob('*') if path.is_dir() and _is_wanted(path, given))]
    return [path for folder in folders for path in list_images(folder)]


def _is_wanted(folder: Path, given: Path) -> bool:
    """True for subfolders that are not hidden, nor links to a folder that is listed anyway."""
    if any(part.startswith('.') for part in folder.relative_to(given).parts):
        return False
    return not (folder.is_symlink() and folder.resolve().is_relative_to(given.resolve()))
