"""Metadata of image files: reading, and writing into the file of the upscaled image."""

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

from PIL import Image, TiffTags
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from dasr_arch.data.image_io import CICP, RAW_APP1, RAW_EXIF, is_raw_exif, read_cicp
from dasr_arch.inference.images.colour import read_tiff_colour
from dasr_arch.inference.images.xmp import correct_xmp
from dasr_arch.inference.target_size import Scale, resize

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
INTEROPERABILITY = 0xA005
"""Tag of the directory inside EXIF that tells the rules a camera followed."""

_EXIF_WIDTH, _EXIF_HEIGHT = 40962, 40963
_SUBJECTS = (37396, 41492)  # area and location, in pixels
_FOCAL_PLANE = (41486, 41487)  # pixels across and down on a unit of the sensor
_SHORT = 65535  # largest number of a place
_QUARTER = 5  # least orientation that turns width into height
_ORIENTATION, _SAMPLES, _RESOLUTION, _RESOLUTION_UNIT = 274, 277, 282, 296
# Tags of the first directory that describe the storage of pixels, which the writer sets, or have their own field here.
_STORAGE_TAGS = frozenset((*range(254, 260), 262, 266, 273, _ORIENTATION, 277, 278, 279, 282, 283, 284, 288, 289, 292))
_STORAGE_TAGS |= frozenset(
    (293, 296, 317, *range(320, 326), 330, 332, 338, 339, 340, 341, 347, *range(512, 533), 700, 34675)
)
_NAMED_TAGS = {  # of programs, for pixels, places or offsets of the old file, by the name in notes
    'the georeference': (33550, 33922, 34264, 34735, 34736, 34737),  # of GeoTIFF
    'IPTC': (33723,),
    'the block of Photoshop resources': (34377,),
    'the Photoshop document with its layers': (37724,),
    'the metadata of ImageJ': (50838, 50839),
}
_STORAGE_TAGS = _STORAGE_TAGS.union(*_NAMED_TAGS.values())
_TIFF_COLOUR = frozenset((301, 318, 319))  # transfer functions, white point and primaries, which become a profile
_USER_COMMENT = 0x9286
for _tag in (0x9101, 0x927C, _USER_COMMENT, 0xA300, 0xA301):  # Pillow would write them, such as maker notes, as BYTE
    TiffTags.TAGS_V2_GROUPS[EXIF_IFD][_tag] = TiffTags.TagInfo(_tag, type=TiffTags.UNDEFINED, length=1)
_DESCRIPTION = 270
_SIZED = re.compile(r'\{"shape"|.*<OME\b', re.DOTALL)  # descriptions by tifffile, and of OME-TIFF: sizes of the image
_XMP_TEXT = 'XML:com.adobe.xmp'
_RAW_XMP = 'Raw profile type xmp'
_SUPERSEDED = (_XMP_TEXT, RAW_EXIF, RAW_APP1, _RAW_XMP, 'exif:Orientation', 'tiff:Orientation')
_SEGMENT = 65533  # bytes of a segment of a JPEG
_IPTC = 0x0404  # Photoshop's resource
_HOLDERS = {  # label and formats of each part
    'exif': ('EXIF', ('JPEG', 'PNG', 'TIFF', 'WEBP', 'AVIF')),
    'xmp': ('XMP', ('JPEG', 'PNG', 'TIFF', 'WEBP', 'AVIF')),
    'photoshop': ('IPTC', ('JPEG',)),
    'text': ('the text', ('PNG',)),
    'comment': ('the comment', ('JPEG', 'GIF')),
    'dpi': ('the resolution', ('JPEG', 'PNG', 'TIFF', 'BMP')),
}


@dataclass(frozen=True)
class Metadata:
    """Metadata that is kept."""

    icc_profile: bytes | None = None  # colour profile
    exif: bytes | None = None  # without orientation and thumbnail, which no longer apply
    xmp: bytes | None = None  # XML packet
    dpi: tuple[float, float] | None = None  # horizontal and vertical pixels per inch
    comment: bytes | None = None  # of a JPEG or GIF
    text: dict[str, str] = field(default_factory=dict)  # text entries of a PNG
    png: dict[str, Any] = field(default_factory=dict)  # gamma, chromaticity, rendering intent; only without a profile
    cicp: CICP | None = None  # video colour, if it is not sRGB
    cicp_chunks: dict[bytes, bytes] = field(default_factory=dict)  # cICP, mDCV and cLLI of a PNG
    photoshop: bytes | None = None  # APP13 of a JPEG, with IPTC
    notes: tuple[str, ...] = ()  # what is left out in any format

    def find_losses(self, kind: str) -> list[str]:
        """Labels of the parts that a format cannot hold and that are left out, for notes."""
        return [label for name, (label, _) in _HOLDERS.items() if getattr(self, name) and not self._fits(name, kind)]

    def options(self, kind: str) -> dict[str, Any]:
        """Arguments of Pillow's ``save`` for a format such as 'JPEG'; EXIF and XMP of a TIFF are added afterwards."""
        names = ('dpi', 'comment') if kind == 'TIFF' else ('exif', 'xmp', 'dpi', 'comment')
        given: dict[str, Any] = {name: getattr(self, name) for name in names if self._fits(name, kind)}
        given['icc_profile'] = self.icc_profile
        if kind == 'JPEG' and self.photoshop is not None:
            given['extra'] = b'\xff\xed' + (len(self.photoshop) + 2).to_bytes(2, 'big') + self.photoshop
        if kind == 'PNG':
            given |= {'xmp': None, 'pnginfo': self._png_info()}
        return {key: value for key, value in given.items() if value}

    def _fits(self, name: str, kind: str) -> bool:
        limits = {'exif': _SEGMENT, 'xmp': _SEGMENT - 29, 'comment': _SEGMENT} if kind == 'JPEG' else {}
        return kind in _HOLDERS[name][1] and (name not in limits or len(getattr(self, name) or b'') <= limits[name])

    def _png_info(self) -> PngInfo:
        info = PngInfo()
        for key, value in self.text.items():
            info.add_text(key, value)  # as iTXt if it is not Latin-1
        if self.xmp:
            info.add_itxt(_XMP_TEXT, self.xmp.decode('utf-8', 'replace'))
        if not self.icc_profile:
            for name, data in self._png_colour_chunks():
                info.add(name, data)
        return info

    def _png_colour_chunks(self) -> Iterator[tuple[bytes, bytes]]:
        if 'srgb' in self.png:
            yield b'sRGB', bytes([self.png['srgb']])
        if 'gamma' in self.png:
            yield b'gAMA', round(self.png['gamma'] * 100000).to_bytes(4, 'big')
        if 'chromaticity' in self.png:
            yield b'cHRM', b''.join(round(value * 100000).to_bytes(4, 'big') for value in self.png['chromaticity'])


def read_metadata(
    data: bytes,
    image: Image.Image,
    upright: Image.Image,
    scale: Scale,
    orientation: int = 1,
    result_kind: str | None = None,
) -> Metadata:
    """Reads the metadata of a file and its loaded Pillow image; image sizes become those of the result.

    ``upright`` is the image after Pillow's ``exif_transpose``, and ``orientation`` that of the file, 1 to 8;
    ``result_kind`` is the format of the result, by default that of the file.
    """
    info = upright.info
    size = resize(scale, upright.width, upright.height)
    factor = size[0] / upright.width
    kind = str(image.format)
    comment = info.get('comment')
    xmp = info.get('xmp') or info.get(_XMP_TEXT)
    notes: list[str] = []
    if xmp:
        packet = xmp.encode() if isinstance(xmp, str) else xmp
        media_type = Image.MIME.get(result_kind or '', '')
        corrected = correct_xmp(packet, *size, factor, orientation != 1, media_type)
        xmp = corrected.packet
        notes += corrected.left_out
    text = getattr(image, 'text', {})
    if _RAW_XMP in text or (RAW_APP1 in text and not is_raw_exif(text[RAW_APP1])):
        notes.append('XMP in a text entry')
    if b'MotionPhoto_Data' in data and 'the motion photo' not in notes:  # Samsung's name before the video
        notes.append('the motion photo')
    if kind == 'MPO' and 'images or videos behind the main image' not in notes:
        notes.append('images or videos behind the main image')
    if kind == 'AVIF' and _avif_bits(data) > 8:
        notes.append('the depth beyond 8 bits')
    if kind == 'AVIF' and b'tmap' in data[: int.from_bytes(data[:4], 'big')]:  # among the brands
        notes.append('the gain map (HDR)')
    if kind == 'AVIF' and any(box in data.partition(b'mdat')[0] for box in (b'mdcv', b'clli')):
        notes.append('the mastering display and light level (HDR)')
    cicp, chunks = read_cicp(data, kind)
    other = cicp is not None and not cicp.is_srgb
    iptc = info.get('photoshop', {}).get(_IPTC) if kind in ('JPEG', 'MPO') else None
    tags = getattr(image, 'tag_v2', {})  # of a TIFF
    notes += _name_tiff_losses(image, tags)
    left_out = _STORAGE_TAGS | _TIFF_COLOUR if tags else _STORAGE_TAGS
    source = image.getexif()
    notes += [name for name, numbers in _NAMED_TAGS.items() if any(tag in source for tag in numbers)]
    endian = '<' if (result_kind or kind) == 'TIFF' else source.endian  # Pillow and tifffile write such TIFFs
    exif = _read_exif(source, endian, size, left_out, partial(_correct_places, factor=factor, orientation=orientation))
    if exif == b'':
        notes.append('EXIF that cannot be read')
    profile = info.get('icc_profile') or read_tiff_colour(tags)
    return Metadata(
        icc_profile=None if image.mode == 'LAB' else profile,  # which becomes sRGB
        exif=exif or None,
        xmp=xmp or None,
        dpi=None if tags and _RESOLUTION not in tags else _read_dpi(info.get('dpi')),  # Pillow invents 1 x 1
        comment=comment.encode() if isinstance(comment, str) else comment,
        text=_read_text(image) if kind == 'PNG' else {},
        png={key: info[key] for key in ('gamma', 'chromaticity', 'srgb') if key in info},
        cicp=cicp if other else None,
        cicp_chunks=chunks if other else {},
        photoshop=_wrap_iptc(iptc) if isinstance(iptc, bytes) and len(iptc) < _SEGMENT - 40 else None,
        notes=tuple(notes),
    )


def _name_tiff_losses(image: Image.Image, tags: Mapping[int, Any]) -> list[str]:
    """Parts of a TIFF with these tags that are left out."""
    found = {
        'a channel beyond colour and alpha': image.mode == 'RGBX' or tags.get(_SAMPLES, 1) > len(image.getbands()),
        'the description, which holds sizes of the image,': _SIZED.match(str(tags.get(_DESCRIPTION, ''))),
        'the resolution, which has no unit,': tags.get(_RESOLUTION_UNIT) == 1 and tags.get(_RESOLUTION, 1) != 1,
    }
    return [name for name, lost in found.items() if lost]


def _read_text(image: Image.Image) -> dict[str, str]:
    """Text entries of a PNG, without those of EXIF, which is written as such, and of an orientation or XMP."""
    entries: dict[str, str] = getattr(image, 'text', {})
    return {key: str(value) for key, value in entries.items() if key not in _SUPERSEDED}


def _avif_bits(data: bytes) -> int:
    """Bits per sample that an AVIF file declares (box pixi: version and flags, number of channels, bits of each)."""
    place = data.find(b'pixi')
    return data[place + 9] if 0 <= place < len(data) - 9 else 8


def _wrap_iptc(iptc: bytes) -> bytes:
    """Content of the segment APP13 of a JPEG."""
    padded = iptc + b'\0' * (len(iptc) % 2)
    return b'Photoshop 3.0\x008BIM' + _IPTC.to_bytes(2, 'big') + b'\0\0' + len(iptc).to_bytes(4, 'big') + padded


def _read_dpi(value: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(number) for number in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if across > 0 and down > 0 else None


def _read_exif(
    source: Image.Exif,
    endian: str | None,
    size: tuple[int, int],
    left_out: frozenset[int],
    correct: Callable[[dict[int, Any]], dict[int, Any]],
) -> bytes | None:
    """The EXIF of the result; None if there is none, empty if it is malformed."""
    kept = Image.Exif()
    kept.endian = endian
    for tag, value in source.items():
        sized = tag == _DESCRIPTION and _SIZED.match(str(value))
        if tag not in left_out and tag not in (EXIF_IFD, GPS_IFD) and not sized:
            kept[tag] = _keep_bytes(value)
    for directory in (EXIF_IFD, GPS_IFD):
        entries = dict(source.get_ifd(directory))
        if entries.pop(INTEROPERABILITY, None) is not None:  # the place of one more directory
            entries[INTEROPERABILITY] = dict(source.get_ifd(INTEROPERABILITY))
        if directory == EXIF_IFD:
            sides = zip((_EXIF_WIDTH, _EXIF_HEIGHT), size, strict=True)
            entries = correct(entries) | {tag: side for tag, side in sides if tag in entries}
            comment = entries.get(_USER_COMMENT)
            if endian != source.endian and isinstance(comment, bytes) and comment.startswith(b'UNICODE\0'):
                swapped = (comment[place : place + 2][::-1] for place in range(8, len(comment), 2))
                entries[_USER_COMMENT] = comment[:8] + b''.join(swapped)
        if entries:
            entries = {tag: _keep_bytes(value) for tag, value in entries.items()}
            kept.get_ifd(directory).update(entries)
            kept[directory] = entries
    try:
        return kept.tobytes() if len(kept) else None
    except (ValueError, TypeError, OverflowError, KeyError, AttributeError, struct.error):
        return b''


def _correct_places(entries: dict[int, Any], factor: float, orientation: int) -> dict[int, Any]:
    """Entries of EXIF with places and pixels of the sensor multiplied; places are removed if the image was turned."""
    corrected = {tag: value for tag, value in entries.items() if tag not in (*_SUBJECTS, *_FOCAL_PLANE)}
    with suppress(TypeError, ValueError, ArithmeticError):
        for tag in _SUBJECTS if orientation == 1 else ():
            if tag in entries:
                numbers = tuple(round(number * factor) for number in entries[tag])
                corrected |= {tag: numbers} if max(numbers) <= _SHORT else {}
        names = _FOCAL_PLANE[::-1] if orientation >= _QUARTER else _FOCAL_PLANE
        for tag, name in zip(_FOCAL_PLANE, names, strict=True):
            if tag in entries:
                corrected[name] = IFDRational(entries[tag] * Fraction(factor).limit_denominator(1 << 16))
    return corrected


def _keep_bytes(value: Any) -> Any:
    """A text of EXIF as the bytes, usually UTF-8, that Pillow reads as Latin-1 but would write as ASCII."""
    return value.encode('latin-1') if isinstance(value, str) and not value.isascii() else value
