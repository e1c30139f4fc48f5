"""The table of docs/upscaler.md: every property is kept, converted, or left out with a note before the work."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from dasr_arch.inference.images.io import FORMATS
from tests.data.test_high_bit_depth import make_tiff
from tests.inference.images.test_field_colour import XMP, make_image, rewrite

DOCS = Path(__file__).parents[3] / 'docs' / 'upscaler.md'
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
IPTC = b'\x1c\x02\x78\x00\x07caption'
PACKET = XMP % (b'dc:format="image/png"', b'')
PROPERTIES = ('colour profile', 'EXIF', 'XMP', 'IPTC', 'text', 'resolution')
NOTES = {
    'colour profile': 'colour is converted to sRGB',
    'EXIF': 'EXIF is left out',
    'XMP': 'XMP is left out',
    'IPTC': 'IPTC is left out',
    'text': 'is left out',
    'resolution': 'the resolution is left out',
}


def read_table() -> dict[str, dict[str, str]]:
    """The rows of the table by property, with a cell for each format."""
    lines = DOCS.read_text(encoding='utf-8').splitlines()
    start = lines.index(next(line for line in lines if line.startswith('| Property | PNG |')))
    head = [cell.strip() for cell in lines[start].strip('|').split('|')][1:]
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith('|'):
            break
        name, *cells = (cell.strip() for cell in line.strip('|').split('|'))
        rows[name] = dict(zip(head, cells, strict=True))
    return rows


def make_file(kind: str) -> tuple[bytes, set[str]]:
    """A file with all that its format can hold, and the names of these properties."""
    exif = Image.Exif()
    exif[271] = 'maker'
    segment = b'Photoshop 3.0\x008BIM\x04\x04\0\0' + len(IPTC).to_bytes(4, 'big') + IPTC + b'\0' * (len(IPTC) % 2)
    text = PngInfo()
    text.add_text('Title', 'kept')
    text.add_itxt('XML:com.adobe.xmp', PACKET.decode())
    options: dict[str, dict[str, Any]] = {
        'PNG': {'pnginfo': text, 'exif': exif, 'icc_profile': PROFILE, 'dpi': (300, 300)},
        'JPEG': {
            'exif': exif,
            'icc_profile': PROFILE,
            'dpi': (300, 300),
            'xmp': PACKET,
            'comment': 'kept',
            'extra': b'\xff\xed' + (len(segment) + 2).to_bytes(2, 'big') + segment,
        },
        'WEBP': {'exif': exif, 'icc_profile': PROFILE, 'xmp': PACKET, 'lossless': True},
        'AVIF': {'exif': exif, 'icc_profile': PROFILE, 'xmp': PACKET},
        'TIFF': {'icc_profile': PROFILE, 'dpi': (300, 300), 'tiffinfo': {270: 'kept', 271: 'maker', 700: PACKET}},
        'GIF': {'comment': b'kept'},
        'BMP': {'dpi': (300, 300)},
    }
    stream = BytesIO()
    make_image().save(stream, kind, **options[kind])
    held = {
        'PNG': {'colour profile', 'EXIF', 'XMP', 'text', 'resolution'},
        'JPEG': set(PROPERTIES),
        'WEBP': {'colour profile', 'EXIF', 'XMP'},
        'AVIF': {'colour profile', 'EXIF', 'XMP'},
        'TIFF': {'colour profile', 'EXIF', 'XMP', 'text', 'resolution'},
        'GIF': {'text'},
        'BMP': {'resolution'},
    }
    return stream.getvalue(), held[kind]


def find(result: Image.Image) -> set[str]:
    """The properties of a file."""
    info, exif = result.info, result.getexif()
    texts = (info.get('comment'), info.get('Title'), exif.get(270))
    found = {
        'colour profile': info.get('icc_profile') == PROFILE,
        'EXIF': exif.get(271) == 'maker',
        'XMP': bool(info.get('xmp') or info.get('XML:com.adobe.xmp')),
        'IPTC': info.get('photoshop', {}).get(0x0404) == IPTC if result.format == 'JPEG' else False,
        'text': any(text in ('kept', b'kept') for text in texts),
        'resolution': abs(float(info.get('dpi', (0, 0))[0]) - 300) < 1,
    }
    return {name for name, there in found.items() if there}


@pytest.mark.parametrize('target', FORMATS)
@pytest.mark.parametrize('source', FORMATS)
def test_nothing_is_lost_without_a_note(source: str, target: str) -> None:
    data, held = make_file(source)
    assert held <= find(Image.open(BytesIO(data)))
    result, notes = rewrite(data, f'a.{source.lower()}', target)
    kept = find(result)
    for name in held - kept:
        assert [note for note in notes if NOTES[name] in note], f'{name} is lost: {notes}'
    if source == target:
        assert held == kept
        assert notes == []


@pytest.mark.parametrize('kind', FORMATS)
def test_cells_of_the_manual_are_what_a_file_of_all_properties_shows(kind: str) -> None:
    table = read_table()
    data, held = make_file('JPEG')
    result, notes = rewrite(data, 'a.jpg', kind)
    kept = find(result)
    for name in sorted(held):
        expected = 'kept' if name in kept else 'converted' if name == 'colour profile' else 'left out'
        assert table[name][kind] == expected, (name, kind, notes)


@pytest.mark.parametrize('kind', FORMATS)
def test_depth_transparency_and_frames_of_the_manual(kind: str) -> None:
    table = read_table()
    _, notes = rewrite(make_tiff(np.full((6, 5, 3), 1234, np.uint16)), 'a.tif', kind)
    for name, note in (('16 bits', 'rounded to 8'), ('colours', 'reduced to 256')):
        assert table[name][kind] == ('converted' if note in ' '.join(notes) else 'kept')
    for name, data in (('transparency', _save(make_image('RGBA'), 'PNG')), ('frames', _animation())):
        try:
            notes = rewrite(data, 'a.png', kind)[1]
            outcome = 'converted' if 'transparent or opaque' in ' '.join(notes) else 'kept'
            assert all('256' in note for note in notes)
        except ValueError:
            outcome = 'refused'
        assert table[name][kind] == outcome, (name, kind)


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _animation() -> bytes:
    frames = [Image.new('RGB', (8, 6), (value, 0, 0)) for value in (10, 200)]
    return _save(frames[0], 'PNG', save_all=True, append_images=frames[1:], duration=50)
