"""The page in a real browser: by mouse and by keyboard, with good images and bad ones."""

import base64
import threading
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.web.browser import start_browser
from tests.web.serving import Gate, encode, make_image, no_installed_weights, serving, write_weights

pytest.importorskip('fastapi', reason='the extra serve is not installed')
pytest.importorskip('uvicorn', reason='the extra serve is not installed')
pytest.importorskip('python_multipart', reason='the extra serve is not installed')
pytest.importorskip('selenium', reason='selenium is not installed')

from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from dasr_arch.degradations import build_degradation, image_generator
from dasr_arch.web import representation_map
from dasr_arch.web.settings import Limits, ServeSettings

WAIT = 60
ROOT = 'html[data-ready]'
REFUSED = 'net::ERR_CONNECTION_REFUSED'
TIMES = '\N{MULTIPLICATION SIGN}'


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    weights = write_weights(tmp_path_factory.mktemp('weights'))
    settings = ServeSettings(
        port=0,
        weights=(weights,),
        device='cpu',
        precision='fp32',
        limits=Limits(upload_megabytes=0.3, megapixels=0.1, queue=1),
    )
    with (
        pytest.MonkeyPatch.context() as patch,
        no_installed_weights(tmp_path_factory.mktemp('manifest')),
        serving(settings) as running,
    ):
        patch.setattr(representation_map, 'MAP_SIDE', 24)
        yield running


@pytest.fixture(scope='module')
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp('downloads')


@pytest.fixture(scope='module')
def driver(tmp_path_factory, downloads):
    driver = start_browser(tmp_path_factory.mktemp('profile'), downloads)
    yield driver
    driver.quit()


@pytest.fixture
def page(server, driver):
    """The page, freshly loaded; afterwards, no complaint of the browser but those about answers that were expected."""
    driver.set_window_size(1360, 900)
    driver.get('about:blank')
    driver.get_log('browser')  # entries of the page before are discarded
    driver.get(server.address)
    page = Page(driver)
    page.find(ROOT)
    yield page
    complaints = [entry['message'] for entry in driver.get_log('browser') if entry['level'] == 'SEVERE']
    complaints = [
        text
        for text in complaints
        if 'the server responded with a status of' not in text
        and not (REFUSED in text and not text.startswith(server.address))  # of a server of another test
    ]
    assert complaints == []
    assert page.foreign() == []


class Page:
    """Actions of a user on the page."""

    def __init__(self, driver):
        self.driver = driver

    def wait(self, condition):
        waiting = WebDriverWait(self.driver, WAIT, 0.02, ignored_exceptions=(WebDriverException,))  # while it navigates
        return waiting.until(lambda _: condition())

    def find(self, selector):
        return self.wait(lambda: self.driver.find_element(By.CSS_SELECTOR, selector))

    def is_shown(self, selector):
        return self.find(selector).is_displayed()

    def text(self, selector):
        return self.find(selector).text

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def choose(self, path, prefix='up'):
        self.find(f'#{prefix}-file').send_keys(str(path))
        if prefix == 'up':
            self.wait(lambda: self.is_shown('#up-viewer') or self.is_shown('#up-alert'))

    def set_range(self, selector, value):
        self.run(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            self.find(selector),
            value,
        )

    def finish(self):
        self.wait(lambda: self.is_shown('#up-download') or self.is_shown('#up-alert'))
        assert not self.is_shown('#up-alert'), self.text('#up-alert')
        self.wait(lambda: self.text('#up-viewer .tag.right') == 'After')

    def sizes(self):
        """Pixels of the images that are shown."""
        return self.run(
            "return [...document.querySelectorAll('#up-viewer img')].map((i) => [i.naturalWidth, i.naturalHeight])"
        )

    def foreign(self):
        """Addresses on other machines that the page has loaded."""
        return self.run(
            "return performance.getEntriesByType('resource').map((e) => e.name)"
            ".filter((name) => !name.startsWith(location.origin) && !name.startsWith('blob:'))"
        )

    def transfer(self, kind, data, name='dropped.png', place=(1, 1)):
        """Drops a file onto a place of the page, in pixels, or pastes it."""
        self.run(
            """
            const bytes = Uint8Array.from(atob(arguments[1]), (sign) => sign.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], arguments[2], {type: 'image/png'}));
            const options = {bubbles: true, cancelable: true};
            const [clientX, clientY] = arguments[3];
            const event = arguments[0] === 'paste'
              ? new ClipboardEvent('paste', {clipboardData: transfer, ...options})
              : new DragEvent(arguments[0], {dataTransfer: transfer, clientX, clientY, ...options});
            document.body.dispatchEvent(event);
            """,
            kind,
            base64.b64encode(data).decode(),
            name,
            place,
        )


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'photo.png'
    path.write_bytes(encode(make_image(60, 40)))
    return path


def test_image_is_chosen_upscaled_compared_and_downloaded(page, image, server, downloads):
    assert page.find('#up-start').get_attribute('disabled')
    page.choose(image)
    page.wait(lambda: f'60 {TIMES} 40 → 120 {TIMES} 80 pixels' in page.text('#up-facts'))
    page.find('#up-start').click()
    page.finish()
    assert page.sizes() == [[60, 40], [120, 80]]
    assert f'photo_x2.png: 120 {TIMES} 80 pixels, net at 2{TIMES}' in page.text('#up-summary')
    assert not page.is_shown('#up-job')
    page.find('#up-download').click()
    saved = downloads / 'photo_x2.png'
    page.wait(saved.exists)
    address = page.find('#up-download').get_attribute('href')
    job = server.queue.get(address.split('/')[-2])
    assert saved.read_bytes() == job.outcome.files['result'].path.read_bytes()


def test_every_setting_reaches_the_server(page, image, server):
    page.choose(image)
    page.set_range('#up-strength', '0.5')
    assert page.text('output[for=up-strength]') == '0.50'
    page.find('[name=ensemble]').click()
    page.find('#up-form summary').click()
    page.find('[name=exact]').click()
    Select(page.find('#up-tile')).select_by_value('64')
    Select(page.find('#up-format')).select_by_value('webp')
    page.find('#up-quality').send_keys('70')
    page.find('#up-reference').send_keys(str(image))
    page.find('#up-start').click()
    page.finish()
    job = server.queue.get(page.find('#up-download').get_attribute('href').split('/')[-2])
    stored = job.outcome.files['result']
    assert (stored.name, stored.media_type) == ('photo_x2.webp', 'image/webp')
    from dasr_arch.inference.images.io import OutputSettings
    from dasr_arch.inference.tiling import Tiling
    from dasr_arch.inference.upscale_files import FileSettings, upscale_bytes
    from dasr_arch.inference.upscaler import AdaptationOptions

    loaded = server.models.load(server.models.entries[0], Tiling(64, exact=True))
    adaptation = AdaptationOptions(Image.open(image), 0.5, ensemble=True)
    expected = upscale_bytes(
        loaded.upscaler, image.read_bytes(), 'x', FileSettings(adaptation, OutputSettings('WEBP', 70))
    )
    assert stored.path.read_bytes() == expected


@pytest.mark.parametrize('kind', ['drop', 'paste'])
def test_image_is_dropped_or_pasted_anywhere(page, kind):
    data = encode(make_image(30, 20))
    if kind == 'drop':
        page.transfer('dragenter', data)
        assert page.is_shown('#veil')
    page.transfer(kind, data)
    page.wait(lambda: f'30 {TIMES} 20 → 60 {TIMES} 40 pixels' in page.text('#up-facts'))
    assert not page.is_shown('#veil')
    assert page.text('#up-facts .name') == 'dropped.png'
    page.find('#up-start').click()
    page.finish()


@pytest.mark.parametrize('name', ['mask', 'reference'])
def test_file_dropped_on_a_field_is_its_own(page, image, server, name):
    page.choose(image)
    page.find('#up-form summary').click()
    field = page.find(f'#up-{name}')
    with Gate(server.models.load(server.models.entries[0]).upscaler.network) as gate:
        page.find('#up-start').click()
        assert gate.reached.wait(WAIT)
        place = page.run(
            """
            arguments[0].scrollIntoView({block: 'center'});
            const {x, y, width, height} = arguments[0].getBoundingClientRect();
            return [x + width / 2, y + height / 2];
            """,
            field,
        )
        page.transfer('drop', encode(make_image(60, 40)), f'{name}.png', place)
        assert page.run('return [...arguments[0].files].map((file) => file.name)', field) == [f'{name}.png']
        assert page.text('#up-facts .name') == 'photo.png'
        assert page.is_shown('#up-job')
    page.finish()


def test_progress_is_shown_and_cancelling_stops_the_job(page, image, server):
    page.choose(image)
    with Gate(server.models.load(server.models.entries[0]).upscaler.network) as gate:
        page.find('#up-start').click()
        assert gate.reached.wait(WAIT)
        page.wait(lambda: page.text('#up-job .job-phase') == 'Estimating the degradation')
        assert page.find('#up-job [role=progressbar]').get_attribute('aria-valuetext')
        (job,) = server.queue._unfinished
        page.find('#up-job button').click()
        page.wait(lambda: not page.is_shown('#up-job'))
        page.wait(lambda: job.id not in server.queue._jobs)
    assert job.wait(WAIT)
    assert job.error.status == 410
    assert not page.is_shown('#up-alert')
    page.find('#up-start').click()
    page.finish()


def test_time_left_is_shown(page, image, server):
    """The network is held while the job reports half of its work."""
    page.choose(image)
    with Gate(server.models.load(server.models.entries[0]).upscaler.network) as gate:
        page.find('#up-start').click()
        assert gate.reached.wait(WAIT)
        (job,) = server.queue._unfinished
        job.expect(100)
        job.advance(50)
        page.wait(lambda: '50 %' in page.text('#up-job .job-left') and 'left' in page.text('#up-job .job-left'))
        assert page.find('#up-job [role=progressbar]').get_attribute('aria-valuenow') == '50'
        assert page.find('#up-job .bar div').value_of_css_property('width') != '0px'
    page.finish()


def test_leaving_the_page_cancels_the_job(page, image, server, driver):
    page.choose(image)
    with Gate(server.models.load(server.models.entries[0]).upscaler.network) as gate:
        page.find('#up-start').click()
        assert gate.reached.wait(WAIT)
        (job,) = server.queue._unfinished
        page.wait(lambda: page.text('#up-job .job-phase') == 'Estimating the degradation')
        driver.get(f'{server.address}docs')
        page.wait(lambda: job.id not in server.queue._jobs)
    assert job.wait(WAIT)


@pytest.mark.parametrize(
    ('name', 'data', 'message'),
    [
        ('cut.png', encode(make_image(60, 40))[:-40], 'cut.png: cannot be read as an image'),
        ('text.png', b'<html>', 'text.png: cannot be read as an image (not a PNG'),
        ('empty.png', b'', 'empty.png is empty.'),
        ('large.png', encode(Image.new('L', (1000, 1000))), 'large.png: has 1.0 megapixels (1000 x 1000), at most 0.1'),
        ('long.bin', b'x' * 400_000, 'long.bin has 400 kB, the limit is 300 kB.'),
    ],
)
def test_bad_images_are_explained_and_the_page_goes_on(page, tmp_path, image, name, data, message):
    (tmp_path / name).write_bytes(data)
    page.choose(tmp_path / name)
    if not page.is_shown('#up-alert'):
        page.find('#up-start').click()
    page.wait(lambda: page.is_shown('#up-alert'))
    assert message in page.text('#up-alert span')
    assert page.find('#up-alert').get_attribute('role') == 'alert'
    page.find('#up-alert button').click()
    assert not page.is_shown('#up-alert')
    page.choose(image)
    page.wait(lambda: f'60 {TIMES} 40' in page.text('#up-facts'))
    page.find('#up-start').click()
    page.finish()


def test_full_server_says_when_to_try_again(page, image, server):
    page.choose(image)
    with Gate(server.models.load(server.models.entries[0]).upscaler.network) as gate:
        jobs = [server.queue.submit('upscale', 'x', lambda job: gate._hold() or None) for _ in range(2)]
        assert gate.reached.wait(WAIT)
        page.find('#up-start').click()
        page.wait(lambda: page.is_shown('#up-alert'))
        assert 'are all jobs that fit. Try again in' in page.text('#up-alert span')
        server.queue.remove(jobs[1])
    assert jobs[0].wait(WAIT)


def test_stopped_server_is_noticed(page, image):
    page.choose(image)
    page.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    page.find('#up-start').click()
    page.wait(lambda: page.is_shown('#up-alert'))
    assert page.text('#up-alert span') == 'The server does not answer. Is `dasr serve` still running?'


@pytest.mark.parametrize('answers', [[0, 0, 502], [404], [500]], ids=['passing', 'gone', 'broken'])
def test_job_outlives_a_lost_connection_but_no_refusal(page, image, downloads, answers):
    """The answers to the first polls; 0 is a connection that fails."""
    page.choose(image)
    page.run(
        """
        const [answers, real] = [arguments[0], window.fetch];
        window.polls = 0;
        window.fetch = (address, options = {}) => {
          if (!/api.v1.jobs.[^/]+$/.test(address) || options.method) return real(address, options);
          window.polls += 1;
          if (!answers.length) return real(address, options);
          const status = answers.shift();
          return status
            ? Promise.resolve(new Response('{"detail": "no such job"}', {status}))
            : Promise.reject(new TypeError('Failed to fetch'));
        };
        """,
        answers,
    )
    page.find('#up-start').click()
    if len(answers) == 1:
        page.wait(lambda: page.is_shown('#up-alert'))
        assert page.text('#up-alert span') == 'No such job.'
        assert page.run('return window.polls') == 1
        return
    page.wait(lambda: page.text('#up-job .job-phase') == 'The server does not answer, trying again')
    page.finish()
    assert page.run('return window.polls') > len(answers)
    link = page.find('#up-download')
    link.click()
    page.wait((downloads / link.get_attribute('title')).exists)


def test_tiff_is_shown_once_it_is_upscaled(page, tmp_path):
    path = tmp_path / 'scan.tif'
    Image.fromarray(np.full((40, 60), 30000, np.uint16)).save(path)
    page.choose(path)
    page.wait(lambda: 'cannot show the image;' in page.text('#up-viewer'))
    page.find('#up-start').click()
    page.finish()
    assert page.sizes() == [[60, 40], [120, 80]]


def test_notes_are_shown_beside_the_result(page, tmp_path, image):
    path = tmp_path / 'deep.png'
    Image.fromarray(np.full((40, 60), 30000, np.uint16)).save(path)
    page.choose(path)
    page.run("document.querySelector('#up-format').closest('details').open = true")
    Select(page.find('#up-format')).select_by_value('jpg')
    page.find('#up-start').click()
    page.finish()
    assert page.text('#up-notes') == '16 bits are rounded to 8: JPEG holds no more.'
    page.choose(image)
    assert not page.is_shown('#up-notes')
    page.find('#up-start').click()
    page.finish()
    assert not page.is_shown('#up-notes')


def test_border_zoom_and_place_follow_mouse_and_keys(page, image, driver):
    page.choose(image)
    page.find('#up-start').click()
    page.finish()
    handle, viewer = page.find('#up-viewer .handle'), page.find('#up-viewer .viewer')
    assert handle.get_attribute('aria-valuenow') == '50'
    handle.send_keys(Keys.ARROW_LEFT)
    assert handle.get_attribute('aria-valuenow') == '48'
    handle.send_keys(Keys.END)
    assert handle.get_attribute('aria-valuenow') == '100'
    handle.send_keys(Keys.HOME)
    assert (
        page.run("return document.querySelectorAll('#up-viewer .layer')[1].style.clipPath") == 'inset(0px 0px 0px 0%)'
    )
    ActionChains(driver).drag_and_drop_by_offset(handle, viewer.size['width'] // 4, 0).perform()
    assert 23 <= int(handle.get_attribute('aria-valuenow')) <= 27
    fitted = page.text('#up-viewer .zoom')
    viewer.send_keys('1')
    assert page.text('#up-viewer .zoom') == '100 %'
    viewer.send_keys('+')
    assert page.text('#up-viewer .zoom') == '125 %'
    transform = "return document.querySelector('#up-viewer img').style.transform"
    before = page.run(transform)
    viewer.send_keys(Keys.ARROW_LEFT)
    moved = page.run(transform)
    assert moved != before
    ActionChains(driver).move_to_element(viewer).click_and_hold().move_by_offset(30, 20).release().perform()
    assert page.run(transform) != moved
    ActionChains(driver).scroll_from_origin(_origin(viewer), 0, -200).perform()
    assert page.text('#up-viewer .zoom') != '125 %'
    viewer.send_keys('0')
    assert page.text('#up-viewer .zoom') == fitted
    page.find('#up-viewer [aria-label="Show pixels as squares"]').click()
    assert page.find('#up-viewer img').value_of_css_property('image-rendering') == 'pixelated'
    layers = page.run(
        "return [...document.querySelectorAll('#up-viewer img')].map((i) => i.getBoundingClientRect().width)"
    )
    assert layers[0] == layers[1]


def _origin(element):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    return ScrollOrigin.from_element(element)


def test_everything_is_done_by_keyboard_alone(page, image, driver):
    driver.switch_to.active_element.send_keys(Keys.TAB)
    assert driver.switch_to.active_element.text == 'Skip to the content'
    driver.switch_to.active_element.send_keys(Keys.TAB)
    assert driver.switch_to.active_element.get_attribute('id') == 'tab-upscale'
    driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert driver.switch_to.active_element.get_attribute('id') == 'tab-playground'
    assert page.is_shown('#panel-playground')
    driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert page.is_shown('#panel-upscale')
    page.choose(image)
    page.wait(lambda: not page.find('#up-start').get_attribute('disabled'))
    reached = set()
    for _ in range(25):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        element = driver.switch_to.active_element
        reached.add(element.get_attribute('id') or element.get_attribute('name') or element.get_attribute('class'))
    assert {'up-model', 'scale', 'up-strength', 'ensemble', 'up-start', 'up-other', 'viewer'} <= reached
    page.find('#up-strength').send_keys(Keys.ENTER)  # submits the form
    page.finish()


@pytest.mark.parametrize('name', ['', 'docs', '#playground'])
def test_every_control_has_a_name_and_every_image_a_description(page, driver, server, name):
    driver.get(f'{server.address}{name}')
    page.find(ROOT)
    nameless = page.run(
        """
        return [...document.querySelectorAll('button, input, select, a[href], summary, canvas')].filter((e) => !(
          e.textContent.trim() || e.getAttribute('aria-label') || e.title || e.labels?.length || e.type === 'file'
        )).map((e) => e.outerHTML)
        """
    )
    assert nameless == []
    assert page.run("return [...document.images].filter((i) => !i.hasAttribute('alt') && i.src).length") == 0
    assert page.run('return document.documentElement.lang') == 'en'


def test_colours_follow_the_choice_and_stay(page, driver, server):
    def background():
        return page.find('body').value_of_css_property('background-color')

    light = background()
    page.find('#theme').click()
    assert background() == light
    page.find('#theme').click()
    dark = background()
    assert dark != light
    driver.refresh()
    page.find(ROOT)
    assert background() == dark
    page.find('#theme').click()
    assert background() == light


def test_narrow_page_needs_no_scrolling_sideways(page, image, driver):
    driver.set_window_size(500, 900)
    page.choose(image)
    page.find('#up-start').click()
    page.finish()
    assert page.run('return document.documentElement.scrollWidth <= document.documentElement.clientWidth')
    page.find('#tab-playground').click()
    assert page.run('return document.documentElement.scrollWidth <= document.documentElement.clientWidth')


def test_experiment_shows_images_numbers_kernel_and_map(page, server):
    page.find('#tab-playground').click()
    page.find('#pl-samples input[value=text]')
    page.run("document.querySelector('#pl-samples input[value=text]').click()")
    page.set_range('#pl-noise', '12')
    page.run("document.querySelector('[name=blur][value=aniso]').click()")
    assert page.is_shown('#pl-theta')
    assert not page.is_shown('#pl-width')
    page.set_range('#pl-theta', '75')
    page.find('#pl-start').click()
    page.wait(lambda: page.is_shown('#pl-cards'))
    page.wait(lambda: page.text('#pl-viewer .tag.right') == 'DASR')
    (job,) = [job for job in server.queue._jobs.values() if job.kind == 'playground']
    made = job.outcome.facts
    assert page.text('#pl-kernel-label') == made.label == 'lambda 3.6 1, theta 75, noise 12'
    assert page.text('#pl-bicubic') == f'{made.psnr_bicubic:.2f}'
    assert page.text('#pl-sr') == f'{made.psnr_sr:.2f}'
    assert f'{made.width // 2} {TIMES} {made.height // 2} pixels' in page.text('#pl-lq-label')
    assert len(page.driver.find_elements(By.CSS_SELECTOR, '#pl-map svg .own')) == len(made.map.own)
    assert len(page.driver.find_elements(By.CSS_SELECTOR, '#pl-map svg .other')) == len(made.map.others)
    assert page.text('#pl-map .here-text') == made.label
    assert made.map.nearest[0] in page.text('#pl-nearest')
    page.run("document.querySelector('[name=pl-left][value=hr]').click()")
    page.wait(lambda: page.text('#pl-viewer .tag.left') == 'Original')
    # The kernel that is drawn while the sliders move is the one that the server uses.
    drawn = page.run("return import('./static/playground.js').then((m) => m.gaussian(3.6, 1, 75 * Math.PI / 180))")
    block = {'type': 'AnisotropicGaussian', 'lambda_1': 3.6, 'lambda_2': 1.0, 'theta_deg': 75.0}
    kernel = build_degradation(block, 2).draw_kernel(image_generator(0, 'x')).numpy()
    assert np.abs(np.array(drawn) - kernel).max() < 1e-6


def test_own_image_is_experimented_with(page, server, tmp_path):
    path = tmp_path / 'mine.png'
    path.write_bytes(encode(make_image(90, 70)))
    page.find('#tab-playground').click()
    page.find('#pl-samples input')
    page.choose(path, 'pl')
    page.wait(lambda: page.text('#pl-own') == 'mine.png')
    page.find('#pl-start').click()
    page.wait(lambda: page.is_shown('#pl-cards'))
    assert f'90 {TIMES} 70 pixels' in page.text('#pl-note')
    small = tmp_path / 'small.png'
    small.write_bytes(encode(make_image(20, 20)))
    page.choose(small, 'pl')
    page.wait(lambda: page.find('#pl-start').is_enabled())  # once the images before are shown
    page.find('#pl-start').click()
    page.wait(lambda: page.is_shown('#pl-alert'))
    assert page.text('#pl-alert span') == 'The image needs at least 48 pixels to each side, got 20 x 20.'


def test_api_is_described_without_other_machines(page, driver, server):
    driver.get(f'{server.address}docs')
    page.find(ROOT)
    paths = [element.text for element in driver.find_elements(By.CSS_SELECTOR, '#operations summary code')]
    assert '/api/v1/upscale' in paths
    assert f'{server.address}api/v1/upscale' in page.text('#example')
    page.find('#operations details summary').click()
    assert 'strength' in page.text('#operations details')
    assert 'number from 0 to 2, default 1' in page.text('#operations details')


def test_token_is_asked_for_and_remembered(driver, tmp_path):
    weights = write_weights(tmp_path)
    settings = ServeSettings(port=0, weights=(weights,), device='cpu', token='correct-horse-battery')
    with no_installed_weights(tmp_path), serving(settings) as running:
        page = Page(driver)
        driver.get(running.address.partition('?')[0])
        page.find('#token').send_keys('wrong', Keys.ENTER)
        page.wait(lambda: page.is_shown('.alert'))
        assert 'not the token' in page.text('.alert')
        page.find('#token').clear()
        page.find('#token').send_keys('correct-horse-battery', Keys.ENTER)
        page.find(ROOT)
        assert page.text('#up-model') == 'net'
        assert page.run('return document.cookie') == ''
        driver.delete_all_cookies()
        driver.get(running.address)
        page.find(ROOT)
        assert 'token' not in driver.current_url
        driver.get('about:blank')


def test_animation_is_shown(page, tmp_path):
    frames = [make_image(30, 20, seed=seed) for seed in range(3)]
    path = tmp_path / 'a.gif'
    stream = BytesIO()
    frames[0].save(stream, 'GIF', save_all=True, append_images=frames[1:], duration=50)
    path.write_bytes(stream.getvalue())
    page.choose(path)
    page.find('#up-start').click()
    page.finish()
    assert '3 frames' in page.text('#up-summary')
    assert threading.active_count() < 50
