"""Colour of images: profiles, conversion to sRGB for formats that hold none, and codes of video colour (CICP).

Chromaticities and transfer functions: ITU-T H.273; gamma and chromaticities of PNG: ISO 15948; colour tags of TIFF:
TIFF 6.0, section 20; profiles: ICC.1:2001.
"""

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_SRGB_CHROMATICITY = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # white, red, green, blue
_SRGB_GAMMA = 1 / 2.2
_SRGB_CODES = {(1, transfer) for transfer in (1, 6, 13, 14, 15)} | {(2, 2)}  # BT.709 primaries; unspecified
_CLOSE = 0.003  # chromaticities and gammas that count as equal
_CLOSE_CURVE = 0.01  # linear values that count as equal; those of sRGB and of a gamma of 2.2 do
_D50 = np.array((0.9642, 1.0, 0.8249))  # XYZ of the white of profiles
_LONGEST_CURVE = 4096  # entries of a profile's curve
_BITS, _PHOTOMETRIC, _CURVES, _WHITE, _PRIMARIES = 258, 262, 301, 318, 319  # tags of TIFF
_DAMAGE = (ArithmeticError, LookupError, TypeError, ValueError, struct.error)
_CURVES_OF = {0: (1,), 1: (1,), 2: (1, 3), 3: (), 6: (1, 3)}  # their numbers by model: grey, RGB, palette, YCbCr


class CICP(NamedTuple):
    """Codes of H.273."""

    primaries: int
    transfer: int
    matrix: int
    full_range: int

    @property
    def is_srgb(self) -> bool:
        """True if the image may be shown as sRGB."""
        return (self.primaries, self.transfer) in _SRGB_CODES

    def describe(self) -> str:
        """The colour in a few words."""
        transfer = {16: 'HDR (PQ)', 18: 'HDR (HLG)'}.get(self.transfer, 'wide gamut')
        return f'{transfer}, CICP {self.primaries}/{self.transfer}'


def read_cicp(data: bytes, kind: str) -> tuple[CICP | None, dict[bytes, bytes]]:
    """The colour codes of a PNG or AVIF, and a PNG's chunks cICP, mDCV and cLLI, which belong together."""
    if kind == 'AVIF':
        place = data.find(b'colrnclx')
        if place < 0 or place + 15 > len(data):
            return None, {}
        primaries, transfer, matrix = (int.from_bytes(data[place + n : place + n + 2], 'big') for n in (8, 10, 12))
        cicp = CICP(primaries, transfer, matrix, data[place + 14] >> 7)
        return cicp, {b'cICP': bytes([primaries & 255, transfer & 255, 0, 1])}  # as decoded: RGB, full range
    chunks: dict[bytes, bytes] = {}
    place = 8
    while kind == 'PNG' and place + 8 <= len(data):
        length, name = int.from_bytes(data[place : place + 4], 'big'), data[place + 4 : place + 8]
        if name in (b'IDAT', b'IEND'):
            break
        if name in (b'cICP', b'mDCV', b'cLLI'):
            chunks[name] = data[place + 8 : place + 8 + length]
        place += length + 12
    codes = chunks.get(b'cICP', b'')
    return (CICP(*codes), chunks) if len(codes) == 4 else (None, {})


def profile_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts grey, RGB or CMYK, also with alpha, to sRGB.

    Without a profile that is whole and of the image's model, CMYK is converted by Pillow's default, and others are not.
    """
    alpha = image.getchannel('A') if image.mode in ('LA', 'RGBA') else None
    colour = image.convert(image.mode.removesuffix('A')) if alpha is not None else image
    converted: Image.Image | None = None
    with suppress(ImageCms.PyCMSError, OSError):
        source = ImageCms.ImageCmsProfile(BytesIO(profile or b''))
        converted = ImageCms.profileToProfile(colour, source, ImageCms.createProfile('sRGB'), outputMode='RGB')
    if converted is None:
        return image.convert('RGB') if image.mode == 'CMYK' else image
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def read_tiff_colour(tags: Mapping[int, Any]) -> bytes | None:
    """A profile for the white, primaries and transfer functions of a TIFF; None if they are sRGB's or damaged."""
    with suppress(*_DAMAGE):
        numbers = _CURVES_OF[tags[_PHOTOMETRIC]]
        white, primaries = tags.get(_WHITE, _SRGB_CHROMATICITY[:2]), tags.get(_PRIMARIES, _SRGB_CHROMATICITY[2:])
        grey = tags[_PHOTOMETRIC] in (0, 1)
        chromaticity = _SRGB_CHROMATICITY if grey else tuple(map(float, (*white, *primaries)))
        table = np.array(tags.get(_CURVES, ()), np.float64) / 65535
        count, rest = divmod(len(table), 1 << tags[_BITS][0])
        fits = count in numbers and not rest
        curves = list(table.reshape(count, -1)) if fits else [np.linspace(0, 1, _LONGEST_CURVE) ** (1 / _SRGB_GAMMA)]
        same = [np.abs(one - _decode_srgb(np.linspace(0, 1, len(one)))).max() < _CLOSE_CURVE for one in curves]
        if np.abs(np.subtract(chromaticity, _SRGB_CHROMATICITY)).max() >= _CLOSE or not all(same):
            return _make_profile(chromaticity, curves, grey)
    return None


def make_png_profile(png: dict[str, Any], grey: bool) -> bytes | None:
    """A profile for a PNG's gamma and chromaticities, from Pillow's ``info``; None if they are damaged."""
    with suppress(*_DAMAGE):
        curve = np.linspace(0, 1, _LONGEST_CURVE) ** (1 / png.get('gamma', _SRGB_GAMMA))
        return _make_profile(png.get('chromaticity', _SRGB_CHROMATICITY), [curve], grey)
    return None


def is_other_than_srgb(png: dict[str, Any]) -> bool:
    """True if a PNG's gamma or chromaticities, from Pillow's ``info``, are neither those of sRGB nor damaged."""
    if 'srgb' in png:
        return False
    gamma, chromaticity = png.get('gamma', _SRGB_GAMMA), png.get('chromaticity', _SRGB_CHROMATICITY)
    near = np.abs(np.subtract(chromaticity, _SRGB_CHROMATICITY)).max() < _CLOSE
    return (abs(gamma - _SRGB_GAMMA) >= _CLOSE or not near) and make_png_profile(png, False) is not None


def _make_profile(chromaticity: Sequence[float], curves: Sequence[NDArray[np.float64]], grey: bool) -> bytes:
    """An ICC profile of RGB or grey, given white, red, green and blue at (x, y), and linear values over [0, 1].

    There is one curve for all channels, or three. One of _DAMAGE if there is no such colour space.
    """
    name = b'colour of the original'
    tags = {
        b'desc': b'desc\0\0\0\0' + struct.pack('>I', len(name) + 1) + name + bytes(79),
        b'cprt': b'text\0\0\0\0CC0\0',
        b'wtpt': _pack_xyz(_D50),
    }
    columns = _adapt(_rgb_to_xyz(chromaticity), _D50).T
    for index, channel in enumerate((b'k',) if grey else (b'r', b'g', b'b')):
        tags[channel + b'TRC'] = _pack_curve(curves[index % len(curves)])
        if not grey:
            tags[channel + b'XYZ'] = _pack_xyz(columns[index])
    listing, content, start = struct.pack('>I', len(tags)), b'', 132 + 12 * len(tags)
    for tag, value in tags.items():
        listing += tag + struct.pack('>II', start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    kind = b'mntr' + (b'GRAY' if grey else b'RGB ') + b'XYZ '
    head = struct.pack('>I4xI', start + len(content), 0x02100000) + kind + struct.pack('>6H', 2000, 1, 1, 0, 0, 0)
    return head + b'acsp' + bytes(28) + _pack_xyz(_D50)[8:] + bytes(48) + listing + content


@np.errstate(divide='raise', invalid='raise')
def _rgb_to_xyz(chromaticity: Sequence[float]) -> NDArray[np.float64]:
    """The matrix of a colour space with white, red, green and blue at (x, y); white has Y = 1."""
    points = np.array(chromaticity).reshape(4, 2)
    xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(1)]) / points[:, 1]
    scales = np.linalg.solve(xyz[:, 1:], xyz[:, 0])
    return np.asarray(xyz[:, 1:] * scales)


def _adapt(matrix: NDArray[np.float64], white: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales to another white, given as XYZ (von Kries, in the cone space of Bradford)."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    ratio = (bradford @ white) / (bradford @ matrix.sum(1))
    return np.asarray(np.linalg.inv(bradford) @ np.diag(ratio) @ bradford @ matrix)


def _decode_srgb(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _pack_xyz(values: NDArray[np.float64]) -> bytes:
    return b'XYZ \0\0\0\0' + struct.pack('>3i', *(round(65536 * value) for value in values.tolist()))


def _pack_curve(values: NDArray[np.float64]) -> bytes:
    places = np.linspace(0, len(values) - 1, min(len(values), _LONGEST_CURVE))
    entries = np.rint(65535 * np.interp(places, np.arange(len(values)), values)).astype(int).tolist()
    return b'curv\0\0\0\0' + struct.pack(f'>I{len(entries)}H', len(entries), *entries)
