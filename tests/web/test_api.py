"""The HTTP API by real requests to a real server."""

import http.client
import json
import re
import socket
import struct
import threading
import zlib
from io import BytesIO
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import requests
from PIL import Image, ImageCms

from dasr_arch import InputError
from dasr_arch.checkpoints.packaged import find_packaged
from dasr_arch.inference.images.io import OutputSettings
from dasr_arch.inference.tiling import Tiling
from dasr_arch.inference.upscale_files import FileSettings, upscale_bytes
from dasr_arch.inference.upscaler import AdaptationOptions, Upscaler
from tests.web.serving import Gate, encode, make_image, no_installed_weights, serving, write_weights

pytest.importorskip('fastapi', reason='the extra serve is not installed')
pytest.importorskip('uvicorn', reason='the extra serve is not installed')
pytest.importorskip('python_multipart', reason='the extra serve is not installed')

from dasr_arch.web.model_store import ModelStore
from dasr_arch.web.settings import Limits, ServeSettings

PNG = encode(make_image())
UPLOADS = {'image', 'reference', 'mask'}
LIMITS = Limits(upload_megabytes=0.5, megapixels=0.1, queue=1, body_seconds=5)
WAIT = 60


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp('weights'))


@pytest.fixture(scope='module')
def server(weights, tmp_path_factory):
    with (
        no_installed_weights(tmp_path_factory.mktemp('manifest')),
        serving(ServeSettings(port=0, weights=(weights,), device='cpu', precision='fp32', limits=LIMITS)) as running,
    ):
        yield running


@pytest.fixture
def gate(server):
    """The network stops at its first tile until the gate is opened."""
    with Gate(server.models.load(server.models.entries[0]).upscaler.network) as gate:
        yield gate
    for job in list(server.queue._jobs.values()):
        assert job.wait(WAIT)


def post(server, path, data=None, name='photo.png', **fields):
    files = {} if data is None else {'image': (name, data)}
    return requests.post(f'{server.address}api/v1/{path}', files=files, data=fields, timeout=WAIT)


def get(server, path, **options):
    return requests.get(f'{server.address}{path}', timeout=WAIT, **options)


def finish(server, response):
    """Waits for the job of a response; its last status."""
    assert response.status_code == 202, response.text
    assert server.queue.get(response.json()['id']).wait(WAIT)
    status = get(server, response.headers['Location'].lstrip('/')).json()
    assert status['state'] in ('done', 'failed')
    return status


def detail(response, status):
    """The sentence of a problem."""
    assert response.status_code == status, response.text
    assert response.headers['content-type'] == 'application/problem+json'
    problem = response.json()
    assert problem['status'] == status
    assert problem['type'] == 'about:blank'
    assert problem['title']
    assert '\n' not in problem['detail']
    assert 'Traceback' not in problem['detail']
    return problem['detail']


def photo_with_everything():
    """A JPEG that is turned by its EXIF and has a profile."""
    image = make_image(40, 24)
    exif = Image.Exif()
    exif[274] = 6
    exif[271] = 'A maker'
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    return encode(image, 'JPEG', exif=exif, icc_profile=profile, quality=90)


@pytest.mark.parametrize('as_form', [True, False])
def test_result_is_byte_for_byte_that_of_the_command(server, weights, as_form):
    data = photo_with_everything()
    fields = {'strength': '0.5', 'tile': '16', 'ensemble': 'true', 'quality': '80'}
    if as_form:
        response = post(server, 'upscale', data, 'my photo.JPG', **fields)
    else:
        query = '&'.join(f'{key}={value}' for key, value in {**fields, 'name': 'my%20photo.JPG'}.items())
        response = requests.post(f'{server.address}api/v1/upscale?{query}', data=data, timeout=WAIT)
    upscaler = Upscaler(2, weights, device='cpu', precision='fp32', tiling=Tiling(16))
    settings = FileSettings(AdaptationOptions(strength=0.5, ensemble=True), OutputSettings(None, 80))
    assert response.status_code == 200, response.text
    assert response.content == upscale_bytes(upscaler, data, 'photo', settings)
    assert response.headers['content-type'] == 'image/jpeg'
    assert f"filename*=utf-8''{quote('my photo_x2.JPG')}" in response.headers['content-disposition']
    with Image.open(BytesIO(response.content)) as image:
        assert image.size == (48, 80)  # upright
        assert image.getexif()[271] == 'A maker'
        assert image.info['icc_profile']


@pytest.mark.parametrize('field', ['reference', 'like'])  # the second is the former name
def test_degradation_can_be_that_of_another_image(field, server, weights):
    reference = make_image(seed=5)
    files = {'image': ('a.png', PNG), field: ('b.png', encode(reference))}
    response = requests.post(f'{server.address}api/v1/upscale', files=files, timeout=WAIT)
    upscaler = Upscaler(2, weights, device='cpu', precision='fp32')
    settings = FileSettings(AdaptationOptions(reference=reference))
    assert response.content == upscale_bytes(upscaler, PNG, 'a.png', settings)
    assert response.content != upscale_bytes(upscaler, PNG, 'a.png')


def test_format_can_be_chosen_and_names_follow(server):
    response = post(server, 'upscale', PNG, 'x.png', format='webp')
    assert response.headers['content-type'] == 'image/webp'
    assert 'x_x2.webp' in response.headers['content-disposition']
    assert Image.open(BytesIO(response.content)).format == 'WEBP'


def test_job_goes_from_its_start_to_its_end(server):
    response = post(server, 'jobs', PNG, 'photo.png')
    status = finish(server, response)
    assert (status['state'], status['progress'], status['error']) == ('done', 1.0, None)
    made = status['upscale']
    assert (made['name'], made['width'], made['height'], made['scale']) == ('photo_x2.png', 80, 64, 2)
    job = server.queue.get(status['id'])
    assert job._done == pytest.approx(job._total)  # so that the estimate of the remaining time is right
    base = f'api/v1/jobs/{status["id"]}'
    result = get(server, f'{base}/result')
    assert len(result.content) == made['bytes']
    assert 'attachment' in result.headers['content-disposition']
    assert get(server, f'{base}/images/input').content == PNG
    assert get(server, f'{base}/images/result').content == result.content
    assert 'input, result' in detail(get(server, f'{base}/images/hr'), 404)
    assert requests.delete(f'{server.address}{base}', timeout=WAIT).status_code == 204
    for path in ('', '/result', '/images/input'):
        assert 'no such job' in detail(get(server, f'{base}{path}'), 404)


@pytest.mark.parametrize(
    ('kind', 'mode', 'size'), [('TIFF', 'RGB', (80, 64)), ('TIFF', 'CMYK', (80, 64)), ('TIFF', 'I;16', (80, 64))]
)
def test_images_that_browsers_cannot_show_become_png(server, kind, mode, size):
    image = make_image() if mode != 'I;16' else Image.fromarray(np.full((32, 40), 40000, np.uint16))
    image = image.convert(mode) if mode == 'CMYK' else image
    status = finish(server, post(server, 'jobs', encode(image, kind), 'a.tif'))
    for name, factor in (('input', 1), ('result', 2)):
        response = get(server, f'api/v1/jobs/{status["id"]}/images/{name}')
        assert response.headers['content-type'] == 'image/png'
        with Image.open(BytesIO(response.content)) as shown:
            assert shown.format == 'PNG'
            assert shown.size == (size[0] * factor // 2, size[1] * factor // 2)
    assert Image.open(BytesIO(get(server, f'api/v1/jobs/{status["id"]}/result').content)).format == 'TIFF'


def test_huge_result_is_shown_smaller(server, monkeypatch):
    monkeypatch.setattr('dasr_arch.web.upscaling.SHOWN_SIDE', 50)
    status = finish(server, post(server, 'jobs', PNG))
    base = f'{server.address}api/v1/jobs/{status["id"]}'
    for _ in range(2):  # made, then found
        shown = requests.get(f'{base}/images/result', timeout=WAIT)
        assert Image.open(BytesIO(shown.content)).size == (50, 40)
    assert Image.open(BytesIO(requests.get(f'{base}/result', timeout=WAIT).content)).size == (80, 64)


def test_animation_keeps_its_frames(server):
    frames = [make_image(seed=seed) for seed in range(3)]
    data = encode(frames[0], 'GIF', save_all=True, append_images=frames[1:], duration=70)
    status = finish(server, post(server, 'jobs', data, 'a.gif'))
    assert status['upscale']['frames'] == 3


def test_notes_are_in_the_job_and_in_the_header(server):
    deep = BytesIO()
    Image.fromarray(np.full((32, 40), 30000, np.uint16)).save(deep, 'PNG')
    expected = ['16 bits are rounded to 8: JPEG holds no more']
    assert finish(server, post(server, 'jobs', deep.getvalue(), format='jpg'))['upscale']['notes'] == expected
    response = post(server, 'upscale', deep.getvalue(), format='jpg')
    assert json.loads(response.headers['DASR-Notes']) == expected
    assert finish(server, post(server, 'jobs', PNG))['upscale']['notes'] == []
    assert json.loads(post(server, 'upscale', PNG).headers['DASR-Notes']) == []


def bomb(width, height):
    """A PNG of a few bytes that claims to be large."""
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = ((b'IHDR', header), (b'IDAT', zlib.compress(b'')), (b'IEND', b''))
    parts = (
        struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data)) for name, data in chunks
    )
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def pages(*sizes):
    first, *rest = (make_image(*size) for size in sizes)
    return encode(first, 'TIFF', save_all=True, append_images=rest)


@pytest.mark.parametrize('path', ['upscale', 'jobs', 'playground'])
@pytest.mark.parametrize(
    ('data', 'status', 'message'),
    [
        pytest.param(b'', 422, ('is empty', 'a clean image is needed'), id='0 bytes'),
        pytest.param(b'<html>hello</html>', 415, 'cannot be read as an image (not a PNG', id='mislabelled'),
        pytest.param(b'\x00' * 1000, 415, 'cannot be read as an image', id='zeros'),
        pytest.param(PNG[:30], 422, 'cannot be read as an image', id='header alone'),
        pytest.param(bomb(60000, 60000), 413, 'more than 178 megapixels', id='bomb'),
        pytest.param(bomb(1000, 1000), 413, 'has 1.0 megapixels (1000 x 1000), at most 0.1 are taken', id='large'),
        pytest.param(pages((16, 16), (400, 400)), 413, 'at most 0.1 are taken', id='large second page'),
        pytest.param(b'\xff' * 600_000, 413, 'larger than the 0.5 MB', id='long'),
    ],
)
def test_bad_uploads_get_one_sentence(server, path, data, status, message):
    messages = message if isinstance(message, tuple) else (message,)
    assert any(text in detail(post(server, path, data), status) for text in messages)
    assert get(server, 'healthz').json()['status'] == 'ok'


def test_page_of_no_known_mode_is_damage(server):
    data = pages((16, 16), (16, 16))
    photometric = struct.pack('<HHI', 262, 3, 1)
    place = data.rindex(photometric) + len(photometric)
    broken = data[:place] + b'\x60\xea' + data[place + 2 :]
    assert detail(post(server, 'jobs', broken), 422).startswith('photo.png: cannot be read as an image')


@pytest.mark.parametrize('path', ['upscale', 'jobs'])
def test_form_without_an_image_is_refused(server, path):
    response = requests.post(f'{server.address}api/v1/{path}', files={'strength': (None, '1')}, timeout=WAIT)
    assert detail(response, 422) == "an image is needed: as the body, or as the file 'image' of a form"


@pytest.mark.parametrize('path', ['upscale', 'jobs'])
def test_damage_behind_the_header_is_found_before_the_job_is_taken(server, path):
    jpeg = encode(make_image(200, 200), 'JPEG')
    for data in (PNG[:-40], jpeg[: len(jpeg) // 2]):
        assert 'cannot be read as an image' in detail(post(server, path, data), 422)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'model': 'nte'}, "there is no model 'nte'; there are: net (x2)"),
        ({'model': 'general'}, "there is no model 'general'; there are: net (x2)"),
        ({'scale': '3'}, 'there is no model at x3; there are: net (x2)'),
        ({'scale': 'four'}, "scale must be a whole number such as 4, got 'four'"),
        ({'strength': '3'}, "strength must be a number in [0, 2], got '3'"),
        ({'strength': 'nan'}, "strength must be a number in [0, 2], got 'nan'"),
        ({'ensemble': 'perhaps'}, "ensemble must be a true or false value, got 'perhaps'"),
        ({'tile': '3'}, "tile must be a whole number of pixels, 16 or more, got '3'"),
        ({'format': 'xcf'}, 'format must be one of apng, avif, bmp'),
        ({'quality': '101'}, "quality must be a whole number in [1, 100], got '101'"),
        ({'strenght': '1'}, "there is no parameter 'strenght'; did you mean 'strength'?"),
        ({'strength': ['1', '1']}, "parameter 'strength' is given twice"),
    ],
)
def test_wrong_parameters_get_one_sentence(server, fields, message):
    if fields == {'format': 'xcf'}:
        message = 'format must be one of '
    assert message in detail(post(server, 'jobs', PNG, **fields), 422)


def test_what_a_format_cannot_hold_is_said_before_the_job_is_taken(server):
    data = encode(make_image(mode='RGBA').resize((40, 32)), 'PNG')
    text = detail(post(server, 'jobs', data, format='jpg'), 422)
    assert text == 'photo.png: is transparent, which JPEG cannot be; use format png or webp'


@pytest.mark.parametrize('name', ['/etc/passwd', '../net', '..', 'net.pth', 'C:\\net.pth'])
def test_model_names_are_never_paths(server, weights, name, monkeypatch):
    monkeypatch.chdir(weights.parent)
    assert 'there is no model' in detail(post(server, 'jobs', PNG, model=name), 422)
    response = requests.post(f'{server.address}api/v1/playground', params={'sample': name}, timeout=WAIT)
    assert 'there is no sample' in detail(response, 422)
    assert get(server, f'api/v1/samples/{quote(name, safe="")}').status_code == 404


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('../../etc/photo.png', 'photo_x2.png'),
        ('C:\\Users\\me\\photo.png', 'photo_x2.png'),
        ('a"b\r\nX-Evil: 1.png', 'abX-Evil 1_x2.png'),
        ('..', 'image_x2.png'),
        ('photo.jpg', 'photo_x2.png'),
        ('archive.tar', 'archive.tar_x2.png'),
        ('été 日本.png', 'été 日本_x2.png'),
    ],
)
def test_file_names_of_clients_are_made_harmless(server, name, expected):
    response = requests.post(f'{server.address}api/v1/jobs', params={'name': name}, data=PNG, timeout=WAIT)
    assert finish(server, response)['upscale']['name'] == expected


@pytest.mark.parametrize(
    'path', ['static/../api.py', 'static/%2e%2e/api.py', 'static/..%2fapi.py', 'static//etc/passwd']
)
def test_files_beside_the_page_cannot_be_had(server, path):
    parts = urlsplit(server.address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=WAIT)
    connection.request('GET', f'/{path}')
    assert connection.getresponse().status == 404
    connection.close()


def test_body_that_is_not_announced_is_cut_off(server):
    def chunks():
        for _ in range(20):
            yield b'x' * 100_000

    response = requests.post(f'{server.address}api/v1/jobs', data=chunks(), timeout=WAIT)
    assert 'larger than the 0.5 MB' in detail(response, 413)


def test_form_that_is_broken_is_one_sentence(server):
    headers = {'content-type': 'multipart/form-data; boundary=x'}
    response = requests.post(f'{server.address}api/v1/jobs', data=b'--y\r\nnonsense', headers=headers, timeout=WAIT)
    assert response.status_code == 422
    headers = {'content-type': 'multipart/form-data'}
    response = requests.post(f'{server.address}api/v1/jobs', data=b'--y', headers=headers, timeout=WAIT)
    assert 'the form cannot be read' in detail(response, 422)
    files = {'image': ('a.png', PNG), 'other': ('b.png', PNG)}
    response = requests.post(f'{server.address}api/v1/jobs', files=files, timeout=WAIT)
    assert "got 'other'" in detail(response, 422)
    response = requests.post(f'{server.address}api/v1/jobs', files={'pic': ('a.png', PNG)}, timeout=WAIT)
    assert "got 'pic'" in detail(response, 422)


def test_running_job_is_cancelled_and_a_waiting_one_takes_its_place(server, gate):
    first = post(server, 'jobs', PNG).json()
    assert gate.reached.wait(WAIT)
    second = post(server, 'jobs', PNG)
    status = get(server, f'api/v1/jobs/{first["id"]}').json()
    assert (status['state'], status['upscale'], status['ahead']) == ('running', None, 0)
    waiting = get(server, f'api/v1/jobs/{second.json()["id"]}').json()
    assert (waiting['state'], waiting['ahead'], waiting['progress']) == ('queued', 1, 0)
    assert detail(get(server, f'api/v1/jobs/{first["id"]}/result'), 409) == 'the job is not finished'
    assert get(server, 'healthz').json() | {'version': ''} == {
        'status': 'ok', 'version': '', 'running': 1, 'waiting': 1,
    }  # fmt: skip
    folder = server.queue.get(first['id']).folder
    assert requests.delete(f'{server.address}api/v1/jobs/{first["id"]}', timeout=WAIT).status_code == 204
    assert get(server, f'api/v1/jobs/{first["id"]}').status_code == 404
    gate.opened.set()
    assert finish(server, second)['state'] == 'done'
    assert not folder.exists()


@pytest.mark.parametrize('path', ['upscale', 'jobs', 'playground'])
def test_full_queue_says_when_to_come_back(server, gate, path):
    ids = [post(server, 'jobs', PNG).json()['id']]
    assert gate.reached.wait(WAIT)
    ids.append(post(server, 'jobs', PNG).json()['id'])
    response = post(server, path, PNG)
    assert detail(response, 503) == '1 running and 1 waiting are all jobs that fit'
    assert int(response.headers['retry-after']) > 0
    for identifier in ids:
        requests.delete(f'{server.address}api/v1/jobs/{identifier}', timeout=WAIT)


def test_uploads_beyond_what_fits_are_refused_until_one_is_broken_off(server):
    parts = urlsplit(server.address)
    head = f'POST /api/v1/jobs HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n'
    clients = []
    for _ in range(2):  # one job that runs, one that waits
        clients.append(socket.create_connection((parts.hostname, parts.port), timeout=WAIT))
        clients[-1].sendall(head.encode())
        assert clients[-1].recv(100).startswith(b'HTTP/1.1 100 ')  # the body is being read
    response = post(server, 'jobs', PNG)
    assert detail(response, 503) == '2 uploads at once are all that fit'
    assert response.headers['retry-after'] == '5'
    for client in clients:
        client.close()
    while (response := post(server, 'jobs', PNG)).status_code == 503:  # the server notices the closed connections
        threading.Event().wait(0.01)
    assert finish(server, response)['state'] == 'done'


def test_result_that_is_gone_is_not_found(server):
    job = finish(server, post(server, 'jobs', PNG))
    for path in server.queue.get(job['id']).folder.iterdir():
        path.unlink()
    expected = 'there is no such job; it was cancelled, or its result has expired'
    for path in ('result', 'images/input', 'images/result'):
        assert detail(get(server, f'api/v1/jobs/{job["id"]}/{path}'), 404) == expected


def test_image_that_expires_while_it_is_converted_is_not_found(server, monkeypatch):
    job = finish(server, post(server, 'jobs', PNG))

    def convert(found, _):
        server.queue.remove(found)
        raise FileNotFoundError(2, 'No such file or directory')

    monkeypatch.setattr('dasr_arch.web.api.convert_for_browsers', convert)
    expected = 'there is no such job; it was cancelled, or its result has expired'
    assert detail(get(server, f'api/v1/jobs/{job["id"]}/images/input'), 404) == expected


def test_form_that_does_not_fit_on_the_disk_is_the_fault_of_the_server(server, monkeypatch):
    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('tempfile.SpooledTemporaryFile.rollover', fail)
    monkeypatch.setattr('starlette.formparsers.MultiPartParser.spool_max_size', 100)
    response = post(server, 'jobs', PNG)
    assert detail(response, 507) == 'the server cannot write its files (No space left on device)'


def test_client_that_goes_away_ends_its_job(server, gate):
    parts = urlsplit(server.address)
    with socket.create_connection((parts.hostname, parts.port), timeout=WAIT) as client:
        head = f'POST /api/v1/upscale HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(PNG)}\r\n\r\n'
        client.sendall(head.encode() + PNG)
        assert gate.reached.wait(WAIT)
        (job,) = server.queue._unfinished
    while job.id in server.queue._jobs:
        threading.Event().wait(0.01)  # the server notices the closed connection
    gate.opened.set()
    assert job.wait(WAIT)
    assert job.error.status == 410


def test_upload_that_stops_is_given_up(weights, tmp_path):
    limits = Limits(body_seconds=0.05)
    with (
        no_installed_weights(tmp_path),
        serving(ServeSettings(port=0, weights=(weights,), device='cpu', limits=limits)) as running,
    ):
        parts = urlsplit(running.address)
        with socket.create_connection((parts.hostname, parts.port), timeout=WAIT) as client:
            client.sendall(
                f'POST /api/v1/jobs HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 99\r\n\r\nab'.encode()
            )
            response = http.client.HTTPResponse(client)
            response.begin()
            assert response.status == 408
            assert 'nothing came' in json.loads(response.read())['detail']


def test_installed_weights_are_offered_by_name_and_setting(monkeypatch):
    monkeypatch.delenv('DASR_WEIGHTS', raising=False)
    with serving(ServeSettings(port=0, device='cpu')) as running:
        offered = get(running, 'api/v1/models').json()
        names = {(model['name'], model['scale']) for model in offered['models']}
        assert ('dasr_s_x4_iso', 4) in names
        assert [model['default'] for model in offered['models']].count(True) == 1
        entry = find_packaged('iso', 4)
        assert running.models.find('iso', None).name == entry.name
        assert running.models.find('photo', None).name == 'dasr_s_x4_photo'
        assert running.models.find(None, None).name == 'dasr_s_x4_photo'
        with pytest.raises(InputError, match=r"there is no model 'photo' at x5; there are: "):
            running.models.find('photo', 5)
        smallest = running.models.find('iso', 2)
        loaded = running.models.load(smallest)
        assert loaded.upscaler.scale == 2
        assert running.models.load(smallest) is loaded


def test_server_needs_weights_of_different_names(weights, tmp_path):
    with no_installed_weights(tmp_path):
        with pytest.raises(InputError, match='no weights are installed; start with --model FILE'):
            ModelStore(ServeSettings(device='cpu'))
        (tmp_path / 'net.pth').write_bytes(weights.read_bytes())
        with pytest.raises(InputError, match="--model: two files are called 'net' and are for x2; rename one"):
            ModelStore(ServeSettings(weights=(weights, tmp_path / 'net.pth'), device='cpu'))


def test_what_there_is_is_listed(server):
    offered = get(server, 'api/v1/models').json()
    assert [(model['name'], model['scale'], model['default']) for model in offered['models']] == [('net', 2, True)]
    assert offered['limits'] == {
        'upload_bytes': 500_000, 'pixels': 100_000, 'jobs': 1, 'queue': 1, 'keep_seconds': 900.0,
    }  # fmt: skip
    assert {'png', 'jpg', 'tiff'} <= set(offered['formats'])


def test_samples_are_listed_with_small_images(server):
    samples = get(server, 'api/v1/samples').json()['samples']
    assert {'astronaut', 'chelsea'} <= {sample['name'] for sample in samples}
    response = get(server, f'api/v1/samples/{samples[0]["name"]}')
    assert Image.open(BytesIO(response.content)).size == (160, 160)


def test_unknown_addresses_and_methods_are_answered_in_json(server):
    assert '/docs lists what there is' in detail(get(server, 'nothing'), 404)
    assert 'GET is not possible' in detail(get(server, 'api/v1/upscale'), 405)
    assert 'no such job' in detail(get(server, 'api/v1/jobs/nothing'), 404)
    assert 'there is nothing' in detail(get(server, 'api/v1/models/'), 404)


@pytest.mark.parametrize(
    ('path', 'methods'), [('api/v1/jobs/x', 'DELETE, GET, HEAD'), ('api/v1/upscale', 'POST'), ('docs', 'GET, HEAD')]
)
def test_wrong_method_is_answered_with_all_that_there_are(server, path, methods):
    response = requests.put(f'{server.address}{path}', timeout=WAIT)
    assert f'PUT is not possible at /{path}' in detail(response, 405)
    assert response.headers['Allow'] == methods


def test_failure_of_the_work_is_the_answer(server, monkeypatch):
    def fail(*_):
        raise InputError('not enough memory; close other programs')

    monkeypatch.setattr('dasr_arch.web.api.run_upscaling', fail)
    before = set(server.queue._jobs)
    assert detail(post(server, 'upscale', PNG), 422) == 'not enough memory; close other programs'
    assert set(server.queue._jobs) == before


def test_bug_is_answered_in_json_and_the_server_goes_on(server, monkeypatch):
    def fail(*_):
        raise RuntimeError('secret')

    monkeypatch.setattr('dasr_arch.web.api.list_samples', fail)
    assert detail(get(server, 'api/v1/samples'), 500) == 'the server made a mistake; its log says more'
    monkeypatch.undo()
    assert get(server, 'api/v1/samples').status_code == 200


def test_description_names_every_address_and_resolves(server):
    from dasr_arch.web.api import make_app

    described = get(server, 'openapi.json').json()
    app = make_app(ServeSettings(), server.models, server.queue)
    there = {
        (route.path, method.lower())
        for route in app.routes
        for method in getattr(route, 'methods', ()) or ()
        if method != 'HEAD' and (route.path.startswith('/api/') or route.path == '/healthz')
    }
    assert {(path, method) for path, methods in described['paths'].items() for method in methods} == there
    for name in re.findall(r'#/components/schemas/(\w+)', json.dumps(described)):
        assert name in described['components']['schemas']
    operations = [operation for methods in described['paths'].values() for operation in methods.values()]
    assert len({operation['operationId'] for operation in operations}) == len(operations)
    parameters = [one for operation in operations for one in operation.get('parameters', [])]
    assert all(one['description'] for one in parameters if one['in'] == 'query')
    for schema in described['components']['schemas'].values():
        assert all(value.get('description') for value in schema['properties'].values())


def test_description_is_valid_and_has_the_files_of_forms(server):
    from fastapi.openapi.models import OpenAPI

    described = get(server, 'openapi.json').json()
    OpenAPI.model_validate(described)
    assert described['openapi'].startswith('3.1')
    for path, files in (('upscale', UPLOADS), ('jobs', UPLOADS), ('playground', {'image'})):
        operation = described['paths'][f'/api/v1/{path}']['post']
        form = operation['requestBody']['content']['multipart/form-data']['schema']['properties']
        query = {one['name'] for one in operation['parameters']}
        assert set(form) == query | files
        assert {'408', '413', '415', '422', '503'} <= set(operation['responses'])
        for status, answer in operation['responses'].items():
            assert next(iter(answer['content'])) == 'application/problem+json' or status in ('200', '202')
    assert described['paths']['/api/v1/upscale']['post']['responses']['200']['content'].keys() == {'image/*'}
    strength = next(one for one in operation['parameters'] if one['name'] == 'strength')['schema']
    assert (strength['minimum'], strength['maximum'], strength['default']) == (0, 2, 1)


def test_token_is_described(server):
    from dasr_arch.web.api import make_app

    described = make_app(ServeSettings(token='a-token-of-twenty-two'), server.models, server.queue).openapi()
    assert described['components']['securitySchemes'] == {'token': {'type': 'http', 'scheme': 'bearer'}}
    for path, methods in described['paths'].items():
        for operation in methods.values():
            assert ('security' in operation) == ('401' in operation['responses']) == (path != '/healthz')
    assert 'securitySchemes' not in get(server, 'openapi.json').json()['components']


def test_old_address_and_fields_still_work(server):
    status = finish(server, post(server, 'jobs', PNG))
    base = f'api/v1/jobs/{status["id"]}'
    old, new = get(server, f'{base}/pictures/result'), get(server, f'{base}/images/result')
    assert old.content == new.content
    assert old.headers['content-type'] == new.headers['content-type']
    described = get(server, 'openapi.json').json()
    assert described['paths']['/api/v1/jobs/{id}/pictures/{image}']['get']['deprecated']
    schemas = described['components']['schemas']
    for name, field in (('JobStatus', 'stage'), ('PlaygroundResult', 'pictures'), ('Point', 'picture')):
        assert schemas[name]['properties'][field]['deprecated']


@pytest.mark.parametrize(
    ('phase', 'stage'), [('encoding', 'looking'), ('upscaling', 'enlarging'), ('writing', 'writing')]
)
def test_phase_of_a_job_has_its_old_name_too(server, gate, phase, stage):
    identifier = post(server, 'jobs', PNG).json()['id']
    assert gate.reached.wait(WAIT)
    server.queue.get(identifier).phase = phase
    status = get(server, f'api/v1/jobs/{identifier}').json()
    assert (status['phase'], status['stage']) == (phase, stage)
    requests.delete(f'{server.address}api/v1/jobs/{identifier}', timeout=WAIT)


def test_head_is_answered_like_get_without_a_body(server):
    for path in ('', 'docs', 'healthz', 'openapi.json', 'api/v1/models', 'api/v1/samples'):
        response = requests.head(f'{server.address}{path}', timeout=WAIT)
        assert (response.status_code, response.content) == (200, b'')


def test_every_answer_fits_its_description(server):
    schemas = get(server, 'openapi.json').json()['components']['schemas']
    answers = {
        'Models': get(server, 'api/v1/models').json(),
        'Samples': get(server, 'api/v1/samples').json(),
        'Health': get(server, 'healthz').json(),
        'JobStatus': finish(server, post(server, 'jobs', PNG)),
        'ProblemDetails': get(server, 'nothing').json(),
    }
    for name, answer in answers.items():
        assert set(answer) == set(schemas[name]['properties'])
        assert set(schemas[name]['required']) <= set(answer)


def test_a_name_in_place_of_a_file_is_explained(server):
    form = {'image': (None, 'photo.jpg')}  # as curl -F image=photo.jpg
    response = requests.post(f'{server.address}api/v1/upscale', files=form, timeout=WAIT)
    assert (response.status_code, response.json()['detail'][:50]) == (
        422,
        "'image' must be a file of the form: curl -F image=",
    )
