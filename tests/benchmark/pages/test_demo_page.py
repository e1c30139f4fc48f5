"""The page of the demo, made from the results of a real test."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.benchmark.pages.results_page import DemoContent, render_results_page, write_results_page
from dasr_arch.pipelines.testing import run_test
from dasr_arch.probe.tsne import MapPoint, RepresentationMap, write_maps
from tests.benchmark.making import make_options, save_weights, small_dasr, write_images
from tests.benchmark.pages.chromium import dump_dom

HISTORY = [
    {'iter': 1, 'l_contrast': 4.0},
    {'iter': 2, 'l_contrast': 3.0, 'l_pix': 9.0},
    {
        'iter': 2,
        'validation': {'Own': {'sigma 0': {'psnr': 20.0}, 'sigma 1.2': {'psnr': 19.0}, 'mean': {'psnr': 19.5}}},
    },
]


class Page(HTMLParser):
    """Content of a page: open tags that were not closed, images, addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.text = ''
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == 'img':
            self.images.append(given)
        self.addresses += [str(value) for key, value in attrs if key in ('src', 'href')]
        if tag not in ('img', 'meta', 'br', 'input'):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope='module')
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the results of a test of two networks on two images at two widths."""
    folder = tmp_path_factory.mktemp('report')
    before = Path.cwd()
    os.chdir(folder)
    torch.manual_seed(0)
    weights = save_weights(DASR(**small_dasr()), folder / 'small.pth')
    networks = {'Bicubic': {'type': 'Bicubic'}, 'DASR': {'type': 'DASR', 'path': str(weights)}}
    run_test(make_options(write_images(Path('hr')), networks=networks, crops={'images': 2, 'size': 16}))
    points = [MapPoint('p0', 'sigma 0', 0.0, 1.0), MapPoint('p1', 'sigma 1.2', 2.0, 3.0)]
    write_maps(Path('maps.json'), [RepresentationMap('some map', 'By hand.', points)])
    os.chdir(before)
    yield folder


def content(folder: Path, **changes) -> DemoContent:
    given = {
        'title': 'A <trial>',
        'history': HISTORY,
        'stages': [(1, 'first'), (1, 'second')],
        'representations': folder / 'maps.json',
        'facts': [('machine', 'one & only')],
        'credits': ['p0: nobody'],
    }
    return DemoContent(**{**given, **changes})


def render(folder: Path, results: Path | None = None, **changes) -> str:
    return render_results_page(results or folder / 'results' / 'trial', content(folder, **changes))


def test_page_is_whole_html_that_needs_nothing_else(saved: Path) -> None:
    text = render(saved)
    page = Page(text)
    assert page.open == []
    assert page.addresses
    assert all(address.startswith('data:') for address in page.addresses)
    assert not re.search(r'https?://|@import|url\(', text)
    assert not re.search(r'\{[{%]', text)  # every placeholder is filled


def test_page_shows_every_image_of_every_network(saved: Path) -> None:
    page = Page(render(saved))
    results = [image for image in page.images if image.get('data-network')]
    assert len(results) == 2 * 2 * 2
    assert {image['data-network'] for image in results} == {'Bicubic', 'DASR'}
    assert sum(image.get('class') == 'raw' for image in page.images) == 2 * 2
    record = json.loads((saved / 'results/trial/table.json').read_text())
    for row in record['rows']:
        for image in row['pictures']:
            assert f'{image["psnr"]:.2f} / {image["ssim"]:.4f}' in page.text


def test_page_states_the_gain_of_the_table(saved: Path) -> None:
    record = json.loads((saved / 'results/trial/table.json').read_text())
    means = {(row['network'], row['degradation']): row['means']['psnr'] for row in record['rows']}
    gain = means['DASR', 'sigma 1.2'] - means['Bicubic', 'sigma 1.2']
    shown = f'{gain:+.2f}'.replace('-', '\N{MINUS SIGN}')
    assert f'{shown} at sigma 1.2' in Page(render(saved)).text


def test_page_shows_curves_map_facts_and_credits(saved: Path) -> None:
    text = render(saved)
    further = text[text.index('<h2>Training</h2>') :]
    assert further.count('<svg') == 4  # two losses, validation, one map
    assert further.count('class="dot"') == 2
    page = Page(text)
    for part in ('contrastive loss', 'Some map. By hand.', 'one & only', 'p0: nobody', 'A <trial>'):
        assert part in page.text


def test_page_without_training_and_map_says_so(saved: Path) -> None:
    page = Page(render(saved, history=(), representations=None))
    assert page.open == []
    assert 'No training was recorded.' in page.text
    assert 'No map was saved.' in page.text


def test_page_without_images_has_no_slider(saved: Path, tmp_path: Path) -> None:
    results = shutil.copytree(saved / 'results' / 'trial', tmp_path / 'trial')
    record = json.loads((results / 'table.json').read_text())
    (results / 'table.json').write_text(json.dumps({**record, 'crops': []}))
    assert 'class="slider"' in render(saved)
    assert 'class="slider"' not in render(saved, results)


def test_failed_evaluations_are_named(saved: Path, tmp_path: Path) -> None:
    results = shutil.copytree(saved / 'results' / 'trial', tmp_path / 'trial')
    record = json.loads((results / 'table.json').read_text())
    record['rows'][-1].update(failure='out of <memory>', means={}, pictures=[])
    (results / 'table.json').write_text(json.dumps(record))
    page = Page(render(saved, results))
    assert 'failed: DASR on Own, sigma 1.2: out of <memory>' in page.text
    assert page.open == []


@pytest.mark.slow
def test_slider_shows_the_chosen_image_of_both_networks(saved: Path, tmp_path: Path) -> None:
    script = """
    var box = document.getElementById('compare');
    box.querySelector('button[data-kind="image"][data-value="p1"]').click();
    box.querySelector('button[data-kind="degradation"][data-value="sigma 0"]').click();
    var images = document.querySelectorAll('img[data-image="p1"][data-degradation="sigma 0"]');
    function find(network) {
      return Array.prototype.find.call(images, function (image) { return image.dataset.network === network; }).src;
    }
    document.body.dataset.found = [
      box.hidden,
      box.querySelector('.under').src === find('Bicubic'),
      box.querySelector('.over').src === find('DASR'),
      box.querySelector('.tag.right').textContent.slice(0, 5),
      document.querySelectorAll('.crop-block .crops:not([hidden])').length
    ].join(' | ');
    """
    dom = dump_dom(render(saved), script, tmp_path)
    found = re.search(r'data-found="([^"]*)"', dom)
    assert found is not None
    assert found[1] == 'false | true | true | DASR  | 2'


def test_missing_results_leave_an_older_page(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / 'index.html'
    target.write_text('older')
    with pytest.raises(InputError, match='does not exist'):
        write_results_page(tmp_path / 'none', target, content(saved))
    with pytest.raises(InputError, match="holds no network 'RCAN'"):
        write_results_page(saved / 'results' / 'trial', target, content(saved, network='RCAN'))
    results = shutil.copytree(saved / 'results' / 'trial', tmp_path / 'trial')
    shutil.rmtree(results / 'crops' / 'Own' / 'p0')
    with pytest.raises(InputError, match=r'p0/'):
        write_results_page(results, target, content(saved))
    assert target.read_text() == 'older'


def test_same_results_make_the_same_page(saved: Path, tmp_path: Path) -> None:
    for name in ('one.html', 'two.html'):
        write_results_page(saved / 'results' / 'trial', tmp_path / name, content(saved))
    assert (tmp_path / 'one.html').read_bytes() == (tmp_path / 'two.html').read_bytes()
