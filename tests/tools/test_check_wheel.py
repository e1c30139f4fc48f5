import subprocess
import sys

import pytest


def test_network_is_refused_in_the_checked_environment(load_tool, tmp_path):
    (tmp_path / 'sitecustomize.py').write_text(load_tool('check_wheel').NO_NETWORK, encoding='utf-8')
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, env={'PYTHONPATH': str(tmp_path)}, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith('OSError: the network is switched off for this check')


def test_a_wheel_that_does_not_install_is_reported(load_tool, monkeypatch, tmp_path):
    module = load_tool('check_wheel')
    labels = []

    def run(label, command, folder, environment=None):
        labels.append(label)
        if label == 'install':
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(module, '_run', run)
    monkeypatch.setattr(module.venv, 'create', lambda *arguments, **options: None)
    with pytest.raises(subprocess.CalledProcessError):
        module.check_wheel(tmp_path / 'broken.whl', tmp_path)
    assert labels == ['pip', 'install']
