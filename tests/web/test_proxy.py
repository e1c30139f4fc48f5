"""The page and the API behind nginx, below a path and with nginx's default headers."""

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest
import requests

from tests.web.browser import start_browser
from tests.web.serving import encode, make_image, no_installed_weights, serving, write_weights

pytest.importorskip('fastapi', reason='the extra serve is not installed')
pytest.importorskip('uvicorn', reason='the extra serve is not installed')
pytest.importorskip('python_multipart', reason='the extra serve is not installed')
pytest.importorskip('selenium', reason='selenium is not installed')

from selenium.webdriver.support.wait import WebDriverWait

from dasr_arch import InputError
from dasr_arch.web.settings import ServeSettings

NGINX = shutil.which('nginx', path='/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin')
TOKEN = 'a token of the test'
CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{}}
http {{
    access_log off; client_max_body_size 64m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {upstream}
    server {{
        listen 127.0.0.1:{port};
        location /tool/ {{ proxy_pass {address}{stripped}; {headers} }}
    }}
}}
"""
SEVERAL = 'upstream dasr { hash $remote_addr consistent; %s }'
FORWARDED = 'proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto https;'


STRIPPED, WHOLE, TRUSTED = (
    pytest.param(('/', ''), id='stripped'),
    pytest.param(('', ''), id='whole path'),
    pytest.param(('/', FORWARDED), id='forwarded'),
)


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(params=[STRIPPED, WHOLE, TRUSTED])
def proxy(request, tmp_path):
    """The address of a server behind nginx, which shows it at /tool/."""
    if NGINX is None:
        pytest.skip('nginx is not installed')
    stripped, headers = request.param
    port = free_port()
    weights = write_weights(tmp_path)
    (tmp_path / 'manifest').mkdir()
    settings = ServeSettings(
        port=0,
        weights=(weights,),
        device='cpu',
        precision='fp32',
        token=TOKEN,
        allowed_hosts=('upscale.test',),
        root_path='/tool',
        forwarded=bool(headers),
    )
    with no_installed_weights(tmp_path / 'manifest'), serving(settings) as server:
        address = server.address.partition('/?')[0]
        with run_nginx(tmp_path, port=port, address=address, stripped=stripped, headers=headers, upstream=''):
            yield f'http://upscale.test:{port}/tool/'


@contextmanager
def run_nginx(folder, port, **values):
    configuration = folder / 'nginx.conf'
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, **values))
    process = subprocess.Popen([NGINX, '-c', str(configuration)], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port: int) -> None:
    for _ in range(200):
        try:
            requests.get(f'http://127.0.0.1:{port}/', timeout=5)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError('nginx does not answer')


@pytest.mark.parametrize('proxy', [STRIPPED, WHOLE], indirect=True)
def test_page_uploads_below_a_path_of_a_proxy(proxy, tmp_path):
    (tmp_path / 'profile').mkdir()
    image = tmp_path / 'photo.png'
    image.write_bytes(encode(make_image()))
    driver = start_browser(tmp_path / 'profile', tmp_path, '--host-resolver-rules=MAP upscale.test 127.0.0.1')
    try:
        driver.get(f'{proxy}?token={TOKEN}')
        assert driver.current_url == proxy
        driver.find_element('id', 'up-file').send_keys(str(image))
        wait = WebDriverWait(driver, 90)
        wait.until(lambda page: page.find_element('id', 'up-start').is_enabled())
        driver.find_element('id', 'up-start').click()
        wait.until(lambda page: page.find_element('id', 'up-download').is_displayed())
        link = driver.find_element('id', 'up-download').get_attribute('href')
        assert link.startswith(f'{proxy}api/v1/jobs/')
        driver.get(f'{proxy}docs')
        wait.until(lambda page: f'{proxy}api/v1/upscale' in page.find_element('id', 'example').text)
        errors = [line['message'] for line in driver.get_log('browser') if line['level'] == 'SEVERE']
        assert [line for line in errors if 'Cross-Origin-Opener-Policy' not in line] == []  # which needs TLS
    finally:
        driver.quit()


def test_api_below_a_path_of_a_proxy(proxy):
    direct = proxy.replace('upscale.test', '127.0.0.1')
    headers = {'Authorization': f'Bearer {TOKEN}', 'Host': 'upscale.test', 'Origin': 'http://upscale.test'}
    answer = requests.post(f'{direct}api/v1/jobs', files={'image': encode(make_image())}, headers=headers, timeout=60)
    assert answer.status_code == 202, answer.text
    assert answer.headers['Location'].startswith('/tool/api/v1/jobs/')
    foreign = headers | {'Origin': 'http://other.test'}
    assert requests.post(f'{direct}api/v1/jobs', data=b'x', headers=foreign, timeout=60).status_code == 403


def test_cookie_of_a_proxy_with_tls_is_secure(proxy, request):
    direct = proxy.replace('upscale.test', '127.0.0.1')
    answer = requests.get(
        direct, params={'token': TOKEN}, headers={'Host': 'upscale.test'}, timeout=60, allow_redirects=False
    )
    assert answer.status_code == 303
    assert answer.headers['location'] == '/tool/'
    assert 'Path=/tool/' in answer.headers['set-cookie']
    assert ('Secure' in answer.headers['set-cookie']) == ('forwarded' in request.node.callspec.id)


def test_clients_of_several_servers_find_their_jobs(tmp_path):
    if NGINX is None:
        pytest.skip('nginx is not installed')
    (tmp_path / 'manifest').mkdir()
    port = free_port()
    settings = ServeSettings(
        port=0,
        weights=(write_weights(tmp_path),),
        device='cpu',
        precision='fp32',
        token=TOKEN,
        allowed_hosts=('upscale.test',),
        root_path='/tool',
    )
    with no_installed_weights(tmp_path / 'manifest'), serving(settings) as one, serving(settings) as two:
        listed = ' '.join(f'server {server.address.split("/")[2]};' for server in (one, two))
        values = {'address': 'http://dasr', 'stripped': '/', 'headers': 'proxy_set_header Host $host;'}
        with run_nginx(tmp_path, port=port, upstream=SEVERAL % listed, **values):
            for number in range(2, 12):
                with requests.Session() as client:
                    client.mount('http://', SourceAdapter(f'127.0.0.{number}'))
                    client.headers.update({'Authorization': f'Bearer {TOKEN}', 'Host': 'upscale.test'})
                    api = f'http://127.0.0.1:{port}/tool/api/v1/jobs'
                    job = client.post(api, files={'image': encode(make_image())}, timeout=60).json()['id']
                    for queue in (one.queue, two.queue):
                        assert job not in queue._jobs or queue.get(job).wait(60)
                    assert client.get(f'{api}/{job}', timeout=60).json()['state'] == 'done'
            assert one.queue._jobs
            assert two.queue._jobs
            assert len(one.queue._jobs) + len(two.queue._jobs) == 10


class SourceAdapter(requests.adapters.HTTPAdapter):
    """Connections from another address of this machine."""

    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, source_address=(self.address, 0), **kwargs)


def test_forwarded_headers_are_ignored_unless_asked_for(tmp_path):
    weights = write_weights(tmp_path)
    (tmp_path / 'manifest').mkdir()
    settings = ServeSettings(port=0, weights=(weights,), device='cpu', precision='fp32')
    with no_installed_weights(tmp_path / 'manifest'), serving(settings) as server:
        headers = {'Host': 'other.test', 'X-Forwarded-Host': 'localhost'}
        assert requests.get(f'{server.address}healthz', headers=headers, timeout=60).status_code == 421


@pytest.mark.parametrize('path', ['tool', '/tool/', '/to ol', 'https://host/tool'])
def test_root_path_is_a_path(path):
    with pytest.raises(InputError, match='--root-path must be a path such as /tool'):
        ServeSettings(root_path=path)
