"""Importing the package first registers everything and lets BasicSR be imported by any test, in any order."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import dasr_arch  # noqa: F401
from dasr_arch.data.image_io import read_image

os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')  # as in export, for tests that import ONNX Runtime first
DEMO = Path(__file__).parents[1] / 'datasets' / 'demo'
GOLDEN = Path(__file__).parent / 'golden'
PAGE_TESTS = 'tests/web/test_page.py'

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started by nohup; what tests start would ignore Ctrl-C, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope='session')
def demo_folder() -> Path:
    """Six real images of 240 x 240 pixels, one of them grey; only to be read."""
    return DEMO


@pytest.fixture(scope='session')
def demo_image() -> NDArray[np.uint8]:
    """One of them, RGB of shape (240, 240, 3)."""
    image = read_image(DEMO / 'astronaut.png')
    image.setflags(write=False)
    return image


@pytest.fixture(scope='session')
def golden_folder() -> Path:
    """Outputs of the authors' own code; only to be read."""
    return GOLDEN


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """Reports, after the summary of pytest, that tests of pages were skipped for want of a browser."""
    result = yield
    skipped = [
        report
        for report in terminalreporter.stats.get('skipped', [])
        if report.nodeid.startswith(PAGE_TESTS) or 'Chromium' in str(report.longrepr)
    ]
    if skipped:
        whole = any('::' not in report.nodeid for report in skipped)  # the module itself, for want of selenium
        number = 'all' if whole else len(skipped)
        terminalreporter.write_line(
            f'no browser: {number} tests of pages did not run; they need chromium, chromium-driver and selenium'
        )
    return result
