"""Choice of the setting for an image: by its file, block boundaries, noise and blur."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dasr_arch import InputError
from dasr_arch.degradations import build_degradation, degrade_image
from dasr_arch.inference.images.io import read_image_file
from dasr_arch.inference.target_size import TargetSize
from dasr_arch.probe.auto_model import AutoPool, estimate_quality, measure_blocks
from dasr_cli.main import main
from tests.web.serving import encode

DEMO = sorted((Path(__file__).parents[2] / 'datasets' / 'demo').rglob('*.png'))


@pytest.fixture(scope='module')
def pool():
    return AutoPool('auto')


@pytest.fixture(scope='module')
def hr():
    return max((np.array(Image.open(path).convert('RGB')) for path in DEMO), key=np.size)


def degrade(hr, **options):
    return Image.fromarray(degrade_image(build_degradation(options, 4), hr))


@pytest.mark.parametrize('quality', [25, 30, 50, 75, 90, 95, 100])
def test_quality_is_that_of_the_encoder(quality):
    data = encode(Image.new('RGB', (16, 16)), 'JPEG', quality=quality)
    assert abs(estimate_quality(read_image_file(data, 'x').quantisation) - quality) <= 1
    assert read_image_file(encode(Image.new('RGB', (16, 16))), 'x').quantisation == ()


@pytest.mark.parametrize(
    ('options', 'encoding', 'expected', 'reason'),
    [
        ({'type': 'IsotropicGaussian', 'sigma': 1.2}, {}, 'iso', 'no compression'),
        ({'type': 'IsotropicGaussian', 'sigma': 1.2, 'noise': 10}, {}, 'general', 'noise of about 10 grey levels'),
        ({'type': 'AnisotropicGaussian', 'lambda_1': 4, 'lambda_2': 1, 'theta_deg': 0}, {}, 'general', 'anisotropic'),
        ({'type': 'IsotropicGaussian', 'sigma': 1.2}, {'kind': 'JPEG', 'quality': 60}, 'photo', 'JPEG of quality 60'),
        ({'type': 'IsotropicGaussian', 'sigma': 1.2}, {'kind': 'JPEG', 'quality': 98}, 'iso', 'no compression'),
        ({'type': 'IsotropicGaussian', 'sigma': 0}, {'kind': 'WEBP', 'quality': 60}, 'photo', 'WEBP with losses'),
        ({'type': 'IsotropicGaussian', 'sigma': 0}, {'kind': 'WEBP', 'lossless': True}, 'iso', 'no compression'),
    ],
)
def test_setting_fits_the_degradation(pool, hr, options, encoding, expected, reason):
    setting, told = pool.choose_model(read_image_file(encode(degrade(hr, **options), **encoding), 'x'))
    assert (setting, told[: len(reason)]) == (expected, reason)


def test_jpeg_that_was_saved_as_png_is_found_by_its_blocks(pool, hr):
    lq = degrade(hr, type='IsotropicGaussian', sigma=1.2)
    again = Image.open(BytesIO(encode(lq, 'JPEG', quality=40)))
    assert pool.choose_model(read_image_file(encode(again), 'x')) == ('photo', 'has the blocks of a JPEG')
    assert measure_blocks(np.array(lq)) < 1.2 < measure_blocks(np.array(again))
    assert measure_blocks(np.zeros((3, 100, 3), np.uint8)) == 0
    assert measure_blocks(np.zeros((3, 3, 1), np.uint16)) == 1


def test_factor_is_one_that_the_setting_has(hr):
    file = read_image_file(encode(degrade(hr, type='IsotropicGaussian', sigma=0)), 'x')
    size = (100, 100)
    assert AutoPool('auto').choose([size], TargetSize(long_side=150), file)[0].scale == 2
    assert AutoPool('auto', 3).choose([size], None, file)[0].scale == 3
    jpeg = read_image_file(encode(degrade(hr, type='IsotropicGaussian', sigma=0), 'JPEG', quality=50), 'x')
    upscaler, line = AutoPool('auto', 3).choose([size], None, jpeg)
    assert upscaler.scale == 3
    assert line == 'model photo x3: JPEG of quality 50'


def test_videos_are_refused(pool):
    with pytest.raises(InputError, match='the model auto is for images'):
        pool.choose([(10, 10)], None)


def test_command_names_the_choice_for_each_image(hr, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lq = degrade(hr, type='IsotropicGaussian', sigma=0).crop((0, 0, 64, 64))
    lq.save('a.jpg', quality=50)
    lq.save('b.png')
    assert main(['upscale', 'a.jpg', 'b.png', '-o', 'out/', '--model', 'auto', '--device', 'cpu']) == 0
    told = capsys.readouterr().err
    assert 'dasr: a.jpg: model photo x4: JPEG of quality 50' in told
    assert 'dasr: b.png: model iso x4: no compression, noise or anisotropic blur found' in told
