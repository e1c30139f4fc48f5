"""Colour of images: profiles, and conversion to sRGB for formats that hold none.

Gamma and chromaticities of PNG: ISO 15948; colour tags of TIFF: TIFF 6.0, section 20.
"""

from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_SRGB_CHROMATICITY = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # white, red, green, blue
_SRGB_GAMMA = 1 / 2.2
_CLOSE = 0.003  # chromaticities and gammas that count as equal
_CLOSE_CURVE = 0.01  # linear values that count as equal; those of sRGB and of a gamma of 2.2 do
_DATE = bytes.fromhex('07d000010001000000000000')  # of profiles, so that a result is the same at any time
_BITS, _PHOTOMETRIC, _CURVES, _WHITE, _PRIMARIES = 258, 262, 301, 318, 319  # tags of TIFF
_DAMAGE = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
_CURVES_OF = {0: (1,), 1: (1,), 2: (1, 3), 3: (), 6: (1, 3)}  # their numbers by model: grey, RGB, palette, YCbCr


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


def is_profile(data: bytes) -> bool:
    """True if a profile can be read."""
    with suppress(ImageCms.PyCMSError, OSError):
        return bool(ImageCms.ImageCmsProfile(BytesIO(data)))
    return False


def read_tiff_colour(tags: Mapping[int, Any]) -> bytes | None:
    """A profile for the white, primaries and transfer functions of a TIFF; None if they are sRGB's or damaged."""
    with suppress(*_DAMAGE):
        numbers, grey = _CURVES_OF[tags[_PHOTOMETRIC]], tags[_PHOTOMETRIC] in (0, 1)
        white, primaries = tags.get(_WHITE, _SRGB_CHROMATICITY[:2]), tags.get(_PRIMARIES, _SRGB_CHROMATICITY[2:])
        points = tuple(map(float, (*white, *primaries)))
        table = np.array(tags.get(_CURVES, ()), np.uint16)
        count, rest = divmod(len(table), 1 << tags[_BITS][0])
        curves = table.reshape(count, -1) if count in numbers and not rest else None
        near = grey or np.abs(np.subtract(points, _SRGB_CHROMATICITY)).max() < _CLOSE
        if not near or (curves is not None and _differs_from_srgb(curves)):
            return _make_profile(points, grey, curves)
    return None


def make_png_profile(png: dict[str, Any], grey: bool) -> bytes | None:
    """A profile for a PNG's gamma and chromaticities, from Pillow's ``info``; None if they are damaged."""
    with suppress(*_DAMAGE):
        points = png.get('chromaticity', _SRGB_CHROMATICITY)
        return _make_profile(points, grey, gamma=1 / png.get('gamma', _SRGB_GAMMA))
    return None


def is_other_than_srgb(png: dict[str, Any]) -> bool:
    """True if a PNG's gamma or chromaticities, from Pillow's ``info``, are neither those of sRGB nor damaged."""
    if 'srgb' in png:
        return False
    gamma, chromaticity = png.get('gamma', _SRGB_GAMMA), png.get('chromaticity', _SRGB_CHROMATICITY)
    near = np.abs(np.subtract(chromaticity, _SRGB_CHROMATICITY)).max() < _CLOSE
    return (abs(gamma - _SRGB_GAMMA) >= _CLOSE or not near) and make_png_profile(png, False) is not None


def _make_profile(
    points: tuple[float, ...], grey: bool, curves: NDArray[np.uint16] | None = None, gamma: float = 1 / _SRGB_GAMMA
) -> bytes:
    """An ICC profile, given white, red, green and blue at (x, y), and linear values by channel or a gamma.

    One of _DAMAGE if there is no such colour space.
    """
    options: dict[str, Any] = {'whitepoint': points[:2]} | ({} if grey else {'primaries': points[2:]})
    if curves is None:
        options['gamma'] = gamma
    else:  # a profile holds fewer than 65536 values; 65535 is a multiple of 15
        options['transferfunction'] = np.squeeze(curves[:, :: 15 if curves.shape[1] == 1 << 16 else 1])
    profile = bytes(imagecodecs.cms_profile('gray' if grey else 'rgb', **options))
    return profile[:24] + _DATE + profile[36:]


def _differs_from_srgb(curves: NDArray[np.uint16]) -> bool:
    values = np.linspace(0, 1, curves.shape[1])
    expected = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return bool(np.abs(curves / 65535 - expected).max() >= _CLOSE_CURVE)
