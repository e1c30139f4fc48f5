"""Files that people have: every kind is upscaled with the right colours, or refused in one line."""

import struct
import zlib
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from dasr_arch import InputError
from dasr_arch.data.image_io import decode_image
from dasr_arch.inference.images.encode import FrameSequence, encode_image_file
from dasr_arch.inference.images.io import FORMATS, OutputSettings, check_output, read_image_file
from tests.inference.images.test_field_colour import add_chunk, make_image, rewrite, save

SRGB = ImageCms.createProfile('sRGB')


def smooth() -> Image.Image:
    """Colours that a lossy format keeps."""
    rows, columns = np.mgrid[:32, :40]
    return Image.fromarray(np.stack([rows * 6 + 20, columns * 5 + 20, 200 - rows * 3], 2).astype(np.uint8))


def tiff(pixels: Any, **options: Any) -> bytes:
    stream = BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def lab() -> Image.Image:
    return ImageCms.profileToProfile(smooth(), SRGB, ImageCms.createProfile('LAB'), outputMode='LAB')


def ycck() -> bytes:
    inks = np.asarray(smooth().convert('CMYK'))
    return bytes(imagecodecs.jpeg_encode(inks, level=98, colorspace='CMYK', outcolorspace='YCCK'))


def interlaced(pixels: Any) -> bytes:
    """A PNG in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::across] for top, left, down, across in passes]
    rows = b''.join(b'\0' + row.tobytes() for part in parts for row in part)
    header = struct.pack('>IIBBBBB', pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    chunks = ((b'IHDR', header), (b'IDAT', zlib.compress(rows)), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(add_chunk(bytes(33), name, content)[33:] for name, content in chunks)


PIXELS = np.asarray(smooth())
FILES = {
    'progressive JPEG': lambda: save(smooth(), 'JPEG', progressive=True, quality=98),
    'JPEG with a ZIP behind it': lambda: save(smooth(), 'JPEG', quality=98) + b'PK\3\4' + bytes(90),
    'PNG with a ZIP behind it': lambda: save(smooth(), 'PNG') + b'PK\3\4' + bytes(90),
    'interlaced PNG': lambda: interlaced(PIXELS),
    'JPEG with a damaged profile': lambda: save(smooth(), 'JPEG', quality=98, icc_profile=b'nonsense' * 20),
    'MPO': lambda: save(smooth(), 'MPO', save_all=True, append_images=[make_image()], quality=98),
    'BigTIFF': lambda: tiff(PIXELS, photometric='rgb', bigtiff=True),
    'BigTIFF of 16 bits': lambda: tiff(PIXELS.astype(np.uint16) * 257, photometric='rgb', bigtiff=True),
    'TIFF with JPEG inside': lambda: tiff(PIXELS, photometric='rgb', compression='jpeg', compressionargs={'level': 98}),
    'TIFF of Lab': lambda: save(lab(), 'TIFF', icc_profile=ImageCms.ImageCmsProfile(SRGB).tobytes()),
    'palette with levels of alpha': lambda: save(smooth().quantize(256), 'PNG', transparency=bytes([255] * 256)),
}


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('name', FILES)
def test_colours_are_those_that_were_stored(name: str, kind: str) -> None:
    result, _ = rewrite(FILES[name](), 'a', kind)
    assert result.size == (40, 32)
    assert np.abs(np.asarray(result.convert('RGB')).astype(int) - PIXELS).mean() < 4
    assert np.abs(decode_image(FILES[name](), 'a').astype(int) - PIXELS).mean() < 4


def test_ycck_of_print_shops_reads_as_the_inks_that_were_stored() -> None:
    result, _ = rewrite(ycck(), 'a.jpg')
    inks = 255 - np.asarray(smooth().convert('CMYK')).astype(int)  # Adobe's files are inverted
    assert result.mode == 'CMYK'
    assert np.abs(np.asarray(result).astype(int) - inks).mean() < 3


@pytest.mark.parametrize(
    'pixels',
    [PIXELS.astype(np.float32) / 255, PIXELS.astype(np.uint32), PIXELS[..., 0].astype(np.float32)],
    ids=['float', '32 bits', 'grey float'],
)
def test_numbers_of_science_are_refused_for_what_they_are(pixels: Any) -> None:
    data = tiff(pixels, photometric='rgb' if pixels.ndim == 3 else 'minisblack')
    for read in (read_image_file, decode_image):
        with pytest.raises(InputError, match=r'32 bits|floating point'):
            read(data, 'a.tif')


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_directory_of_interoperability_is_whole(kind: str) -> None:
    exif = Image.Exif()
    inner = exif.get_ifd(0x8769)
    inner[0xA001] = 65535
    inner[0xA005] = {1: 'R03', 2: b'0100'}
    data = save(make_image(), 'JPEG', exif=exif)
    result, _ = rewrite(data, 'a.jpg', kind)
    found = result.getexif()
    assert found.get_ifd(0x8769)[0xA001] == 65535
    expected = {} if kind == 'TIFF' else {1: 'R03', 2: b'0100'}  # Pillow cannot place it in a TIFF
    assert found.get_ifd(0xA005) == expected


def test_pages_of_different_modes_and_sizes_stay_so() -> None:
    pages = [smooth(), smooth().convert('L').resize((20, 10)), smooth().convert('CMYK')]
    data = save(pages[0], 'TIFF', save_all=True, append_images=pages[1:])
    result, _ = rewrite(data, 'a.tif')
    for index, page in enumerate(pages):
        result.seek(index)
        assert (result.mode, result.size) == (page.mode, page.size)
        np.testing.assert_array_equal(np.asarray(result), np.asarray(page))


@pytest.mark.parametrize('kind', ['TIFF', 'WEBP', 'GIF'])
def test_frames_are_computed_while_they_are_written(kind: str) -> None:
    images = [Image.new('RGB', (16, 12), (40 * index, 9, 200)) for index in range(6)]
    options = {} if kind == 'TIFF' else {'duration': 50, 'lossless': True}
    file = read_image_file(save(images[0], kind, save_all=True, append_images=images[1:], **options), 'a')
    alive, most = 0, 0

    class Counted(Image.Image):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def compute() -> Any:
        nonlocal alive, most
        for image in images:
            frame = image.copy()
            frame.__class__ = Counted
            alive += 1
            most = max(most, alive)
            yield frame
            del frame

    again = read_image_file(encode_image_file(compute(), file, OutputSettings()), 'b')
    assert [np.asarray(one)[0, 0].tolist()[0] for one in again.frames] == pytest.approx(range(0, 240, 40), abs=2)
    assert most <= 3


@pytest.mark.parametrize('kind', ['TIFF', 'WEBP', 'GIF', 'PNG'])
@pytest.mark.parametrize('error', [InputError('no memory'), RuntimeError('a bug'), MemoryError()])
def test_failure_of_the_computation_is_not_one_of_the_format(kind: str, error: Exception) -> None:
    images = [Image.new('RGB', (16, 12), (40 * index, 9, 200)) for index in range(3)]
    options = {} if kind == 'TIFF' else {'duration': 50}
    file = read_image_file(save(images[0], kind, save_all=True, append_images=images[1:], **options), 'a')

    def compute() -> Any:
        yield images[0].copy()
        raise error

    with pytest.raises(type(error)) as caught:
        encode_image_file(compute(), file, OutputSettings())
    assert caught.value is error


def test_a_sequence_goes_forward_and_ends() -> None:
    images = [Image.new('L', (3, 2), value) for value in (1, 2, 3)]
    sequence = FrameSequence(iter(images), 3)
    assert [(sequence.seek(index), sequence.tell(), sequence.getpixel((0, 0)))[1:] for index in (0, 1, 2)] == [
        (0, 1),
        (1, 2),
        (2, 3),
    ]
    with pytest.raises(EOFError):
        sequence.seek(3)


@pytest.mark.parametrize(('extra', 'noted'), [((2, 0), True), ((0,), True), ((2,), False), ((), False)])
def test_channels_of_a_tiff_that_are_neither_colour_nor_alpha_are_named(extra: tuple[int, ...], noted: bool) -> None:
    pixels = np.arange(20 * 24 * (3 + len(extra)), dtype=np.uint16).reshape(20, 24, -1).astype(np.uint8)
    file = read_image_file(tiff(pixels, photometric='rgb', extrasamples=extra or None), 'a.tif')
    assert ('a channel beyond colour and alpha' in file.metadata.notes) == noted


@pytest.mark.parametrize(('extra', 'channels'), [('unspecified', 3), ('unassalpha', 4)])
def test_a_fourth_channel_of_sixteen_bits_is_alpha_only_where_the_tiff_says_so(extra: str, channels: int) -> None:
    pixels = np.arange(20 * 24 * 4, dtype=np.uint16).reshape(20, 24, 4) * 30
    file = read_image_file(tiff(pixels, photometric='rgb', extrasamples=[extra]), 'a.tif')
    np.testing.assert_array_equal(file.frames[0], pixels[:, :, :channels])


def test_pages_of_sixteen_bits_behind_one_of_eight_are_refused() -> None:
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(PIXELS, photometric='rgb')
        writer.write(PIXELS.astype(np.uint16) * 257, photometric='rgb')
    with pytest.raises(InputError, match='several images of 16 bits in one file'):
        read_image_file(stream.getvalue(), 'a.tif')


@pytest.mark.parametrize('second', ['sRGB', 'XYZ', None])
def test_pages_have_one_profile(second: str | None) -> None:
    first = ImageCms.ImageCmsProfile(SRGB).tobytes()
    profiles = {'sRGB': first, 'XYZ': ImageCms.ImageCmsProfile(ImageCms.createProfile('XYZ')).tobytes(), None: None}
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for profile in (first, profiles[second]):
            writer.write(PIXELS, photometric='rgb', iccprofile=profile, metadata=None)
    if second == 'sRGB':
        result, notes = rewrite(stream.getvalue(), 'a.tif')
        assert (notes, result.n_frames, result.info['icc_profile']) == ([], 2, first)
    else:
        with pytest.raises(InputError, match='pages with different colour profiles in one file, expected one'):
            read_image_file(stream.getvalue(), 'a.tif')


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'AVIF', 'BMP', 'JPEG', 'TIFF'])
def test_inks_that_become_rgb_are_named(kind: str) -> None:
    file = read_image_file(save(smooth().convert('CMYK'), 'JPEG'), 'a.jpg')
    named = f'CMYK is converted to RGB: {kind} holds none' in check_output(file, OutputSettings(kind), 2)
    assert named == (kind not in ('JPEG', 'TIFF'))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_tags_of_exif_keep_letters_numbers_and_bytes(kind: str) -> None:
    exif = Image.Exif()
    exif[0x8298] = '© Müller'.encode()  # copyright; cameras and programs write UTF-8
    exif[0x4746] = 4  # rating
    exif[0x9C9B] = 'Title\0'.encode('utf-16-le')
    exif.get_ifd(0x8769)[0xA430] = 'Jürgen'.encode()  # owner of the camera
    result, notes = rewrite(save(smooth(), 'JPEG', exif=exif.tobytes()), 'a.jpg', kind)
    found = result.getexif()
    assert not any('EXIF' in note for note in notes)
    assert found[0x8298].encode('latin-1').decode() == '© Müller'
    assert (found[0x4746], found[0x9C9B]) == (4, 'Title\0'.encode('utf-16-le'))
    assert found.get_ifd(0x8769)[0xA430].decode() == 'Jürgen'


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_comment_and_notes_of_the_maker_keep_type_and_byte_order(kind: str, order: str) -> None:
    encodings = {'<': 'utf-16-le', '>': 'utf-16-be'}
    exif = Image.Exif()
    exif.endian = order
    exif[0x4746] = 4  # rating
    blocks = {0x9101: b'\1\2\3\0', 0x927C: b'notes of a maker'}
    blocks[0x9286] = b'UNICODE\0' + '© 日本'.encode(encodings[order])
    exif.get_ifd(0x8769).update(blocks)
    result, _ = rewrite(save(smooth(), 'JPEG', exif=exif.tobytes()), 'a.jpg', kind)
    content, found = result.fp.getvalue(), result.getexif()
    written = '<' if kind == 'TIFF' else order
    blocks[0x9286] = b'UNICODE\0' + '© 日本'.encode(encodings[written])
    assert (found.endian, found[0x4746]) == (written, 4)
    for tag, block in blocks.items():
        assert found.get_ifd(0x8769)[tag] == block
        assert struct.pack(f'{written}HHI', tag, 7, len(block)) in content  # 7: undefined


GEOREFERENCE = [(33550, 'd', 3, (0.5, 0.5, 0.0), True), (33922, 'd', 6, (0, 0, 0, 3e5, 5e6, 0), True)]


@pytest.mark.parametrize(
    ('options', 'tags', 'note'),
    [
        ({'metadata': None, 'extratags': GEOREFERENCE}, (33550, 33922), 'the georeference'),
        ({'metadata': {'axes': 'YXS'}}, (270,), 'the description, which holds sizes of the image,'),
        ({'ome': True}, (270,), 'the description, which holds sizes of the image,'),
        ({'imagej': True, 'resolution': (2.0, 2.0)}, (282,), 'the resolution, which has no unit,'),
    ],
)
def test_what_no_longer_fits_the_size_of_a_tiff_is_left_out(options: Any, tags: Any, note: str) -> None:
    result, notes = rewrite(tiff(PIXELS, photometric='rgb', **options), 'a.tif', 'TIFF')
    assert notes == [f'{note} is left out']
    assert not [tag for tag in tags if result.tag_v2.get(tag, 1) != 1]


PROGRAM_TAGS = {
    'IPTC': [(33723, 4, 2, (1948349212, 7), True)],  # of exiftool: bytes stored as LONG
    'the block of Photoshop resources': [(34377, 1, 8, b'8BIM\x04\x04\0\0', True)],
    'the Photoshop document with its layers': [(37724, 7, 80000, bytes(80000), True)],
    'the metadata of ImageJ': [(50838, 4, 2, (8, 4), True), (50839, 1, 12, b'IJIJinfo\0\0\0\1', True)],
}


@pytest.mark.parametrize('kind', ['TIFF', 'JPEG', 'PNG'])
@pytest.mark.parametrize('part', PROGRAM_TAGS)
def test_blocks_of_programs_are_left_out_and_named_and_other_tags_stay(part: str, kind: str) -> None:
    tags = [*PROGRAM_TAGS[part], (271, 2, None, 'maker', True)]
    result, notes = rewrite(tiff(PIXELS, photometric='rgb', metadata=None, extratags=tags), 'a.tif', kind)
    assert notes == [f'{part} is left out']
    found = result.getexif()
    assert found[271] == 'maker'
    assert not [tag for tag in (33723, 34377, 37724, 50838, 50839) if tag in found]


@pytest.mark.skipif('AVIF' not in FORMATS, reason='this Pillow has no AVIF')
@pytest.mark.parametrize('box', [b'mdcv', b'clli', b'free'])
def test_light_levels_of_an_avif_are_named(box: bytes) -> None:
    data = save(make_image(), 'AVIF')
    place = data.index(b'mdat') - 4
    added = struct.pack('>I', 12) + box + bytes(4)
    moved = data[:place].replace(struct.pack('>I', place + 8), struct.pack('>I', place + 8 + len(added)))
    file = read_image_file(moved + added + data[place:], 'a.avif')
    assert ('the mastering display and light level (HDR)' in file.metadata.notes) == (box != b'free')
