"""Uploads: bodies with limits of size and time, forms, file names, and checks of images."""

import asyncio
from collections.abc import AsyncGenerator
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageSequence, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from dasr_arch._errors import InputError
from dasr_arch.data.image_io import DECODING_ERRORS
from dasr_arch.inference.images.io import (
    ENDINGS,
    FORMATS,
    SUFFIXES,
    Header,
    ImageFile,
    OutputSettings,
    check_output,
    read_header,
    read_image_file,
)
from dasr_arch.inference.target_size import Scale, label_scale
from dasr_arch.web.problems import ProblemError
from dasr_arch.web.settings import Limits

MEDIA_TYPES = {kind: f'image/{kind.lower()}' for kind in FORMATS}
"""Media type of each format, such as 'image/png'."""

_IMAGE_FIELDS = ('image', 'reference', 'mask')
_FORMER_FIELDS = {'like': 'reference'}  # of 0.2
_LONGEST_NAME = 120
_SIGNATURES = (b'\x89PNG', b'\xff\xd8', b'RIFF', b'II*\0', b'MM\0*', b'BM', b'GIF8')  # AVIF has one from the fifth byte


class UploadedImage(NamedTuple):
    """Content of an uploaded file, and its sanitised name."""

    data: bytes
    name: str


class Upload(NamedTuple):
    """Content of a request."""

    images: dict[str, UploadedImage]  # by form field: 'image' and optionally 'reference' and 'mask'
    fields: dict[str, str]  # parameters of query and form as text


async def read_upload(request: Request, limits: Limits) -> Upload:
    """Reads the body of a request: a form with files, or the bytes of an image.

    Parameters are in the query, the form, or both. Raises ProblemError 400 or 408 if the upload stops, 413 if it is too
    large, and 422 if the form is wrong.
    """
    fields: dict[str, str] = {}
    for name, text in request.query_params.multi_items():
        _put(fields, name, text)
    if not request.headers.get('content-type', '').lower().startswith('multipart/form-data'):
        data = b''.join([chunk async for chunk in _read_chunks(request, limits)])
        return Upload({'image': UploadedImage(data, clean_name(fields.get('name', '')))}, fields)
    parser = MultiPartParser(
        request.headers, _read_chunks(request, limits), max_files=len(_IMAGE_FIELDS), max_fields=40
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise ProblemError(422, f'the form cannot be read ({error}); send it as multipart/form-data') from error
    except OSError as error:  # large forms are kept in a temporary file
        raise ProblemError(507, f'the server cannot write its files ({error.strerror})') from error
    images: dict[str, UploadedImage] = {}
    try:
        for given, value in form.multi_items():
            name = _FORMER_FIELDS.get(given, given) if isinstance(value, UploadFile) else given
            if isinstance(value, UploadFile) and name in _IMAGE_FIELDS and name not in images:
                images[name] = UploadedImage(await value.read(), clean_name(value.filename or ''))
            elif isinstance(value, UploadFile):
                raise ProblemError(
                    422, f"a form has one file 'image', and at most one 'reference' and one 'mask'; got '{given[:40]}'"
                )
            else:
                _put(fields, name, value)
    finally:
        await form.close()
    return Upload(images, fields)


def clean_name(name: str) -> str:
    """Sanitises a file name: without folders and special characters."""
    last = name.replace('\\', '/').rpartition('/')[2]
    kept = ''.join(sign for sign in last if sign.isprintable() and sign not in '<>:"|?*').strip(' .')
    return kept[-_LONGEST_NAME:] or 'image'


def name_result(name: str, scale: Scale, kind: str) -> str:
    """File name of a result of format ``kind``: photo_x4.jpg for photo.jpg."""
    stem, _, ending = name.rpartition('.')
    known = SUFFIXES.get(f'.{ending}'.lower())
    if not stem or known is None:
        return f'{name}_{label_scale(scale)}{ENDINGS[kind]}'
    return f'{stem}_{label_scale(scale)}{f".{ending}" if known == kind else ENDINGS[kind]}'


def check_image(image: UploadedImage, limits: Limits) -> Header:
    """Checks format and size of an image by its header, which is returned, before it is decoded.

    Raises ProblemError 413 if it is too large, 415 if it is not an image, and 422 if it is damaged.
    """
    name, data = image.name, image.data
    try:
        header = read_header(data, name)
        pixels = header.frames * header.width * header.height
        if header.format == 'TIFF':  # its pages may differ in size
            with Image.open(BytesIO(data), formats=FORMATS) as file:
                pixels = sum(page.width * page.height for page in ImageSequence.Iterator(file))
    except InputError as error:
        raise _explain(error, data) from error
    except DECODING_ERRORS as error:
        raise ProblemError(422, f'{name}: cannot be read as an image; it is damaged') from error
    if pixels > limits.pixels:
        frames = f', {header.frames} frames' if header.frames > 1 else ''
        raise ProblemError(
            413,
            f'{name}: has {pixels / 1e6:.1f} megapixels ({header.width} x {header.height}{frames}), '
            f'at most {limits.megapixels:g} are taken',
        )
    return header


def open_image_file(image: UploadedImage, scale: Scale, output: OutputSettings) -> ImageFile:
    """Decodes an image that passed ``check_image``.

    Raises ProblemError 415 or 422 if it cannot be read, or if the format cannot store its result.
    """
    try:
        file = read_image_file(image.data, image.name, scale, kind=output.format)
    except InputError as error:
        raise _explain(error, image.data) from error
    try:
        check_output(file, output, scale)
    except InputError as error:
        raise ProblemError(422, f'{image.name}: {error}'.replace('--format', 'format')) from error
    return file


def _put(fields: dict[str, str], name: str, text: str) -> None:
    if name in fields:
        raise ProblemError(422, f"parameter '{name}' is given twice")
    fields[name] = text


async def _read_chunks(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Chunks of the body; ProblemError if it is too large or stops."""
    most = limits.upload_bytes
    too_long = ProblemError(413, f'the upload is larger than the {limits.upload_megabytes:g} MB that are taken')
    announced = request.headers.get('content-length', '')
    if announced.isdigit() and int(announced) > most:
        raise too_long
    size = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(limits.body_seconds):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            raise ProblemError(
                408, f'nothing came for {limits.body_seconds:g} seconds in the middle of the upload'
            ) from error
        except ClientDisconnect as error:
            raise ProblemError(400, 'the upload was broken off') from error
        if chunk is None:
            return
        size += len(chunk)
        if size > most:
            raise too_long
        yield chunk


def _explain(error: InputError, data: bytes) -> ProblemError:
    cause = error.__cause__
    if isinstance(cause, Image.DecompressionBombError):
        return ProblemError(413, str(error))
    known = data.startswith(_SIGNATURES) or data[4:8] == b'ftyp'
    return ProblemError(415 if isinstance(cause, UnidentifiedImageError) and not known else 422, str(error))
