"""Experiments with known degradations, by real requests, and the map alone."""

from io import BytesIO

import numpy as np
import pytest
import requests
from PIL import Image

from dasr_arch._errors import InputError
from dasr_arch.archs.bicubic_arch import Bicubic
from dasr_arch.data.image_io import decode_image
from dasr_arch.degradations import build_degradation, degrade_image, image_generator
from dasr_arch.inference.upscaler import Upscaler
from tests.inference.making import make_network
from tests.web.serving import encode, make_image, no_installed_weights, serving, write_weights

pytest.importorskip('fastapi', reason='the extra serve is not installed')
pytest.importorskip('uvicorn', reason='the extra serve is not installed')
pytest.importorskip('python_multipart', reason='the extra serve is not installed')

from dasr_arch.data.image_io import cut_middle
from dasr_arch.web import representation_map
from dasr_arch.web.representation_map import (
    count_encoded,
    encode_known,
    list_known,
    make_reference,
    place_experiment,
)
from dasr_arch.web.settings import ServeSettings

WAIT = 120
CLEAN = make_image(101, 90, seed=3)


@pytest.fixture(scope='module')
def small_maps():
    """Sample images of 24 pixels a side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(representation_map, 'MAP_SIDE', 24)
        yield


@pytest.fixture(scope='module')
def upscaler():
    return Upscaler(2, make_network(2), device='cpu', precision='fp32')


@pytest.fixture(scope='module')
def reference(upscaler, small_maps):
    return make_reference(upscaler, list_known('iso', 2))


@pytest.fixture(scope='module')
def server(tmp_path_factory, small_maps):
    weights = write_weights(tmp_path_factory.mktemp('weights'))
    with (
        no_installed_weights(tmp_path_factory.mktemp('manifest')),
        serving(ServeSettings(port=0, weights=(weights,), device='cpu', precision='fp32')) as running,
    ):
        yield running


def experiment(server, image=None, **fields):
    files = {} if image is None else {'image': ('clean.png', encode(image))}
    response = requests.post(f'{server.address}api/v1/playground', files=files, params=fields, timeout=WAIT)
    if response.status_code != 202:
        return response
    assert server.queue.get(response.json()['id']).wait(WAIT)
    return requests.get(f'{server.address}{response.headers["location"].lstrip("/")}', timeout=WAIT).json()


def fetch(server, status, name):
    response = requests.get(f'{server.address}api/v1/jobs/{status["id"]}/images/{name}', timeout=WAIT)
    return decode_image(response.content, name)


@pytest.mark.parametrize(
    ('fields', 'block', 'label'),
    [
        (
            {'width': 1.3, 'noise': 5, 'seed': 7},
            {'type': 'IsotropicGaussian', 'sigma': 1.3, 'noise': 5.0},
            'sigma 1.3, noise 5',
        ),
        ({'width': 0}, {'type': 'IsotropicGaussian', 'sigma': 0.0}, 'sigma 0'),
        (
            {'blur': 'aniso', 'axis_1': 2, 'axis_2': 0.5, 'theta': 30},
            {'type': 'AnisotropicGaussian', 'lambda_1': 2.0, 'lambda_2': 0.5, 'theta_deg': 30.0},
            'lambda 2 0.5, theta 30',
        ),
    ],
)
def test_images_and_numbers_are_those_of_the_package(server, upscaler, fields, block, label):
    status = experiment(server, CLEAN, **fields)
    made = status['playground']
    assert made['images'] == made['pictures'] == ['hr', 'lq', 'bicubic', 'sr']
    job = server.queue.get(status['id'])
    assert job._done == pytest.approx(job._total)  # so that the estimate of the remaining time is right
    hr, lq, bicubic, sr = (fetch(server, status, name) for name in made['images'])
    degradation = build_degradation(block, 2)
    seed = fields.get('seed', 0)
    assert made['label'] == label
    assert (made['width'], made['height'], made['cropped']) == (100, 90, True)
    assert (hr == np.array(CLEAN)[:, :100]).all()
    assert (lq == degrade_image(degradation, hr, seed, 'experiment')).all()
    assert (sr == upscaler(lq)).all()
    kernel = degradation.draw_kernel(image_generator(seed, 'experiment')).numpy()
    assert np.abs(np.array(made['kernel']) - kernel).max() < 1e-7
    assert sum(map(sum, made['kernel'])) == pytest.approx(1, abs=1e-5)
    for name, image in (('psnr_bicubic', bicubic), ('psnr_sr', sr)):
        luma = [(one[2:-2, 2:-2].astype(np.float64) @ (65.481, 128.553, 24.966) / 255 + 16) for one in (hr, image)]
        assert made[name] == pytest.approx(10 * np.log10(255**2 / np.mean((luma[0] - luma[1]) ** 2)), abs=0.02)


def test_bicubic_is_the_network_of_that_name(server):
    import torch

    status = experiment(server, CLEAN, width=1)
    lq, bicubic = fetch(server, status, 'lq'), fetch(server, status, 'bicubic')
    upsampled = Bicubic(2)(torch.from_numpy(lq).permute(2, 0, 1)[None].float() / 255)
    assert (bicubic == (upsampled[0] * 255).round().permute(1, 2, 0).byte().numpy()).all()


def test_sample_images_are_experimented_with(server):
    status = experiment(server, sample='text')
    assert (status['name'], status['state']) == ('text', 'done')
    map_ = status['playground']['map']
    assert {point['image'] for point in map_['others']} >= {'astronaut', 'text'}
    assert all(point['image'] == point['picture'] for point in map_['others'])
    assert {point['label'] for point in map_['own']} == {known.degradation.label for known in list_known(None, 2)}
    assert len(map_['nearest']) == 3
    assert 0 < map_['share'] <= 1


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'CMYK'])
def test_images_of_any_mode_become_colour(server, mode):
    image = CLEAN.convert(mode)
    kind = {'CMYK': 'TIFF'}.get(mode, 'PNG')
    files = {'image': ('clean', encode(image, kind))}
    response = requests.post(f'{server.address}api/v1/playground', files=files, timeout=WAIT)
    assert server.queue.get(response.json()['id']).wait(WAIT)
    status = requests.get(f'{server.address}api/v1/jobs/{response.json()["id"]}', timeout=WAIT).json()
    assert fetch(server, status, 'hr').shape == (90, 100, 3)


@pytest.mark.parametrize(
    ('image', 'fields', 'message'),
    [
        (None, {}, 'a clean image is needed: upload one, or name a sample'),
        (None, {'sample': 'nobody'}, "there is no sample 'nobody'"),
        (CLEAN, {'sample': 'text'}, 'give an image or the name of a sample, not both'),
        (CLEAN, {'width': -1}, "width must be a number in [0, 10], got '-1'"),
        (CLEAN, {'blur': 'round'}, "blur must be a choice of iso or aniso, got 'round'"),
        (CLEAN, {'axis_1': 0}, "axis_1 must be a number above 0, at most 10, got '0'"),
        (CLEAN, {'noise': 'inf'}, "noise must be a number in [0, 100], got 'inf'"),
        (CLEAN, {'tile': 64}, "there is no parameter 'tile'"),
        (CLEAN, {'model': 'x'}, "there is no model 'x'"),
    ],
)
def test_wrong_experiments_get_one_sentence(server, image, fields, message):
    response = experiment(server, image, **fields)
    assert response.status_code == 422
    assert message in response.json()['detail']


def test_small_image_fails_with_one_sentence(server):
    status = experiment(server, make_image(60, 40))
    assert status['state'] == 'failed'
    assert status['error']['detail'] == 'the image needs at least 48 pixels to each side, got 60 x 40'
    response = requests.get(f'{server.address}api/v1/jobs/{status["id"]}/images/hr', timeout=WAIT)
    assert (response.status_code, response.json()['detail']) == (422, status['error']['detail'])


def test_experiment_takes_no_second_image(server):
    files = {name: (f'{name}.png', encode(CLEAN)) for name in ('image', 'reference')}
    response = requests.post(f'{server.address}api/v1/playground', files=files, timeout=WAIT)
    assert (response.status_code, response.json()['detail']) == (422, "an experiment takes no file called 'reference'")


def test_known_degradation_lies_at_its_own_place(upscaler, reference):
    clean = cut_middle(np.array(CLEAN), 80, 2)
    for index in (0, 4, 9):
        known = reference.known[index]
        lq = degrade_image(known.degradation, clean, 0, 'experiment')
        placed = place_experiment(reference, upscaler, clean, lq, known)
        own = placed.own[index]
        assert (placed.here.x, placed.here.y) == (pytest.approx(own.x, abs=1e-4), pytest.approx(own.y, abs=1e-4))
        assert placed.nearest[0] == known.degradation.label


def test_sample_image_lies_where_its_dots_are(upscaler, reference):
    clean = representation_map.load_samples(24)['chelsea']
    lq = degrade_image(reference.known[3].degradation, clean, 0, 'experiment')
    placed = place_experiment(reference, upscaler, clean, lq, reference.known[3])
    dots = [point for point in reference.others if point.image == 'chelsea']
    for dot, own in zip(dots, placed.own, strict=True):
        assert (dot.label, dot.x, dot.y) == (own.label, pytest.approx(own.x, abs=1e-4), pytest.approx(own.y, abs=1e-4))


def test_axes_are_those_of_principal_components_with_more_blur_to_the_right(upscaler, reference):
    assert np.allclose(reference.axes @ reference.axes.T, np.eye(2), atol=1e-6)
    x = {}
    for point in reference.others:
        x.setdefault(point.width, []).append(point.x)
    widths = sorted(x)
    assert np.corrcoef(widths, [np.mean(x[width]) for width in widths])[0, 1] > 0
    assert {point.image for point in reference.others} == set(representation_map.load_samples(24))


def test_representations_of_the_map_are_those_of_the_upscaler(upscaler):
    known = list_known('iso', 2)[:2]
    clean = np.array(CLEAN)
    vectors = encode_known(upscaler, clean, known, 'x')
    lq = degrade_image(known[1].degradation, clean, 0, 'x')
    assert np.allclose(vectors[1], upscaler.represent([lq])[0].numpy(), atol=1e-6)


def test_known_degradations_fit_what_networks_are_trained_for():
    iso, general = list_known('iso', 4), list_known('general', 4)
    assert [known.width for known in iso] == [0.2, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0]
    assert not any(known.noise or known.aniso for known in iso)
    assert {known.noise for known in general} == {0, 10, 25}
    assert sum(known.aniso for known in general) == 4
    for setting in (None, 'photo'):
        labels = [known.degradation.label for known in list_known(setting, 4)]
        assert labels == [known.degradation.label for known in general]


def test_work_on_the_map_can_be_stopped(upscaler, small_maps):
    class StopError(Exception):
        pass

    def stop(_):
        raise StopError

    store = representation_map.MapStore()
    with pytest.raises(StopError):
        store.get(('a', 2), upscaler, 'iso', stop)
    reported = []
    store.get(('a', 2), upscaler, 'iso', reported.append)
    samples = representation_map.load_samples(24).values()
    assert sum(reported) == count_encoded(2, list_known('iso', 2), samples)
    assert store.has(('a', 2))
    again = []
    store.get(('a', 2), upscaler, 'iso', again.append)
    assert again == []


def test_missing_sample_images_are_named(upscaler, monkeypatch):
    def fail(_):
        raise InputError('none')

    monkeypatch.setattr(representation_map, 'find_sample_images', fail)
    monkeypatch.setattr(representation_map, 'load_samples', representation_map.load_samples.__wrapped__)
    with pytest.raises(InputError, match='the map needs the sample images of scikit-image'):
        make_reference(upscaler, list_known('iso', 2))


def test_thumbnail_is_a_small_jpeg(server):
    response = requests.get(f'{server.address}api/v1/samples/coffee', timeout=WAIT)
    with Image.open(BytesIO(response.content)) as image:
        assert (image.format, image.size) == ('JPEG', (160, 160))
