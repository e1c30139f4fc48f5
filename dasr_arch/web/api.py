"""The addresses of the server: the page, the HTTP API, and its description."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from dasr_arch._errors import InputError
from dasr_arch.inference.images.io import OutputSettings
from dasr_arch.version import __version__
from dasr_arch.web.jobs import Job, JobQueue, Outcome, StoredFile
from dasr_arch.web.model_store import ModelEntry, ModelShelf
from dasr_arch.web.openapi import describe_api
from dasr_arch.web.playground import (
    PlaygroundRequest,
    find_sample,
    list_samples,
    make_degradation,
    make_thumbnail,
    run_experiment,
)
from dasr_arch.web.problems import ProblemError, answer_bug, answer_http_exception, answer_problem
from dasr_arch.web.representation_map import MapStore
from dasr_arch.web.schemas import (
    FORMATS,
    Health,
    JobStatus,
    Model,
    Models,
    PlaygroundParameters,
    PlaygroundResult,
    ProblemDetails,
    Samples,
    ServerLimits,
    UpscaleParameters,
    UpscaleResult,
    parse_parameters,
)
from dasr_arch.web.security import Guard, admit, matches
from dasr_arch.web.settings import Limits, ServeSettings
from dasr_arch.web.uploads import Upload, check_image, clean_name, open_image_file, read_upload
from dasr_arch.web.upscaling import UpscaleRequest, run_upscaling, show_image

STATIC = Path(__file__).parent / 'static'
_SWEEP_SECONDS = 20
_LOGGER = logging.getLogger(__name__)
_Value = TypeVar('_Value')


class Service:
    """Answers requests.

    Args:
        settings: of the server.
        shelf: its networks.
        queue: its jobs.
    """

    def __init__(self, settings: ServeSettings, shelf: ModelShelf, queue: JobQueue) -> None:
        self.settings = settings
        self.shelf = shelf
        self.queue = queue
        self._maps = MapStore()
        self._decoding = asyncio.Semaphore(2)  # images that are decoded at once to see whether they are whole
        self._uploads = 0  # bodies that are being read, each of which takes memory

    async def upscale(self, request: Request) -> Response:
        """POST /api/v1/upscale: the result itself, once it is there."""
        job = await self._submit_upscaling(request)
        if not await _wait(request, job):
            self.queue.remove(job)
            return Response(status_code=499)
        if job.outcome is None:
            self.queue.remove(job)
            raise job.error or ProblemError(500, 'the job ended without a result')
        return _send(job.outcome.files['result'], BackgroundTask(self.queue.remove, job), download=True)

    async def start_upscaling(self, request: Request) -> Response:
        """POST /api/v1/jobs."""
        return self._accept(await self._submit_upscaling(request))

    async def start_experiment(self, request: Request) -> Response:
        """POST /api/v1/playground."""
        upload = await self._read(request)
        parameters = _understand(PlaygroundParameters, upload.fields)
        entry = self._find(parameters.model, parameters.scale)
        _check(partial(make_degradation, parameters, entry.scale))
        image = upload.images.get('image')
        if 'like' in upload.images:
            raise ProblemError(422, "an experiment takes no file called 'like'")
        if parameters.sample is not None:
            if image is not None and image.data:
                raise ProblemError(422, 'give an image or the name of a sample, not both')
            image = None
            await run_in_threadpool(_check, partial(find_sample, parameters.sample))
        elif image is None or not image.data:
            raise ProblemError(422, 'a clean image is needed: upload one, or name a sample')
        else:
            await run_in_threadpool(check_image, image, self.settings.limits)
        asked = PlaygroundRequest(image, parameters, entry)
        name = parameters.sample or (image.name if image else '')

        def work(job: Job) -> Outcome:
            return run_experiment(job, asked, lambda: self.shelf.load(entry), self._maps)

        return self._accept(self.queue.submit('playground', name, work))

    async def get_job(self, request: Request) -> Response:
        """GET /api/v1/jobs/{id}."""
        return _answer(self._describe(self._job(request)))

    async def delete_job(self, request: Request) -> Response:
        """DELETE /api/v1/jobs/{id}."""
        self.queue.remove(self._job(request))
        return Response(status_code=204)

    async def get_result(self, request: Request) -> Response:
        """GET /api/v1/jobs/{id}/result."""
        return _send(_find_file(self._job(request), 'result'), download=True)

    async def get_image(self, request: Request) -> Response:
        """GET /api/v1/jobs/{id}/images/{image}."""
        job = self._job(request)
        stored = _find_file(job, request.path_params['image'])
        if job.kind == 'upscale':
            stored = await run_in_threadpool(_check, partial(show_image, job, stored))
        return _send(stored)

    async def list_models(self, _: Request) -> Response:
        """GET /api/v1/models."""
        limits = self.settings.limits
        answer = Models(
            models=[Model(**entry._asdict()) for entry in self.shelf.entries],
            formats=list(FORMATS),
            limits=ServerLimits(
                upload_bytes=limits.upload_bytes,
                pixels=limits.pixels,
                jobs=limits.workers,
                queue=limits.queue,
                keep_seconds=60 * limits.keep_minutes,
            ),
            device=self.shelf.device,
        )
        return _answer(answer)

    async def list_samples(self, _: Request) -> Response:
        """GET /api/v1/samples."""
        return _answer(Samples(samples=await run_in_threadpool(list_samples)))

    async def get_sample(self, request: Request) -> Response:
        """GET /api/v1/samples/{name}."""
        try:
            data = await run_in_threadpool(make_thumbnail, request.path_params['name'])
        except InputError as error:
            raise ProblemError(404, str(error)) from error
        return Response(data, media_type='image/jpeg')

    async def get_health(self, _: Request) -> Response:
        """GET /healthz."""
        running, waiting = self.queue.counts()
        return _answer(Health(status='ok', version=__version__, running=running, waiting=waiting))

    async def get_description(self, _: Request) -> Response:
        """GET /openapi.json."""
        return _answer(describe_api(self.settings))

    async def log_in(self, request: Request) -> Response:
        """POST /login: from the token to the cookie."""
        upload = await read_upload(request, Limits(upload_megabytes=0.01))
        token = self.settings.token
        if token is None or matches(upload.fields.get('token', ''), token):
            return admit(token or '')
        raise ProblemError(401, 'this is not the token that the server was started with')

    async def _submit_upscaling(self, request: Request) -> Job:
        limits = self.settings.limits
        upload = await self._read(request)
        parameters = _understand(UpscaleParameters, upload.fields)
        entry = self._find(parameters.model, parameters.scale)
        output = _check(parameters.output)
        image = upload.images.get('image')
        if image is None:
            raise ProblemError(422, "an image is needed: as the body, or as the file 'image' of a form")
        if parameters.name is not None:
            image = image._replace(name=clean_name(parameters.name))
        async with self._decoding:
            await run_in_threadpool(check_image, image, limits)
            if (like := upload.images.get('like')) is not None:
                await run_in_threadpool(check_image, like, limits)
                await run_in_threadpool(open_image_file, like, 1, OutputSettings())
            await run_in_threadpool(open_image_file, image, entry.scale, output)
        if await request.is_disconnected():  # nobody would fetch it
            raise ProblemError(408, 'the client went away')
        asked = UpscaleRequest(image, like, parameters, entry)
        return self.queue.submit(
            'upscale',
            image.name,
            lambda job: run_upscaling(job, asked, lambda: self.shelf.load(entry, parameters.tiling())),
        )

    async def _read(self, request: Request) -> Upload:
        """The upload, unless there would be no room for its job; large bodies are not read in vain."""
        self.queue.check_room()
        if self._uploads >= self.settings.limits.workers + self.settings.limits.queue:
            raise ProblemError(503, f'{self._uploads} uploads at once are all that fit', 5)
        self._uploads += 1
        try:
            return await read_upload(request, self.settings.limits)
        finally:
            self._uploads -= 1

    def _find(self, model: str | None, scale: int | None) -> ModelEntry:
        return _check(partial(self.shelf.find, model, scale))

    def _job(self, request: Request) -> Job:
        return self.queue.get(request.path_params['id'])

    def _accept(self, job: Job) -> Response:
        response = _answer(self._describe(job), 202)
        response.headers['Location'] = f'/api/v1/jobs/{job.id}'
        return response

    def _describe(self, job: Job) -> JobStatus:
        facts = job.outcome.facts if job.outcome is not None and job.state == 'done' else None
        error = job.error.as_json() if job.error is not None and job.state == 'failed' else None
        left, expires = job.seconds_left, self.queue.expires_in(job)
        return JobStatus(
            id=job.id,
            kind=job.kind,
            name=job.name,
            state=job.state,
            stage=job.stage,
            progress=round(job.progress, 4),
            seconds_left=None if left is None else round(left, 1),
            ahead=self.queue.ahead(job),
            expires_in=None if expires is None else round(expires, 1),
            error=None if error is None else msgspec.convert(error, ProblemDetails),
            upscale=facts if isinstance(facts, UpscaleResult) else None,
            playground=facts if isinstance(facts, PlaygroundResult) else None,
        )


def make_app(settings: ServeSettings, shelf: ModelShelf, queue: JobQueue) -> Starlette:
    """The ASGI application.

    Args:
        settings: of the server.
        shelf: its networks.
        queue: its jobs; whoever made it closes it.
    """
    service = Service(settings, shelf, queue)
    routes = [
        Route('/', _page('index.html')),
        Route('/docs', _page('docs.html')),
        Route('/openapi.json', service.get_description),
        Route('/healthz', service.get_health),
        Route('/login', service.log_in, methods=['POST']),
        Route('/favicon.ico', _page('icon.svg')),
        Route('/api/v1/upscale', service.upscale, methods=['POST']),
        Route('/api/v1/jobs', service.start_upscaling, methods=['POST']),
        Route('/api/v1/jobs/{id}', service.get_job),
        Route('/api/v1/jobs/{id}', service.delete_job, methods=['DELETE']),
        Route('/api/v1/jobs/{id}/result', service.get_result),
        Route('/api/v1/jobs/{id}/images/{image}', service.get_image),
        Route('/api/v1/playground', service.start_experiment, methods=['POST']),
        Route('/api/v1/models', service.list_models),
        Route('/api/v1/samples', service.list_samples),
        Route('/api/v1/samples/{name}', service.get_sample),
        Mount('/static', StaticFiles(directory=STATIC)),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(queue))
        try:
            yield
        finally:
            sweeping.cancel()

    handlers: dict[Any, Any] = {
        ProblemError: answer_problem,
        HTTPException: answer_http_exception,
        Exception: answer_bug,
    }
    guard = Middleware(Guard, settings=settings, login_page=str(STATIC / 'login.html'))
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


async def _sweep(queue: JobQueue) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        await run_in_threadpool(queue.sweep)


async def _wait(request: Request, job: Job) -> bool:
    """Waits for a job; False if the client goes away before."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    job.when_ended(lambda: loop.call_soon_threadsafe(ended.set))
    waiting = asyncio.create_task(ended.wait())
    leaving = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.done()
    finally:
        waiting.cancel()
        leaving.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())['type'] != 'http.disconnect':
        pass


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(_: Request) -> Response:
        return FileResponse(STATIC / name)

    return page


def _find_file(job: Job, name: str) -> StoredFile:
    if job.state == 'failed':
        raise job.error or ProblemError(500, 'the job ended without a result')
    if job.outcome is None or job.state != 'done':
        raise ProblemError(409, 'the job is not finished')
    stored = job.outcome.files.get(name)
    if stored is None:
        raise ProblemError(404, f"this job has no '{name[:40]}'; it has {', '.join(job.outcome.files)}")
    return stored


def _send(stored: StoredFile, background: BackgroundTask | None = None, download: bool = False) -> Response:
    if not stored.path.exists():
        raise ProblemError(404, 'there is no such job; it was cancelled, or its result has expired')
    name = stored.name if download else None
    return FileResponse(stored.path, media_type=stored.media_type, filename=name, background=background)


def _answer(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type='application/json')


def _understand(kind: Any, fields: dict[str, str]) -> Any:
    return _check(partial(parse_parameters, kind, fields))


def _check(make: Callable[[], _Value]) -> _Value:
    """What a function gives; its InputError as a ProblemError 422."""
    try:
        return make()
    except InputError as error:
        raise ProblemError(422, str(error)) from error
