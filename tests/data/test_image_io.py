"""Reading and writing images: every format and depth, and what damaged files get."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import (
    IMAGE_SUFFIXES,
    decode_image,
    decode_stored_image,
    encode_png,
    list_images,
    make_error,
    read_image,
    read_size,
    write_image,
)

LOSSLESS = ('.bmp', '.png', '.tif', '.tiff', '.webp')


@pytest.fixture
def image() -> np.ndarray:
    """A noisy ramp, 37 x 53, whose channels and corners all differ."""
    noise = np.random.default_rng(0).integers(0, 20, (37, 53, 3))
    ramp = np.stack(np.meshgrid(np.arange(53), np.arange(37)), -1).sum(-1, keepdims=True) * np.array([1, 2, 0])
    return (noise + ramp + np.array([0, 10, 200])).clip(0, 255).astype(np.uint8)


def encode_with_pillow(image: Image.Image, kind: str, **settings: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def make_png(samples: np.ndarray, colour_type: int, depth: int) -> bytes:
    """A PNG written out by hand, for kinds that no library here writes."""
    rows = samples.astype('>u2' if depth == 16 else 'u1')
    body = zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))
    header = struct.pack('>IIBBBBB', samples.shape[1], samples.shape[0], depth, colour_type, 0, 0, 0)
    chunks = [
        struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
        for kind, content in ((b'IHDR', header), (b'IDAT', body), (b'IEND', b''))
    ]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


@pytest.mark.parametrize('suffix', LOSSLESS)
def test_lossless_formats_come_back_as_they_were_written(tmp_path: Path, image: np.ndarray, suffix: str) -> None:
    path = tmp_path / f'a{suffix}'
    write_image(path, image)
    np.testing.assert_array_equal(read_image(path), image)
    assert read_size(path) == (37, 53)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize('suffix', ['.jpg', '.jpeg', '.JPG'])
def test_jpeg_comes_back_nearly_as_it_was_written(tmp_path: Path, image: np.ndarray, suffix: str) -> None:
    smooth = cv2.GaussianBlur(image, (0, 0), 3)
    write_image(tmp_path / f'a{suffix}', smooth)
    difference = np.abs(read_image(tmp_path / f'a{suffix}').astype(int) - smooth)
    assert 0 < difference.mean() < 3  # levels of 255: quality 95 on a smooth image


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA'])
def test_every_8_bit_mode_becomes_rgb_without_alpha(image: np.ndarray, mode: str) -> None:
    rgb = Image.fromarray(image)
    converted = rgb.quantize(200) if mode == 'P' else rgb.convert(mode)
    if mode in ('LA', 'RGBA'):
        converted.putalpha(Image.fromarray(image[:, :, 0]))
    decoded = decode_image(encode_with_pillow(converted, 'PNG'), 'a.png')
    np.testing.assert_array_equal(decoded, np.array(converted.convert('RGB')))
    if mode in ('RGB', 'RGBA'):
        np.testing.assert_array_equal(decoded, image)
    assert decoded.dtype == np.uint8
    assert decoded.shape == (37, 53, 3)


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bits_are_rounded_to_8(suffix: str, channels: int) -> None:
    samples = np.random.default_rng(1).integers(0, 65536, (9, 11, channels)).astype(np.uint16)
    samples[0, :4] = np.array([0, 128, 129, 65535])[:, None]  # 128 / 257 rounds down, 129 / 257 up
    data = cv2.imencode(suffix, samples)[1].tobytes()
    expected = np.round(samples / 257.0)[:, :, :3][:, :, ::-1]
    np.testing.assert_array_equal(decode_image(data, 'a'), np.broadcast_to(expected, (9, 11, 3)))
    np.testing.assert_array_equal(decode_stored_image(data, 'a'), np.broadcast_to(expected, (9, 11, 3)))


def test_16_bit_grey_with_alpha_loses_its_alpha() -> None:
    samples = np.random.default_rng(2).integers(0, 65536, (5, 7, 2)).astype(np.uint16)
    decoded = decode_image(make_png(samples, colour_type=4, depth=16), 'a.png')
    np.testing.assert_array_equal(decoded, np.repeat(np.round(samples[:, :, :1] / 257.0), 3, axis=2))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
def test_image_is_turned_as_its_exif_orientation_says(
    tmp_path: Path, image: np.ndarray, orientation: int, kind: str
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = encode_with_pillow(Image.fromarray(image), kind, exif=exif.tobytes())
    (tmp_path / 'a').write_bytes(data)
    with Image.open(BytesIO(data)) as stored:
        expected = np.array(ImageOps.exif_transpose(stored))
    decoded = read_image(tmp_path / 'a')
    np.testing.assert_array_equal(decoded, expected)
    assert decoded.shape == ((53, 37, 3) if orientation >= 5 else (37, 53, 3))
    assert read_size(tmp_path / 'a') == decoded.shape[:2]


@pytest.mark.parametrize('name', ['exif', 'APP1'])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_image_is_turned_as_a_text_entry_says(tmp_path: Path, image: np.ndarray, name: str, mode: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    stored = Image.fromarray(image).convert(mode)
    info = PngImagePlugin.PngInfo()
    data = exif.tobytes()
    info.add_text(f'Raw profile type {name}', f'\n{name.lower()}\n{len(data):8d}\n{data.hex()}\n', zip=True)
    stored.save(tmp_path / 'a.png', pnginfo=info)
    expected = np.array(stored.convert('RGB').transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), expected)
    assert read_size(tmp_path / 'a.png') == (53, 37)


@pytest.mark.parametrize(('codes', 'word'), [((9, 16), 'PQ'), ((9, 18), 'HLG'), ((12, 13), 'wide gamut')])
def test_image_whose_colour_is_not_srgb_is_refused(image: np.ndarray, codes: tuple[int, int], word: str) -> None:
    png = encode_png(image)
    assert decode_image(add_cicp(png, (1, 13)), 'a.png').shape == image.shape
    with pytest.raises(InputError, match=rf'^a\.png: .*{word}.*expected sRGB\); replace or remove it$'):
        decode_image(add_cicp(png, codes), 'a.png')


def add_cicp(png: bytes, codes: tuple[int, int]) -> bytes:
    chunk = b'cICP' + bytes((*codes, 0, 1))
    return png[:33] + struct.pack('>I', 4) + chunk + struct.pack('>I', zlib.crc32(chunk)) + png[33:]


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_16_bit_tiff_is_turned_like_an_8_bit_one(image: np.ndarray, orientation: int) -> None:
    grey = image[:, :, 1]
    stored = [
        encode_with_pillow(Image.fromarray(samples), 'TIFF', tiffinfo={274: orientation})
        for samples in (grey, grey.astype(np.uint16) * 257)
    ]
    np.testing.assert_array_equal(decode_image(stored[1], 'b'), decode_image(stored[0], 'a'))


def test_first_image_of_an_animation_is_read(image: np.ndarray) -> None:
    frames = [Image.fromarray(image), Image.fromarray(255 - image)]
    data = encode_with_pillow(frames[0], 'TIFF', save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(data, 'a.tiff'), image)


def test_array_read_is_writable_and_contiguous(tmp_path: Path, image: np.ndarray) -> None:
    write_image(tmp_path / 'a.png', image)
    for decoded in (read_image(tmp_path / 'a.png'), decode_stored_image(memoryview(encode_png(image)), 'a')):
        assert decoded.flags.c_contiguous
        decoded[0, 0] = 1  # raises on an array that may not be written


@pytest.mark.parametrize('suffix', IMAGE_SUFFIXES)
@pytest.mark.parametrize('kept', [0.95, 0.5, 0.02])
def test_truncated_file_is_refused(image: np.ndarray, suffix: str, kept: float) -> None:
    big = np.tile(image, (4, 4, 1))
    data = cv2.imencode('.jpg' if suffix == '.jfif' else suffix, big)[1].tobytes()
    with pytest.raises(InputError, match=r'^broken: cannot be read as an image \(.+\); replace or remove it$'):
        decode_image(data[: int(len(data) * kept)], 'broken')


def test_png_without_its_last_chunk_is_refused(image: np.ndarray) -> None:
    for decode in (decode_image, decode_stored_image):
        with pytest.raises(InputError, match='broken'):
            decode(encode_png(image)[:-12], 'broken')


@pytest.mark.parametrize('position', [0.2, 0.5, 0.9])
def test_png_with_one_wrong_byte_is_refused(image: np.ndarray, position: float) -> None:
    data = bytearray(encode_png(image))
    data[int(len(data) * position)] ^= 0x10
    for decode in (decode_image, decode_stored_image):
        with pytest.raises(InputError, match='broken'):
            decode(bytes(data), 'broken')


def test_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    cases = {'text.png': b'hello', 'empty.png': b'', 'gif.png': encode_with_pillow(Image.new('L', (4, 4)), 'GIF')}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)
        with pytest.raises(InputError, match=name):
            read_size(tmp_path / name)
    with pytest.raises(InputError, match=r'missing\.png: cannot be read \(No such file'):
        read_image(tmp_path / 'missing.png')
    with pytest.raises(InputError, match=r'missing\.png: cannot be read as an image \(no such file\)'):
        read_size(tmp_path / 'missing.png')
    with pytest.raises(InputError, match='Is a directory'):
        read_image(tmp_path)


def test_file_that_may_not_be_read_is_named() -> None:
    error = make_error('a.png', PermissionError(13, 'Permission denied'))
    assert str(error) == 'a.png: cannot be read (Permission denied); check its permissions'


def test_text_that_unpacks_to_too_much_is_refused(image: np.ndarray) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text('workflow', 'x' * (80 << 20), zip=True)
    data = encode_with_pillow(Image.fromarray(image), 'PNG', pnginfo=info)
    with pytest.raises(InputError, match=r'\(text entries or a profile of more than 64 MB\); replace or remove it$'):
        decode_image(data, 'a.png')


def test_zero_sized_image_is_refused() -> None:
    with pytest.raises(InputError, match='cannot be read'):
        decode_image(make_png(np.zeros((0, 0, 1)), colour_type=0, depth=8), 'zero.png')


def test_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    header = struct.pack('>IIBBBBB', 60000, 60000, 8, 0, 0, 0, 0)
    chunk = struct.pack('>I', 13) + b'IHDR' + header + struct.pack('>I', zlib.crc32(b'IHDR' + header))
    with pytest.raises(InputError, match='more than 178 megapixels'):
        decode_image(b'\x89PNG\r\n\x1a\n' + chunk + struct.pack('>I', 0) + b'IDAT\x35\xaf\x06\x1e', 'bomb.png')


@pytest.mark.parametrize('dtype', [np.float32, np.int16])
def test_tiff_that_is_not_unsigned_integers_is_refused(dtype: type) -> None:
    data = cv2.imencode('.tiff', np.ones((4, 4), np.float32))[1].tobytes()
    if dtype is np.int16:
        data = encode_with_pillow(Image.fromarray(np.ones((4, 4), np.int32)), 'TIFF')
    with pytest.raises(InputError, match='samples'):
        decode_image(data, 'a.tiff')


def test_writing_refuses_what_it_cannot_hold(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"unknown image ending '\.gif'; use one of"):
        write_image(tmp_path / 'a.gif', image)
    with pytest.raises(ValueError, match='float32'):
        write_image(tmp_path / 'a.png', image.astype(np.float32))
    with pytest.raises(ValueError, match=r'\(37, 53\)'):
        write_image(tmp_path / 'a.png', image[:, :, 0])
    with pytest.raises(InputError, match=r'\.webp cannot hold an image of 20000 x 1; use \.png'):
        write_image(tmp_path / 'a.webp', np.zeros((1, 20000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_listing_takes_images_alone_and_sorts_them(tmp_path: Path) -> None:
    for name in ('b.PNG', 'a.jpeg', 'notes.txt', '._a.jpeg', 'c.webp'):
        (tmp_path / name).touch()
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'link.png').symlink_to(tmp_path / 'folder.png')
    (tmp_path / 'd.png').symlink_to('missing.png')
    assert [path.name for path in list_images(tmp_path)] == ['a.jpeg', 'b.PNG', 'c.webp', 'd.png']
    with pytest.raises(InputError, match='missing: expected a folder of images, found nothing there'):
        list_images(tmp_path / 'missing')
    with pytest.raises(InputError, match='found a file'):
        list_images(tmp_path / 'b.PNG')
