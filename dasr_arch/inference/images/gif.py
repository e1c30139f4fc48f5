"""Frames of an animated GIF, composed as browsers compose them.

Pillow decodes each frame. Its own composition clears a frame behind an opaque first one to the background colour, where
browsers clear it to transparency.
"""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from PIL import Image

_TRAILER, _EXTENSION, _IMAGE, _CONTROL = 0x3B, 0x21, 0x2C, 0xF9
_CLEAR, _RESTORE = 2, 3  # disposal methods: to transparency, to what was there before


class _Block(NamedTuple):
    """One frame as it is stored."""

    control: bytes  # graphic control extension, or empty
    image: bytes  # descriptor, local palette and compressed pixels
    position: tuple[int, int]
    disposal: int


def compose_frames(data: bytes) -> list[Image.Image]:
    """All frames of a GIF as RGBA of the size of the whole image.

    Raises ValueError or another of ``image_io.DECODING_ERRORS`` if the file is damaged.
    """
    width, height = struct.unpack_from('<HH', data, 6)
    canvas = Image.new('RGBA', (width, height))
    header_end = 13 + _palette_length(data[10])
    frames = []
    for block in _read_blocks(data, header_end):
        size = block.image[5:9]
        single = data[:6] + size + data[10:header_end] + block.control + block.image[:1] + bytes(4) + block.image[5:]
        with Image.open(BytesIO(single + bytes([_TRAILER])), formats=('GIF',)) as image:
            drawn = image.convert('RGBA')
        before = canvas.copy()
        canvas.alpha_composite(
            drawn.crop((0, 0, width - block.position[0], height - block.position[1])), block.position
        )
        frames.append(canvas.copy())
        if block.disposal == _CLEAR:
            canvas.paste(
                (0, 0, 0, 0), (*block.position, block.position[0] + drawn.width, block.position[1] + drawn.height)
            )
        elif block.disposal == _RESTORE:
            canvas = before
    return frames


def _read_blocks(data: bytes, place: int) -> Iterator[_Block]:
    control = b''
    while place < len(data) and data[place] != _TRAILER:
        start = place
        if data[place] == _EXTENSION:
            place = _skip_sub_blocks(data, place + 2)
            if data[start + 1] == _CONTROL:
                control = data[start:place]
        elif data[place] == _IMAGE:
            left, top = struct.unpack_from('<HH', data, place + 1)
            place = _skip_sub_blocks(data, place + 10 + _palette_length(data[place + 9]) + 1)
            disposal = control[3] >> 2 & 7 if control else 0
            yield _Block(control, data[start:place], (left, top), disposal)
            control = b''
        else:
            raise ValueError('damaged GIF')


def _skip_sub_blocks(data: bytes, place: int) -> int:
    while data[place]:
        place += data[place] + 1
    return place + 1


def _palette_length(flags: int) -> int:
    """Bytes of the palette after a screen or image descriptor."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
