"""The OpenAPI 3.1 description of the HTTP API, made from the types that requests are read into and answers made of."""

from typing import Any

import msgspec

from dasr_arch.version import __version__
from dasr_arch.web.problems import PROBLEM_TYPE
from dasr_arch.web.schemas import (
    FORMATS,
    Health,
    JobStatus,
    Models,
    PlaygroundParameters,
    ProblemDetails,
    Samples,
    UpscaleParameters,
    describe_fields,
)
from dasr_arch.web.settings import ServeSettings

_ANSWERS = (Health, JobStatus, Models, Samples, ProblemDetails)
_REASONS = {
    401: 'The token is missing or wrong.',
    403: 'The request comes from a page of another site.',
    404: 'There is no such job, sample or image, or not any more.',
    408: 'The upload stopped in the middle.',
    409: 'The job is not finished.',
    410: 'The job was cancelled.',
    413: 'The upload or the image is too large.',
    415: 'The upload is not an image.',
    421: 'The server is asked under a name that is not its own.',
    422: 'The image is damaged or cannot be upscaled, or a parameter is wrong.',
    503: 'Too many jobs are waiting; Retry-After says when to try again.',
}
_EVERYWHERE = (403, 421)
_UPLOAD = (408, 413, 415, 422, 503)
Schema = dict[str, Any]


def describe_api(settings: ServeSettings) -> Schema:
    """The whole document.

    Args:
        settings: decide whether a token is needed.
    """
    _, components = msgspec.json.schema_components(_ANSWERS, ref_template='#/components/schemas/{name}')
    _add_descriptions(components)
    document: Schema = {
        'openapi': '3.1.0',
        'info': {
            'title': 'DASR',
            'version': __version__,
            'license': {'name': 'Apache-2.0', 'identifier': 'Apache-2.0'},
            'description': 'Blind super-resolution on this machine: images in, larger images out. Errors are '
            f'{PROBLEM_TYPE} (RFC 9457).',
        },
        'paths': _describe_paths(settings.token is not None),
        'components': {'schemas': components},
    }
    if settings.token is not None:
        document['components']['securitySchemes'] = {'token': {'type': 'http', 'scheme': 'bearer'}}
        document['security'] = [{'token': []}]
    return document


def _describe_paths(has_token: bool) -> Schema:
    always = (401, *_EVERYWHERE) if has_token else _EVERYWHERE
    job_id = {'name': 'id', 'in': 'path', 'required': True, 'schema': {'type': 'string'}}
    sample = {'name': 'name', 'in': 'path', 'required': True, 'schema': {'type': 'string'}}
    image = {
        'name': 'image',
        'in': 'path',
        'required': True,
        'description': 'of an upscaling input or result, of an experiment hr, lq, bicubic or sr',
        'schema': {'type': 'string', 'enum': ['input', 'result', 'hr', 'lq', 'bicubic', 'sr']},
    }
    file = _answer('The enlarged image.', 'image/*')
    return {
        '/api/v1/upscale': {
            'post': {
                'operationId': 'upscale',
                'summary': 'Upscale an image and wait for it',
                'description': 'For scripts. Closing the connection cancels the work.',
                'parameters': _parameters(UpscaleParameters),
                'requestBody': _upload('image', UpscaleParameters, required=True),
                'responses': {'200': file, **_problems(*always, *_UPLOAD, 410)},
            }
        },
        '/api/v1/jobs': {
            'post': {
                'operationId': 'startUpscaling',
                'summary': 'Start to upscale an image',
                'parameters': _parameters(UpscaleParameters),
                'requestBody': _upload('image', UpscaleParameters, required=True),
                'responses': {'202': _json('The new job.', 'JobStatus'), **_problems(*always, *_UPLOAD)},
            }
        },
        '/api/v1/jobs/{id}': {
            'get': {
                'operationId': 'getJob',
                'summary': 'See how far a job is',
                'parameters': [job_id],
                'responses': {'200': _json('The job.', 'JobStatus'), **_problems(*always, 404)},
            },
            'delete': {
                'operationId': 'deleteJob',
                'summary': 'Cancel a job, or forget its result',
                'parameters': [job_id],
                'responses': {'204': {'description': 'It is gone.'}, **_problems(*always, 404)},
            },
        },
        '/api/v1/jobs/{id}/result': {
            'get': {
                'operationId': 'getResult',
                'summary': 'Download what an upscaling made',
                'parameters': [job_id],
                'responses': {'200': file, **_problems(*always, 404, 409, 422)},
            }
        },
        '/api/v1/jobs/{id}/images/{image}': {
            'get': {
                'operationId': 'getImage',
                'summary': 'An image of a job in a form that browsers show',
                'parameters': [job_id, image],
                'responses': {'200': _answer('The image.', 'image/*'), **_problems(*always, 404, 409)},
            }
        },
        '/api/v1/playground': {
            'post': {
                'operationId': 'startExperiment',
                'summary': 'Degrade a clean image in a known way and restore it',
                'description': 'The image comes with the request, or `sample` names one. Images are cut to their '
                'middle 480 x 480 pixels.',
                'parameters': _parameters(PlaygroundParameters),
                'requestBody': _upload('image', PlaygroundParameters, required=False),
                'responses': {'202': _json('The new job.', 'JobStatus'), **_problems(*always, *_UPLOAD)},
            }
        },
        '/api/v1/models': {
            'get': {
                'operationId': 'listModels',
                'summary': 'Models, formats and limits',
                'responses': {'200': _json('What there is.', 'Models'), **_problems(*always)},
            }
        },
        '/api/v1/samples': {
            'get': {
                'operationId': 'listSamples',
                'summary': 'Sample images of the playground',
                'responses': {'200': _json('What there is.', 'Samples'), **_problems(*always)},
            }
        },
        '/api/v1/samples/{name}': {
            'get': {
                'operationId': 'getSample',
                'summary': 'A sample image, small',
                'parameters': [sample],
                'responses': {'200': _answer('160 x 160 pixels.', 'image/jpeg'), **_problems(*always, 404)},
            }
        },
        '/healthz': {
            'get': {
                'operationId': 'getHealth',
                'summary': 'Whether the server works',
                'security': [],
                'responses': {'200': _json('It does.', 'Health'), **_problems(*_EVERYWHERE)},
            }
        },
    }


def _properties(kind: type[msgspec.Struct]) -> Schema:
    """Schemas of the parameters by name."""
    _, components = msgspec.json.schema_components([kind])
    schema = components[kind.__name__]
    texts = describe_fields(kind)
    out: Schema = {}
    for name, value in schema['properties'].items():
        plain = _unwrap(value)
        if name == 'format':
            plain['enum'] = list(FORMATS)
        out[name] = {**plain, 'description': texts.get(name, '')}
    return out


def _unwrap(schema: Schema) -> Schema:
    """The schema of a value that may be left out: without null, which no form can send."""
    choices = [choice for choice in schema.get('anyOf', [schema]) if choice.get('type') != 'null']
    plain = dict(choices[0])
    if schema.get('default') is not None:
        plain['default'] = schema['default']
    elif 'default' in plain and plain['default'] is None:
        del plain['default']
    return plain


def _parameters(kind: type[msgspec.Struct]) -> list[Schema]:
    return [
        {
            'name': name,
            'in': 'query',
            'description': schema['description'],
            'schema': {key: value for key, value in schema.items() if key != 'description'},
        }
        for name, schema in _properties(kind).items()
    ]


def _upload(field: str, kind: type[msgspec.Struct], required: bool) -> Schema:
    """A body that is a form with a file and parameters, or the image's bytes with parameters in the address."""
    form: Schema = {
        'type': 'object',
        'properties': {
            field: {'type': 'string', 'format': 'binary', 'description': 'the image'},
            **_properties(kind),
        },
    }
    if kind is UpscaleParameters:
        form['properties']['like'] = {
            'type': 'string',
            'format': 'binary',
            'description': 'another image, whose degradation is taken instead of its own',
        }
    if required:
        form['required'] = [field]
    return {
        'required': required,
        'content': {
            'multipart/form-data': {'schema': form},
            'image/*': {'schema': {'type': 'string', 'format': 'binary'}},
        },
    }


def _answer(text: str, media_type: str) -> Schema:
    return {'description': text, 'content': {media_type: {'schema': {'type': 'string', 'format': 'binary'}}}}


def _json(text: str, name: str) -> Schema:
    return {'description': text, 'content': {'application/json': {'schema': _reference(name)}}}


def _problems(*statuses: int) -> Schema:
    content = {PROBLEM_TYPE: {'schema': _reference('ProblemDetails')}}
    return {str(status): {'description': _REASONS[status], 'content': content} for status in sorted(statuses)}


def _reference(name: str) -> Schema:
    return {'$ref': f'#/components/schemas/{name}'}


def _add_descriptions(components: Schema) -> None:
    """Puts what docstrings say of attributes beside their schemas, and only the first line of each type."""
    kinds = {kind.__name__: kind for kind in _all_structs(msgspec.Struct)}
    for name, schema in components.items():
        schema['description'] = str(schema.get('description', '')).partition('\n')[0]
        texts = describe_fields(kinds[name])
        for field, value in schema.get('properties', {}).items():
            if field in texts:
                value['description'] = texts[field]


def _all_structs(base: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    own = [kind for kind in base.__subclasses__() if kind.__module__.startswith('dasr_arch.web')]
    return [*own, *(inner for kind in own for inner in _all_structs(kind))]
