"""Access control, by real requests with the headers of browsers."""

import http.client
import re
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.web.serving import encode, make_image, no_installed_weights, serving, write_weights

pytest.importorskip('fastapi', reason='the extra serve is not installed')
pytest.importorskip('uvicorn', reason='the extra serve is not installed')
pytest.importorskip('python_multipart', reason='the extra serve is not installed')

from dasr_arch._errors import InputError
from dasr_arch.web.api import STATIC
from dasr_arch.web.jobs import JobQueue
from dasr_arch.web.problems import ProblemError
from dasr_arch.web.security import SECURITY_HEADERS, SecurityMiddleware, describe_exposure
from dasr_arch.web.server import listen
from dasr_arch.web.settings import ServeSettings

WAIT = 60
TOKEN = 'a-token-of-twenty-two'


@pytest.fixture(scope='module')
def addresses(tmp_path_factory):
    """Of a server without and one with a token."""
    weights = (write_weights(tmp_path_factory.mktemp('weights')),)
    with (
        no_installed_weights(tmp_path_factory.mktemp('manifest')),
        serving(ServeSettings(port=0, weights=weights, device='cpu')) as plain,
        serving(ServeSettings(port=0, weights=weights, device='cpu', token=TOKEN)) as guarded,
    ):
        yield plain.address, guarded.address.partition('?')[0]


def ask(address, path='healthz', method='GET', **options):
    return requests.request(method, f'{address}{path}', timeout=WAIT, allow_redirects=False, **options)


@pytest.mark.parametrize('host', ['127.0.0.1', 'localhost', 'LOCALHOST', '127.0.0.2', '[::1]'])
def test_names_of_this_machine_are_known(addresses, host):
    port = urlsplit(addresses[0]).port
    assert ask(addresses[0], headers={'Host': f'{host}:{port}'}).status_code == 200


@pytest.mark.parametrize(
    'host', ['evil.example', '192.168.1.5', 'localhost.evil.example', 'x@127.0.0.1', '127.0.0.1/', ':::']
)
def test_other_names_are_refused_so_that_names_cannot_be_rebound(addresses, host):
    for path in ('', 'healthz', 'api/v1/models', 'static/app.js'):
        response = ask(addresses[0], path, headers={'Host': host})
        assert response.status_code == 421
        assert 'models' not in response.text


@pytest.mark.parametrize(
    'headers',
    [
        {'Origin': 'http://evil.example'},
        {'Origin': 'null'},
        {'Origin': 'http://127.0.0.1:1'},
        {'Sec-Fetch-Site': 'cross-site'},
        {'Sec-Fetch-Site': 'same-site', 'Sec-Fetch-Mode': 'cors'},
    ],
)
def test_pages_of_other_sites_cannot_start_anything(addresses, headers):
    files = {'image': ('a.png', encode(make_image()))}
    for path in ('api/v1/upscale', 'api/v1/jobs', 'api/v1/playground'):
        assert ask(addresses[0], path, 'POST', files=files, headers=headers).status_code == 403
    assert ask(addresses[0], 'api/v1/jobs/x', 'DELETE', headers=headers).status_code == 403


def test_pages_of_other_sites_cannot_read_but_link(addresses):
    framed = {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'no-cors', 'Sec-Fetch-Dest': 'image'}
    assert ask(addresses[0], 'api/v1/models', headers=framed).status_code == 403
    followed = {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate'}
    assert ask(addresses[0], '', headers=followed).status_code == 200
    assert 'Access-Control-Allow-Origin' not in ask(addresses[0], 'api/v1/models').headers


def test_own_page_may_do_everything(addresses):
    headers = {'Origin': addresses[0].rstrip('/'), 'Sec-Fetch-Site': 'same-origin'}
    files = {'image': ('a.png', encode(make_image()))}
    assert ask(addresses[0], 'api/v1/upscale', 'POST', files=files, headers=headers).status_code == 200


def test_nothing_is_had_without_the_token(addresses):
    address = addresses[1]
    for path in ('', 'docs', 'openapi.json', 'api/v1/models', 'static/app.js', 'api/v1/jobs/x'):
        for headers in ({}, {'Authorization': 'Bearer wrong-token-here'}, {'Cookie': 'dasr_token=wrong'}):
            response = ask(address, path, headers=headers)
            assert response.status_code == 401
            assert response.headers['WWW-Authenticate'] == 'Bearer'
    assert ask(address, '?token=wrong-token-here').status_code == 401
    assert ask(address, 'api/v1/upscale', 'POST', data=b'x').status_code == 401
    assert ask(address, 'healthz').status_code == 200


@pytest.mark.parametrize(
    ('headers', 'status'),
    [('', 401), ('Origin: http://evil.example\r\n', 403), (f'Authorization: Bearer {TOKEN}\r\n', 503)],
)
def test_refused_upload_is_answered_to_a_client_that_sends_it_whole(addresses, headers, status, monkeypatch):
    def refuse(queue):
        raise ProblemError(503, 'no room', 5)

    monkeypatch.setattr(JobQueue, 'check_room', refuse)
    parts = urlsplit(addresses[1])
    body = bytes(2 << 20)
    head = f'POST /api/v1/jobs HTTP/1.0\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n{headers}\r\n'
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as client:  # as nginx does
        client.sendall(head.encode())
        time.sleep(0.3)
        for place in range(0, len(body), 1 << 19):
            client.sendall(body[place : place + (1 << 19)])
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status == status


def test_token_is_taken_from_header_and_cookie(addresses):
    for headers in ({'Authorization': f'Bearer {TOKEN}'}, {'Cookie': f'a=b; dasr_token={TOKEN}'}):
        assert ask(addresses[1], 'api/v1/models', headers=headers).status_code == 200


def test_link_with_the_token_becomes_a_cookie_that_scripts_cannot_read(addresses):
    response = ask(addresses[1], f'?token={TOKEN}')
    assert (response.status_code, response.headers['location']) == (303, '/')
    cookie = response.headers['set-cookie'].lower()
    assert 'httponly' in cookie
    assert 'samesite=strict' in cookie


def test_browsers_are_asked_for_the_token(addresses):
    response = ask(addresses[1], '', headers={'Accept': 'text/html'})
    assert response.status_code == 401
    assert '<label for="token">' in response.text
    assert ask(addresses[1], 'login', 'POST', files={'token': (None, 'wrong')}).status_code == 401
    session = requests.Session()
    assert session.post(f'{addresses[1]}login', files={'token': (None, TOKEN)}, timeout=WAIT).url == addresses[1]
    assert session.get(f'{addresses[1]}api/v1/models', timeout=WAIT).status_code == 200


@pytest.mark.parametrize('path', ['', 'docs', 'healthz', 'api/v1/models', 'nothing', 'static/app.css'])
def test_every_answer_keeps_browsers_from_harm(addresses, path):
    response = ask(addresses[0], path)
    for name, value in SECURITY_HEADERS.items():
        assert response.headers[name] == value


def test_reachable_server_knows_addresses_and_allowed_names_but_no_others():
    guard = SecurityMiddleware(None, ServeSettings(host='0.0.0.0', allowed_hosts=('images.example',)), '')
    for host in ('192.168.1.5:7860', 'images.example', '[fe80::1]:7860', 'localhost'):
        assert guard._knows_host(host)
    assert not guard._knows_host('evil.example')


@pytest.mark.parametrize(
    ('host', 'token', 'expected'),
    [
        ('127.0.0.1', None, None),
        ('localhost', None, None),
        ('::1', None, None),
        ('0.0.0.0', None, 'by everyone; --token'),
        ('192.168.1.5', TOKEN, 'not encrypted'),
    ],
)
def test_exposure_is_warned_of(host, token, expected):
    warning = describe_exposure(ServeSettings(host=host, token=token))
    assert (warning is None) if expected is None else (expected in warning)


@pytest.mark.parametrize('path', sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_page_names_no_other_host_and_has_nothing_inline(path: Path):
    text = path.read_text(encoding='utf-8')
    assert set(re.findall(r'https?://[\w.-]+', text)) <= {'http://www.w3.org'}  # the name of SVG, not an address
    assert not re.search(r'["\'(]//\w', text)
    if path.suffix == '.html':
        assert not re.search(r'<script(?![^>]* src=)|<style|\sstyle=|\son\w+=', text)


def test_address_with_any_token_logs_in(tmp_path):
    token = 'abc+def&ghi#12 %'
    settings = ServeSettings(port=0, weights=(write_weights(tmp_path),), device='cpu', token=token)
    with no_installed_weights(tmp_path), serving(settings) as running:
        assert ' ' not in running.address
        answer = requests.get(running.address, timeout=WAIT, allow_redirects=False)
        assert answer.status_code in (302, 303, 307)
        assert 'dasr_token' in answer.cookies


def test_telemetry_is_off_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv('FASTAPI_OTEL_AUTO_CONFIGURE', 'true')
    monkeypatch.setenv('OTEL_EXPORTER_OTLP_ENDPOINT', 'http://127.0.0.1:9')
    settings = ServeSettings(port=0, weights=(write_weights(tmp_path),), device='cpu')
    with no_installed_weights(tmp_path), serving(settings) as running:
        assert requests.get(f'{running.address}healthz', timeout=WAIT).status_code == 200


@pytest.mark.parametrize(
    ('options', 'message'),
    [({'port': 65536}, 'port must be'), ({'token': 'short'}, 'at least 12'), ({'token': 12 * '\n'}, 'printable ASCII')],
)
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ServeSettings(**options)


@pytest.mark.parametrize(
    'name',
    [
        'sr.example.org:8080',
        'https://sr.example.org',
        'sr.example.org.',
        'sr.example.org/tool',
        '*.example.org',
        '*',
        '',
        '10.0.0.1:80',
        '[fe80::1]',
        'user@sr.example.org',
        'bücher.example',
        'a..b',
        ' sr.example.org',
    ],
)
def test_names_that_no_request_has_are_refused(name):
    with pytest.raises(InputError) as caught:
        ServeSettings(allowed_hosts=('sr.example.org', name))
    assert str(caught.value) == (
        f"--allow-host must be a host name such as sr.example.org, without scheme, port or path, got '{name}'"
    )


@pytest.mark.parametrize(
    ('name', 'host'),
    [
        ('SR.example.org', 'sr.example.org:8080'),
        ('my_host-1', 'my_host-1'),
        ('10.0.0.1', '10.0.0.1:80'),
        ('fe80::1', '[FE80::1]:80'),
        ('::ffff:1.2.3.4', '[::ffff:1.2.3.4]'),
    ],
)
def test_names_and_addresses_of_requests_are_allowed(name, host):
    assert SecurityMiddleware(None, ServeSettings(allowed_hosts=(name,)), '')._knows_host(host)


def test_address_of_another_machine_is_not_bound():
    with pytest.raises(InputError, match=r"'192\.0\.2\.1' cannot be bound"):
        listen('192.0.2.1', 0)  # reserved for documentation, RFC 5737


def test_name_may_be_that_of_any_machine():
    assert not ServeSettings(host='images.example').is_loopback


def test_origin_that_cannot_be_read_is_another_site(addresses):
    assert ask(addresses[0], 'api/v1/jobs', 'POST', headers={'Origin': 'http://[::1'}).status_code == 403
