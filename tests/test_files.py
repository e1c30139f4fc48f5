"""Atomic writes: whole or not at all, on any file system, and errors that name the file that was asked for."""

import errno
import os
from pathlib import Path

import pytest

from dasr_arch import InputError
from dasr_arch._files import atomic_write, check_writable


def write(path: Path, text: str = 'new') -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize('code', [errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EROFS])
def test_a_file_system_without_modes_and_synchronisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, 'chmod', refuse)
    monkeypatch.setattr(os, 'fsync', refuse)
    write(tmp_path / 'a.txt')
    assert (tmp_path / 'a.txt').read_text() == 'new'
    assert os.listdir(tmp_path) == ['a.txt']


def test_the_mode_is_that_of_new_files_even_if_the_writer_puts_a_private_one_there(tmp_path: Path) -> None:
    (tmp_path / 'plain').touch()
    with atomic_write(tmp_path / 'a.txt') as temporary:
        (tmp_path / 'own').touch(mode=0o600)
        (tmp_path / 'own').replace(temporary)
    assert (tmp_path / 'a.txt').stat().st_mode == (tmp_path / 'plain').stat().st_mode


@pytest.mark.parametrize('mode', [0o600, 0o444, 0o664])
def test_a_file_that_is_replaced_passes_its_mode_on(tmp_path: Path, mode: int) -> None:
    path = tmp_path / 'a.txt'
    path.write_text('old')
    path.chmod(mode)
    with atomic_write(path) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600  # nobody else reads it meanwhile
        temporary.write_text('new')
    assert (path.read_text(), path.stat().st_mode & 0o777) == ('new', mode)


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match=os.strerror(code)):
        write(path)
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['a.txt']


def test_errors_name_the_file_and_not_a_hidden_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, 'Permission denied', str(path))

    monkeypatch.setattr(Path, 'touch', refuse)
    with pytest.raises(PermissionError) as caught:
        write(tmp_path / 'a.txt')
    assert caught.value.filename == str(tmp_path / 'a.txt')


def test_a_target_below_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='file is a file; choose another folder'):
        check_writable(tmp_path / 'file' / 'folder' / 'a.txt')
    with pytest.raises(InputError, match='file is a file; choose another folder'):
        check_writable(tmp_path / 'missing' / '..' / 'file' / 'a.txt')


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, 'Read-only file system')

    monkeypatch.setattr('tempfile.TemporaryFile', refuse)
    with pytest.raises(InputError, match=r'a\.txt: cannot be written \(Read-only file system\)'):
        check_writable(tmp_path / 'new' / 'a.txt')


def test_checking_makes_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / 'new' / 'folder' / 'a.txt')
    assert os.listdir(tmp_path) == []


def test_name_outside_utf_8_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the locale en_US.ISO-8859-15, an euro sign is one byte."""
    monkeypatch.setattr('os.fsencode', lambda name: name.encode('iso-8859-15'))
    monkeypatch.setattr('sys.getfilesystemencoding', lambda: 'iso-8859-15')
    with atomic_write(tmp_path / 'preis \u20ac.txt') as temporary:
        assert 'preis \u20ac' in temporary.name
