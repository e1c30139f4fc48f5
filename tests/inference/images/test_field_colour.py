"""Colour, orientation and metadata of real files survive, are converted, or are named in a note."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from dasr_arch import InputError
from dasr_arch.inference.images.encode import encode_image_file
from dasr_arch.inference.images.image_modes import decompose
from dasr_arch.inference.images.io import OutputSettings, check_output, read_image_file
from dasr_arch.inference.images.metadata import _correct_places
from dasr_arch.inference.images.xmp import correct_xmp

XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" '
    b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" %s>%s</rdf:Description></rdf:RDF></x:xmpmeta>'
    b'<?xpacket end="w"?>'
)


def make_image(mode: str = 'RGB', width: int = 12, height: int = 8) -> Image.Image:
    values = (np.arange(width * height * len(mode)).reshape(height, width, len(mode)) * 7 % 256).astype(np.uint8)
    return Image.fromarray(values[..., 0] if mode == 'L' else values, mode)


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def rewrite(data: bytes, name: str, kind: str | None = None) -> tuple[Image.Image, list[str]]:
    """The file after an upscaling by 1, and the notes."""
    file = read_image_file(data, name, kind=kind)
    settings = OutputSettings(kind)
    notes = check_output(file, settings, 1)
    frames: list[Any] = [decompose(frame).assemble() for frame in file.frames]  # as the upscaler hands them on
    return Image.open(BytesIO(encode_image_file(frames, file, settings))), notes


def add_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    chunk = struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize('entry', ['exif', 'APP1'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_in_a_text_entry_of_a_png(entry: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    exif[271] = 'maker'
    raw = exif.tobytes()
    text = PngInfo()
    text.add_text(f'Raw profile type {entry}', f'\n{entry}\n{len(raw):8}\n{raw.hex()}\n')
    text.add_text('Title', 'kept')
    result, _ = rewrite(save(make_image(), 'PNG', pnginfo=text), 'a.png')
    expected = read_image_file(save(make_image(), 'PNG', exif=exif), 'b.png').frames[0]
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))
    assert result.getexif().get(274, 1) == 1
    assert result.getexif()[271] == 'maker'
    assert set(result.text) == {'Title'}


def test_orientation_in_xmp_is_removed() -> None:
    packet = XMP % (b"tiff:Orientation='6' dc:format='image/jpeg'", b'')
    corrected = correct_xmp(packet, 100, 50, 4)
    assert corrected.packet is not None
    assert b'Orientation' not in corrected.packet
    assert b'image/jpeg' in corrected.packet
    assert corrected.left_out == []


def test_sizes_in_xmp_are_corrected() -> None:
    attributes = b'exif:PixelXDimension="25" GPano:FullPanoWidthPixels="100" GPano:CroppedAreaLeftPixels="3"'
    inside = b'<tiff:ImageLength>12</tiff:ImageLength>'
    packet = correct_xmp(XMP % (attributes, inside), 100, 48, 4).packet or b''
    for text in (b'PixelXDimension="100"', b'FullPanoWidthPixels="400"', b'LeftPixels="12"', b'>48</tiff:ImageLength>'):
        assert text in packet


@pytest.mark.parametrize(
    ('attributes', 'part'),
    [(b'hdrgm:Version="1.0"', 'gain map'), (b'GCamera:MotionPhoto="1"', 'motion photo')],
)
def test_parts_that_are_gone_leave_xmp_and_are_named(attributes: bytes, part: str) -> None:
    data = save(make_image(), 'JPEG', xmp=XMP % (attributes + b' dc:format="image/jpeg"', b''))
    result, notes = rewrite(data, 'a.jpg')
    assert [note for note in notes if part in note and note.endswith('is left out')]
    assert attributes.split(b'=')[0] not in result.info['xmp']
    assert b'image/jpeg' in result.info['xmp']


def test_parts_that_are_elements_leave_xmp_too() -> None:
    packet, left_out = correct_xmp(XMP % (b'', b'<GCamera:MotionPhoto>1</GCamera:MotionPhoto><dc:format/>'), 4, 4, 2)
    assert left_out == ['the motion photo']
    assert packet is not None
    assert b'<dc:format/></rdf:Description>' in packet
    assert b'MotionPhoto' not in packet


REGIONS = (
    b'<mwg-rs:Regions xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" '
    b'xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" rdf:parseType="Resource">'
    b'<mwg-rs:AppliedToDimensions %s</mwg-rs:Regions>'
)


@pytest.mark.parametrize(
    'sides',
    [
        b'stDim:w="12" stDim:h="8" stDim:unit="pixel"/>',
        b'rdf:parseType="Resource"><stDim:w>12</stDim:w><stDim:h>8</stDim:h></mwg-rs:AppliedToDimensions>',
    ],
)
def test_regions_of_xmp_apply_to_the_new_size_or_are_gone_with_the_orientation(sides: bytes) -> None:
    packet = XMP % (b'dc:format="image/jpeg"', REGIONS % sides)
    corrected = (correct_xmp(packet, 24, 16, 2).packet or b'').partition(b'AppliedToDimensions')[2]
    assert b'24' in corrected and b'16' in corrected and b'12' not in corrected
    exif = Image.Exif()
    exif[274] = 6
    result, notes = rewrite(save(make_image(), 'JPEG', xmp=packet, exif=exif), 'a.jpg')
    assert notes == ['regions of the image before it was turned is left out']
    assert b'Regions' not in result.info['xmp']


def test_dynamic_depth_leaves_xmp_and_is_named() -> None:
    inside = b'<D:Container xmlns:D="http://ns.google.com/photos/dd/1.0/device/"/>'
    packet, left_out = correct_xmp(XMP % (b'', inside), 4, 4, 2)
    assert packet is not None and b'Container' not in packet
    assert left_out == ['the depth map']


def test_motion_photo_without_xmp_is_named() -> None:
    data = save(make_image(), 'JPEG') + b'MotionPhoto_Data' + bytes(100)
    assert rewrite(data, 'a.jpg')[1] == ['the motion photo is left out']


@pytest.mark.parametrize('orientation', [1, 3, 6])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_places_of_exif_are_those_of_the_result(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    exif.get_ifd(0x8769).update({37396: (5, 4, 2, 2), 41492: (5, 4), 41486: 100.5, 41487: 50.0, 41488: 2})
    file = read_image_file(save(make_image(), kind, exif=exif), 'a', 2)
    entries = Image.Exif()
    entries.load(file.metadata.exif)
    found = entries.get_ifd(0x8769)
    assert [found.get(37396), found.get(41492)] == ([(10, 8, 4, 4), (10, 8)] if orientation == 1 else [None, None])
    assert (found[41486], found[41487], found[41488]) == ((100, 201, 2) if orientation == 6 else (201, 100, 2))


@pytest.mark.parametrize('value', [(60000, 4), (), 'x'])
def test_places_that_exif_cannot_hold_are_left_out(value: Any) -> None:
    assert _correct_places({37396: value, 41488: 2}, 2, 1) == {41488: 2}


def test_xmp_of_imagemagick_is_named() -> None:
    text = PngInfo()
    text.add_text('Raw profile type xmp', 'xmp 1 3c')
    result, notes = rewrite(save(make_image(), 'PNG', pnginfo=text), 'a.png')
    assert notes == ['XMP in a text entry is left out']
    assert result.text == {}


def test_xmp_in_an_entry_named_as_a_segment_of_jpeg_is_named() -> None:
    text = PngInfo()
    text.add_text('Raw profile type APP1', f'\nAPP1\n  33\n{b"http://ns.adobe.com/xap/1.0/".hex()}\n')
    result, notes = rewrite(save(make_image(), 'PNG', pnginfo=text), 'a.png')
    assert notes == ['XMP in a text entry is left out']
    assert result.text == {}


def test_xmp_of_a_png_is_no_text_that_a_jpeg_loses() -> None:
    text = PngInfo()
    text.add_itxt('XML:com.adobe.xmp', (XMP % (b'dc:format="image/png"', b'')).decode())
    result, notes = rewrite(save(make_image(), 'PNG', pnginfo=text), 'a.png', 'JPEG')
    assert notes == []
    assert b'image/jpeg' in result.info['xmp']


def test_xmp_in_which_all_is_true_keeps_its_bytes() -> None:
    packet = XMP % (b'dc:format="image/png"', b'')
    assert correct_xmp(packet, 4, 4, 2) == (packet, [])


AREA = (
    b'<r:Area xmlns:r="http://www.metadataworkinggroup.com/schemas/regions/" xmlns:a="http://ns.adobe.com/xmp/sType/'
    b'Area#" %s/>'
)
BOUNDARY = (
    b'<i:RegionBoundary xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" rdf:parseType="Resource">'
    b'<i:rbUnit>%s</i:rbUnit><i:rbVertices><rdf:Seq><rdf:li rdf:parseType="Resource"><i:rbX>%s</i:rbX></rdf:li>'
    b'</rdf:Seq></i:rbVertices></i:RegionBoundary>'
)
SUBJECT = b'<exif:SubjectArea><rdf:Seq><rdf:li>%s</rdf:li></rdf:Seq></exif:SubjectArea>'


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        (AREA % b'a:x="12" a:w="2.5" a:unit="pixel"', AREA % b'a:x="36" a:w="7.5" a:unit="pixel"'),
        (AREA % b'a:x="0.5" a:w="1" a:unit="normalized"', None),
        (BOUNDARY % (b'pixel', b'3'), BOUNDARY % (b'pixel', b'9')),
        (BOUNDARY % (b'relative', b'1'), None),
        (SUBJECT % b'12', SUBJECT % b'36'),
        (b'<dc:subject><rdf:Bag><rdf:li>2026</rdf:li></rdf:Bag></dc:subject>', None),
    ],
    ids=['pixels', 'normalised', 'pixels of IPTC', 'relative', 'subject', 'keyword'],
)
def test_places_in_pixels_are_multiplied(before: bytes, after: bytes | None) -> None:
    packet, left_out = correct_xmp(XMP % (b'', before), 36, 24, 3)
    assert packet is not None and left_out == []
    assert (before if after is None else after) in packet


@pytest.mark.parametrize(
    ('kind', 'media_type'), [('PNG', b'image/png'), ('JPEG', b'image/jpeg'), (None, b'image/jpeg')]
)
def test_the_media_type_is_that_of_the_result(kind: str | None, media_type: bytes) -> None:
    data = save(make_image(), 'JPEG', xmp=XMP % (b'dc:format="image/jpeg" dc:source="a"', b''))
    packet = read_image_file(data, 'a.jpg', kind=kind).metadata.xmp
    assert packet is not None
    assert b'dc:format="%s"' % media_type in packet and b'dc:source="a"' in packet


@pytest.mark.parametrize('packet', [b'<x', b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b'\xff\xfe'])
def test_xmp_that_cannot_be_read_is_left_out(packet: bytes) -> None:
    assert correct_xmp(packet, 4, 4, 2) == (None, ['XMP that cannot be read'])


@pytest.mark.parametrize('codes', [(9, 16, 0, 1), (12, 13, 0, 1), (1, 13, 0, 0)], ids=['PQ', 'P3', 'levels of video'])
def test_colour_codes_of_a_png_are_kept_or_refused(codes: tuple[int, ...]) -> None:
    png = save(make_image(), 'PNG')
    for name, content in ((b'cLLI', bytes(8)), (b'mDCV', bytes(24)), (b'cICP', bytes(codes))):
        png = add_chunk(png, name, content)
    file = read_image_file(png, 'a.png')
    kept = encode_image_file(list(file.frames), file, OutputSettings())
    for name in (b'cICP' + bytes(codes), b'mDCV', b'cLLI'):
        assert name in kept
    for kind in ('JPEG', 'WEBP', 'TIFF', 'BMP'):
        with pytest.raises(InputError, match='--format png'):
            check_output(file, OutputSettings(kind), 1)


def test_hdr_codes_of_a_png_count_more_than_its_profile() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    png = save(make_image(), 'PNG', icc_profile=profile)
    wide = read_image_file(add_chunk(png, b'cICP', bytes((12, 13, 0, 1))), 'a.png')
    assert check_output(wide, OutputSettings('JPEG'), 1) == []
    with pytest.raises(InputError, match=r'HDR \(PQ\).*--format png'):
        check_output(read_image_file(add_chunk(png, b'cICP', bytes((9, 16, 0, 1))), 'a.png'), OutputSettings('JPEG'), 1)


@pytest.mark.parametrize('codes', [(1, 13, 0, 1), (1, 2, 0, 1), (2, 13, 0, 1), (2, 2, 0, 1)])
def test_colour_codes_of_srgb_may_become_any_format(codes: tuple[int, ...]) -> None:
    png = add_chunk(save(make_image(), 'PNG'), b'cICP', bytes(codes))
    assert check_output(read_image_file(png, 'a.png'), OutputSettings('JPEG'), 1) == []


def test_a_profile_too_long_for_jpeg_is_applied() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    for length, lost in ((255 * 65519, False), (255 * 65519 + 1, True)):
        profile = length.to_bytes(4, 'big') + srgb[4:] + bytes(length - len(srgb))
        result, notes = rewrite(save(make_image(), 'TIFF', icc_profile=profile), 'a.tiff', 'JPEG')
        assert notes == (['colour is converted to sRGB: JPEG holds no profile of more than 16 MB'] if lost else [])
        assert result.info.get('icc_profile') == (None if lost else profile)


@pytest.mark.parametrize('kind', ['BMP', 'GIF'])
def test_a_profile_that_the_format_cannot_hold_is_applied(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes()
    assert profile  # Pillow makes no other RGB profile than sRGB; one with swapped primaries is made from it below
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes())
    places = {}
    for index in range(int.from_bytes(srgb[128:132], 'big')):
        start = 132 + 12 * index
        places[bytes(srgb[start : start + 4])] = start
    red, green = places[b'rXYZ'], places[b'gXYZ']
    srgb[red : red + 4], srgb[green : green + 4] = b'gXYZ', b'rXYZ'
    flat = Image.new('RGB', (16, 16), (200, 40, 40))
    result, notes = rewrite(save(flat, 'PNG', icc_profile=bytes(srgb)), 'a.png', kind)
    assert notes[-1] == f'colour is converted to sRGB: {kind} holds no profile'
    shown = np.asarray(result.convert('RGB'))[4, 4]
    assert shown[1] > 180 and shown[0] < 60


@pytest.mark.parametrize('kind', ['BMP', 'GIF'])
def test_a_damaged_profile_that_the_format_cannot_hold_is_left_out(kind: str) -> None:
    whole = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    flat = Image.new('RGB', (16, 16), (200, 40, 40))
    result, notes = rewrite(save(flat, 'PNG', icc_profile=whole[:100]), 'a.png', kind)
    assert notes[-1] == f'the damaged profile is left out: {kind} holds no profile'
    assert np.asarray(result.convert('RGB'))[4, 4] == pytest.approx([200, 40, 40], abs=4)


def test_gamma_that_the_format_cannot_hold_is_applied() -> None:
    flat = Image.new('RGB', (16, 16), (128, 128, 128))
    linear = add_chunk(save(flat, 'PNG'), b'gAMA', struct.pack('>I', 100000))
    result, notes = rewrite(linear, 'a.png', 'JPEG')
    assert notes == ['colour is converted to sRGB: JPEG holds no gamma']
    assert abs(int(np.asarray(result)[4, 4, 0]) - 188) <= 1  # 0.502 linear is 0.735 in sRGB
    usual = add_chunk(save(flat, 'PNG'), b'gAMA', struct.pack('>I', 45455))
    assert rewrite(usual, 'a.png', 'JPEG')[1] == []


def test_frames_of_a_gif_that_are_cleared_become_transparent() -> None:
    background = Image.new('RGB', (20, 16), (250, 10, 10))
    square = Image.new('RGBA', (20, 16), (0, 0, 0, 0))
    square.paste((0, 0, 255, 255), (4, 4, 12, 12))
    data = save(
        background, 'GIF', save_all=True, append_images=[square, square], disposal=[2, 2, 2], duration=100, loop=0
    )
    frames = [np.asarray(frame.convert('RGBA')) for frame in read_image_file(data, 'a.gif').frames]  # type: ignore[union-attr]
    assert (frames[0][..., 3] == 255).all()
    assert (frames[1][0, 0, 3], tuple(frames[1][8, 8, :3])) == (0, (0, 0, 255))
    assert frames[1][..., 3].sum() == 64 * 255


def test_frames_of_a_gif_that_restore_what_was_there() -> None:
    frames = [Image.new('RGB', (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    data = save(frames[0], 'GIF', save_all=True, append_images=frames[1:], disposal=[0, 3, 0], duration=50)
    colours = [np.asarray(frame)[0, 0].tolist() for frame in read_image_file(data, 'a.gif').frames]
    assert colours == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize(('left', 'top', 'across', 'down'), [(4, 4, 4, 8), (0, 0, 12, 4), (0, 0, 12, 16)])
def test_what_a_single_frame_of_a_gif_leaves_free_is_transparent(left: int, top: int, across: int, down: int) -> None:
    data = bytearray(save(Image.new('RGB', (across, down), (250, 10, 10)), 'GIF'))
    data[6:10] = struct.pack('<HH', 12, 16)
    frame = data.index(b',', 13 + 3 * 2)
    data[frame + 1 : frame + 5] = struct.pack('<HH', left, top)
    result, _ = rewrite(bytes(data), 'a.gif', 'PNG')
    pixels = np.asarray(result.convert('RGBA'))
    inside = np.zeros((16, 12), bool)
    inside[top : top + down, left : left + across] = True
    assert np.array_equal(pixels[..., 3] == 255, inside)
    assert (pixels[inside] == (250, 10, 10, 255)).all()
    assert (result.mode == 'RGB') == inside.all()


def test_blocks_that_no_gif_has_are_damage() -> None:
    frames = [Image.new('RGB', (8, 8), (80 * index, 0, 0)) for index in range(3)]
    data = save(frames[0], 'GIF', save_all=True, append_images=frames[1:], loop=0, disposal=2)
    second = data.index(b'!\xf9', data.index(b'!\xf9') + 2)
    for between in (b'!\0\0', b'\x05'):  # an extension of no bytes, after which Pillow loses a frame; no block at all
        with pytest.raises(InputError, match=r'a\.gif: cannot be read as an image \(damaged GIF\)'):
            read_image_file(data[:second] + between + data[second + 8 :], 'a.gif')  # in place of a frame's control


def test_text_of_megabytes_is_read() -> None:
    text = PngInfo()
    text.add_text('workflow', 'x' * (3 << 20), zip=True)
    result, _ = rewrite(save(make_image(), 'PNG', pnginfo=text), 'a.png')
    assert len(result.text['workflow']) == 3 << 20


@pytest.mark.parametrize(('name', 'kind'), [('EXIF', 'PNG'), ('XMP', 'WEBP'), ('the comment', 'GIF')])
def test_metadata_too_long_for_jpeg_is_left_out_and_named(name: str, kind: str) -> None:
    exif = Image.Exif()
    exif[270] = 'x' * 70000
    options = {
        'EXIF': {'exif': exif},
        'XMP': {'xmp': XMP % (b'dc:format="' + b'x' * 70000 + b'"', b'')},
        'the comment': {'comment': b'x' * 70000},
    }[name]
    result, notes = rewrite(save(make_image(), kind, **options), 'a', 'JPEG')
    assert f'{name} is left out: JPEG cannot hold it' in notes
    assert result.format == 'JPEG'


@pytest.mark.parametrize(('tag', 'kind'), [(263, 1), (269, 5), (286, 1)])
def test_malformed_exif_is_left_out_and_named(tag: int, kind: int) -> None:
    """A tag of a type that it never has, which Pillow reads and does not write."""
    entry = struct.pack('<HHIIxxxx', tag, kind, 2, 26)
    exif = b'Exif\0\0II*\0\x08\0\0\0\x01\0' + entry + b'\x01\0\0\0' * 4
    result, notes = rewrite(save(make_image(), 'JPEG', exif=exif), 'a.jpg')
    assert notes == ['EXIF that cannot be read is left out']
    assert dict(result.getexif()) == {}


def test_iptc_of_a_jpeg_is_kept_and_named_where_it_is_not() -> None:
    iptc = b'\x1c\x02\x78\x00\x07caption'
    segment = b'Photoshop 3.0\x008BIM\x04\x04\0\0' + len(iptc).to_bytes(4, 'big') + iptc + b'\0' * (len(iptc) % 2)
    data = save(make_image(), 'JPEG', extra=b'\xff\xed' + (len(segment) + 2).to_bytes(2, 'big') + segment)
    result, notes = rewrite(data, 'a.jpg')
    assert notes == []
    assert result.info['photoshop'][0x0404] == iptc
    assert rewrite(data, 'a.jpg', 'PNG')[1] == ['IPTC is left out: PNG cannot hold it']


def test_a_corrected_packet_stays_a_packet() -> None:
    packet = correct_xmp(XMP % (b'tiff:Orientation="6"', b''), 4, 4, 2).packet or b''
    assert packet.startswith(b'<?xpacket begin')
    assert packet.endswith(b'<?xpacket end="w"?>')
