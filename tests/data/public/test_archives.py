import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from dasr_arch._errors import InputError
from dasr_arch.data.public.archives import DamagedArchiveError, unpack_images


def encode_image_file(seed):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, 'PNG')
    return stream.getvalue()


IMAGES = {f'{index}.png': encode_image_file(index) for index in range(3)}


def write_zip(path, entries):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def write_tar(path, entries, mode='w'):
    with tarfile.open(path, mode) as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def place(folder, extra=None):
    return {f'{folder}/{name}': content for name, content in IMAGES.items()} | (extra or {})


def assert_unpacked(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == IMAGES


def test_zip_is_unpacked(tmp_path):
    archive = write_zip(tmp_path / 'a.zip', place('Set/HR', {'Set/readme.txt': b'hello', 'Set/LR/0.png': b'no'}))
    assert unpack_images(archive, tmp_path / 'out' / 'HR', ('Set/HR',), expected=3) == 3
    assert_unpacked(tmp_path / 'out' / 'HR')
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['HR']


@pytest.mark.parametrize('mode', ['w', 'w:gz', 'w:bz2', 'w:xz'])
def test_tar_is_unpacked_however_it_is_compressed(tmp_path, mode):
    archive = write_tar(tmp_path / 'archive', place('benchmark/Set/HR', {'benchmark/Set/LR/0.png': b'no'}), mode)
    unpack_images(archive, tmp_path / 'out', ('Set/HR',))
    assert_unpacked(tmp_path / 'out')


def test_later_folder_name_is_used_when_the_first_is_absent(tmp_path):
    archive = write_zip(tmp_path / 'a.zip', place('Set_HR', {'other/0.png': b'no'}))
    unpack_images(archive, tmp_path / 'out', ('Set/HR', 'Set_HR'))
    assert_unpacked(tmp_path / 'out')


def test_only_folder_with_images_is_used_whatever_its_name(tmp_path):
    unpack_images(write_zip(tmp_path / 'a.zip', place('surprise')), tmp_path / 'out', ('Set/HR',))
    assert_unpacked(tmp_path / 'out')


def test_hidden_copies_of_macos_are_left_out(tmp_path):
    archive = write_zip(tmp_path / 'a.zip', place('HR', {'__MACOSX/HR/._0.png': b'x', 'HR/._0.png': b'x'}))
    unpack_images(archive, tmp_path / 'out', ('HR',))
    assert_unpacked(tmp_path / 'out')


def test_unknown_folders_are_listed(tmp_path):
    archive = write_zip(tmp_path / 'a.zip', place('one') | place('two'))
    with pytest.raises(InputError, match=r'expected images in a folder Set/HR, found one, two'):
        unpack_images(archive, tmp_path / 'out', ('Set/HR',))
    assert not (tmp_path / 'out').exists()


def test_archive_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match='no images at all'):
        unpack_images(write_zip(tmp_path / 'a.zip', {'readme.txt': b'hello'}), tmp_path / 'out', ('HR',))


def test_wrong_number_of_images_is_refused(tmp_path):
    with pytest.raises(InputError, match='expected 4 images in HR, found 3'):
        unpack_images(write_zip(tmp_path / 'a.zip', place('HR')), tmp_path / 'out', ('HR',), expected=4)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['../evil.png', '/evil.png', 'HR/../../evil.png', 'C:/evil.png', '..\\evil.png'])
@pytest.mark.parametrize('write', [write_zip, write_tar])
def test_archive_that_points_outside_itself_is_refused(tmp_path, name, write):
    archive = write(tmp_path / 'archive', place('HR', {name: b'evil'}))
    with pytest.raises(InputError, match='points outside the archive'):
        unpack_images(archive, tmp_path / 'inside' / 'out', ('HR',))
    assert not list(tmp_path.rglob('*evil*'))
    assert not (tmp_path / 'inside' / 'out').exists()


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_of_a_tar_are_refused(tmp_path, kind):
    archive = write_tar(tmp_path / 'a.tar', place('HR'))
    with tarfile.open(archive, 'a') as stream:
        entry = tarfile.TarInfo('HR/link.png')
        entry.type, entry.linkname = kind, '/etc/hostname'
        stream.addfile(entry)
    with pytest.raises(InputError, match='is a link or a device'):
        unpack_images(archive, tmp_path / 'out', ('HR',))
    assert not (tmp_path / 'out').exists()


def test_links_of_a_zip_are_refused(tmp_path):
    archive = write_zip(tmp_path / 'a.zip', place('HR'))
    with zipfile.ZipFile(archive, 'a') as stream:
        entry = zipfile.ZipInfo('HR/link.png')
        entry.external_attr = 0o120777 << 16
        stream.writestr(entry, '/etc/hostname')
    with pytest.raises(InputError, match='is a link or a device'):
        unpack_images(archive, tmp_path / 'out', ('HR',))


def test_images_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match='share a name'):
        unpack_images(write_zip(tmp_path / 'a.zip', place('HR', {'HR/0.PNG': b'x'})), tmp_path / 'out', ('HR',))


@pytest.mark.parametrize('mode', ['w:gz', 'w:bz2', 'w:xz'])
def test_cut_off_tar_is_called_damaged(tmp_path, mode):
    archive = write_tar(tmp_path / 'archive', place('HR', {'HR/large.txt': bytes(range(256)) * 400}), mode)
    archive.write_bytes(archive.read_bytes()[:-60])
    with pytest.raises(DamagedArchiveError, match='archive'):
        unpack_images(archive, tmp_path / 'out', ('HR',))
    assert not (tmp_path / 'out').exists()


def test_flipped_bytes_of_a_tar_are_called_damage(tmp_path):
    large = np.random.default_rng(0).bytes(1_500_000)  # two blocks; the first is read to know a tar
    archive = write_tar(tmp_path / 'a.tar.bz2', {'Set/large.png': large, **place('Set')}, 'w:bz2')
    data = bytearray(archive.read_bytes())
    data[-1000:-900] = bytes(100)
    archive.write_bytes(data)
    with pytest.raises(DamagedArchiveError, match=r'a\.tar\.bz2: the archive is damaged: '):
        unpack_images(archive, tmp_path / 'HR', ('Set',), expected=3)


def test_errors_of_the_disk_are_not_taken_for_damage(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / 'a.zip', place('Set'))

    def fail(*_):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(zipfile.ZipFile, 'infolist', fail)
    with pytest.raises(OSError, match='Input/output error') as caught:
        unpack_images(archive, tmp_path / 'HR', ('Set',), expected=3)
    assert not isinstance(caught.value, InputError)


def test_flipped_byte_of_a_zip_is_found_by_its_own_checksum(tmp_path):
    archive = write_zip(tmp_path / 'a.zip', place('HR'))
    content = bytearray(archive.read_bytes())
    content[content.index(b'IDAT') + 10] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DamagedArchiveError, match='CRC'):
        unpack_images(archive, tmp_path / 'out', ('HR',))
    assert [path.name for path in tmp_path.iterdir()] == ['a.zip']


def test_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / 'page.zip').write_text('<html>sign in first</html>')
    with pytest.raises(DamagedArchiveError, match=r'page\.zip: expected a zip or tar file'):
        unpack_images(tmp_path / 'page.zip', tmp_path / 'out', ('HR',))


def write_zip_with_false_size(path, size):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in place('HR').items():
            archive.writestr(name, content)
        archive.infolist()[1].file_size = size  # goes into the directory at the end of the file
    return path


def test_archive_that_unpacks_beyond_the_disk_is_refused(tmp_path):
    archive = write_zip_with_false_size(tmp_path / 'a.zip', 10**17)
    with pytest.raises(InputError, match=r'GB free, 100000000\.0 GB are needed'):
        unpack_images(archive, tmp_path / 'out', ('HR',))
    assert [path.name for path in tmp_path.iterdir()] == ['a.zip']


def test_image_shorter_than_the_archive_says_is_called_damaged(tmp_path):
    archive = write_zip_with_false_size(tmp_path / 'a.zip', len(IMAGES['1.png']) + 1)
    with pytest.raises(DamagedArchiveError, match=r'HR/1\.png has \d+ bytes, \d+ were announced'):
        unpack_images(archive, tmp_path / 'out', ('HR',))
    assert [path.name for path in tmp_path.iterdir()] == ['a.zip']


def test_leftover_of_a_killed_run_is_replaced(tmp_path):
    (tmp_path / '.out.unpacking').mkdir()
    (tmp_path / '.out.unpacking' / '0.png').write_bytes(b'half')
    unpack_images(write_zip(tmp_path / 'a.zip', place('HR')), tmp_path / 'out', ('HR',))
    assert_unpacked(tmp_path / 'out')
