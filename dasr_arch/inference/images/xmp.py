"""Correction of XMP for an upscaled image: statements that are no longer true are changed or removed."""

import re
from typing import Any, NamedTuple
from xml.dom import minidom
from xml.parsers.expat import ExpatError

_LONGEST = 16 << 20  # bytes of a packet that is read; longer ones are left out
_TIFF = 'http://ns.adobe.com/tiff/1.0/'
_EXIF = 'http://ns.adobe.com/exif/1.0/'
_PANORAMA = 'http://ns.google.com/photos/1.0/panorama/'
_WIDTHS = {(_TIFF, 'ImageWidth'), (_EXIF, 'PixelXDimension')}
_HEIGHTS = {(_TIFF, 'ImageLength'), (_EXIF, 'PixelYDimension')}
_DIMENSIONS = 'http://ns.adobe.com/xap/1.0/sType/Dimensions#'
_REGIONS = 'http://www.metadataworkinggroup.com/schemas/regions/'
_DYNAMIC_DEPTH = 'http://ns.google.com/photos/dd/1.0/'  # and more names behind it
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

_SIDES = {(_DIMENSIONS, 'w'), (_DIMENSIONS, 'h')}
_STALE = {(_TIFF, 'Orientation'), ('http://ns.adobe.com/xap/1.0/', 'Thumbnails')}
_FORMAT = ('http://purl.org/dc/elements/1.1/', 'format')  # media type of the file
_IPTC = 'http://iptc.org/std/Iptc4xmpExt/2008-02-29/'
_NUMBERS = {('http://ns.adobe.com/xmp/sType/Area#', name) for name in 'xywhd'}
_NUMBERS |= {(_IPTC, f'rb{name}') for name in ('X', 'Y', 'W', 'H', 'Rx')}
"""Numbers of regions, with a unit of their own."""

_SUBJECTS = {(_EXIF, 'SubjectArea'), (_EXIF, 'SubjectLocation')}
_PLACES = {(_REGIONS, 'Regions'), (_IPTC, 'ImageRegion'), *_SUBJECTS}
_PLACES |= {('http://ns.microsoft.com/photo/1.2/', 'RegionInfo')}
"""Places in the image, which are no longer true if it was turned."""


class CorrectedXMP(NamedTuple):
    """A corrected packet."""

    packet: bytes | None  # None if it cannot be read
    left_out: list[str]  # parts of the file that the original packet describes and the result lacks


def correct_xmp(
    packet: bytes, width: int, height: int, scale: float, turned: bool = False, media_type: str = ''
) -> CorrectedXMP:
    """Removes orientation, thumbnails and parts that are gone; corrects sizes, given the new ones in pixels.

    Sizes and positions of panoramas, places and regions in pixels, and the size to which regions apply, are multiplied
    by ``scale``. Regions, such as faces, are removed if the image was ``turned``. ``media_type`` is that of the result,
    such as 'image/png', empty if it is unchanged. A packet in which all is true is returned unchanged.
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
            part = _find_part(name, turned)
            if name in _STALE or part is not None:
                if part is not None and part not in left_out:
                    left_out.append(part)
                _remove(node, element)
                changed = True
            else:
                holder = _find_value(node)
                text = '' if holder is None else holder.nodeValue.strip()
                value = _correct(name, text, (width, height), scale, _is_in_pixels(node, element))
                if name == _FORMAT and text.startswith('image/') and media_type not in ('', text):
                    value = media_type
                if value is not None:
                    holder.nodeValue = value
                    changed = True
    if not changed:
        return CorrectedXMP(packet, left_out)
    text = ''.join(node.toxml() for node in document.childNodes)  # a packet has no XML declaration
    return CorrectedXMP(text.encode(), left_out)


def _find_part(name: tuple[str | None, str | None], turned: bool) -> str | None:
    """The part that a property describes and the result lacks."""
    if turned and name in _PLACES:
        return 'regions of the image before it was turned'
    return 'the depth map' if str(name[0]).startswith(_DYNAMIC_DEPTH) else _PARTS.get(str(name[0]))


def _correct(
    name: tuple[str | None, str | None], value: str, size: tuple[int, int], scale: float, in_pixels: bool
) -> str | None:
    """The new value of a property, None if it stays; ``in_pixels`` for a number that is multiplied."""
    if name in _WIDTHS and value:
        return str(size[0])
    if name in _HEIGHTS and value:
        return str(size[1])
    if in_pixels and re.fullmatch(r'\d+(\.\d+)?', value):
        return f'{round(int(value) * scale) if value.isdecimal() else float(value) * scale:.10g}'
    return None


def _is_in_pixels(node: Any, element: Any) -> bool:
    """True for a number in pixels: of a panorama, of the size to which regions apply, of a region or a subject."""
    parent = element.parentNode
    if node.namespaceURI == _PANORAMA:
        return str(node.localName).endswith('Pixels')
    if (node.namespaceURI, node.localName) in _SIDES:
        return 'AppliedToDimensions' in (element.localName, getattr(parent, 'localName', None))
    if node.localName == 'li':
        holder = getattr(parent, 'parentNode', None)
        return (getattr(holder, 'namespaceURI', None), getattr(holder, 'localName', None)) in _SUBJECTS
    return (node.namespaceURI, node.localName) in _NUMBERS and _find_unit(element) == 'pixel'


def _find_unit(element: Any) -> str | None:
    """The nearest unit around a number of a region."""
    while isinstance(element, minidom.Element):
        for node in (*element.attributes.values(), *element.childNodes):
            if node.localName in ('unit', 'rbUnit'):
                holder = _find_value(node)
                return None if holder is None else str(holder.nodeValue).strip()
        element = element.parentNode
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
