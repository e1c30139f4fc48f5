"""A headless Chromium for the tests of the page."""

import shutil
from pathlib import Path

import pytest

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
FLAGS = (
    '--headless=new',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--window-size=1360,900',
)


def start_browser(profile: Path, downloads: Path, *flags: str):
    """Starts Chromium; skips the test if Chromium, its driver or selenium is missing.

    Args:
        profile: a new empty folder.
        downloads: folder of downloaded files.
        flags: further command-line flags.

    Returns:
        The selenium driver.
    """
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
    service = pytest.importorskip('selenium.webdriver.chrome.service')
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which('chromedriver')
    if browser is None or driver is None:
        pytest.skip('no Chromium with chromedriver is installed')
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f'--user-data-dir={profile}', *flags):
        options.add_argument(flag)
    options.add_experimental_option('prefs', {'download.default_directory': str(downloads)})
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    return webdriver.Chrome(options=options, service=service.Service(driver))
