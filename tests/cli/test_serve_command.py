"""Output, shutdown and exit codes of `dasr serve`."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from dasr_cli.main import main
from tests.inference.making import make_network
from tests.web.serving import encode, make_image, write_weights

ROOT = Path(__file__).parents[2]
WAIT = 60


def needs_extra():
    for name in ('fastapi', 'uvicorn', 'python_multipart'):
        pytest.importorskip(name, reason='the extra serve is not installed')


@contextmanager
def started(*arguments, **environment):
    """A server in a process of its own; yields the process, and what it printed until it was ready."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **environment}
    command = [sys.executable, '-m', 'dasr_cli', 'serve', '--port', '0', '--device', 'cpu', *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    timer = threading.Timer(WAIT, process.kill)
    timer.start()
    try:
        lines = []
        while not (lines and lines[-1].startswith('open ')):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        yield process, lines
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def stop(process, number=signal.SIGINT):
    """Sends a signal and waits; what the process printed from then on."""
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT)
    return process.returncode, out, err


def test_free_port_is_found_and_hanging_up_in_the_middle_of_a_job_stops_cleanly(tmp_path):
    needs_extra()
    import torch

    torch.save({'params': make_network(2, num_feat=32, num_groups=5, num_blocks=5).state_dict()}, tmp_path / 'wide.pth')
    temporary = tmp_path / 'tmp'
    temporary.mkdir()
    browser, opened = tmp_path / 'browser', tmp_path / 'opened'
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    environment = {'TMPDIR': str(temporary), 'BROWSER': str(browser)}
    with started('--model', str(tmp_path / 'wide.pth'), '--open', **environment) as (process, lines):
        address = re.fullmatch(r'open (http://127\.0\.0\.1:\d+/) \(Ctrl-C stops\)\n', lines[-1])[1]
        assert lines[0].startswith('models: wide (x2), ')
        assert urlsplit(address).port > 0
        form = {'image': ('a.png', encode(make_image(1200, 1200)))}
        data = {'model': 'wide', 'ensemble': 'true', 'tile': '128'}
        job = requests.post(f'{address}api/v1/jobs', files=form, data=data, timeout=WAIT).json()
        while job['state'] != 'running':
            job = requests.get(f'{address}api/v1/jobs/{job["id"]}', timeout=WAIT).json()
        answers = []
        waiting = threading.Thread(
            target=lambda: answers.append(
                requests.post(f'{address}api/v1/upscale', files={'image': ('b.png', form['image'][1])}, timeout=WAIT)
            )
        )
        waiting.start()
        while requests.get(f'{address}healthz', timeout=WAIT).json()['waiting'] < 1:
            pass
        assert stop(process, signal.SIGHUP) == (0, 'stopped\n', '')  # a terminal that is gone, as Ctrl-C
        waiting.join(WAIT)
        assert answers[0].status_code == 503
        assert answers[0].json()['detail'] == 'the server is stopping'
    assert list(temporary.iterdir()) == []
    assert opened.read_text() == f'{address}\n'


@pytest.mark.slow
def test_reachable_server_warns_shows_its_token_and_ends_at_sigterm(tmp_path):
    needs_extra()
    arguments = ('--model', str(write_weights(tmp_path)), '--host', '0.0.0.0', '--token', '--allow-host', 'a.example')
    with started(*arguments) as (process, lines):
        port, token = re.search(r':(\d+)/\?token=([\w-]{32,})', lines[-1]).groups()
        address = f'http://127.0.0.1:{port}/api/v1/models'
        assert requests.get(address, timeout=WAIT).status_code == 401
        headers = {'Authorization': f'Bearer {token}', 'Host': 'a.example'}
        assert requests.get(address, headers=headers, timeout=WAIT).status_code == 200
        code, out, err = stop(process, signal.SIGTERM)
        assert (code, out) == (0, 'stopped\n')
        assert err.startswith('warning: 0.0.0.0 is reachable from other machines')
        assert len(err.splitlines()) == 1


def test_port_in_use_is_one_line(capsys):
    needs_extra()
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        assert main(['serve', '--port', str(port)]) == 2
    assert capsys.readouterr().err == (
        f'dasr: error: port {port} is in use; choose another with --port, or 0 for any that is free\n'
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('--port 70000', 'port must be a whole number in [0, 65535], got 70000'),
        ('--host 203.0.113.7 --port 0', "--host: '203.0.113.7' cannot be bound"),
        ('--host no.such.name.invalid --port 0', "--host: 'no.such.name.invalid' is not an address of this machine"),
        ('--token short --port 0', 'a token needs at least 12 characters'),
        ('--model none.pth --port 0', "weights file 'none.pth' does not exist"),
        ('--device gpu --port 0', "device 'gpu' does not exist here"),
        ('--max-megapixels 0', 'megapixels must be a positive number, got 0.0'),
        ('--max-upload nan', 'upload megabytes must be a positive number, got nan'),
        ('--jobs 0', 'jobs must be a positive number, got 0'),
        ('--queue -1', 'queue must be 0 or more jobs, got -1'),
    ],
)
def test_wrong_arguments_get_one_line(capsys, arguments, message):
    needs_extra()
    assert main(['serve', *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dasr: error: ')
    assert message in line


def test_missing_extra_is_one_line_that_names_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'uvicorn', None)
    assert main(['serve']) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if 'uvicorn' in line]
    assert line.startswith("dasr: error: uvicorn is not installed, it belongs to the extra 'serve'; pip install ")


def test_packages_of_the_extra_are_imported_in_one_folder_alone():
    found = {
        path.relative_to(ROOT).parts[:2]
        for package in ('dasr_arch', 'dasr_cli')
        for path in (ROOT / package).rglob('*.py')
        if re.search(
            r'^\s*(from|import) (fastapi|starlette|uvicorn|python_multipart)', path.read_text('utf-8'), re.MULTILINE
        )
    }
    assert found == {('dasr_arch', 'web')}
    loaded = (ROOT / 'dasr_arch' / '__init__.py').read_text('utf-8')
    assert 'web' not in loaded
