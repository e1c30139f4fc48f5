"""Colour that is not in a profile: tags of TIFF, codes of AVIF, gamma of PNG, and grey profiles of colour formats."""

import struct
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin, features

from dasr_arch import InputError
from dasr_arch.data.image_io import read_cicp
from dasr_arch.inference.images.colour import is_other_than_srgb, make_png_profile
from dasr_arch.inference.images.encode import encode_image_file
from dasr_arch.inference.images.io import OutputSettings, check_output, read_image_file
from dasr_arch.inference.images.metadata import read_metadata
from tests.data.test_high_bit_depth import make_png, make_tiff
from tests.inference.images.test_field_colour import add_chunk, make_image, rewrite, save

WHITE = (0.3127, 0.3290)
ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
LINEAR = tuple(round(65535 * value / 255) for value in range(256))
needs_avif = pytest.mark.skipif(not features.check('avif'), reason='this Pillow has no AVIF')


def write_tiff(image: Image.Image, tags: dict[int, tuple[int, Any]], **options: Any) -> bytes:
    """A TIFF with tags, each a type and a value."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, (kind, value) in tags.items():
        info.tagtype[tag] = kind
        info[tag] = value
    return save(image, 'TIFF', tiffinfo=info, **options)


def colour_tags(primaries: tuple[float, ...] | None = None, curves: tuple[int, ...] | None = None) -> dict[int, Any]:
    tags: dict[int, Any] = {} if primaries is None else {318: (5, WHITE), 319: (5, primaries)}
    return tags if curves is None else tags | {301: (3, curves)}


def show(image: Image.Image) -> list[int]:
    """The first pixel as a viewer shows it: in sRGB, with the profile applied."""
    colours = image.convert('RGB') if image.mode not in ('L', 'RGB') else image
    profile = image.info.get('icc_profile')
    if profile:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        colours = ImageCms.profileToProfile(colours, source, ImageCms.createProfile('sRGB'), outputMode='RGB')
    return np.asarray(colours.convert('RGB'))[0, 0].tolist()


@pytest.mark.parametrize('kind', ['TIFF', 'PNG', 'JPEG', 'WEBP', 'BMP'])
def test_primaries_of_a_tiff_are_kept_as_a_profile_or_converted(kind: str) -> None:
    flat = Image.new('RGB', (16, 16), (100, 180, 60))
    result, notes = rewrite(write_tiff(flat, colour_tags(ADOBE)), 'a.tif', kind)
    # Adobe RGB to sRGB: linear (0.128, 0.465, 0.041) becomes (0, 0.465, 0.023)
    assert show(result) == pytest.approx([0, 182, 42], abs=4)
    assert notes == (['colour is converted to sRGB: BMP holds no profile'] if kind == 'BMP' else [])
    if kind in ('TIFF', 'PNG'):
        assert np.asarray(result)[0, 0].tolist() == [100, 180, 60]


@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize('kind', ['TIFF', 'PNG', 'JPEG', 'WEBP', 'BMP'])
def test_transfer_function_of_a_tiff_is_kept_as_a_profile_or_converted(kind: str, mode: str) -> None:
    flat = Image.new(mode, (16, 16), 128 if mode == 'L' else (128, 128, 128))
    result, _ = rewrite(write_tiff(flat, colour_tags(None, LINEAR)), 'a.tif', kind)
    assert show(result) == pytest.approx([188] * 3, abs=1)  # 0.502 linear is 0.735 in sRGB


@pytest.mark.parametrize('mode', ['RGB', 'RGBA'])
def test_three_transfer_functions_belong_to_the_channels(mode: str) -> None:
    gamma = tuple(round(65535 * (value / 255) ** 2.2) for value in range(256))
    flat = Image.new(mode, (16, 16), (128, 128, 128, 255)[: len(mode)])
    result, _ = rewrite(write_tiff(flat, colour_tags(None, LINEAR + gamma + gamma)), 'a.tif', 'PNG')
    assert show(result) == pytest.approx([188, 128, 128], abs=1)


@pytest.mark.parametrize(
    'tags',
    [
        colour_tags(SRGB),
        colour_tags(SRGB, tuple(round(65535 * (value / 255) ** 2.2) for value in range(256))),
        colour_tags((0.0,) * 6),
        colour_tags(None, LINEAR[:200]),
        {319: (5, (0.3, 0.3))},
    ],
    ids=['sRGB', 'gamma 2.2', 'zeros', 'short', 'few'],
)
def test_tags_of_srgb_and_damaged_ones_add_no_profile(tags: dict[int, Any]) -> None:
    data = write_tiff(make_image(), tags)
    assert read_image_file(data, 'a.tif').metadata.icc_profile is None
    assert rewrite(data, 'a.tif', 'BMP')[1] == []


def test_a_profile_counts_more_than_the_tags() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    data = write_tiff(make_image(), colour_tags(ADOBE), icc_profile=profile)
    assert read_image_file(data, 'a.tif').metadata.icc_profile == profile


@pytest.mark.parametrize('kind', ['TIFF', 'PNG'])
def test_16_bits_keep_their_numbers_and_get_the_profile(kind: str) -> None:
    samples = np.full((8, 8, 3), (25700, 46260, 15420), np.uint16)
    rational = [number for value in (*WHITE, *ADOBE) for number in (round(value * 10000), 10000)]
    tags = [(318, 5, 2, tuple(rational[:4]), True), (319, 5, 6, tuple(rational[4:]), True)]
    file = read_image_file(make_tiff(samples, extratags=tags), 'a.tif')
    data = encode_image_file(list(file.frames), file, OutputSettings(kind))
    again = read_image_file(data, 'b')
    np.testing.assert_array_equal(again.frames[0], samples)
    shown = Image.new('RGB', (1, 1), (100, 180, 60))
    shown.info['icc_profile'] = again.metadata.icc_profile
    assert show(shown) == pytest.approx([0, 182, 42], abs=4)


def test_gamma_of_a_deep_png_becomes_a_profile_of_a_tiff() -> None:
    samples = np.full((8, 8, 3), 32896, np.uint16)
    data = add_chunk(make_png(samples, 2), b'gAMA', struct.pack('>I', 100000))
    file = read_image_file(data, 'a.png')
    assert check_output(file, OutputSettings('TIFF'), 1) == []
    again = read_image_file(encode_image_file(list(file.frames), file, OutputSettings('TIFF')), 'b.tif')
    np.testing.assert_array_equal(again.frames[0], samples)
    shown = Image.new('RGB', (1, 1), (128, 128, 128))
    shown.info['icc_profile'] = again.metadata.icc_profile
    assert show(shown) == pytest.approx([188] * 3, abs=1)


@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_gamma_is_converted_in_the_mode_of_the_image(mode: str) -> None:
    flat = Image.new(mode, (16, 16), 128 if mode == 'L' else (128, 128, 128))
    result, _ = rewrite(add_chunk(save(flat, 'PNG'), b'gAMA', struct.pack('>I', 100000)), 'a.png', 'JPEG')
    assert result.mode == mode
    assert show(result) == pytest.approx([188] * 3, abs=1)


@pytest.mark.parametrize('kind', ['WEBP', pytest.param('AVIF', marks=needs_avif)])
@pytest.mark.parametrize('mode', ['L', 'LA'])
def test_a_grey_profile_is_converted_where_grey_is_stored_as_colour(kind: str, mode: str) -> None:
    grey = make_png_profile({'gamma': 1.0}, True)
    flat = Image.new(mode, (16, 16), 128 if mode == 'L' else (128, 255))
    result, notes = rewrite(save(flat, 'PNG', icc_profile=grey), 'a.png', kind)
    assert notes == [f'colour is converted to sRGB: {kind} holds no profile of grey']
    assert not result.info.get('icc_profile')
    assert show(result) == pytest.approx([188] * 3, abs=2)
    assert rewrite(save(flat, 'PNG', icc_profile=grey), 'a.png', 'PNG')[0].info['icc_profile'] == grey


@needs_avif
@pytest.mark.parametrize(
    ('codes', 'name'),
    [((9, 16), 'HDR (PQ)'), ((9, 18), 'HDR (HLG)'), ((9, 14), 'wide gamut'), ((12, 13), 'wide gamut')],
    ids=['PQ', 'HLG', 'BT.2020', 'P3'],
)
def test_colour_codes_of_an_avif_become_those_of_a_png_or_are_refused(codes: tuple[int, int], name: str) -> None:
    data = bytearray(save(make_image(), 'AVIF'))
    place = data.index(b'colrnclx') + 8
    struct.pack_into('>HH', data, place, *codes)
    file = read_image_file(bytes(data), 'a.avif')
    for kind in ('AVIF', 'JPEG', 'WEBP', 'TIFF', 'BMP', 'GIF'):
        with pytest.raises(InputError, match=rf'has the colour {name[:3]}.*--format png'):
            check_output(file, OutputSettings(kind), 1)
    png = encode_image_file(list(file.frames), file, OutputSettings('PNG'))
    assert b'cICP' + bytes((*codes, 0, 1)) in png


@needs_avif
def test_the_gain_map_of_an_avif_is_named() -> None:
    data = save(make_image(), 'AVIF')
    assert rewrite(data, 'a.avif', 'PNG')[1] == []
    branded = data.replace(b'MA1B', b'tmap', 1)  # the decoder refuses the brand without a gain map
    assert branded != data
    with Image.open(BytesIO(data)) as image:
        image.load()
        assert read_metadata(branded, image, image, 1).notes == ('the gain map (HDR)',)


@needs_avif
def test_depth_of_an_avif_is_named() -> None:
    deep = imagecodecs.avif_encode(np.zeros((16, 24, 3), np.uint16), bitspersample=10)
    assert rewrite(bytes(deep), 'a.avif', 'PNG')[1] == ['the depth beyond 8 bits is left out']


def test_codes_that_are_cut_off_are_none() -> None:
    assert read_cicp(b'colrnclx\0\x09\0\x10\0', 'AVIF') == (None, {})


@pytest.mark.parametrize('png', [{'srgb': 0, 'gamma': 1.0}, {'gamma': 0.0}, {'chromaticity': (0.0,) * 8}])
def test_gamma_that_is_overruled_or_damaged_counts_for_nothing(png: dict[str, Any]) -> None:
    assert not is_other_than_srgb(png)


def test_colour_of_cameras_stays_in_exif() -> None:
    exif = Image.Exif()
    exif[318], exif[319] = WHITE, ADOBE
    inner = exif.get_ifd(0x8769)
    inner[0xA001] = 65535
    result, notes = rewrite(save(make_image(), 'JPEG', exif=exif), 'a.jpg')
    assert notes == []
    assert [float(value) for value in result.getexif()[319]] == pytest.approx(ADOBE)
    assert result.getexif().get_ifd(0x8769)[0xA001] == 65535
