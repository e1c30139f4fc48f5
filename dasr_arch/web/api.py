"""Routes of the server: the page, the HTTP API and its description."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.telemetry import TelemetryConfig
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from dasr_arch._errors import InputError
from dasr_arch.inference.images.io import OutputSettings
from dasr_arch.inference.model_pool import AUTO
from dasr_arch.inference.target_size import check_mask, choose_factor, resize
from dasr_arch.inference.tiling import Tiling
from dasr_arch.probe.auto_model import AutoPool
from dasr_arch.version import __version__
from dasr_arch.web import schemas
from dasr_arch.web.jobs import Job, JobQueue, Outcome, StoredFile
from dasr_arch.web.model_store import ModelStore
from dasr_arch.web.openapi import UPLOAD_ERRORS, describe_body, describe_errors, describe_file
from dasr_arch.web.playground import find_sample, list_samples, make_degradation, make_thumbnail, run_experiment
from dasr_arch.web.problems import PROBLEM_TYPE, ProblemError, answer_bug, answer_error, answer_http_exception
from dasr_arch.web.representation_map import MapStore
from dasr_arch.web.schemas import FORMATS, JobStatus, PlaygroundParameters, UpscaleParameters
from dasr_arch.web.security import SecurityMiddleware, log_in, matches
from dasr_arch.web.settings import Limits, ServeSettings
from dasr_arch.web.uploads import Upload, UploadedImage, check_image, clean_name, open_image_file, read_upload
from dasr_arch.web.upscaling import convert_for_browsers, run_upscaling

STATIC = Path(__file__).parent / 'static'
_PAGES = {'/': 'index.html', '/docs': 'docs.html', '/favicon.ico': 'icon.svg'}
_SWEEP_SECONDS = 20
_NO_TELEMETRY: TelemetryConfig = {'tracing': False, 'metrics': False, 'logs': False, 'auto_configure': False}


class Service:
    """Endpoints of the HTTP API; their docstrings are its description.

    Parameters come in the query, in a form, or in both. FastAPI validates and describes those of the query.
    """

    def __init__(self, settings: ServeSettings, models: ModelStore, queue: JobQueue) -> None:
        self.settings = settings
        self.models = models
        self.queue = queue
        self._maps = MapStore()
        self._decoding = asyncio.Semaphore(2)  # images decoded at the same time to find damage
        self._most_uploads = settings.limits.jobs + settings.limits.queue
        self._uploads = asyncio.Semaphore(self._most_uploads)  # bodies that are being read, which takes memory

    async def upscale(self, request: Request, query: Annotated[UpscaleParameters, Query()]) -> Response:
        """Upscale an image and wait for the result. Closing the connection cancels the job."""
        job = await self._submit_upscaling(request)
        if not await _wait(request, job):
            self.queue.remove(job)
            return Response(status_code=499)
        if job.outcome is None:
            self.queue.remove(job)
            raise job.error or ProblemError(500, 'the job ended without a result')
        response = _send(_find_file(job, 'result'), BackgroundTask(self.queue.remove, job), download=True)
        response.headers['DASR-Notes'] = json.dumps(job.outcome.facts.notes)  # ASCII
        response.headers['DASR-Result'] = json.dumps(job.outcome.facts.model_dump(exclude={'notes'}))
        return response

    async def start_upscaling(
        self, request: Request, response: Response, query: Annotated[UpscaleParameters, Query()]
    ) -> JobStatus:
        """Start a job that upscales an image."""
        return self._accept(await self._submit_upscaling(request), response)

    async def start_experiment(
        self, request: Request, response: Response, query: Annotated[PlaygroundParameters, Query()]
    ) -> JobStatus:
        """Start a job that degrades a clean image in a known way and restores it.

        The image is uploaded, or `sample` names one. Its middle 480 x 480 pixels are used.
        """
        upload = await self._read(request)
        parameters = PlaygroundParameters.model_validate(upload.fields)
        entry = self.models.find(parameters.model, parameters.scale)
        make_degradation(parameters, entry.scale)  # raises for wrong parameters
        image = upload.images.get('image')
        for other in upload.images.keys() - {'image'}:
            raise ProblemError(422, f"an experiment takes no file called '{other}'")
        if parameters.sample is not None:
            if image is not None and image.data:
                raise ProblemError(422, 'give an image or the name of a sample, not both')
            image = None
            await run_in_threadpool(find_sample, parameters.sample)
        elif image is None or not image.data:
            raise ProblemError(422, 'a clean image is needed: upload one, or name a sample')
        else:
            await run_in_threadpool(check_image, image, self.settings.limits)
        name = parameters.sample or (image.name if image else '')

        def work(job: Job) -> Outcome:
            return run_experiment(job, image, parameters, entry, self.models.load(entry), self._maps)

        return self._accept(self.queue.submit('playground', name, work), response)

    async def get_job(self, id: str) -> JobStatus:
        """State and progress of a job."""
        return self._describe(self.queue.get(id))

    async def delete_job(self, id: str) -> None:
        """Cancel a job, or delete its result."""
        self.queue.remove(self.queue.get(id))

    async def get_result(self, id: str) -> Response:
        """Download the result of an upscaling."""
        return _send(_find_file(self.queue.get(id), 'result'), download=True)

    def get_image(self, id: str, image: str) -> Response:
        """An image of a job in a format that browsers show.

        An upscaling has `input` and `result`, an experiment `hr`, `lq`, `bicubic` and `sr`.
        """
        job = self.queue.get(id)
        stored = _find_file(job, image)
        try:
            return _send(convert_for_browsers(job, stored) if job.kind == 'upscale' else stored)
        except OSError as error:
            _find_file(job, image)  # 404 if it has expired meanwhile
            raise ProblemError(507, f'the server cannot write its files ({error.strerror})') from error

    async def list_models(self) -> schemas.Models:
        """Models, formats and limits."""
        limits = self.settings.limits
        return schemas.Models(
            models=self.models.entries,
            formats=list(FORMATS),
            limits=schemas.ServerLimits(
                upload_bytes=limits.upload_bytes,
                pixels=limits.pixels,
                jobs=limits.jobs,
                queue=limits.queue,
                keep_seconds=60 * limits.keep_minutes,
            ),
            device=self.models.device,
        )

    def list_samples(self) -> schemas.Samples:
        """Sample images of the playground."""
        return schemas.Samples(samples=list_samples())

    def get_sample(self, name: str) -> Response:
        """A thumbnail of a sample image."""
        try:
            return Response(make_thumbnail(name), media_type='image/jpeg')
        except InputError as error:
            raise ProblemError(404, str(error)) from error

    async def get_health(self) -> schemas.Health:
        """State of the server."""
        running, waiting = self.queue.counts()
        return schemas.Health(version=__version__, running=running, waiting=waiting)

    async def log_in(self, request: Request) -> Response:
        """Exchange the token for a cookie."""
        upload = await read_upload(request, Limits(upload_megabytes=0.01))
        token = self.settings.token
        if token is None or matches(upload.fields.get('token', ''), token):
            return log_in(token or '', self.settings, request.headers)
        raise ProblemError(401, 'this is not the token that the server was started with')

    async def _submit_upscaling(self, request: Request) -> Job:
        limits = self.settings.limits
        upload = await self._read(request)
        parameters = UpscaleParameters.model_validate(upload.fields)
        output, size = parameters.output(), parameters.size()
        if parameters.model != AUTO:
            self.models.find(parameters.model, parameters.factor)
        image = upload.images.get('image')
        if image is None:
            raise ProblemError(422, "an image is needed: as the body, or as the file 'image' of a form")
        if parameters.name is not None:
            image = image._replace(name=clean_name(parameters.name))
        images = upload.images | {'image': image}
        async with self._decoding:
            headers = {name: await run_in_threadpool(check_image, one, limits) for name, one in images.items()}
            for other in ('reference', 'mask'):
                if other in images:
                    await run_in_threadpool(open_image_file, images[other], 1, OutputSettings())
            sizes = {name: (header.width, header.height) for name, header in headers.items()}
            choice = await run_in_threadpool(self._choose_model, image, sizes['image'], parameters)
            entry = choice[0]
            check_mask(sizes.get('mask', sizes['image']), sizes['image'], resize(size or entry.scale, *sizes['image']))
            await run_in_threadpool(open_image_file, image, size or entry.scale, output)
        if await request.is_disconnected():  # nobody would fetch the result
            raise ProblemError(408, 'the client went away')

        def work(job: Job) -> Outcome:
            loaded = self.models.load(entry, Tiling(parameters.tile, parameters.exact))
            return run_upscaling(job, images, parameters, choice, loaded)

        return self.queue.submit('upscale', image.name, work)

    def _choose_model(
        self, image: UploadedImage, size: tuple[int, int], parameters: UpscaleParameters
    ) -> tuple[schemas.Model, str]:
        """The model for an image of a width and height, and the reason; the smallest factor that reaches a size."""
        name, scale = parameters.model, parameters.factor
        reason = 'chosen by the request'
        if name == AUTO:
            pool = AutoPool(AUTO, scale, lambda factor, model: self.models.load_named(str(model), factor))
            found, reason = pool.choose_model(open_image_file(image, 1, OutputSettings()))
            name = str(found)
        entry = self.models.find(name, scale)
        if name is None:
            reason = 'default for photographs' if entry.setting else 'first of the command line'
        wanted = name or entry.setting or entry.name
        factors = [one.scale for one in self.models.entries if wanted in (one.name, one.setting)]
        factor = choose_factor(parameters.size() or entry.scale, *size, factors if scale is None else [scale])
        return self.models.find(wanted, factor), reason

    async def _read(self, request: Request) -> Upload:
        """Reads the upload, unless there is no room for its job."""
        self.queue.check_room()
        if self._uploads.locked():
            raise ProblemError(503, f'{self._most_uploads} uploads at once are all that fit', 5)
        async with self._uploads:
            return await read_upload(request, self.settings.limits)

    def _accept(self, job: Job, response: Response) -> JobStatus:
        response.headers['Location'] = f'{self.settings.root_path}/api/v1/jobs/{job.id}'
        return self._describe(job)

    def _describe(self, job: Job) -> JobStatus:
        facts = job.outcome.facts if job.outcome is not None and job.state == 'done' else None
        error = job.error if job.state == 'failed' else None
        left, expires = job.seconds_left, self.queue.expires_in(job)
        return JobStatus(
            id=job.id,
            kind=job.kind,
            name=job.name,
            state=job.state,
            phase=job.phase,
            progress=round(job.progress, 4),
            seconds_left=None if left is None else round(left, 1),
            ahead=self.queue.ahead(job),
            expires_in=None if expires is None else round(expires, 1),
            error=None if error is None else schemas.ProblemDetails.model_validate(error.as_json()),
            upscale=facts if isinstance(facts, schemas.UpscaleResult) else None,
            playground=facts if isinstance(facts, schemas.PlaygroundResult) else None,
        )


def make_app(settings: ServeSettings, models: ModelStore, queue: JobQueue) -> FastAPI:
    """The ASGI application; the caller closes the queue."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(queue))
        try:
            yield
        finally:
            sweeping.cancel()

    handlers: dict[Any, Any] = {
        ProblemError: answer_error,
        InputError: answer_error,
        HTTPException: answer_http_exception,
        Exception: answer_bug,
    }
    app = FastAPI(
        title='DASR',
        version=__version__,
        description=f'Blind super-resolution on this machine. Errors are {PROBLEM_TYPE} (RFC 9457).',
        license_info={'name': 'Apache-2.0', 'identifier': 'Apache-2.0'},
        docs_url=None,  # these pages of FastAPI load scripts from other machines
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
        redirect_slashes=False,
        generate_unique_id_function=_name_operation,
        responses=describe_errors(403, 421, 'default'),
        exception_handlers=handlers,
        lifespan=lifespan,
        middleware=[Middleware(SecurityMiddleware, settings=settings, login_page=str(STATIC / 'login.html'))],
    )
    _add_routes(app, Service(settings, models, queue), settings.token is not None)
    for path, file in _PAGES.items():
        app.add_route(path, partial(_show_page, file), include_in_schema=False)
    app.mount('/static', StaticFiles(directory=STATIC))
    return app


def _add_routes(app: FastAPI, service: Service, has_token: bool) -> None:
    """Adds the HTTP API. The security middleware checks the token; here it is only described."""
    security = [Depends(HTTPBearer(scheme_name='token', auto_error=False))] if has_token else None
    token_error = describe_errors(401) if has_token else {}

    def add(method: str, path: str, endpoint: Callable[..., Any], *errors: int, **options: Any) -> None:
        responses = options.pop('responses', {}) | token_error | describe_errors(*errors)
        app.add_api_route(path, endpoint, methods=[method], responses=responses, dependencies=security, **options)
        if method == 'GET':
            app.add_api_route(path, endpoint, methods=['HEAD'], include_in_schema=False)

    upscaling, experiment = describe_body(UpscaleParameters), describe_body(PlaygroundParameters)
    result, shown = describe_file('The upscaled image'), describe_file('The image')
    thumbnail = describe_file('160 x 160 pixels', 'image/jpeg')
    add('POST', '/api/v1/upscale', service.upscale, 410, *UPLOAD_ERRORS, **upscaling, **result)
    add('POST', '/api/v1/jobs', service.start_upscaling, *UPLOAD_ERRORS, status_code=202, **upscaling)
    add('GET', '/api/v1/jobs/{id}', service.get_job, 404)
    add('DELETE', '/api/v1/jobs/{id}', service.delete_job, 404, status_code=204)
    add('GET', '/api/v1/jobs/{id}/result', service.get_result, 404, 409, 422, **result)
    add('GET', '/api/v1/jobs/{id}/images/{image}', service.get_image, 404, 409, **shown)
    old = {'name': 'get_picture', 'deprecated': True}
    add('GET', '/api/v1/jobs/{id}/pictures/{image}', service.get_image, 404, 409, **shown, **old)
    add('POST', '/api/v1/playground', service.start_experiment, *UPLOAD_ERRORS, status_code=202, **experiment)
    add('GET', '/api/v1/models', service.list_models)
    add('GET', '/api/v1/samples', service.list_samples)
    add('GET', '/api/v1/samples/{name}', service.get_sample, 404, **thumbnail)
    for method in ('GET', 'HEAD'):
        app.add_api_route('/healthz', service.get_health, methods=[method], include_in_schema=method == 'GET')
    app.add_api_route('/login', service.log_in, methods=['POST'], include_in_schema=False)


def _name_operation(route: APIRoute) -> str:
    """The operationId of a route: startUpscaling for start_upscaling."""
    first, *others = route.name.split('_')
    return first + ''.join(word.capitalize() for word in others)


async def _sweep(queue: JobQueue) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        await run_in_threadpool(queue.sweep)


async def _wait(request: Request, job: Job) -> bool:
    """Waits for a job; returns False if the client disconnects first."""
    ended = asyncio.wrap_future(job.ended)
    leaving = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({ended, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return ended.done()
    finally:
        leaving.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())['type'] != 'http.disconnect':
        pass


async def _show_page(name: str, _: Request) -> Response:
    return FileResponse(STATIC / name)


def _find_file(job: Job, name: str) -> StoredFile:
    if job.state == 'failed':
        raise job.error or ProblemError(500, 'the job ended without a result')
    if job.outcome is None or job.state != 'done':
        raise ProblemError(409, 'the job is not finished')
    stored = job.outcome.files.get(name)
    if stored is None:
        raise ProblemError(404, f"this job has no '{name[:40]}'; it has {', '.join(job.outcome.files)}")
    if not stored.path.exists():
        raise ProblemError(404, 'there is no such job; it was cancelled, or its result has expired')
    return stored


def _send(stored: StoredFile, background: BackgroundTask | None = None, download: bool = False) -> Response:
    name = stored.name if download else None
    return FileResponse(stored.path, media_type=stored.media_type, filename=name, background=background)
