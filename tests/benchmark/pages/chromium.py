"""Chromium without a window, for pages with scripts."""

import shutil
import subprocess
from pathlib import Path

import pytest


def dump_dom(page: str, script: str, folder: Path) -> str:
    """The page as Chromium has it after its own script and another one; skips the test where there is no Chromium."""
    browser = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if browser is None:
        pytest.skip('no Chromium here')
    catcher = "window.onerror = function (message) { document.title = 'error: ' + message; };"
    script = f'<script>{catcher}\n{script}</script></body>'
    (folder / 'page.html').write_text(page.replace('</body>', script), encoding='utf-8')
    options = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run']
    options += ['--disable-background-networking', '--disable-component-update', '--disable-sync']
    options += [f'--user-data-dir={folder / "browser"}', '--dump-dom', (folder / 'page.html').as_uri()]
    done = subprocess.run([browser, *options], capture_output=True, text=True, timeout=120, check=False)
    assert '</html>' in done.stdout, done.stderr[-2000:]
    assert '<title>error' not in done.stdout
    return done.stdout
