"""The page of a test: complete, self-contained, and safe against markup in names."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dasr_arch.benchmark.pages.charts import AMBERS, PALETTE
from dasr_arch.benchmark.pages.results_page import render_results_page, write_results_page
from dasr_arch.config.yaml_reader import read_yaml
from dasr_arch.data.image_io import write_image
from tests.benchmark.making import make_image
from tests.benchmark.pages.chromium import dump_dom
from tests.benchmark.tables.test_results_table import make_comparison

VOID = {'meta', 'img', 'br', 'input', 'link'}


class Checker(HTMLParser):
    """Collects the elements of a page and refuses those that are closed in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def make_results(folder: Path, **changes: Any) -> Path:
    """A results folder with one crop."""
    record = make_comparison(crops=[{'dataset': 'Set5', 'picture': 'baby', 'left': 4, 'top': 8, 'side': 16}], **changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'table.json').write_text(json.dumps(record))
    for name in ('hr', 'width_1.2', 'width_2.4'):
        write_image(folder / f'crops/Set5/baby/{name}.png', make_image(16, 16))
    for network in ('Bicubic', 'DASR', 'SRMD'):
        for width in ('width_1.2', 'width_2.4'):
            write_image(folder / f'visualization/{network}/Set5/{width}/baby.png', make_image())
    return folder


def parse(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def test_page_is_well_formed_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = render_results_page(make_results(tmp_path))
    elements = parse(page).elements
    for _, attributes in elements:
        for key in ('src', 'href'):
            assert (attributes.get(key) or 'data:').startswith('data:')
    assert not re.search(r'https?://(?!www\.w3\.org)|@import|url\(', page)
    assert sum(tag == 'svg' for tag, _ in elements) == 3  # PSNR and NIQE against width, PSNR against time


def test_page_shows_numbers_published_figures_costs_and_what_failed(tmp_path: Path) -> None:
    page = render_results_page(make_results(tmp_path))
    assert '<b>DASR</b> with 30.50 dB' in page
    assert '<span class="badge">kernel</span>' in page
    assert re.search(
        r'<tr class="published"><td>DASR<span class="badge">dasr_table2</span></td><td[^>]*>31.92</td>', page
    )
    assert f'title="{"baby: ValueError: the output holds NaN"}">failed' in page
    assert 'failed: A &amp; B on Set5, width 2.4: baby: ValueError' in page
    assert "skipped: RCAN: 'rcan.pth' does not exist" in unescape(page)
    assert '<td data-value="5.8377">5.838</td>' in page
    assert 'Given the true degradation: upper bounds, not ranked' in page


def test_published_costs_stand_apart_and_are_left_out_with_the_figures(tmp_path: Path) -> None:
    page = render_results_page(make_results(tmp_path))
    assert re.search(
        r'<div class="published-group"><p>Published costs, .*<tr class="published"><td>DASR<span class="badge">'
        r'dasr_table2</span></td><td data-value="5.8">5.80</td><td data-value="">-</td><td data-value="70">70</td>',
        page,
    )
    record = make_comparison()
    for entry in record['published']['rows']:
        entry.update(parameters=None, milliseconds=None)
    (tmp_path / 'table.json').write_text(json.dumps(record))
    assert 'Published costs' not in render_results_page(tmp_path)


def test_every_metric_of_every_cell_can_be_chosen_and_sorted(tmp_path: Path) -> None:
    page = render_results_page(make_results(tmp_path))
    assert 'data-m0="31.00" data-v0="31" data-c0="best" data-m1="9.00" data-v1="9" data-c1="best"' in page
    assert page.count('data-kind="metric"') == 2


def test_crops_stand_side_by_side_with_their_numbers(tmp_path: Path) -> None:
    page = render_results_page(make_results(tmp_path))
    images = [attributes['alt'] for tag, attributes in parse(page).elements if tag == 'img']
    assert images == ['original', 'low resolution', 'Bicubic', 'DASR', 'SRMD'] * 2
    assert re.search(r'<figure class="best" data-swap><img [^>]*><figcaption><b>DASR</b><br>31.00', page)


def test_crops_leave_out_methods_that_are_not_tested_there_and_name_those_that_failed(tmp_path: Path) -> None:
    results = make_results(tmp_path)
    record = json.loads((results / 'table.json').read_text())
    record['systems']['ZSSR'] = {**record['systems']['DASR']}
    (results / 'table.json').write_text(json.dumps(record))
    page = render_results_page(results)
    assert page.count('<b>A &amp; B</b><br>failed') == 2
    assert '<b>ZSSR</b>' not in page


def test_every_method_of_a_shipped_comparison_has_a_colour_of_its_own() -> None:
    assert len(set(PALETTE)) == len(PALETTE)
    assert not set(PALETTE) & set(AMBERS)
    for path in (Path(__file__).parents[3] / 'options' / 'compare').glob('*.yml'):
        assert len(read_yaml(path)['networks']) <= len(PALETTE), path.name


def test_names_from_outside_are_text(tmp_path: Path) -> None:
    record = make_comparison()
    text = json.dumps(record).replace('A & B', '<script>x</script>').replace('width 2.4', 'a\\"b<i>')
    (tmp_path / 'table.json').write_text(text)
    page = render_results_page(tmp_path)
    assert page.count('<script>') == 1
    assert '<i>' not in page
    parse(page)


def test_page_without_published_figures_costs_or_crops_is_whole(tmp_path: Path) -> None:
    record = make_comparison(published={'sources': {}, 'rows': []}, systems={}, averages={}, skipped=[])
    (tmp_path / 'table.json').write_text(json.dumps(record))
    page = render_results_page(tmp_path)
    parse(page)
    assert 'Costs were not measured' in page
    assert 'None were asked for' in page
    assert 'Side by side' not in page
    assert 'seconds for an image' in page
    for row in record['rows']:
        row.pop('seconds')
    (tmp_path / 'table.json').write_text(json.dumps(record))
    assert 'seconds for an image' not in render_results_page(tmp_path)


def test_noise_and_many_kernels_give_a_curve_of_means(tmp_path: Path) -> None:
    record = make_comparison()
    for row in record['rows']:
        noise = 0.0 if row['degradation'] == 'width 1.2' else 10.0
        row['specification'] = {'type': 'AnisotropicGaussian', 'lambda_1': 2.0, 'noise': noise}
    (tmp_path / 'table.json').write_text(json.dumps(record))
    page = render_results_page(tmp_path)
    assert 'PSNR against noise level' in page
    assert 'kernel width' not in page


def test_page_is_written_as_a_whole(tmp_path: Path) -> None:
    make_results(tmp_path / 'results')
    write_results_page(tmp_path / 'results', tmp_path / 'page.html')
    assert (tmp_path / 'page.html').read_text(encoding='utf-8').rstrip().endswith('</html>')


@pytest.mark.slow
def test_browser_sorts_switches_and_reports_no_error(tmp_path: Path) -> None:
    page = render_results_page(make_results(tmp_path))
    script = """
    function column(index) {
      return Array.prototype.map.call(document.querySelectorAll('section tbody')[0].rows, function (row) {
        return row.cells.length > 1 ? row.cells[index].textContent : null;
      }).filter(Boolean).join(' ');
    }
    var heads = document.querySelectorAll('section th[data-sort]');
    heads[1].click();
    var found = [column(1)];
    heads[1].click();
    found.push(column(1));
    document.querySelector('button[data-kind="metric"][data-value="1"]').click();
    found.push(column(1));
    document.querySelector('button[data-kind="published"]').click();
    found.push(String(document.querySelector('tr.published').hidden));
    document.body.dataset.found = found.join(' | ');
    """
    found = re.search(r'data-found="([^"]*)"', dump_dom(page, script, tmp_path))
    assert found is not None
    assert found[1] == '31.00 30.00 27.00 | 27.00 30.00 31.00 | 13.00 10.00 9.00 | true'


def test_infinite_values_are_written_as_scripts_read_them(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    record = json.loads((folder / 'table.json').read_text())
    row = next(row for row in record['rows'] if row['network'] == 'DASR')
    row['means']['psnr'] = float('inf')
    (folder / 'table.json').write_text(json.dumps(record))
    assert 'data-v0="Infinity"' in render_results_page(folder)
