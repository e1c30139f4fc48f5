"""The page that compares the installed models on an image."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dasr_arch.benchmark.pages.models_page import choose_crops
from dasr_arch.checkpoints.packaged import DEFAULT_SETTING, find_packaged, read_manifest
from dasr_cli.main import main
from tests.web.browser import start_browser
from tests.web.serving import make_image


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """A page about an image of one crop at x2."""
    folder = tmp_path_factory.mktemp('page')
    make_image(60, 50).save(folder / 'photo.jpg')
    assert main(['compare-models', str(folder / 'photo.jpg'), '--scale', '2', '--device', 'cpu']) == 0
    return folder / 'photo_models.html'


def models():
    return ['Bicubic', *(entry.name for entry in read_manifest().files if entry.scale == 2)]


def test_page_holds_a_crop_by_every_model_and_nothing_from_elsewhere(page):
    text = page.read_text(encoding='utf-8')
    assert re.findall(r'data-network="([^"]+)" data-image', text) == models()
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert '60 x 50 pixels' in text


def test_slider_compares_any_two_models(page, tmp_path):
    driver = start_browser(tmp_path / 'profile', tmp_path)
    try:
        driver.get(page.as_uri())
        find = driver.find_element

        def tags():
            return [find('css selector', f'.tag.{side}').text for side in ('left', 'right')]

        default = find_packaged(DEFAULT_SETTING, 2).name
        assert tags() == ['Bicubic', default]
        other = next(name for name in models()[1:] if name != default)
        find('css selector', f'[data-kind="network"][data-value="{other}"]').click()
        assert tags() == [other, default]
        find('css selector', '[data-kind="against"][data-value="Bicubic"]').click()
        assert tags() == [other, 'Bicubic']
        shown = driver.execute_script("return [...document.querySelectorAll('.viewer img')].map((i) => i.naturalWidth)")
        assert shown == [100, 100]
    finally:
        driver.quit()


@pytest.mark.parametrize(
    ('size', 'expected'),
    [((400, 200), [(133, 96), (266, 96), (400, 96)]), ((90, 96), [(90, 90)]), ((100, 300), [(100, 96)] * 3)],
)
def test_crops_are_spread_and_inside(size, expected):
    width, height = size
    crops = choose_crops(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert len(crops) == len(expected)
    for (left, top, side), (most, length) in zip(crops, expected, strict=True):
        assert side == length
        assert 0 <= left <= most - side
        assert 0 <= top <= height - side


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['none.png'], 'none.png: '),
        (['photo.png', '--scale', '5'], 'no weights are installed for x5'),
        (['photo.png', '-o', 'photo.png'], 'photo.png: exists already'),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    make_image().save('photo.png')
    assert main(['compare-models', *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'dasr: error: {message}')
    assert [path.name for path in Path().iterdir()] == ['photo.png']


def test_the_image_itself_is_not_replaced_by_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (8, 8)).save('a.png')
    before = Path('a.png').read_bytes()
    assert main(['compare-models', 'a.png', '-o', 'a.png', '--force']) == 2
    assert 'a.png: is the image itself; choose another name for the page' in capsys.readouterr().err
    assert Path('a.png').read_bytes() == before
