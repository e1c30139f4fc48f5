"""Extraction of the images of one folder from an untrusted zip or tar archive.

The extractors of torchvision and pooch write the whole archive (Flickr2K's holds four more folders), follow its links
and leave half a folder behind when they fail. So the standard library's readers are used directly.
"""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from dasr_arch._bars import progress_bar
from dasr_arch._errors import InputError
from dasr_arch.data.image_io import is_image_name
from dasr_arch.data.public.download import check_free_space

LISTED_FOLDERS = 6
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


class DamagedArchiveError(InputError):
    """An archive that cannot be read to its end; downloading it again may help."""


class _Member(NamedTuple):
    """Entry of an open archive."""

    name: str  # path in the archive
    size: int  # unpacked size in bytes
    regular: bool  # False for links and devices
    open: Callable[[], IO[bytes] | None]  # opens a regular file for reading

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name.replace('\\', '/'))


def unpack_images(archive: Path, folder: Path, inner: Sequence[str], expected: int = 0) -> int:
    """Writes only the images of one folder of a zip or tar archive into a new folder; returns their number.

    ``folder`` is new or empty, and appears when all are written. ``inner`` has possible names of the folder inside the
    archive in order of preference, each with as many parents as make it unique; if none is found and all images are in
    one folder, that folder is used. ``expected`` is the required number of images, 0 for any.

    DamagedArchiveError if the file is not an archive, is cut off, or fails its own checksums. InputError if it has
    paths outside itself, links or devices in place of images, two images of one name, another number of images, no such
    folder, or is too large for the disk. OSError if the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(f'.{folder.name}.unpacking')
    shutil.rmtree(work, ignore_errors=True)
    try:
        with _open_archive(archive) as members:
            _refuse_outside_paths(archive, members)
            chosen = _choose_images(archive, members, inner)
            _check_images(archive, chosen, expected)
            check_free_space(folder.parent, sum(member.size for member in chosen))
            work.mkdir()
            for member in progress_bar(chosen, desc=folder.name, unit='image', leave=False):
                _copy_image(archive, member, work / member.path.name)
        work.replace(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return len(chosen)


def _copy_image(archive: Path, member: _Member, path: Path) -> None:
    source = member.open()
    assert source is not None  # a regular file, as _check_images has found
    with source, path.open('xb') as target:
        shutil.copyfileobj(source, target, 1 << 20)
        size = target.tell()
    if size != member.size:
        raise DamagedArchiveError(f'{archive}: {member.name} has {size} bytes, {member.size} were announced')


@contextmanager
def _open_archive(archive: Path) -> Iterator[list[_Member]]:
    """Lists the entries of an archive except folders; errors while it is open name the archive."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zip_file:
                yield [
                    _Member(entry.filename, entry.file_size, _is_regular(entry), partial(zip_file.open, entry))
                    for entry in zip_file.infolist()
                    if not entry.is_dir()
                ]
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar_file:
                yield [
                    _Member(entry.name, entry.size, entry.isreg(), partial(tar_file.extractfile, entry))
                    for entry in tar_file
                    if not entry.isdir()
                ]
        else:
            raise DamagedArchiveError(f'{archive}: expected a zip or tar file, found something else')
    except DAMAGE as error:
        raise DamagedArchiveError(f'{archive}: the archive is damaged or encrypted: {error}') from error
    except OSError as error:
        if error.errno is not None:  # an error of the disk; those of the decompressors carry no number
            raise
        raise DamagedArchiveError(f'{archive}: the archive is damaged: {error}') from error


def _is_regular(entry: zipfile.ZipInfo) -> bool:
    return stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)


def _refuse_outside_paths(archive: Path, members: Sequence[_Member]) -> None:
    """Raises if any entry has an absolute or parent path: the whole archive is then not trusted."""
    for member in members:
        path = member.path
        drive = bool(path.parts) and path.parts[0].endswith(':')
        if path.is_absolute() or drive or '..' in path.parts or '\0' in member.name:
            raise InputError(f"{archive}: refused, its entry '{member.name}' points outside the archive")


def _choose_images(archive: Path, members: Sequence[_Member], inner: Sequence[str]) -> list[_Member]:
    """Images of the first inner folder found, or of the only folder with images."""
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
    """Raises if the images are not the expected number of regular files with different names."""
    for member in chosen:
        if not member.regular:
            raise InputError(f"{archive}: refused, its entry '{member.name}' is a link or a device, not an image")
    names = {member.path.name.lower() for member in chosen}
    if len(names) < len(chosen):
        raise InputError(f'{archive}: {len(chosen) - len(names)} of its images share a name with another')
    if expected and len(chosen) != expected:
        raise InputError(f'{archive}: expected {expected} images in {chosen[0].path.parent}, found {len(chosen)}')
