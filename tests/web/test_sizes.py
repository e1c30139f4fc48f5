"""Sizes, masks and the choice of the model in the HTTP API and on the page."""

import json
from io import BytesIO

import numpy as np
import pytest
import requests
from PIL import Image

from tests.web.browser import start_browser
from tests.web.serving import encode, make_image, serving, write_weights

pytest.importorskip('fastapi', reason='the extra serve is not installed')
pytest.importorskip('uvicorn', reason='the extra serve is not installed')
pytest.importorskip('python_multipart', reason='the extra serve is not installed')

from dasr_arch.checkpoints.packaged import DEFAULT_SETTING
from dasr_arch.inference.target_size import TargetSize
from dasr_arch.inference.upscale_files import FileSettings, upscale_bytes
from dasr_arch.web.settings import ServeSettings

PNG = encode(make_image())  # 40 x 32 pixels
WAIT = 60


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    weights = write_weights(tmp_path_factory.mktemp('weights'))
    with serving(ServeSettings(port=0, weights=(weights,), device='cpu', precision='fp32')) as running:
        yield running


@pytest.fixture(scope='module')
def installed():
    """A server of the installed weights."""
    with serving(ServeSettings(port=0, device='cpu', precision='fp32')) as running:
        yield running


def post(server, files=None, **fields):
    files = {'image': ('photo.png', PNG), **(files or {})}
    return requests.post(f'{server.address}api/v1/upscale', files=files, data=fields, timeout=WAIT)


def run_job(server, data=PNG, **fields):
    """Facts of the result of a job."""
    address = f'{server.address}api/v1/jobs'
    job = requests.post(address, files={'image': ('photo.png', data)}, data=fields, timeout=WAIT).json()
    assert server.queue.get(job['id']).wait(WAIT)
    return requests.get(f'{address}/{job["id"]}', timeout=WAIT).json()['upscale']


@pytest.mark.parametrize(
    ('field', 'value', 'size', 'label'),
    [
        ('to', '60x60', (60, 48), 'to60x60'),
        ('long_side', '70', (70, 56), 'long70'),
        ('short_side', '40', (50, 40), 'short40'),
    ],
)
def test_result_has_the_size_and_is_that_of_the_command(server, field, value, size, label):
    response = post(server, **{field: value})
    assert response.status_code == 200, response.text
    assert f'photo_{label}.png' in response.headers['content-disposition']
    assert Image.open(BytesIO(response.content)).size == size
    given = {'to': None, 'long_side': None, 'short_side': None, field: value if field == 'to' else int(value)}
    upscaler = server.models.load(server.models.entries[0]).upscaler
    assert response.content == upscale_bytes(upscaler, PNG, 'x', FileSettings(size=TargetSize.read(**given)))


def test_mask_is_used(server):
    plain = post(server).content
    half = Image.new('L', (40, 32))
    half.paste(255, (0, 0, 20, 32))
    masked = np.array(Image.open(BytesIO(post(server, {'mask': ('m.png', encode(half))}).content)))
    whole = np.array(Image.open(BytesIO(plain)))
    assert np.array_equal(masked[:, :34], whole[:, :34])
    assert not np.array_equal(masked[:, 46:], whole[:, 46:])


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'to': '60'}, "to must be width and height such as 3840x2160, got '60'"),
        ({'to': '60x60', 'long_side': '50'}, 'give one of to, long_side and short_side'),
        ({'long_side': '0'}, "long_side must be a whole number of pixels, 1 or more, got '0'"),
        ({'long_side': '40'}, 'which is no enlargement'),
        ({'long_side': '81'}, 'ask for at most 80 x 64'),
        ({'long_side': '60', 'scale': '1'}, 'the scale 1 keeps the size'),
        ({'model': 'auto', 'scale': '5'}, f"there is no model '{DEFAULT_SETTING}' at x5"),
    ],
)
def test_wrong_sizes_are_one_sentence(server, fields, message):
    response = post(server, **fields)
    assert response.status_code == 422
    assert message in response.json()['detail']


def test_mask_of_another_size_is_refused_before_the_work(server):
    response = post(server, {'mask': ('m.png', encode(Image.new('L', (9, 9))))})
    assert response.status_code == 422
    assert 'the mask has 9 x 9 pixels; it needs 40 x 32 as the image, or 80 x 64' in response.json()['detail']


def test_model_and_reason_are_told(server, installed):
    made = run_job(installed)
    assert made['model'].endswith(DEFAULT_SETTING)
    assert made['reason'] == 'default for photographs'
    assert run_job(server)['reason'] == 'first of the command line'
    made = run_job(installed, model='iso', to='100x100')
    assert (made['scale'], made['width'], made['height'], made['reason']) == (3, 100, 80, 'chosen by the request')
    made = run_job(installed, scale='1')
    assert (made['scale'], made['width'], made['height'], made['name']) == (2, 40, 32, 'photo_x1.png')
    jpeg = encode(make_image(), 'JPEG', quality=50)
    made = run_job(installed, jpeg, model='auto')
    assert (made['model'], made['reason']) == ('dasr_s_x4_photo', 'JPEG of quality 50')
    address = f'{installed.address}api/v1/upscale'
    answer = requests.post(address, files={'image': ('photo.png', jpeg)}, data={'model': 'auto'}, timeout=WAIT)
    told = json.loads(answer.headers['DASR-Result'])
    own = {'notes', 'seconds'}  # the notes have a header of their own
    assert {name: told.get(name) for name in made.keys() - own} == {name: made[name] for name in made.keys() - own}


def test_page_takes_size_mask_and_auto(installed, tmp_path):
    driver = start_browser(tmp_path / 'profile', tmp_path)
    from selenium.webdriver.support.ui import Select, WebDriverWait

    def find(selector):
        return WebDriverWait(driver, WAIT, 0.05).until(lambda _: driver.find_element('css selector', selector))

    (tmp_path / 'photo.jpg').write_bytes(encode(make_image(), 'JPEG', quality=50))
    (tmp_path / 'mask.png').write_bytes(encode(Image.new('L', (40, 32), 255)))
    try:
        driver.get(installed.address)
        find('html[data-ready]')
        find('#up-file').send_keys(str(tmp_path / 'photo.jpg'))
        Select(find('#up-model')).select_by_value('auto')
        find('#up-form summary').click()
        assert not find('#up-size').is_displayed()
        Select(find('#up-size-kind')).select_by_value('to')
        find('#up-size').send_keys('100x100')
        WebDriverWait(driver, WAIT).until(lambda _: '100 \N{MULTIPLICATION SIGN} 80 pixels' in find('#up-facts').text)
        find('#up-mask').send_keys(str(tmp_path / 'mask.png'))
        find('#up-start').click()
        WebDriverWait(driver, WAIT).until(lambda _: find('#up-download').is_displayed())
        summary = find('#up-summary').text
        assert summary.startswith('photo_to100x100.jpg: 100 \N{MULTIPLICATION SIGN} 80 pixels, dasr_s_x3_photo at 3')
        assert '(JPEG of quality 50)' in summary
        Select(find('#up-size-kind')).select_by_value('')
        assert not find('#up-size').is_displayed()
    finally:
        driver.quit()
