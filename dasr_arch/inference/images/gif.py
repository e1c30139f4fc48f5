"""Frames of a GIF, composed as browsers compose them.

Pillow decodes each frame. Its own composition clears a frame behind an opaque first one to the background colour, where
browsers clear it to transparency.
"""

import struct
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

_TRAILER, _EXTENSION, _IMAGE, _CONTROL = 0x3B, 0x21, 0x2C, 0xF9
_CLEAR, _RESTORE = 2, 3  # disposal methods: to transparency, to what was there before


def compose_frames(data: bytes, count: int) -> list[Image.Image]:
    """The frames of a GIF, ``count`` of the size of the whole image; RGB if all are opaque, else RGBA.

    Raises ValueError or another of ``image_io.DECODING_ERRORS`` if the file is damaged.
    """
    width, height = struct.unpack_from('<HH', data, 6)
    canvas = Image.new('RGBA', (width, height))
    header_end = 13 + _palette_length(data[10])
    frames = []
    for control, stored in _read_blocks(data, header_end):
        left, top = struct.unpack_from('<HH', stored, 1)
        disposal = control[3] >> 2 & 7 if control else 0
        single = data[:6] + stored[5:9] + data[10:header_end] + control + stored[:1] + bytes(4) + stored[5:]
        with Image.open(BytesIO(single + bytes([_TRAILER])), formats=('GIF',)) as image:
            drawn = image.convert('RGBA')
        before = canvas.copy()
        canvas.alpha_composite(drawn.crop((0, 0, width - left, height - top)), (left, top))
        frames.append(canvas.copy())
        if disposal == _CLEAR:
            canvas.paste((0, 0, 0, 0), (left, top, left + drawn.width, top + drawn.height))
        elif disposal == _RESTORE:
            canvas = before
    if len(frames) != count:
        raise ValueError('damaged GIF')
    opaque = all(frame.getchannel('A').getextrema() == (255, 255) for frame in frames)
    for index, frame in enumerate(frames):
        frames[index] = frame.convert('RGB') if opaque else frame
    return frames


def _read_blocks(data: bytes, place: int) -> Iterator[tuple[bytes, bytes]]:
    """Frames as stored: graphic control extension, or empty; then descriptor, local palette and compressed pixels."""
    control = b''
    while place < len(data) and data[place] != _TRAILER:
        start = place
        if data[place] == _EXTENSION:
            place = _skip_sub_blocks(data, place + 2)
            if data[start + 1] == _CONTROL:
                control = data[start:place]
        elif data[place] == _IMAGE:
            place = _skip_sub_blocks(data, place + 10 + _palette_length(data[place + 9]) + 1)
            yield control, data[start:place]
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
