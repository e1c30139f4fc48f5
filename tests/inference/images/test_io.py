"""Reading and writing of image files: nothing is lost, and damaged files give one error line."""

import struct
import zlib
from dataclasses import replace
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from dasr_arch import InputError
from dasr_arch.data.image_io import turn_upright
from dasr_arch.inference.images.encode import encode_image_file
from dasr_arch.inference.images.image_modes import decompose
from dasr_arch.inference.images.io import (
    FORMATS,
    OutputSettings,
    check_output,
    read_header,
    read_image_file,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
SIZE = (24, 16)


def make_pixels(channels: int = 3, dtype: Any = np.uint8) -> Any:
    """A smooth image, so that lossy formats stay near."""
    rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    planes = [rows * 10 + 20, columns * 8 + 10, (rows + columns) * 5, 255 - rows * 3]
    values = np.stack(planes[:channels], 2)
    return (values * (257 if dtype == np.uint16 else 1)).astype(dtype)


def make_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[274], exif[271], exif[306] = orientation, 'Maker', '2026:01:31 12:00:00'
    exif.get_ifd(0x8769).update({33434: 0.01, 40962: SIZE[0], 40963: SIZE[1]})
    exif.get_ifd(0x8825).update({1: 'N', 2: (52.0, 30.0, 0.0)})
    for directory in (0x8769, 0x8825):  # otherwise Pillow leaves them out of a TIFF
        exif[directory] = exif.get_ifd(directory)
    return exif


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def round_trip(data: bytes, **settings: Any) -> Image.Image:
    """Reads, encodes and opens an image file again."""
    file = read_image_file(data, 'in')
    chosen = OutputSettings(**settings)
    check_output(file, chosen, 1)
    out = Image.open(BytesIO(encode_image_file([copy_frame(frame) for frame in file.frames], file, chosen)))
    out.load()
    return out


def copy_frame(frame: Any) -> Any:
    """A frame as the upscaler gives it back."""
    return decompose(frame).assemble()


@pytest.mark.parametrize('kind', FORMATS)
def test_every_format_comes_back_as_itself(kind):
    image = Image.fromarray(make_pixels())
    out = round_trip(encode(image, kind, **({'lossless': True} if kind == 'WEBP' else {})))
    assert out.format == kind
    tolerance = {'JPEG': 12, 'AVIF': 40, 'GIF': 40}.get(kind, 0)
    assert np.abs(np.array(out.convert('RGB')).astype(int) - np.array(image)).max() <= tolerance


@pytest.mark.parametrize(
    ('kind', 'mode'),
    [(kind, mode) for kind in ('PNG', 'TIFF') for mode in ('L', 'LA', 'RGB', 'RGBA')]
    + [('TIFF', 'CMYK'), ('JPEG', 'L'), ('JPEG', 'CMYK'), ('WEBP', 'RGBA'), ('BMP', 'L')],
)
def test_modes_are_kept(kind, mode):
    image = Image.fromarray(make_pixels(4))
    image = image if mode == 'RGBA' else image.convert('RGB').convert(mode)
    out = round_trip(encode(image, kind, **({'lossless': True, 'exact': True} if kind == 'WEBP' else {})))
    assert out.mode == mode
    assert np.abs(np.array(out).astype(int) - np.array(image)).max() <= (12 if kind == 'JPEG' else 0)


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_sixteen_bits_are_kept(suffix, channels):
    pixels = make_pixels(channels, np.uint16) + 3
    order = [0] if channels == 1 else [2, 1, 0, 3][:channels]
    done, data = cv2.imencode(suffix, pixels[:, :, order])
    assert done
    file = read_image_file(data.tobytes(), 'in')
    assert np.array_equal(file.frames[0].reshape(pixels.shape), pixels)
    again = read_image_file(encode_image_file(file.frames, file, OutputSettings()), 'out')
    assert again.format == file.format
    assert np.array_equal(again.frames[0], file.frames[0])


def test_grey_with_alpha_of_sixteen_bits_is_read_as_such():
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))

    row = b'\0' + struct.pack('>4H', 1000, 65535, 2000, 30000)
    header = struct.pack('>IIBBBBB', 2, 1, 16, 4, 0, 0, 0)
    data = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(row)) + chunk(b'IEND', b'')
    file = read_image_file(data, 'in')
    assert file.frames[0].tolist() == [[[1000, 65535], [2000, 30000]]]
    for kind, channels in (('PNG', [0, 1]), ('TIFF', [0, 0, 0, 1])):
        again = read_image_file(encode_image_file(file.frames, file, OutputSettings(kind)), 'out')
        assert np.array_equal(again.frames[0], file.frames[0][:, :, channels]), kind
    profile = SRGB[:16] + b'GRAY' + SRGB[20:]
    file = replace(file, metadata=replace(file.metadata, icc_profile=profile))
    with Image.open(BytesIO(encode_image_file(file.frames, file, OutputSettings()))) as image:
        assert image.info['icc_profile'] == profile
    with pytest.raises(InputError, match='16 bits with a profile; TIFF cannot hold it, use --format png'):
        check_output(file, OutputSettings('TIFF'), 2)


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
def test_sixteen_bits_keep_profile_and_metadata(suffix):
    done, encoded = cv2.imencode(suffix, make_pixels(3, np.uint16))
    assert done
    data = encode(Image.fromarray(make_pixels()), 'PNG', icc_profile=SRGB, exif=make_exif(), dpi=(300, 300))
    source = read_image_file(data, 'in', kind=suffix[1:].upper())
    deep = read_image_file(encoded.tobytes(), 'in')
    file = type(deep)(**{**vars(deep), 'metadata': source.metadata})
    out = Image.open(BytesIO(encode_image_file(deep.frames, file, OutputSettings())))
    out.load()
    assert out.info['icc_profile'] == SRGB
    assert out.info['dpi'] == pytest.approx((300, 300), abs=0.01)
    assert out.getexif()[271] == 'Maker'


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF'])
def test_profile_and_exif_are_kept(kind):
    if kind not in FORMATS:
        pytest.skip('Pillow was built without it')
    data = encode(Image.fromarray(make_pixels()), kind, icc_profile=SRGB, exif=make_exif())
    out = round_trip(data)
    assert out.info['icc_profile'] == SRGB
    exif = out.getexif()
    assert (exif[271], exif.get(274, 1)) == ('Maker', 1)
    assert exif.get_ifd(0x8825)[1] == 'N'
    assert float(exif.get_ifd(0x8769)[33434]) == pytest.approx(0.01)


def test_sizes_in_exif_grow_with_the_image():
    file = read_image_file(encode(Image.fromarray(make_pixels()), 'JPEG', exif=make_exif()), 'in', scale=4)
    exif = Image.Exif()
    exif.load(file.metadata.exif)
    assert (exif.get_ifd(0x8769)[40962], exif.get_ifd(0x8769)[40963]) == (4 * SIZE[0], 4 * SIZE[1])


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_are_turned_upright_once(kind, orientation):
    pixels = make_pixels()
    options = {'quality': 100, 'subsampling': 0} if kind == 'JPEG' else {'lossless': True} if kind == 'WEBP' else {}
    out = round_trip(encode(Image.fromarray(pixels), kind, exif=make_exif(orientation), **options))
    expected = turn_upright(pixels, orientation)
    assert out.size == expected.shape[1::-1]
    assert out.getexif().get(274, 1) == 1
    assert np.abs(np.array(out).astype(int) - expected).max() <= 8


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_sixteen_bits_are_turned_upright(orientation):
    pixels = make_pixels(3, np.uint16)
    done, data = cv2.imencode('.png', pixels[:, :, ::-1])
    assert done
    tiff_header = make_exif(orientation).tobytes().removeprefix(b'Exif\0\0')
    chunk = struct.pack('>I', len(tiff_header)) + b'eXIf' + tiff_header
    chunk += struct.pack('>I', zlib.crc32(b'eXIf' + tiff_header))
    encoded = data.tobytes()
    file = read_image_file(encoded[:33] + chunk + encoded[33:], 'in')
    assert np.array_equal(file.frames[0], turn_upright(pixels, orientation))


def test_text_gamma_and_resolution_of_a_png_are_kept():
    info = PngInfo()
    info.add_text('Title', 'Garden')
    info.add_itxt('Ort', 'Łódź')
    info.add(b'gAMA', (45455).to_bytes(4, 'big'))
    out = round_trip(encode(Image.fromarray(make_pixels()), 'PNG', pnginfo=info, dpi=(72, 72)))
    assert (out.text['Title'], out.text['Ort']) == ('Garden', 'Łódź')
    assert out.info['gamma'] == pytest.approx(0.45455)
    assert out.info['dpi'] == pytest.approx((72, 72), abs=0.01)


def test_intent_and_chromaticities_of_a_png_are_kept():
    intent, points = PngInfo(), PngInfo()
    intent.add(b'sRGB', b'\x01')
    points.add(b'cHRM', struct.pack('>8I', 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
    assert round_trip(encode(Image.fromarray(make_pixels()), 'PNG', pnginfo=intent)).info['srgb'] == 1
    chromaticity = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    assert (
        round_trip(encode(Image.fromarray(make_pixels()), 'PNG', pnginfo=points)).info['chromaticity'] == chromaticity
    )


def make_animation(kind: str, alpha: bool, **options: Any) -> bytes:
    frames = []
    for index in range(4):
        pixels = np.zeros((*SIZE[::-1], 4), np.uint8)
        pixels[..., 3] = 0 if alpha else 255
        pixels[2:8, 4 * index : 4 * index + 6] = (200, 40 * index, 0, 255)
        frames.append(Image.fromarray(pixels) if alpha else Image.fromarray(pixels[..., :3]))
    more = {'lossless': True} if kind == 'WEBP' else {}
    durations = [40, 80, 120, 200]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=durations, **options, **more)


@pytest.mark.parametrize('kind', ['GIF', 'PNG', 'WEBP'])
@pytest.mark.parametrize('alpha', [False, True])
@pytest.mark.parametrize('loop', [0, 3])
def test_animations_keep_frames_durations_and_loop(kind, alpha, loop):
    data = make_animation(kind, alpha, loop=loop, **({'disposal': 2} if kind == 'GIF' else {}))
    file = read_image_file(data, 'in')
    assert file.animated
    assert list(file.durations) == [40, 80, 120, 200]
    again = read_image_file(
        encode_image_file([copy_frame(frame) for frame in file.frames], file, OutputSettings()), 'out'
    )
    assert (again.durations, again.loop) == (file.durations, loop)
    for before, after in zip(file.frames, again.frames, strict=True):
        first, second = (np.array(frame.convert('RGBA')).astype(int) for frame in (before, after))
        assert np.array_equal(first[..., 3], second[..., 3])
        seen = first[..., 3] > 0
        assert np.abs(first[seen] - second[seen]).max() <= (16 if kind == 'GIF' else 0)


@pytest.mark.parametrize(('source', 'target'), [('GIF', 'PNG'), ('GIF', 'WEBP'), ('PNG', 'GIF')])
def test_animations_change_format_when_asked(source, target):
    file = read_image_file(make_animation(source, False, loop=0), 'in')
    out = read_image_file(
        encode_image_file([copy_frame(frame) for frame in file.frames], file, OutputSettings(target)), 'out'
    )
    assert (out.format, len(out.frames), list(out.durations)) == (target, 4, [40, 80, 120, 200])


def test_pages_of_a_tiff_are_kept():
    pages = [Image.fromarray(make_pixels()), Image.fromarray(make_pixels()[:9, :7, 0])]
    file = read_image_file(encode(pages[0], 'TIFF', save_all=True, append_images=pages[1:]), 'in')
    assert not file.animated
    again = read_image_file(
        encode_image_file([copy_frame(page) for page in file.frames], file, OutputSettings()), 'out'
    )
    assert [(page.size, page.mode) for page in again.frames] == [(SIZE, 'RGB'), ((7, 9), 'L')]


@pytest.mark.parametrize('target', ['PNG', 'WEBP'])
def test_inks_become_colours_where_a_format_has_none(target):
    image = Image.fromarray(make_pixels()).convert('CMYK')
    out = round_trip(encode(image, 'TIFF'), format=target)
    assert out.mode == 'RGB'
    assert np.abs(np.array(out).astype(int) - np.array(image.convert('RGB'))).max() == 0
    assert 'icc_profile' not in out.info


def test_sixteen_bits_are_rounded_where_a_format_has_eight():
    done, data = cv2.imencode('.png', make_pixels(3, np.uint16)[:, :, ::-1])
    assert done
    assert np.array_equal(np.array(round_trip(data.tobytes(), format='BMP')), make_pixels())


def test_quality_is_followed():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    file = read_image_file(encode(noise, 'JPEG', quality=100), 'in')
    sizes = [
        len(encode_image_file([noise.copy()], file, OutputSettings(quality=quality))) for quality in (30, None, 100)
    ]
    assert sizes[0] < sizes[1] < sizes[2]


def test_webp_stays_lossless_only_if_it_was():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    assert np.array_equal(np.array(round_trip(encode(image, 'WEBP', lossless=True))), np.array(image))
    assert read_image_file(encode(image, 'WEBP', lossless=True, icc_profile=SRGB), 'in').lossless
    assert not read_image_file(encode(image, 'WEBP', icc_profile=SRGB), 'in').lossless


@pytest.mark.parametrize(
    ('kind', 'mode', 'settings', 'scale', 'message'),
    [
        ('PNG', 'RGBA', {'format': 'JPEG'}, 1, 'is transparent, which JPEG cannot be; use --format png or webp'),
        ('WEBP', 'RGB', {}, 1000, 'WEBP cannot hold 24000 x 16000 pixels'),
        ('JPEG', 'RGB', {}, 4000, 'JPEG cannot hold 96000 x 64000 pixels; use --format png or tiff'),
    ],
)
def test_what_a_format_cannot_hold_is_said_before_the_work(kind, mode, settings, scale, message):
    file = read_image_file(encode(Image.fromarray(make_pixels(4)).convert(mode), kind), 'in')
    with pytest.raises(InputError) as error:
        check_output(file, OutputSettings(**settings), scale)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ('kind', 'mode', 'note'),
    [
        ('PNG', 'RGBA', 'colours are reduced to 256, and pixels to transparent or opaque: GIF holds no more'),
        ('PNG', 'RGB', 'colours are reduced to 256: GIF holds no more'),
        ('GIF', 'RGB', None),
    ],
)
def test_what_a_gif_loses_is_named(kind, mode, note):
    file = read_image_file(encode(Image.fromarray(make_pixels(4)).convert(mode), kind), 'in')
    assert check_output(file, OutputSettings('GIF'), 1) == ([note] if note else [])


def test_animation_does_not_become_a_still_image():
    file = read_image_file(make_animation('GIF', False), 'in')
    with pytest.raises(InputError, match='holds an animation, which JPEG cannot; use --format gif, png or webp'):
        check_output(file, OutputSettings('JPEG'), 1)


@pytest.mark.parametrize('settings', [{'format': 'XCF'}, {'quality': 0}, {'quality': 101}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError):
        OutputSettings(**settings)


@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('keep', [0, 10, 0.5, 0.9])
def test_truncated_files_are_one_line(kind, keep):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encode(noise, kind)
    with pytest.raises(InputError) as error:
        read_image_file(data[: keep if isinstance(keep, int) else int(len(data) * keep)], 'photo')
    assert str(error.value).startswith('photo: ')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [b'', b'hello', b'%PDF-1.4', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'])
def test_what_is_no_image_is_one_line(content):
    with pytest.raises(InputError, match=r'^photo: (is empty|cannot be read as an image)'):
        read_header(content, 'photo')


def test_decompression_bombs_are_refused():
    header = struct.pack('>IIBBBBB', 40000, 40000, 8, 0, 0, 0, 0)
    chunk = struct.pack('>I', 13) + b'IHDR' + header + struct.pack('>I', zlib.crc32(b'IHDR' + header))
    data = b'\x89PNG\r\n\x1a\n' + chunk + struct.pack('>I', 0) + b'IDAT' + struct.pack('>I', zlib.crc32(b'IDAT'))
    with pytest.raises(InputError, match='more than 178 megapixels'):
        read_image_file(data, 'bomb')


def test_limit_holds_while_another_thread_has_lifted_that_of_pillow(monkeypatch):
    data = encode(Image.fromarray(make_pixels()), 'PNG')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    with monkeypatch.context() as patch, pytest.raises(InputError, match=r'in: cannot be read as an image \(more than'):
        patch.setattr('dasr_arch.inference.images.io.MAX_PIXELS', 100)
        read_header(data, 'in')
    grown = [Image.new('RGB', SIZE), Image.new('RGB', (2 * SIZE[0], SIZE[1]))]  # the header is that of the first page
    monkeypatch.setattr('dasr_arch.inference.images.io.MAX_PIXELS', SIZE[0] * SIZE[1])
    with pytest.raises(InputError, match=r'in: cannot be read as an image \(more than'):
        read_image_file(encode(grown[0], 'TIFF', save_all=True, append_images=grown[1:]), 'in')


def test_several_pages_of_16_bits_are_refused():
    stream = BytesIO()
    tifffile.imwrite(stream, np.zeros((2, 16, 24), np.uint16), photometric='minisblack')
    with pytest.raises(InputError, match='several images of 16 bits in one file, expected one'):
        read_image_file(stream.getvalue(), 'in')


def test_failure_of_the_encoder_is_one_line(monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise OSError('encoder error -2 when writing image file')

    file = read_image_file(encode(Image.fromarray(make_pixels()), 'WEBP'), 'in')
    monkeypatch.setattr(Image.Image, 'save', fail)
    with pytest.raises(InputError, match=r'^cannot be written as WEBP \(encoder error -2 .*\); use --format png$'):
        encode_image_file(file.frames, file, OutputSettings())


@pytest.mark.parametrize('mode', ['F', 'I'])
def test_samples_of_thirty_two_bits_are_refused(mode):
    with pytest.raises(InputError, match='samples'):
        read_image_file(encode(Image.new(mode, (4, 4)), 'TIFF'), 'in')


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'WEBP', 'JPEG', 'GIF', 'BMP'])
def test_a_result_may_be_larger_than_what_can_be_upscaled(monkeypatch, kind):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    data = encode(Image.fromarray(make_pixels()), kind)
    with pytest.raises(InputError, match='megapixels'):
        read_header(data, 'in')
    header = read_header(data, 'in', limited=False)
    assert (header.width, header.height) == SIZE
    assert read_image_file(data, 'in', limited=False).frames[0].size == SIZE
    assert Image.MAX_IMAGE_PIXELS == 100


def set_tag(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF of one image, one of whose short tags has another value."""
    changed = bytearray(data)
    (start,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, start)
    places = [start + 2 + 12 * index for index in range(count)]
    (place,) = [place for place in places if struct.unpack_from('<H', data, place)[0] == tag]
    struct.pack_into('<H', changed, place + 8, value)
    return bytes(changed)


def test_grey_of_16_bits_whose_white_is_zero_is_no_negative():
    pixels = make_pixels(1, np.uint16)[..., 0]
    data = set_tag(encode(Image.fromarray(pixels), 'TIFF'), 262, 0)
    assert np.array_equal(read_image_file(data, 'in').frames[0], 65535 - pixels)


def test_colours_of_16_bits_that_were_multiplied_by_alpha_are_divided_by_it():
    pixels = make_pixels(4, np.uint16)
    source = read_image_file(encode(Image.fromarray(make_pixels(4)), 'TIFF'), 'in')
    multiplied = pixels.copy()
    multiplied[..., :3] = pixels[..., :3] * (pixels[..., 3:] / 65535)
    data = set_tag(encode_image_file([multiplied], source, OutputSettings()), 338, 1)
    found = read_image_file(data, 'in').frames[0]
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found[..., 3], pixels[..., 3])
    assert np.abs(found.astype(int) - pixels).max() <= 2


def test_xmp_of_a_tiff_of_8_bits_is_kept():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    out = round_trip(encode(Image.fromarray(make_pixels()), 'TIFF', tiffinfo={700: xmp}))
    assert out.tag_v2[700] == xmp


@pytest.mark.parametrize('profile', [SRGB, b'no profile'])
def test_inks_with_a_profile_of_another_kind_become_colours_without_it(profile):
    image = Image.fromarray(make_pixels()).convert('CMYK')
    out = round_trip(encode(image, 'TIFF', icc_profile=profile), format='PNG')
    assert np.array_equal(np.array(out), np.array(image.convert('RGB')))
    assert 'icc_profile' not in out.info


@pytest.mark.parametrize(('target', 'durations'), [('PNG', [0, 80, 120, 200]), ('WEBP', [80, 120, 200])])
def test_image_that_stands_for_an_animation_is_not_part_of_it(target, durations):
    frames = [Image.fromarray(np.full((16, 24, 3), level, np.uint8)) for level in (10, 60, 110, 160)]
    data = encode(
        frames[0],
        'PNG',
        save_all=True,
        append_images=frames[1:],
        default_image=True,
        duration=[80, 120, 200],
    )
    file = read_image_file(data, 'in')
    assert file.has_default
    out = read_image_file(
        encode_image_file([copy_frame(frame) for frame in file.frames], file, OutputSettings(target)), 'out'
    )
    assert list(out.durations)[-3:] == durations[-3:]
    assert len(out.frames) == len(durations)


@pytest.mark.parametrize('target', ['PNG', 'WEBP'])
def test_gif_that_plays_once_plays_once_in_other_formats(target):
    file = read_image_file(make_animation('GIF', False), 'in')
    assert file.loop is None
    data = encode_image_file([copy_frame(frame) for frame in file.frames], file, OutputSettings(target))
    assert read_image_file(data, 'out').loop == 1


def test_grey_profile_does_not_stay_with_colours():
    grey = bytearray(SRGB)
    grey[16:20] = b'GRAY'
    pixels = make_pixels(3, np.uint16)
    file = read_image_file(encode(Image.fromarray(make_pixels(1)[..., 0]), 'PNG'), 'in')
    file = type(file)(**{**vars(file), 'metadata': type(file.metadata)(icc_profile=bytes(grey))})
    assert b'iCCP' not in encode_image_file([pixels], file, OutputSettings('PNG'))
    assert b'iCCP' in encode_image_file([pixels[..., 0]], file, OutputSettings('PNG'))


def test_frames_that_do_not_fit_in_memory_are_refused_before_they_are_decoded(monkeypatch):
    frames = [Image.new('RGB', (40, 30), (value, 0, 0)) for value in range(20)]
    data = encode(frames[0], 'GIF', save_all=True, append_images=frames[1:], duration=20)
    monkeypatch.setattr('dasr_arch.inference.images.io.available_memory', lambda _: 1_000_000)
    monkeypatch.setattr(Image.Image, 'copy', None)
    with pytest.raises(InputError, match=r'^a\.gif: its 20 frames of 40 x 30 pixels and their x4 take .+; split it$'):
        read_image_file(data, 'a.gif', scale=4)
