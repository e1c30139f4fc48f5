"""Metadata of image files: reading, and writing into the file of the upscaled image."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_EXIF_WIDTH, _EXIF_HEIGHT = 40962, 40963
_ORIENTATION = 274
# Tags of the first directory that describe the storage of pixels, which the writer sets, or have their own field here.
_STORAGE_TAGS = frozenset((*range(254, 260), 262, 266, 273, _ORIENTATION, 277, 278, 279, 282, 283, 284, 288, 289, 292))
_STORAGE_TAGS |= frozenset(
    (293, 296, *range(317, 326), 330, 332, 338, 339, 340, 341, 347, *range(512, 533), 700, 34675)
)
_XMP_TEXT = 'XML:com.adobe.xmp'


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

    def without_profile(self) -> 'Metadata':
        """Metadata for pixels that were converted to sRGB."""
        return replace(self, icc_profile=None, png={})

    def options(self, kind: str) -> dict[str, Any]:
        """Arguments of Pillow's ``save`` for a format such as 'JPEG'; EXIF of a TIFF is added afterwards."""
        given: dict[str, Any] = {'icc_profile': self.icc_profile}
        if kind in ('JPEG', 'PNG', 'WEBP', 'AVIF'):
            given['exif'] = self.exif
        if kind in ('JPEG', 'WEBP', 'AVIF'):
            given['xmp'] = self.xmp
        if kind in ('JPEG', 'PNG', 'TIFF', 'BMP'):
            given['dpi'] = self.dpi
        if kind in ('JPEG', 'GIF'):
            given['comment'] = self.comment
        if kind == 'PNG':
            given['pnginfo'] = self._png_info()
        return {key: value for key, value in given.items() if value}

    def _png_info(self) -> PngInfo:
        info = PngInfo()
        for key, value in self.text.items():
            if key != _XMP_TEXT:
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


def read_metadata(image: Image.Image, upright: Image.Image, scale: int) -> Metadata:
    """Reads the metadata of a loaded Pillow image; ``scale`` multiplies the image sizes in EXIF.

    ``upright`` is the image after Pillow's ``exif_transpose``, which also corrects the orientation in XMP.
    """
    info = upright.info
    comment = info.get('comment')
    xmp = info.get('xmp') or info.get(_XMP_TEXT)
    text = {key: str(value) for key, value in getattr(image, 'text', {}).items()} if image.format == 'PNG' else {}
    return Metadata(
        icc_profile=info.get('icc_profile'),
        exif=_read_exif(image.getexif(), (upright.width * scale, upright.height * scale)),
        xmp=xmp.encode() if isinstance(xmp, str) else xmp,
        dpi=_read_dpi(info.get('dpi')),
        comment=comment.encode() if isinstance(comment, str) else comment,
        text=text,
        png={key: info[key] for key in ('gamma', 'chromaticity', 'srgb') if key in info},
    )


def _read_dpi(value: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(number) for number in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if across > 0 and down > 0 else None


def _read_exif(source: Image.Exif, size: tuple[int, int]) -> bytes | None:
    kept = Image.Exif()
    for tag, value in source.items():
        if tag not in _STORAGE_TAGS and tag not in (_EXIF_IFD, _GPS_IFD):
            kept[tag] = value
    for directory in (_EXIF_IFD, _GPS_IFD):
        entries = dict(source.get_ifd(directory))
        if directory == _EXIF_IFD:
            sides = zip((_EXIF_WIDTH, _EXIF_HEIGHT), size, strict=True)
            entries |= {tag: side for tag, side in sides if tag in entries}
        if entries:
            kept.get_ifd(directory).update(entries)
            kept[directory] = entries
    if not len(kept):
        return None
    try:
        return kept.tobytes()
    except (ValueError, TypeError, OverflowError, KeyError, AttributeError):  # malformed EXIF
        return None
