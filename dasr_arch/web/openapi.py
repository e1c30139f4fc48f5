"""Parts of the OpenAPI description that FastAPI cannot derive: files in requests and answers, and errors.

A body is a form with files, or an image alone; it is read by :mod:`dasr_arch.web.uploads`, which limits size and time
while it arrives. FastAPI reads a body of one declared kind, and only as a whole.
"""

from typing import Any

from fastapi import Response

from dasr_arch.web.problems import PROBLEM_TYPE
from dasr_arch.web.schemas import Parameters, UpscaleParameters

_CAUSES: dict[int | str, str] = {
    401: 'The token is missing or wrong',
    403: 'The request comes from a page of another site',
    404: 'There is no such job, sample or image, or it was deleted',
    408: 'The upload stopped',
    409: 'The job is not finished',
    410: 'The job was cancelled',
    413: 'The upload or the image is too large',
    415: 'The upload is not an image',
    421: 'The host name is not that of the server',
    422: 'The image is damaged or cannot be upscaled, or a parameter is wrong',
    503: 'Too many jobs are waiting; Retry-After tells when to try again',
    'default': 'Any other error',
}
UPLOAD_ERRORS = (408, 413, 415, 422, 503)
"""Status codes of requests with a body."""

_BINARY = {'type': 'string', 'format': 'binary'}


def describe_errors(*statuses: int | str) -> dict[int | str, dict[str, Any]]:
    """Responses of a route for some status codes of errors."""
    content = {PROBLEM_TYPE: {'schema': {'$ref': '#/components/schemas/ProblemDetails'}}}
    return {status: {'description': _CAUSES[status], 'content': content} for status in statuses}


def describe_file(description: str, media_type: str = 'image/*') -> dict[str, Any]:
    """Options of a route that answers with a file."""
    content = {media_type: {'schema': _BINARY}}
    return {'response_class': Response, 'responses': {200: {'description': description, 'content': content}}}


def describe_body(kind: type[Parameters]) -> dict[str, Any]:
    """Options of a route that takes a form with files and parameters, or an image with parameters in the query."""
    files = {'image': {**_BINARY, 'description': 'The image'}}
    needed = kind is UpscaleParameters
    if needed:
        files['reference'] = {**_BINARY, 'description': 'Another image, the representation of which is used instead'}
        mask = 'An image of the size of the image or the result; the network is used where it is white'
        files['mask'] = {**_BINARY, 'description': mask}
    form = {'type': 'object', 'properties': files | kind.model_json_schema()['properties']}
    if needed:
        form['required'] = ['image']
    content = {'multipart/form-data': {'schema': form}, 'image/*': {'schema': _BINARY}}
    return {'openapi_extra': {'requestBody': {'required': needed, 'content': content}}}
