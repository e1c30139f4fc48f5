"""Downloads of public datasets; their addresses, checksums and folders are in assets/public_sets.yml."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import msgspec
import yaml

from dasr_arch._errors import InputError, suggest
from dasr_arch.data.image_io import list_images
from dasr_arch.data.public.archives import DamagedArchiveError, unpack_images
from dasr_arch.data.public.download import RemoteFile, RetryPolicy, SourceUnavailableError, fetch_file

_DATA_FILE = Path(__file__).resolve().parents[2] / 'assets' / 'public_sets.yml'
ARCHIVE_FOLDER = '.downloads'
ROOM_TO_UNPACK = 2.0
"""Free space for archive and images, as a multiple of the archive's size."""


@dataclass(frozen=True)
class ImageFolder:
    """Image folder of a dataset."""

    path: str  # below the data root
    images: int  # number of images
    inner: tuple[str, ...]  # possible names of the folder inside the archives, in order of preference
    sources: tuple[RemoteFile, ...] = ()  # archives, in order of preference; empty if the owner has to be asked


@dataclass(frozen=True)
class PublicSet:
    """Dataset for training or testing."""

    folders: tuple[ImageFolder, ...]
    note: str = ''  # way to get a dataset that has no public address


def _read_sets() -> dict[str, PublicSet]:
    content = yaml.safe_load(_DATA_FILE.read_text(encoding='utf-8'))
    folders = msgspec.convert(content['folders'], dict[str, ImageFolder])
    return {
        name: PublicSet(tuple(folders[folder] for folder in entry['folders']), entry.get('note', ''))
        for name, entry in content['sets'].items()
    }


PUBLIC_SETS = _read_sets()


def find_public_set(name: str) -> PublicSet:
    """Looks up a dataset by name; InputError if it is unknown."""
    if name not in PUBLIC_SETS:
        raise InputError(f"unknown data set '{name}'{suggest(name, PUBLIC_SETS)}")
    return PUBLIC_SETS[name]


def download_set(
    public_set: PublicSet, root: Path, url: str = '', keep_archives: bool = False, policy: RetryPolicy | None = None
) -> dict[Path, int]:
    """Downloads and unpacks the missing folders of a dataset; returns the number of images in each folder.

    ``url`` is an archive to use instead of the published ones, without a checksum. ``keep_archives`` keeps the archives
    in a hidden folder of the data root. InputError if no address works, an archive has other content, or a folder
    exists with another number of images, which is never overwritten; OSError if a file cannot be written.
    """
    archives: set[Path] = set()
    counts = {}
    try:
        for folder in public_set.folders:
            wanted = replace(folder, sources=(RemoteFile(url),)) if url else folder
            if not wanted.sources:
                raise InputError(public_set.note)
            target = root / folder.path
            if not _is_complete(target, folder.images):
                archive = _fetch_any(wanted.sources, root / ARCHIVE_FOLDER, policy)
                archives.add(archive)
                _unpack(archive, target, wanted)
            counts[target] = folder.images
        if not keep_archives:
            for archive in archives:
                archive.unlink()
    finally:
        with suppress(OSError):  # kept while it holds something
            (root / ARCHIVE_FOLDER).rmdir()
    return counts


def _is_complete(folder: Path, images: int) -> bool:
    """True if a folder holds its images, False if it is absent or empty; raises if it holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    found = len(list_images(folder))
    if found != images:
        raise InputError(f'{folder} holds {found} images, expected {images}; move it away and run this again')
    return True


def _fetch_any(sources: tuple[RemoteFile, ...], folder: Path, policy: RetryPolicy | None) -> Path:
    """Downloads the archive from the first source that provides it."""
    failures = []
    for source in sources:
        name = PurePosixPath(urlsplit(source.url).path).name or 'archive'
        label = hashlib.sha256(source.url.encode()).hexdigest()[:8]
        try:
            return fetch_file(source, folder / f'{label}-{name}', policy, ROOM_TO_UNPACK)
        except SourceUnavailableError as error:
            failures.append(str(error))
    raise InputError(f'{"; ".join(failures)}; check the network or give another address with --url')


def _unpack(archive: Path, target: Path, folder: ImageFolder) -> None:
    """Unpacks one folder; removes a damaged archive, so that the next call downloads it again."""
    try:
        unpack_images(archive, target, folder.inner, folder.images)
    except DamagedArchiveError as error:
        archive.unlink()
        raise InputError(f'{error}; removed, run this again') from error
