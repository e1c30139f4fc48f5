"""Links, commands and API names of the manual are valid, and the site builds without a warning."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import dasr_arch
from dasr_cli.main import MODULES, build_parser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / 'docs').rglob('*.md'), *ROOT.glob('*.md'), ROOT / 'datasets' / 'README.md'])
LINK = re.compile(r'\]\(([^)#\s]*)(#[^)\s]*)?\)')


def anchors(page):
    """Anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', text, flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).strip().replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    wrong = []
    for target, anchor in LINK.findall(page.read_text(encoding='utf-8')):
        if '://' in target:
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor[1:] not in anchors(path)):
            wrong.append(target + anchor)
    assert wrong == []


def test_every_command_is_described():
    text = (ROOT / 'docs' / 'commands.md').read_text(encoding='utf-8')
    assert sorted(re.findall(r'^### dasr ([\w-]+)$', text, flags=re.MULTILINE)) == sorted(MODULES)
    assert sorted(re.findall(r'<!-- options: ([\w-]+) -->', text)) == sorted(MODULES)


def list_commands():
    """Pages and the `dasr` commands in their code blocks, without redirections and comments."""
    for page in PAGES:
        blocks = re.findall(
            r'^```(?:bash)?\n(.*?)^```', page.read_text(encoding='utf-8'), flags=re.DOTALL | re.MULTILINE
        )
        for line in '\n'.join(blocks).replace('\\\n', ' ').splitlines():
            if line.startswith('dasr '):
                yield page.name, re.split(r'\s[#<>|]', line)[0].split(';')[0]


@pytest.mark.parametrize(('page', 'line'), sorted(set(list_commands())))
def test_commands_parse(page, line):
    assert callable(build_parser().parse_args(shlex.split(line)[1:]).func)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_option_files_exist(page):
    if page.name == 'CHANGELOG.md':
        pytest.skip('names files of earlier versions')
    named = set(re.findall(r'options/[\w/]+\.yml', page.read_text(encoding='utf-8')))
    assert sorted(name for name in named if not (ROOT / name).is_file()) == ['options/train_foo_x4.yml'] * (
        page.name == 'CONTRIBUTING.md'
    )


def test_every_public_name_is_in_the_api_reference():
    text = (ROOT / 'docs' / 'api.md').read_text(encoding='utf-8')
    documented = set(re.findall(r'^::: dasr_arch\.(\w+)$', text, flags=re.MULTILINE))
    assert documented == set(dasr_arch.__all__) - {'__version__'}


@pytest.mark.slow
def test_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip('mkdocstrings')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path / 'site')]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    pages = list((tmp_path / 'site').rglob('*.html'))
    assert len(pages) > 20
    loaded = re.compile(r'<(?:script|img|link)\b[^>]*(?:src|href)="(?:https?:)?//')
    assert [page.name for page in pages if loaded.search(page.read_text(encoding='utf-8'))] == []
    assert '<code>--strength' in (tmp_path / 'site' / 'commands.html').read_text(encoding='utf-8')
