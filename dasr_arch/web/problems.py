"""Error responses as problem+json (RFC 9457): a status code and one sentence."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match, Route

SECURITY_HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cache-Control': 'no-store',
}
"""Headers of every response."""

PROBLEM_TYPE = 'application/problem+json'
_TITLES = {413: 'Content Too Large', 422: 'Unprocessable Content'}  # RFC 9110; Python before 3.13 has the older names


class ProblemError(Exception):
    """An error that the client can correct.

    ``detail`` is one sentence: the cause, and what was expected. ``retry_after`` is the header Retry-After in seconds.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = ' '.join(detail.split())
        self.retry_after = retry_after

    def as_json(self) -> dict[str, object]:
        """The body of the response."""
        return {
            'type': 'about:blank',
            'title': _TITLES.get(self.status) or HTTPStatus(self.status).phrase,
            'status': self.status,
            'detail': self.detail,
        }

    def respond(self) -> JSONResponse:
        """The response."""
        headers = {} if self.retry_after is None else {'Retry-After': str(self.retry_after)}
        return JSONResponse(self.as_json(), self.status, headers, media_type=PROBLEM_TYPE)


async def answer_error(_: Request, error: Exception) -> JSONResponse:
    """Handler for ProblemError, and for InputError: 422 with its message."""
    return (error if isinstance(error, ProblemError) else ProblemError(422, str(error))).respond()


async def answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Handler for unknown addresses and methods."""
    assert isinstance(error, HTTPException)
    details = {
        404: f'there is nothing at {request.url.path}; /docs lists what there is',
        405: f'{request.method} is not possible at {request.url.path}; /docs lists what is',
    }
    response = ProblemError(error.status_code, details.get(error.status_code, error.detail)).respond()
    response.headers.update(error.headers or {})
    if error.status_code == 405:
        response.headers['Allow'] = ', '.join(_list_methods(request))
    return response


def _list_methods(request: Request) -> list[str]:
    """Methods of all routes at an address; Starlette lists those of the first route only."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in here for method in route.methods or ()})


async def answer_bug(_: Request, __: Exception) -> JSONResponse:
    """Handler for other exceptions: 500; the traceback goes to the log, not to the client."""
    response = ProblemError(500, 'the server made a mistake; its log says more').respond()
    response.headers.update(SECURITY_HEADERS)  # this handler runs outside the middleware that adds them
    return response
