"""Conversion between video frames and RGB; keeps colour matrix, value range, bit depth and chroma sampling.

The matrices are applied here in float32. FFmpeg's scaler only resamples chroma, because its own colour conversion
rounds, and guesses untagged properties. Rec. ITU-R BT.601, BT.709, BT.2020, H.273.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dasr_arch._errors import InputError
from dasr_arch._extras import import_extra
from dasr_arch.inference.images.image_modes import Pixels

if TYPE_CHECKING:
    import av

_UNSPECIFIED, _BT709, _BT601 = 2, 1, 6  # codes of H.273
_WEIGHTS = {  # of red and blue in luma, by matrix coefficients of H.273
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_OTHER = (8, 10, 11, 12, 13, 14)  # matrices of H.273 that are not linear in luma and chroma; the rest has no meaning
_LIMITED, _FULL = 1, 2  # FFmpeg's color_range
_STILL = ('ffv1', 'gif', 'huffyuv', 'mjpeg', 'png', 'rawvideo', 'tiff', 'utvideo', 'v210')
"""Codecs whose grey frames have full range unless they are tagged; the others follow the default of video."""

_HD_WIDTH, _HD_HEIGHT = 1280, 720


@dataclass(frozen=True)
class Colour:
    """Colour format of a video."""

    matrix: int  # matrix coefficients of H.273: 1 BT.709, 5 and 6 BT.601, 9 BT.2020
    full_range: bool  # luma in 0..255 instead of 16..235 (at 8 bits)
    bits: int  # per sample: 8, 10, 12 or 16
    subsampled: bool  # chroma has fewer samples than luma
    primaries: int = _UNSPECIFIED  # colour primaries of H.273; 2 if untagged
    transfer: int = _UNSPECIFIED  # transfer characteristics of H.273; 2 if untagged
    grey_full: bool = True  # the range of grey frames that are read


def is_meaningless(matrix: int) -> bool:
    """True for matrix coefficients that video of luma and chroma cannot have: GBR and reserved values."""
    return matrix != _UNSPECIFIED and matrix not in _WEIGHTS and matrix not in _OTHER


def read_colour(frame: 'av.VideoFrame', codec: str = 'rawvideo') -> Colour:
    """Colour format of a frame; for untagged properties, and those without meaning, the defaults of players.

    The defaults are BT.709 from 1280 x 720 pixels, BT.601 below, and limited range. RGB and grey frames are written as
    BT.709 in limited range. Raises InputError if the matrix is not a linear luma and chroma matrix.
    """
    form = frame.format
    bits = max(component.bits for component in form.components)
    depth = next(size for size in (8, 10, 12, 16) if size >= min(bits, 16))
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    if not _is_luma_chroma(frame):
        limited = frame.color_range == _LIMITED or (frame.color_range != _FULL and codec not in _STILL)
        return Colour(_BT709, False, depth, _is_grey(frame), primaries, transfer, grey_full=not limited)
    matrix = int(frame.colorspace)
    if matrix == _UNSPECIFIED or is_meaningless(matrix):
        hd = frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
        matrix = _BT709 if hd else _BT601
    if matrix not in _WEIGHTS:
        raise InputError(f'colour matrix {matrix} of H.273 is not supported; convert the video to BT.709 first')
    full = frame.color_range == _FULL or form.name.startswith('yuvj')
    chroma = form.components[1]
    subsampled = (chroma.width, chroma.height) != (frame.width, frame.height)
    return Colour(matrix, full, depth, subsampled, primaries, transfer)


def read_pixels(frame: 'av.VideoFrame', colour: Colour) -> Pixels:
    """Converts a frame of any pixel format to RGB of shape (H, W, 3), float32 in [0, 1].

    ``colour`` is the result of ``read_colour`` for the first frame of the video.
    """
    if _is_luma_chroma(frame):
        planes = _read_planes(_resample(frame, _full_chroma(colour.bits), colour), 3)
        return _to_rgb(planes.astype(np.float32), colour)
    if _is_grey(frame) and frame.format.name in ('gray', f'gray{colour.bits}le'):
        black, span, _, _ = _levels(replace(colour, full_range=colour.grey_full))
        grey = (_read_planes(frame, 1)[0].astype(np.float32) - black) / span
        return np.repeat(grey[..., None].clip(0, 1), 3, 2)
    wide = colour.bits > 8
    green, blue, red = _read_planes(frame.reformat(format='gbrp16le' if wide else 'gbrp'), 3)
    return np.stack((red, green, blue), 2).astype(np.float32) / (65535 if wide else 255)


def make_frame(pixels: Pixels, colour: Colour) -> 'av.VideoFrame':
    """Converts RGB of shape (H, W, 3), float32 in [0, 1], to a frame in ``pixel_format(colour)`` with colour tags.

    With subsampled chroma, odd sides are padded by a copy of the last pixel.
    """
    if colour.subsampled and (pixels.shape[0] % 2 or pixels.shape[1] % 2):
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode='edge')
    frame = _write_planes(_from_rgb(pixels, colour), colour)
    frame = _resample(frame, pixel_format(colour), colour)
    tag(frame, colour)
    return frame


def pixel_format(colour: Colour) -> str:
    """FFmpeg's name of the pixel format of written frames."""
    return _full_chroma(colour.bits).replace('444', '420' if colour.subsampled else '444')


def tag(target: Any, colour: Colour) -> None:
    """Sets the colour tags of a frame or an encoder."""
    target.colorspace = colour.matrix
    target.color_range = _FULL if colour.full_range else _LIMITED
    target.color_primaries = colour.primaries
    target.color_trc = colour.transfer


def _is_grey(frame: 'av.VideoFrame') -> bool:
    return frame.format.name.startswith(('gray', 'mono', 'ya'))


def _is_luma_chroma(frame: 'av.VideoFrame') -> bool:
    form = frame.format
    return not (form.is_rgb or form.has_palette or form.is_bit_stream or _is_grey(frame))


def _full_chroma(bits: int) -> str:
    return 'yuv444p' if bits == 8 else f'yuv444p{bits}le'


def _resample(frame: 'av.VideoFrame', form: str, colour: Colour) -> 'av.VideoFrame':
    """Resamples chroma without a colour conversion."""
    reformatter = import_extra('av.video.reformatter', 'video')
    how = reformatter.Interpolation.BICUBIC | reformatter.Interpolation.ACCURATE_RND
    span = _FULL if colour.full_range else _LIMITED
    space = reformatter.Colorspace.ITU709  # equal on both sides: no conversion
    return frame.reformat(
        format=form,
        interpolation=how,
        src_colorspace=space,
        dst_colorspace=space,
        src_color_range=span,
        dst_color_range=span,
    )


def _read_planes(frame: 'av.VideoFrame', count: int) -> NDArray[Any]:
    """The first planes of a frame, all of equal size: shape (count, H, W)."""
    wide = max(component.bits for component in frame.format.components) > 8
    dtype = np.dtype('<u2' if wide else 'u1')
    planes = []
    for plane in frame.planes[:count]:
        rows = np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
        planes.append(rows[: frame.height, : frame.width])
    return np.stack(planes)


def _write_planes(planes: NDArray[np.float32], colour: Colour) -> Any:
    av = import_extra('av', 'video')
    dtype = np.dtype('u1' if colour.bits == 8 else '<u2')
    height, width = planes.shape[1:]
    frame: Any = av.VideoFrame(width, height, _full_chroma(colour.bits))
    for plane, values in zip(frame.planes, planes.round().clip(0, 2**colour.bits - 1), strict=True):
        rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size // dtype.itemsize), dtype)
        rows[:height, :width] = values
        plane.update(rows)
    return frame


def _levels(colour: Colour) -> tuple[float, float, float, float]:
    """Offset and range of luma, offset and range of chroma."""
    if colour.full_range:
        most = 2.0**colour.bits - 1
        return 0.0, most, 2.0 ** (colour.bits - 1), most
    unit = 2.0 ** (colour.bits - 8)
    return 16 * unit, 219 * unit, 128 * unit, 224 * unit


def _conversion(colour: Colour) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Matrix and offset from RGB in [0, 1] to stored luma and chroma."""
    black, luma_span, middle, chroma_span = _levels(colour)
    weight_red, weight_blue = _WEIGHTS[colour.matrix]
    luma = np.array((weight_red, 1 - weight_red - weight_blue, weight_blue))
    blue_difference = (np.array((0, 0, 1)) - luma) / (2 * (1 - weight_blue))
    red_difference = (np.array((1, 0, 0)) - luma) / (2 * (1 - weight_red))
    matrix = np.stack((luma * luma_span, blue_difference * chroma_span, red_difference * chroma_span))
    return matrix, np.array((black, middle, middle), np.float32)


def _to_rgb(planes: NDArray[np.float32], colour: Colour) -> Pixels:
    matrix, offset = _conversion(colour)
    inverse = np.linalg.inv(matrix).astype(np.float32)
    return ((np.moveaxis(planes, 0, 2) - offset) @ inverse.T).clip(0, 1)


def _from_rgb(pixels: Pixels, colour: Colour) -> NDArray[np.float32]:
    matrix, offset = _conversion(colour)
    return np.moveaxis(pixels @ matrix.astype(np.float32).T + offset, 2, 0)
