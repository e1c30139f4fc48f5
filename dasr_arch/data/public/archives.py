"""Taking the images of one folder out of a downloaded archive that nobody vouches for."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch.data.image_io import is_image_name

LISTED_FOLDERS = 6
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


class DamagedArchiveError(InputError):
    """An archive that cannot be read to its end; downloading it again may help."""


class _Member(NamedTuple):
    """One entry of an archive: its name there, its unpacked size in bytes, and whether it is a plain file."""

    name: str
    size: int
    plain: bool

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name.replace('\\', '/'))


class _Archive(ABC):
    """An open zip or tar file."""

    @abstractmethod
    def list_members(self) -> list[_Member]:
        """All entries that are not folders, in the order in which they are stored."""

    @abstractmethod
    def open_member(self, name: str) -> IO[bytes]:
        """The content of a plain file."""

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""


class _Zip(_Archive):
    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path)

    def list_members(self) -> list[_Member]:
        return [
            _Member(info.filename, info.file_size, stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG))
            for info in self._file.infolist()
            if not info.is_dir()
        ]

    def open_member(self, name: str) -> IO[bytes]:
        return self._file.open(name)

    def close(self) -> None:
        self._file.close()


class _Tar(_Archive):
    def __init__(self, path: Path) -> None:
        self._file = tarfile.open(path)  # noqa: SIM115  closed by close()
        self._entries = {info.name: info for info in self._file.getmembers() if not info.isdir()}

    def list_members(self) -> list[_Member]:
        return [_Member(name, info.size, info.isreg()) for name, info in self._entries.items()]

    def open_member(self, name: str) -> IO[bytes]:
        stream = self._file.extractfile(self._entries[name])
        if stream is None:
            raise tarfile.ReadError(f'{name} is not a plain file')
        return stream

    def close(self) -> None:
        self._file.close()


def unpack_images(archive: Path, folder: Path, inner: Sequence[str], expected: int = 0) -> int:
    """Writes the images of one folder of an archive, and nothing else of it, into a new folder.

    Args:
        archive: zip or tar file, compressed or not.
        folder: where the images go, under their own names; it must not exist, or be empty. It appears when all of
            them have been written.
        inner: names of the folder inside the archive, the likeliest first, each with as many parents as make it
            unmistakable. If none is there and all images are in one folder, that one is taken.
        expected: how many images there must be, 0 for any number.

    Returns:
        The number of images.

    Raises:
        DamagedArchiveError: if the file is no archive, is cut off, or its content fails its own checksums.
        InputError: if it names paths outside itself, holds links in place of images, two images of one name,
            another number of images, no such folder, or more than the disk can take.
        OSError: if the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(f'.{folder.name}.unpacking')
    shutil.rmtree(work, ignore_errors=True)
    try:
        with _reading(archive) as opened:
            members = opened.list_members()
            _refuse_outside_paths(archive, members)
            chosen = _choose_images(archive, members, inner)
            _check_images(archive, chosen, expected)
            _check_room(folder.parent, chosen)
            work.mkdir()
            for member in progress_bar(chosen, desc=folder.name, unit='image', leave=False):
                _copy_image(archive, opened, member, work / member.path.name)
        work.replace(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return len(chosen)


def _copy_image(archive: Path, opened: _Archive, member: _Member, path: Path) -> None:
    with opened.open_member(member.name) as source, path.open('xb') as target:
        shutil.copyfileobj(source, target, 1 << 20)
        size = target.tell()
    if size != member.size:
        raise DamagedArchiveError(f'{archive}: {member.name} has {size} bytes, {member.size} were announced')


@contextmanager
def _reading(archive: Path) -> Iterator[_Archive]:
    """Opens an archive by its content, and names it in whatever goes wrong while it is read."""
    try:
        if zipfile.is_zipfile(archive):
            opened: _Archive = _Zip(archive)
        elif tarfile.is_tarfile(archive):
            opened = _Tar(archive)
        else:
            raise DamagedArchiveError(f'{archive}: expected a zip or tar file, found something else')
        try:
            yield opened
        finally:
            opened.close()
    except DAMAGE as error:
        raise DamagedArchiveError(f'{archive}: the archive is damaged or encrypted: {error}') from error
    except OSError as error:
        if error.errno is not None:  # of the disk; those of the decompressors carry no number
            raise
        raise DamagedArchiveError(f'{archive}: the archive is damaged: {error}') from error


def _refuse_outside_paths(archive: Path, members: Sequence[_Member]) -> None:
    """Nothing would be written there, but who makes such an archive is not to be trusted with the rest of it."""
    for member in members:
        path = member.path
        drive = bool(path.parts) and path.parts[0].endswith(':')
        if path.is_absolute() or drive or '..' in path.parts or '\0' in member.name:
            raise InputError(f"{archive}: refused, its entry '{member.name}' points outside the archive")


def _choose_images(archive: Path, members: Sequence[_Member], inner: Sequence[str]) -> list[_Member]:
    """Images of the first of the inner folders that is there, or of the only folder with images."""
    folders: dict[PurePosixPath, list[_Member]] = {}
    for member in members:
        if is_image_name(member.path.name):
            folders.setdefault(member.path.parent, []).append(member)
    for name in inner:
        wanted = PurePosixPath(name).parts
        found = [folder for folder in folders if folder.parts[-len(wanted) :] == wanted]
        if len(found) == 1:
            return folders[found[0]]
    if len(folders) == 1:
        return next(iter(folders.values()))
    there = ', '.join(sorted(map(str, folders))[:LISTED_FOLDERS]) or 'no images at all'
    raise InputError(f'{archive}: expected images in a folder {" or ".join(inner)}, found {there}')


def _check_images(archive: Path, chosen: Sequence[_Member], expected: int) -> None:
    """Raises if what was chosen is not that many plain files of different names."""
    for member in chosen:
        if not member.plain:
            raise InputError(f"{archive}: refused, its entry '{member.name}' is a link or a device, not an image")
    names = {member.path.name.lower() for member in chosen}
    if len(names) < len(chosen):
        raise InputError(f'{archive}: {len(chosen) - len(names)} of its images share a name with another')
    if expected and len(chosen) != expected:
        raise InputError(f'{archive}: expected {expected} images in {chosen[0].path.parent}, found {len(chosen)}')


def _check_room(folder: Path, chosen: Sequence[_Member]) -> None:
    needed = sum(member.size for member in chosen)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f'{folder} has {free / 1e9:.1f} GB free, the images need {needed / 1e9:.1f} GB; '
            'free some or choose another folder'
        )
