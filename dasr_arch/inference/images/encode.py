"""Encoding of upscaled frames into image files."""

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import round_to_8_bits
from dasr_arch.inference.images.colour import is_other_than_srgb, numbers_to_srgb, profile_to_srgb
from dasr_arch.inference.images.high_bit_depth import add_to_png, add_to_tiff, encode_deep_png, encode_deep_tiff
from dasr_arch.inference.images.io import NO_PROFILE, Frame, ImageFile, OutputSettings
from dasr_arch.inference.images.metadata import Metadata

QUALITY = 95
"""Default quality of JPEG, AVIF and lossy WebP."""

_TIFF_COMPRESSIONS = ('raw', 'packbits', 'tiff_lzw', 'tiff_adobe_deflate', 'tiff_deflate', 'lzma', 'zstd')
_VISIBLE = 128  # least alpha of an opaque pixel of a GIF


def encode_image_file(frames: Sequence[Frame], file: ImageFile, settings: OutputSettings) -> bytes:
    """Encodes upscaled frames, one per frame of the input file, which gives format, timing and metadata.

    Raises InputError if the format cannot hold the frames.
    """
    kind = settings.format or file.format
    metadata = file.metadata
    if any(isinstance(frame, np.ndarray) for frame in frames):
        if kind in ('PNG', 'TIFF'):
            deep = np.asarray(frames[0], np.uint16)
            if kind == 'TIFF':
                return encode_deep_tiff(deep, metadata)
            return add_to_png(encode_deep_png(deep, metadata), metadata.cicp_chunks.items())
        frames = [Image.fromarray(round_to_8_bits(one)) if isinstance(one, np.ndarray) else one for one in frames]
    prepared = []
    for frame in frames:
        assert isinstance(frame, Image.Image)
        if frame.mode == 'CMYK' and kind not in ('JPEG', 'TIFF'):
            metadata = metadata.without_profile()
        converted = _convert_colour(frame, kind, file.metadata)
        converted.info = {}  # Pillow would write it as metadata
        prepared.append(_prepare(converted, kind))
    if file.animated and file.has_default and kind != 'PNG':
        prepared = prepared[1:]  # the fallback image, which only APNG has
    options = metadata.options(kind) | _encoding(kind, file, settings, prepared)
    stream = BytesIO()
    try:
        prepared[0].save(stream, kind, **options)
    except (OSError, ValueError, RuntimeError, SystemError, struct.error) as error:
        raise InputError(f'cannot be written as {kind} ({" ".join(str(error).split())}); use --format png') from error
    data = stream.getvalue()
    if kind == 'PNG':
        return add_to_png(data, metadata.cicp_chunks.items())
    return add_to_tiff(data, metadata) if kind == 'TIFF' else data


def _convert_colour(frame: Image.Image, kind: str, metadata: Metadata) -> Image.Image:
    """Converts to sRGB what the format could only hold as other colours."""
    if (frame.mode == 'CMYK' and kind not in ('JPEG', 'TIFF')) or (kind in NO_PROFILE and metadata.icc_profile):
        return _to_srgb(frame, metadata.icc_profile)
    if kind != 'PNG' and metadata.icc_profile is None and is_other_than_srgb(metadata.png):
        return _from_numbers(frame, metadata.png)
    return frame


def _to_srgb(frame: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts to sRGB by a profile; without a usable one, CMYK by Pillow's default, and other images not."""
    converted = profile_to_srgb(frame, profile) if profile else None
    return converted or (frame.convert('RGB') if frame.mode == 'CMYK' else frame)


def _from_numbers(frame: Image.Image, png: dict[str, Any]) -> Image.Image:
    """Converts grey or RGB, with alpha or without, by the gamma and chromaticities of a PNG to sRGB."""
    pixels = np.array(frame)
    colours = pixels.ndim == 3 and frame.mode in ('LA', 'RGBA')
    if colours:
        pixels[..., :-1] = numbers_to_srgb(pixels[..., :-1], png)
        return Image.fromarray(pixels, frame.mode)
    return Image.fromarray(numbers_to_srgb(pixels, png)) if frame.mode in ('L', 'RGB') else frame


def _prepare(frame: Image.Image, kind: str) -> Image.Image:
    """Converts a frame to a mode that the format supports."""
    if kind == 'GIF':
        return _to_palette(frame)
    if kind == 'BMP' and frame.mode == 'LA':
        return frame.convert('RGBA')
    return frame


def _to_palette(frame: Image.Image) -> Image.Image:
    """Quantises to 256 colours; with transparency to 255 and a transparent one."""
    if frame.mode not in ('RGBA', 'LA'):
        return frame.convert('RGB').quantize(256)
    rgba = frame.convert('RGBA')
    hidden = np.array(rgba)[..., 3] < _VISIBLE
    indexed = rgba.convert('RGB').quantize(255)
    indices = np.array(indexed)
    indices[hidden] = 255
    out = Image.fromarray(indices).convert('P')
    palette = (indexed.getpalette() or []) + [0] * 768
    out.putpalette(palette[:768])
    out.info['transparency'] = 255
    return out


def _encoding(kind: str, file: ImageFile, settings: OutputSettings, frames: Sequence[Image.Image]) -> dict[str, Any]:
    """Arguments of Pillow's ``save`` besides metadata."""
    quality = settings.quality or QUALITY
    options: dict[str, Any] = {}
    if kind == 'JPEG':
        options |= {'quality': quality, 'subsampling': 0 if quality >= 90 else 2}
    elif kind == 'WEBP':
        lossless = settings.quality is None and (file.lossless or file.format not in ('JPEG', 'WEBP', 'AVIF'))
        options |= {'lossless': lossless, 'quality': 80 if lossless else quality, 'exact': True}
    elif kind == 'AVIF':
        options |= {'quality': quality}
    elif kind == 'TIFF':
        known = file.compression in _TIFF_COMPRESSIONS
        options |= {'compression': file.compression if known else 'tiff_adobe_deflate'}
    if len(frames) > 1:
        options |= {'save_all': True, 'append_images': list(frames[1:])}
    if len(frames) > 1 and file.animated:
        hidden = int(file.has_default)  # the fallback image has no duration
        options |= {'duration': [round(duration) for duration in file.durations[hidden:]]}
        once = file.format == 'GIF' and kind != 'GIF'  # a GIF without a loop count plays once, others endlessly
        loop = 1 if file.loop is None and once else file.loop
        if loop is not None and kind != 'AVIF':
            options |= {'loop': loop}
        if kind == 'PNG':
            options |= {'default_image': file.has_default, 'disposal': 0, 'blend': 0}
    if kind == 'GIF' and any('transparency' in frame.info for frame in frames):
        options |= {'transparency': 255, 'disposal': 2}
    return options
