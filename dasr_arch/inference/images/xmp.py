"""Correction of XMP for an upscaled image: statements that are no longer true are changed or removed."""

from typing import Any, NamedTuple
from xml.dom import minidom
from xml.parsers.expat import ExpatError

_LONGEST = 16 << 20  # bytes of a packet that is read; longer ones are left out
_TIFF = 'http://ns.adobe.com/tiff/1.0/'
_EXIF = 'http://ns.adobe.com/exif/1.0/'
_PANORAMA = 'http://ns.google.com/photos/1.0/panorama/'
_WIDTHS = {(_TIFF, 'ImageWidth'), (_EXIF, 'PixelXDimension')}
_HEIGHTS = {(_TIFF, 'ImageLength'), (_EXIF, 'PixelYDimension')}
_PARTS = {
    'http://ns.adobe.com/hdr-gain-map/1.0/': 'the gain map (HDR)',
    'http://ns.apple.com/HDRGainMap/1.0/': 'the gain map (HDR)',
    'http://ns.google.com/photos/1.0/container/': 'images or videos behind the main image',
    'http://ns.google.com/photos/1.0/container/item/': 'images or videos behind the main image',
    'http://ns.google.com/photos/1.0/camera/': 'the motion photo',
    'http://ns.google.com/photos/1.0/depthmap/': 'the depth map',
    'http://ns.google.com/photos/1.0/image/': 'the original image',
    'http://ns.google.com/photos/1.0/audio/': 'the recorded sound',
    'http://ns.adobe.com/xmp/note/': 'extended XMP',
}
"""Namespaces that describe parts of the file that are not upscaled, by those parts."""

_STALE = {(_TIFF, 'Orientation'), ('http://ns.adobe.com/xap/1.0/', 'Thumbnails')}


class CorrectedXMP(NamedTuple):
    """A corrected packet."""

    packet: bytes | None  # None if it cannot be read
    left_out: list[str]  # parts of the file that the original packet describes and the result lacks


def correct_xmp(packet: bytes, width: int, height: int, scale: float) -> CorrectedXMP:
    """Removes orientation, thumbnails and parts that are gone; corrects sizes, given the new ones in pixels.

    Sizes and positions of panoramas are multiplied by ``scale``. A packet in which all is true is returned unchanged.
    """
    try:
        if len(packet) > _LONGEST or b'<!DOCTYPE' in packet or b'<!ENTITY' in packet:
            raise ValueError('too long, or with entities, which XMP does not have')
        document = minidom.parseString(packet.strip(b'\0 \r\n\t'))
    except (ExpatError, ValueError, LookupError):
        return CorrectedXMP(None, ['XMP that cannot be read'])
    left_out: list[str] = []
    changed = False
    for element in document.getElementsByTagName('*'):
        attributes: list[Any] = [element.attributes.item(index) for index in range(element.attributes.length)]
        for node in (element, *attributes):
            name = (node.namespaceURI, node.localName)
            if name in _STALE or node.namespaceURI in _PARTS:
                part = _PARTS.get(str(node.namespaceURI))
                if part is not None and part not in left_out:
                    left_out.append(part)
                _remove(node, element)
                changed = True
            else:
                holder = _find_value(node)
                value = _correct(name, holder.nodeValue.strip(), width, height, scale) if holder is not None else None
                if value is not None:
                    holder.nodeValue = value
                    changed = True
    if not changed:
        return CorrectedXMP(packet, left_out)
    text = ''.join(node.toxml() for node in document.childNodes)  # a packet has no XML declaration
    return CorrectedXMP(text.encode(), left_out)


def _correct(name: tuple[str | None, str | None], value: str, width: int, height: int, scale: float) -> str | None:
    """The new value of a property, None if it stays."""
    if name in _WIDTHS and value:
        return str(width)
    if name in _HEIGHTS and value:
        return str(height)
    if name[0] == _PANORAMA and str(name[1]).endswith('Pixels') and value.isdecimal():
        return str(round(int(value) * scale))
    return None


def _find_value(node: Any) -> Any:
    """The node that holds the value: an attribute itself, or the text of an element that holds text alone."""
    if isinstance(node, minidom.Attr):
        return node
    only = node.firstChild if len(node.childNodes) == 1 else None
    return only if isinstance(only, minidom.Text) else None


def _remove(node: Any, element: minidom.Element) -> None:
    if isinstance(node, minidom.Attr):
        element.removeAttributeNode(node)
    elif element.parentNode is not None:
        element.parentNode.removeChild(element)
