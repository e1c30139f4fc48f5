"""Public datasets: addresses, checksums, and folders below the data root.

Addresses, sizes and checksums come from public texts: DIV2K from TensorFlow Datasets, the EDSR authors' archives from
torchSR, Urban100's second address from DeepInverse. The addresses are not under our control and have not been tried
yet. The EDSR authors' server has been reported unreachable at times, so most sets have a second address. Without a
published checksum, only the archive's own checksum and the number of images are verified. The images of a second
address are probably those of the first; this is not verified.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from dasr_arch._errors import InputError, suggest
from dasr_arch.data.image_io import list_images
from dasr_arch.data.public.archives import DamagedArchiveError, unpack_images
from dasr_arch.data.public.download import RemoteFile, RetryPolicy, SourceUnavailableError, fetch_file

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


_ETH = 'https://data.vision.ee.ethz.ch/cvl/DIV2K'
_SNU = 'https://cv.snu.ac.kr/research/EDSR'
_HUB = 'https://huggingface.co/datasets'
_BENCHMARK = RemoteFile(f'{_SNU}/benchmark.tar', 'md5:4ace41d33c2384b97e6b320cd0afd6ba')


def _div2k(part: str, images: int, sha256: str, size: int) -> ImageFolder:
    """The HR images of DIV2K's 'train' or 'valid' part."""
    name = f'DIV2K_{part}_HR'
    source = RemoteFile(f'{_ETH}/{name}.zip', f'sha256:{sha256}', size)
    return ImageFolder(f'DIV2K/{name}', images, (name,), (source,))


_FLICKR2K = ImageFolder(
    'Flickr2K/Flickr2K_HR',
    2650,
    ('Flickr2K_HR', 'Flickr2K'),
    (
        RemoteFile(f'{_SNU}/Flickr2K.tar', 'md5:5d3f39443d5e9489bff8963f8f26cb03'),
        RemoteFile(f'{_HUB}/goodfellowliu/Flickr2K/resolve/main/Flickr2K.zip'),
    ),
)


def _test_set(name: str, images: int, second_name: str, second_checksum: str = '') -> ImageFolder:
    """A set of the EDSR authors' benchmark archive that is also published alone under a second name."""
    return ImageFolder(
        f'benchmark/{name}/HR',
        images,
        (f'{name}/HR', f'{second_name}_HR', f'{second_name}/HR', name, second_name),
        (
            _BENCHMARK,
            RemoteFile(f'{_HUB}/eugenesiow/{second_name}/resolve/main/data/{second_name}_HR.tar.gz', second_checksum),
        ),
    )


_SET5 = _test_set('Set5', 5, 'Set5')
_SET14 = _test_set('Set14', 14, 'Set14')
_B100 = _test_set('B100', 100, 'BSD100')
_URBAN100 = _test_set('Urban100', 100, 'Urban100', 'md5:65d9d84a34b72c6f7ca1e26a12df1e4c')

PUBLIC_SETS: dict[str, PublicSet] = {
    'DIV2K': PublicSet(
        (
            _div2k('train', 800, '9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335', 3530603713),
            _div2k('valid', 100, '20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc', 448993893),
        )
    ),
    'Flickr2K': PublicSet((_FLICKR2K,)),
    'Set5': PublicSet((_SET5,)),
    'Set14': PublicSet((_SET14,)),
    'B100': PublicSet((_B100,)),
    'Urban100': PublicSet((_URBAN100,)),
    'Manga109': PublicSet(
        (ImageFolder('benchmark/Manga109/HR', 109, ('Manga109/HR', 'Manga109')),),
        'Manga109 may not be passed on by others: ask for it at http://www.manga109.org/en/download.html, '
        'then give the address that you receive with --url',
    ),
    'benchmark': PublicSet((_SET5, _SET14, _B100, _URBAN100)),
}


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
