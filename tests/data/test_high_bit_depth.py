"""Files with 16 bits per sample: every way of storing them gives the samples that were written."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from dasr_arch import InputError, Upscaler
from dasr_arch.data.high_bit_depth import decode_16_bits
from dasr_arch.data.image_io import decode_image
from dasr_arch.inference.images.io import read_image_file
from dasr_arch.inference.upscale_files import upscale_bytes

Samples = NDArray[np.uint16]


def make_samples(channels: int, height: int = 21, width: int = 37) -> Samples:
    """Different numbers in every place, so that a wrong order shows."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return (np.arange(np.prod(shape), dtype=np.uint32).reshape(shape) * 27 % 65536).astype(np.uint16)


def make_tiff(samples: Samples, planar: str = 'contig', **settings: object) -> bytes:
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    stored = np.moveaxis(samples, -1, 0) if planar == 'separate' and channels > 1 else samples
    options = {
        'photometric': 'rgb' if channels >= 3 else 'minisblack',
        'planarconfig': planar if channels > 1 else None,
        'extrasamples': ['unassalpha'] if channels in (2, 4) else None,
    }
    file = BytesIO()
    tifffile.imwrite(file, stored, **(options | settings))
    return file.getvalue()


def make_png(samples: Samples, colour_type: int, transparent: tuple[int, ...] = ()) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    height, width = samples.shape[:2]
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in samples)
    file = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 16, colour_type, 0, 0, 0))
    if transparent:
        file += chunk(b'tRNS', struct.pack(f'>{len(transparent)}H', *transparent))
    return file + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


@pytest.mark.parametrize('planar', ['contig', 'separate'])
@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('compression', [None, 'lzw', 'zlib', 'packbits', 'lzma', 'zstd'])
@pytest.mark.parametrize('layout', [{}, {'tile': (16, 16)}, {'rowsperstrip': 4}, {'byteorder': '>'}])
def test_tiff(planar: str, channels: int, compression: str | None, layout: dict[str, object]) -> None:
    samples = make_samples(channels)
    data = make_tiff(samples, planar, compression=compression, **layout)
    (frame,) = read_image_file(data, 'a.tif').frames
    np.testing.assert_array_equal(frame, samples)
    rgb = np.repeat(samples[:, :, None], 3, 2) if channels == 1 else samples[:, :, :3]
    np.testing.assert_array_equal(decode_image(data, 'a.tif'), np.rint(rgb / 257))


@pytest.mark.parametrize('planar', ['contig', 'separate'])
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (9, 1)])
def test_tiff_of_one_row_or_column(planar: str, size: tuple[int, int]) -> None:
    samples = make_samples(3, *size)
    np.testing.assert_array_equal(decode_16_bits(make_tiff(samples, planar), 'TIFF'), samples)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('planar', ['contig', 'separate'])
def test_orientation_of_a_tiff(planar: str, orientation: int) -> None:
    tags = [(274, 'H', 1, orientation, True)]
    deep = make_tiff(make_samples(3), planar, extratags=tags)
    shallow = BytesIO()
    tifffile.imwrite(shallow, (make_samples(3) >> 8).astype(np.uint8), photometric='rgb', extratags=tags)
    (frame,) = read_image_file(deep, 'a.tif').frames
    (expected,) = read_image_file(shallow.getvalue(), 'b.tif').frames
    assert isinstance(frame, np.ndarray) and isinstance(expected, Image.Image)
    np.testing.assert_array_equal(frame >> 8, np.asarray(expected))


@pytest.mark.parametrize(
    ('channels', 'colour_type', 'level'), [(1, 0, (54,)), (3, 2, (81, 108, 135))], ids=['grey', 'RGB']
)
def test_transparent_level_of_a_png(channels: int, colour_type: int, level: tuple[int, ...]) -> None:
    samples = make_samples(channels)
    (frame,) = read_image_file(make_png(samples, colour_type, level), 'a.png').frames
    assert isinstance(frame, np.ndarray)
    layers = samples.reshape(*samples.shape[:2], channels)
    np.testing.assert_array_equal(frame[:, :, :-1], layers)
    clear = (layers == level).all(-1)
    assert clear.sum() == 1
    np.testing.assert_array_equal(frame[:, :, -1], np.where(clear, 0, 65535))


def test_transparent_grey_stays_transparent_when_enlarged() -> None:
    samples = make_samples(1)
    samples[:, :18] = 54
    large = upscale_bytes(Upscaler(scale=2), make_png(samples, 0, (54,)), 'a.png')
    alpha = np.asarray(Image.open(BytesIO(large)).convert('RGBA'))[:, :, 3]
    assert alpha[:, :30].max() == 0 and alpha[:, 42:].min() == 255


@pytest.mark.filterwarnings('ignore::UserWarning')  # Pillow's, about damaged tags
@pytest.mark.parametrize('planar', ['contig', 'separate'])
@pytest.mark.parametrize('compression', [None, 'lzw'])
def test_a_damaged_tiff_is_refused_or_holds_nothing_that_was_not_in_it(planar: str, compression: str | None) -> None:
    data = make_tiff(np.full((32, 32, 3), 0x1111, np.uint16), planar, compression=compression, rowsperstrip=8)
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(data)
        for place in random.integers(8, len(data), 2):
            damaged[place] = random.integers(256)
        try:
            first, second = (read_image_file(bytes(damaged), 'a.tif').frames[0] for _ in range(2))
        except InputError:
            outcomes.add('refused')
            continue
        outcomes.add('decoded')
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    assert outcomes == {'refused', 'decoded'}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'photometric': 'separated', 'extrasamples': ()}, 'another colour model'),
        ({'compression': 'jpeg2000'}, 'compression'),
    ],
)
def test_tiff_that_is_refused(settings: dict[str, object], message: str) -> None:
    channels = 4 if 'photometric' in settings else 3
    with pytest.raises(ValueError, match=message):
        decode_16_bits(make_tiff(make_samples(channels), **settings), 'TIFF')


def test_tiff_of_other_samples_is_refused() -> None:
    five = make_tiff(make_samples(5), extrasamples=['unassalpha', 'unspecified'])
    with pytest.raises(ValueError, match='5 samples in a pixel, expected 3 or 4'):
        decode_16_bits(five, 'TIFF')
    whole = make_tiff(make_samples(1))
    place = whole.index(struct.pack('<H', 279))  # StripByteCounts: type, count and the number itself
    with pytest.raises(ValueError, match='a part of the image is missing'):
        decode_16_bits(whole[: place + 8] + bytes(4) + whole[place + 12 :], 'TIFF')


def test_png_of_8_bits_is_no_deep_one() -> None:
    file = BytesIO()
    Image.new('L', (4, 4)).save(file, 'PNG')
    with pytest.raises(ValueError, match='damaged, or an unusual kind of 16 bits'):
        decode_16_bits(file.getvalue(), 'PNG')
