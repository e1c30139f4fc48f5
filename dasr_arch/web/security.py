"""Who may ask: the right host name, pages of this server alone, and the token if there is one.

A page of another site that somebody has open in a browser must not be able to use a server on their machine, be it by a
form or script (the origin tells), or by a name of its own that points to 127.0.0.1 (the host name tells).
"""

import hmac
import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dasr_arch.web.problems import SECURITY_HEADERS, ProblemError
from dasr_arch.web.settings import ServeSettings, is_loopback

COOKIE = 'dasr_token'
OPEN_PATHS = ('/healthz', '/login', '/static/app.css', '/static/icon.svg', '/static/login.js')
"""What can be had without a token."""

_SAFE = ('GET', 'HEAD', 'OPTIONS')


class SecurityMiddleware:
    """ASGI middleware that lets pass what may pass, and puts headers on every answer.

    Args:
        app: what it guards.
        settings: host, token and further names.
        login_page: sent to browsers that have no token.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, login_page: str) -> None:
        self._app = app
        self._settings = settings
        self._login_page = login_page
        self._names = {'localhost', *(name.lower() for name in settings.allowed_hosts)}
        if not settings.is_loopback:
            own = socket.gethostname().lower()
            self._names |= {settings.host.lower(), own, f'{own}.local'}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers itself, or lets the application answer."""
        if scope['type'] != 'http':
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._judge(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _judge(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass, None for one that may."""
        headers = Headers(scope=scope)
        host = headers.get('host', '')
        if not self._knows_host(host):
            return ProblemError(
                421, f"this server is not called '{host[:80]}'; start it with --allow-host to give it another name"
            ).respond()
        if not _is_same_site(headers, host, scope['method']):
            return ProblemError(403, 'pages of other sites may not use this server').respond()
        return self._judge_token(scope, headers)

    def _knows_host(self, host: str) -> bool:
        """Whether a Host header is one under which this server is reached without tricks."""
        if any(sign in host for sign in '@/\\?#'):
            return False
        try:
            name = urlsplit(f'//{host}').hostname or ''
            address = ipaddress.ip_address(name)
        except ValueError:
            return bool(host) and _hostname(host) in self._names
        if name in self._names:
            return True
        # An address cannot be pointed elsewhere, as names can; on loopback nothing else is right.
        return address.is_loopback if self._settings.is_loopback else True

    def _judge_token(self, scope: Scope, headers: Headers) -> Response | None:
        token = self._settings.token
        if token is None or scope['path'] in OPEN_PATHS:
            return None
        asked = parse_qs(scope['query_string'].decode('latin-1')).get('token', [''])[0]
        if scope['method'] == 'GET' and scope['path'] == '/' and asked and matches(asked, token):
            return log_in(token)
        scheme, _, given = headers.get('authorization', '').partition(' ')
        if scheme.lower() == 'bearer' and matches(given.strip(), token):
            return None
        if matches(_read_cookie(headers.get('cookie', '')), token):
            return None
        if scope['method'] == 'GET' and 'text/html' in headers.get('accept', ''):
            return FileResponse(self._login_page, 401)
        response = ProblemError(401, 'a token is needed: Authorization: Bearer TOKEN').respond()
        response.headers['WWW-Authenticate'] = 'Bearer'
        return response


def matches(given: str, token: str) -> bool:
    """Whether a token is right, in a time that does not tell how much of it is."""
    return hmac.compare_digest(given.encode(), token.encode())


def log_in(token: str) -> Response:
    """To the page, with the token in a cookie that scripts cannot read."""
    response = RedirectResponse('/', 303)
    response.set_cookie(COOKIE, token, httponly=True, samesite='strict', max_age=30 * 24 * 3600)
    return response


def _is_same_site(headers: Headers, host: str, method: str) -> bool:
    """Whether a request comes from a page of this server, or from no page at all."""
    if headers.get('sec-fetch-site') in ('cross-site', 'same-site'):
        # Following a link to the page itself is no harm; everything else is.
        return method == 'GET' and headers.get('sec-fetch-mode') == 'navigate'
    origin = headers.get('origin')
    if origin is None or method in _SAFE:
        return True
    return urlsplit(origin).netloc.lower() == host.lower()


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f'//{host}').hostname or '').lower()
    except ValueError:
        return ''


def _read_cookie(text: str) -> str:
    try:
        morsel = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ''
    return morsel.value if morsel else ''


def describe_exposure(settings: ServeSettings) -> str | None:
    """A warning for who makes the server reachable from other machines; None on loopback."""
    if is_loopback(settings.host):
        return None
    if settings.token is None:
        return f'warning: {settings.host} is reachable from other machines, by everyone; --token asks for a token'
    return f'warning: {settings.host} is reachable from other machines; traffic and token are not encrypted'
