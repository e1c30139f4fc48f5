"""Reading and writing of image files as 8-bit RGB arrays.

Pillow reads, because it refuses a truncated file where OpenCV returns a half-grey image; ``high_bit_depth`` reads
files of 16 bits, which Pillow truncates to 8 without rounding; OpenCV reads entries of an LMDB, because it is faster.
"""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch.data.high_bit_depth import decode_16_bits

IMAGE_SUFFIXES = ('.bmp', '.dib', '.jfif', '.jpe', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
"""Endings of image files, in lower case; capitals are accepted in file names."""

JPEG_SUFFIXES = ('.jfif', '.jpe', '.jpeg', '.jpg')
"""Endings of JPEG files, in lower case."""

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 1 << 26)
"""Pixels above which an image counts as a decompression bomb; Pillow's own limit, 179 megapixels."""

# Image generators write workflows of megabytes into text entries; Pillow's limit for all entries together stays.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

RAW_EXIF, RAW_APP1 = 'Raw profile type exif', 'Raw profile type APP1'
"""Names of text entries that ImageMagick writes into a PNG."""

_FORMATS = ('BMP', 'JPEG', 'PNG', 'TIFF', 'WEBP')
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_ORIENTATION = 274  # EXIF and TIFF tag of the camera's orientation
_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339  # TIFF tags
_SRGB_PRIMARIES, _SRGB_TRANSFERS = (1, 2), (1, 2, 6, 13, 14, 15)  # of BT.709 and sRGB, or unspecified

DECODING_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    cv2.error,
    struct.error,
    zlib.error,
)
"""Exceptions of Pillow, OpenCV, tifffile and imagecodecs for damaged files, found by damaging files."""


class CICP(NamedTuple):
    """Codes of video colour of H.273."""

    primaries: int
    transfer: int
    matrix: int
    full_range: int  # 1, or 0 for levels of video

    @property
    def is_srgb(self) -> bool:
        """True if the image may be shown as sRGB."""
        return self.primaries in _SRGB_PRIMARIES and self.transfer in _SRGB_TRANSFERS and self.full_range == 1

    @property
    def is_hdr(self) -> bool:
        """True for the transfer functions PQ and HLG."""
        return self.transfer in (16, 18)

    def describe(self) -> str:
        """The colour in a few words."""
        other = 'wide gamut' if self.full_range else 'narrow range'
        transfer = {16: 'HDR (PQ)', 18: 'HDR (HLG)'}.get(self.transfer, other)
        return f'{transfer}, CICP {self.primaries}/{self.transfer}'


class FailedImage(NamedTuple):
    """An image file that a command left out, and the reason."""

    path: Path
    reason: str

    @classmethod
    def from_error(cls, path: Path, error: InputError) -> Self:
        """The failure that an error describes; the reason does not repeat the path."""
        return cls(path, str(error).removeprefix(f'{path}: '))


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Image files directly inside a folder, and links to missing ones, by their endings, sorted; no hidden files.

    InputError if the folder does not exist or is a file, OSError if it may not be listed.
    """
    root = Path(folder)
    if not root.is_dir():
        arrived = 'a file' if root.exists() else 'nothing there'
        raise InputError(f'{root}: expected a folder of images, found {arrived}; check the path')
    found = (path for path in root.iterdir() if is_image_name(path.name))
    return sorted(path for path in found if path.is_file() or not path.exists())


def list_others(given: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """Files inside a folder whose names are none of images; hidden files are left out. Empty for a file."""
    found = Path(given).rglob('*') if recursive else Path(given).iterdir() if Path(given).is_dir() else ()
    return sorted(path for path in found if path.is_file() and path.name[0] != '.' and not is_image_name(path.name))


def is_image_name(name: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> bool:
    """True if a file name has one of the suffixes and is not hidden (macOS writes '._name.jpg')."""
    return name.lower().endswith(suffixes) and not name.startswith('.')


def cut_middle(image: NDArray[Any], side: int, scale: int = 1) -> NDArray[Any]:
    """The middle of an image of shape (H, W, C), at most ``side`` pixels to each side, multiples of the scale."""
    height, width = (min(length, side) // scale * scale for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Reads an image file of 8 or 16 bits as 8-bit RGB of shape (H, W, 3), upright; the array belongs to the caller.

    The file is PNG, JPEG, BMP, TIFF or WebP in grey, palette or colour; of an animation or a multi-page TIFF, the first
    image is read. 16 bits are rounded to 8, alpha is dropped (not blended), and the EXIF orientation is applied.
    InputError if the file is missing, empty, truncated, damaged, no image, too large to be one, or if its colour codes
    (cICP) are not those of sRGB.
    """
    return decode_image(read_bytes(path), str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads the bytes of an image file; InputError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); check the path and its permissions') from error


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decodes the content of an image file as ``read_image`` does; errors begin with ``name``."""
    if not data:
        raise InputError(f'{name}: is empty, expected an image; replace or remove it')
    try:
        return _decode(data)
    except DECODING_ERRORS as error:
        raise make_error(name, error) from error


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of an image file as ``read_image`` would return it, from its header alone.

    InputError if the file is missing or has no image's header.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            adopt_raw_exif(image)
            width, height = image.size
            # Pillow gives the size of a TIFF upright already, that of every other format as it is stored.
            turned = image.format != 'TIFF' and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except DECODING_ERRORS as error:
        raise make_error(path, error) from error
    return (width, height) if turned else (height, width)


def decode_stored_image(data: bytes | memoryview, name: str) -> NDArray[np.uint8]:
    """Decodes an entry of an LMDB; the same result as ``decode_image``, faster for 8-bit PNG.

    The array does not refer to ``data``. InputError, opened by ``name``, if the entry is no whole image.
    """
    header = bytes(data[:26])
    plain = header.startswith(_PNG_SIGNATURE) and len(header) == 26 and header[24] == 8 and header[25] in (0, 2, 6)
    if not plain:
        return decode_image(bytes(data), name)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise InputError(f'{name}: cannot be read as an image (damaged PNG); prepare the LMDB again')
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def encode_png(image: NDArray[np.uint8], compress_level: int = 1) -> bytes:
    """PNG of an RGB image (H, W, 3), as BasicSR's own LMDB maker encodes it, at level 0 (none) to 9 (small, slow).

    ValueError if the array is no 8-bit RGB image.
    """
    return _encode(image, '.png', [cv2.IMWRITE_PNG_COMPRESSION, compress_level])


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Writes an RGB image (H, W, 3) atomically, as JPEG at quality 95 and in every other format without loss.

    The ending of the path, one of ``IMAGE_SUFFIXES``, chooses the format. InputError if it is unknown or the format
    cannot hold an image of this size, ValueError if the array is no 8-bit RGB image, OSError if it cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: unknown image ending '{suffix}'; use one of {', '.join(IMAGE_SUFFIXES)}")
    settings = {
        '.jpg': [cv2.IMWRITE_JPEG_QUALITY, 95],
        '.png': [cv2.IMWRITE_PNG_COMPRESSION, 3],
        '.webp': [cv2.IMWRITE_WEBP_QUALITY, 101],  # above 100 is lossless
    }
    known = '.jpg' if suffix in JPEG_SUFFIXES else suffix  # to OpenCV
    try:
        data = _encode(image, known, settings.get(known, []))
    except cv2.error as error:
        height, width = image.shape[:2]
        raise InputError(f'{path}: {suffix} cannot hold an image of {width} x {height}; use .png or .tiff') from error
    write_whole(path, data)


def _encode(image: NDArray[np.uint8], suffix: str, settings: list[int]) -> bytes:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f'expected uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}')
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise cv2.error(f'cannot encode {suffix}')
    return data.tobytes()


def _decode(data: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data), formats=_FORMATS) as image:
        if image.format == 'PNG':
            image.verify()  # the checksum of every chunk, which loading skips; it spends the file object
    with Image.open(BytesIO(data), formats=_FORMATS) as image:
        cicp, _ = read_cicp(data, str(image.format))
        if cicp is not None and not cicp.is_srgb:
            raise ValueError(f'the colour is {cicp.describe()}, expected sRGB')
        adopt_raw_exif(image)
        has_16 = has_16_bits(image, data)
        # Pillow turns a TIFF while loading, after which the tag is gone.
        orientation = image.getexif().get(_ORIENTATION, 1) if has_16 or image.format != 'TIFF' else 1
        image.load()
        if has_16:
            samples = decode_16_bits(data, str(image.format))
            grey = samples.ndim == 2 or samples.shape[2] == 2
            rgb = np.repeat(samples.reshape(*samples.shape[:2], -1)[:, :, :1], 3, axis=2) if grey else samples[:, :, :3]
            pixels = round_to_8_bits(rgb)
        else:
            pixels = np.array(image.convert('RGB'))
    return turn_upright(pixels, orientation)


def read_cicp(data: bytes, kind: str) -> tuple[CICP | None, dict[bytes, bytes]]:
    """The colour codes of a PNG or AVIF, and a PNG's chunks cICP, mDCV and cLLI, which belong together."""
    if kind == 'AVIF':
        place = data.find(b'colrnclx')
        if place < 0 or place + 15 > len(data):
            return None, {}
        primaries, transfer, matrix = (int.from_bytes(data[place + n : place + n + 2], 'big') for n in (8, 10, 12))
        cicp = CICP(primaries, transfer, matrix, 1)  # as decoded: RGB, full range
        return cicp, {b'cICP': bytes([primaries & 255, transfer & 255, 0, 1])}
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


def adopt_raw_exif(image: Image.Image) -> None:
    """Lets Pillow find the EXIF that ImageMagick wrote into a text entry of a PNG by the name of a JPEG's segment."""
    raw = image.info.get(RAW_APP1, '')
    if isinstance(raw, str) and is_raw_exif(raw):
        image.info.setdefault(RAW_EXIF, raw)


def is_raw_exif(entry: str) -> bool:
    """True if a text entry of ImageMagick for a segment of a JPEG holds EXIF."""
    return '45786966' in entry[:60]  # 'Exif'


def has_16_bits(image: Image.Image, data: bytes) -> bool:
    """True if an image opened by Pillow from ``data`` has 16-bit samples, which Pillow would truncate to 8.

    ValueError if its samples are neither 8 nor 16 unsigned bits.
    """
    if image.format == 'PNG':
        return data[24] == 16  # bit depth, in the header that must come first
    if image.format != 'TIFF':
        return False
    tags: Any = getattr(image, 'tag_v2', {})
    bits = set(tags.get(_BITS_PER_SAMPLE, (1,)))
    if set(tags.get(_SAMPLE_FORMAT, (1,))) != {1}:
        raise ValueError('samples are signed or floating point, expected unsigned integers')
    if max(bits) <= 8:
        return False
    if bits != {16}:
        raise ValueError(f'samples of {max(bits)} bits, expected 8 or 16')
    return True


def round_to_8_bits(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Rounds samples of 16 bits to 8."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257


def turn_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Applies an EXIF orientation (1 to 8); an image with another number is returned unchanged."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def make_error(
    name: str | os.PathLike[str], error: BaseException, known: str = 'PNG, JPEG, BMP, TIFF or WebP'
) -> InputError:
    """The error for a file that raised one of DECODING_ERRORS; ``known`` are the formats that are read."""
    if isinstance(error, PermissionError):
        return InputError(f'{name}: cannot be read ({error.strerror}); check its permissions')
    if isinstance(error, FileNotFoundError):
        reason = 'no such file'
    elif isinstance(error, UnidentifiedImageError):
        reason = f'not a {known}, or of a kind that is not read, such as 32 bits'
    elif isinstance(error, Image.DecompressionBombError):
        reason = f'more than {MAX_PIXELS // 10**6} megapixels'
    elif 'MAX_TEXT_' in str(error):
        reason = f'text entries or a profile of more than {PngImagePlugin.MAX_TEXT_MEMORY >> 20} MB'
    else:
        reason = ' '.join(str(error).split()) or type(error).__name__
    return InputError(f'{name}: cannot be read as an image ({reason}); replace or remove it')
