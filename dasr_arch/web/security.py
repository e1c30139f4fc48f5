"""Access control: host name, origin and token of requests.

A page of another site, open in a browser on the same machine, must not use the server: neither by a form or script (the
origin is checked) nor by DNS rebinding, a name of its own that resolves to 127.0.0.1 (the host name is checked).
"""

import asyncio
import hmac
import ipaddress
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dasr_arch.web.problems import SECURITY_HEADERS, ProblemError
from dasr_arch.web.settings import ServeSettings

COOKIE = 'dasr_token'
_PAGES = ('/', '/docs')  # that show browsers the login page
OPEN_PATHS = ('/healthz', '/login', '/static/app.css', '/static/icon.svg', '/static/login.js')
"""Paths that need no token."""

_SAFE = ('GET', 'HEAD', 'OPTIONS')


class SecurityMiddleware:
    """ASGI middleware: checks host, origin and token, and adds security headers to every response.

    Browsers without the token get the file ``login_page``.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, login_page: str) -> None:
        self._app = app
        self._settings = settings
        self._login_page = login_page
        self._proxies = {name.lower() for name in settings.allowed_hosts}
        self._names = {'localhost', *self._proxies}
        if not settings.is_loopback:
            own = socket.gethostname().lower()
            self._names |= {settings.host.lower(), own, f'{own}.local'}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request, or passes it to the application."""
        if scope['type'] != 'http':
            await self._app(scope, receive, send)
            return
        root = self._settings.root_path
        if root:  # a proxy may take it off the path or leave it there
            path = scope['path'].removeprefix(root) if f'{scope["path"]}/'.startswith(f'{root}/') else scope['path']
            scope = {**scope, 'root_path': root, 'path': f'{root}{path or "/"}'}

        taken = False

        async def receive_and_note() -> Message:
            nonlocal taken
            message = await receive()
            taken = not message.get('more_body')
            return message

        async def send_with_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                if message['status'] >= 400 and not taken:
                    await self._drain(Headers(scope=scope), receive)
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (self._refuse(scope) or self._app)(scope, receive_and_note, send_with_headers)

    async def _drain(self, headers: Headers, receive: Receive) -> None:
        """Takes the body of a refused request; nginx would answer 502 if the connection closed while it sends one."""
        limits = self._settings.limits
        size = headers.get('content-length', '')
        if 'expect' not in headers and size.isdigit() and int(size) <= limits.upload_bytes:
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.body_seconds):
                    while (await receive()).get('more_body'):
                        pass

    def _refuse(self, scope: Scope) -> Response | None:
        """The response to a request that is refused, None for one that is allowed."""
        headers = Headers(scope=scope)
        host = headers.get('host', '')
        if self._settings.forwarded:
            host = headers.get('x-forwarded-host', host).partition(',')[0].strip()
        if not self._knows_host(host):
            return ProblemError(
                421, f"this server is not called '{host[:80]}'; start it with --allow-host to give it another name"
            ).respond()
        if not self._is_same_site(headers, host, scope['method']):
            return ProblemError(403, 'pages of other sites may not use this server').respond()
        return self._check_token(scope, headers)

    def _knows_host(self, host: str) -> bool:
        """True for a Host header that names this server."""
        if any(sign in host for sign in '@/\\?#'):
            return False
        try:
            name = urlsplit(f'//{host}').hostname or ''
            if name and name in self._names:
                return True
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # Unlike a name, an address cannot be rebound; a loopback server has loopback addresses only.
        return address.is_loopback if self._settings.is_loopback else True

    def _is_same_site(self, headers: Headers, host: str, method: str) -> bool:
        """True for a request from a page of this server or from no page."""
        if headers.get('sec-fetch-site') in ('cross-site', 'same-site'):
            # Only following a link to the page is allowed.
            return method == 'GET' and headers.get('sec-fetch-mode') == 'navigate'
        origin = headers.get('origin')
        if origin is None or method in _SAFE:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        # A reverse proxy may replace the Host header by its own name for this server, but not the browser's origin.
        return parts.netloc.lower() == host.lower() or (parts.hostname or '') in self._proxies

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        token = self._settings.token
        path = scope['path'].removeprefix(self._settings.root_path) or '/'
        if token is None or path in OPEN_PATHS:
            return None
        connection = HTTPConnection(scope)
        given = connection.query_params.get('token', '')
        if scope['method'] == 'GET' and path == '/' and given and matches(given, token):
            return log_in(token, self._settings, headers)
        scheme, _, given = headers.get('authorization', '').partition(' ')
        if scheme.lower() == 'bearer' and matches(given.strip(), token):
            return None
        if matches(connection.cookies.get(COOKIE, ''), token):
            return None
        if scope['method'] == 'GET' and path in _PAGES and 'text/html' in headers.get('accept', ''):
            return FileResponse(self._login_page, 401)
        response = ProblemError(401, 'a token is needed: Authorization: Bearer TOKEN').respond()
        response.headers['WWW-Authenticate'] = 'Bearer'
        return response


def matches(given: str, token: str) -> bool:
    """Compares a token in constant time."""
    return hmac.compare_digest(given.encode(), token.encode())


def log_in(token: str, settings: ServeSettings, headers: Headers) -> Response:
    """Redirects to the page, with the token in an HttpOnly cookie, for HTTPS alone if a trusted proxy uses it."""
    page = f'{settings.root_path}/'
    response = RedirectResponse(page, 303)
    secure = settings.forwarded and headers.get('x-forwarded-proto', '').lower() == 'https'
    month = 30 * 24 * 3600
    response.set_cookie(COOKIE, token, httponly=True, samesite='strict', max_age=month, path=page, secure=secure)
    return response


def describe_exposure(settings: ServeSettings) -> str | None:
    """Warning for a server that other machines can reach; None on loopback."""
    if settings.is_loopback:
        return None
    if settings.token is None:
        return f'warning: {settings.host} is reachable from other machines, by everyone; --token asks for a token'
    return f'warning: {settings.host} is reachable from other machines; traffic and token are not encrypted'
