"""Colour of images: conversion to sRGB for formats that hold no profile, and codes of video colour (CICP).

Chromaticities and transfer functions: ITU-T H.273; gamma and chromaticities of PNG: ISO 15948.
"""

from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_SRGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_SRGB_CHROMATICITY = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # white, red, green, blue
_SRGB_GAMMA = 1 / 2.2
_SRGB_CODES = {(1, transfer) for transfer in (1, 6, 13, 14, 15)} | {(2, 2)}  # BT.709 primaries; unspecified
_CLOSE = 0.003  # chromaticities and gammas that count as equal


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


def is_other_than_srgb(png: dict[str, Any]) -> bool:
    """True if a PNG's gamma or chromaticities, from Pillow's ``info``, are not those of sRGB."""
    if 'srgb' in png:
        return False
    gamma, chromaticity = png.get('gamma', _SRGB_GAMMA), png.get('chromaticity', _SRGB_CHROMATICITY)
    near = np.abs(np.subtract(chromaticity, _SRGB_CHROMATICITY)).max() < _CLOSE
    return abs(gamma - _SRGB_GAMMA) >= _CLOSE or not near


def numbers_to_srgb(image: Image.Image, png: dict[str, Any]) -> Image.Image:
    """Converts grey or RGB, also with alpha, with a PNG's gamma and chromaticities to sRGB; others are returned."""
    if image.mode not in ('L', 'LA', 'RGB', 'RGBA'):
        return image
    pixels = np.array(image)
    colours = pixels[..., :-1] if image.mode.endswith('A') else pixels
    linear = (colours / 255.0) ** (1 / max(png.get('gamma', _SRGB_GAMMA), 1e-3))
    if 'chromaticity' in png and image.mode.startswith('RGB'):
        matrix = np.linalg.inv(_SRGB_TO_XYZ) @ _adapt(_rgb_to_xyz(png['chromaticity']))
        linear = np.clip(linear @ matrix.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours[...] = np.rint(np.clip(encoded, 0, 1) * 255)
    return Image.fromarray(pixels)


def _rgb_to_xyz(chromaticity: tuple[float, ...]) -> NDArray[np.float64]:
    """The matrix of a colour space with white, red, green and blue at (x, y); white has Y = 1."""
    points = np.array(chromaticity).reshape(4, 2)
    xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(1)]) / points[:, 1]
    scales = np.linalg.solve(xyz[:, 1:], xyz[:, 0])
    return np.asarray(xyz[:, 1:] * scales)


def _adapt(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales to the white of sRGB (von Kries, in the cone space of Bradford)."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    ratio = (bradford @ np.array(_SRGB_TO_XYZ).sum(1)) / (bradford @ matrix.sum(1))
    return np.asarray(np.linalg.inv(bradford) @ np.diag(ratio) @ bradford @ matrix)
