"""Output, exit codes and files of `dasr probe` and `dasr inspect`."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dasr_arch import DASR, build_degradation, degrade_image
from dasr_arch.checkpoints.io import load_network
from dasr_arch.checkpoints.packaged import WEIGHTS_FOLDER, read_manifest
from dasr_arch.data.image_io import write_image
from dasr_arch.data.image_source import open_source
from dasr_arch.probe.command import make_test_maps
from dasr_arch.probe.model import probe_path
from dasr_cli.main import main

SIDE = 96


def make_image(seed: int) -> np.ndarray:
    """Noise in all frequencies, so that blur is easy to see."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """HR images to fit to and to test on, the weights of a tiny network, and a probe."""
    root = tmp_path_factory.mktemp('probe')
    for name, seeds in (('train', range(8)), ('test', range(8, 12))):
        (root / name).mkdir()
        for seed in seeds:
            write_image(root / name / f'{seed}.png', make_image(seed))
    torch.manual_seed(0)
    network = DASR(scale=2, num_feat=8, num_groups=1, num_blocks=1, encoder_feat=8, representation_dim=16)
    torch.save({'params': network.state_dict()}, root / 'tiny.pth')
    paths = ['--images', str(root / 'train'), '--test', str(root / 'test')]
    assert main(['probe', str(root / 'tiny.pth'), '--scale', '2', '--setting', 'iso', *paths]) == 0
    return root


def probe(folder: Path, *more: str) -> int:
    """Runs `dasr probe` on the folder once more."""
    paths = ['--images', str(folder / 'train'), '--test', str(folder / 'test')]
    return main(['probe', str(folder / 'tiny.pth'), '--scale', '2', '--setting', 'iso', *paths, *more])


def inspect(folder: Path, *more: str) -> int:
    """Runs `dasr inspect` with the network of the folder."""
    return main(['inspect', '--model', str(folder / 'tiny.pth'), '--scale', '2', *more])


def write_blurred(path: Path, sigma: float) -> Path:
    """An LR image of a width, from an image that is in neither folder."""
    degradation = build_degradation({'type': 'IsotropicGaussian', 'sigma': sigma}, 2)
    write_image(path, degrade_image(degradation, make_image(99)))
    return path


def test_probe_reports_what_it_wrote(folder, capsys, tmp_path):
    assert probe(folder, '-o', str(tmp_path / 'p.safetensors'), '--limit', '4') == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith('kernel: ') and '% of 4 images classified correctly; 5 classes, 20.0 % by chance' in first
    assert second == f'{tmp_path / "p.safetensors"}: for `dasr inspect`'


@pytest.mark.parametrize('sigma', [0.2, 1.8])
def test_inspect_names_the_width(folder, capsys, tmp_path, sigma):
    image = write_blurred(tmp_path / 'a.png', sigma)
    assert inspect(folder, str(image), '--top', '2') == 0
    name, blur = capsys.readouterr().out.splitlines()
    assert name == str(image)
    assert blur.startswith(f'  blur: width {sigma:g} (') and blur.count('width') == 2


@pytest.mark.parametrize('quality', [30, 75])
def test_inspect_names_the_quality_of_a_jpeg_file(folder, capsys, tmp_path, quality):
    Image.fromarray(make_image(99)[..., ::-1]).save(tmp_path / 'a.jpg', quality=quality)
    assert inspect(folder, str(tmp_path / 'a.jpg')) == 0
    assert capsys.readouterr().out.splitlines()[0] == f'{tmp_path / "a.jpg"}: JPEG of quality {quality}'
    assert inspect(folder, str(tmp_path / 'a.jpg'), '--json') == 0
    assert json.loads(capsys.readouterr().out)[0]['file_jpeg_quality'] == quality


def test_inspect_reads_an_image_from_stdin(folder, capsys, tmp_path, monkeypatch):
    data = write_blurred(tmp_path / 'a.png', 1.8).read_bytes()
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(data)))
    assert inspect(folder, '-') == 0
    assert capsys.readouterr().out.startswith('-\n  blur: width 1.8 (')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='Windows has no named pipes')
def test_a_model_from_a_pipe_is_refused_as_such(capsys, tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    assert main(['inspect', '--model', str(tmp_path / 'pipe'), '--scale', '2', 'a.png']) == 2
    assert f"weights file '{tmp_path / 'pipe'}' is a folder or no regular file; check" in capsys.readouterr().err


def test_json_holds_parameters_and_confidence(folder, capsys, tmp_path):
    image = write_blurred(tmp_path / 'a.png', 1.8)
    assert inspect(folder, str(image), '--json', '--top', '9') == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found['image'] == found['picture'] == str(image)  # 'picture' is the old key
    assert found['kernel'][0]['values'] == {'sigma': 1.8}
    assert sum(guess['confidence'] for guess in found['kernel']) == pytest.approx(1)


def test_weights_without_a_probe_are_named(capsys, tmp_path):
    image = write_blurred(tmp_path / 'a.png', 0.2)
    assert main(['inspect', '--model', 'general', '--scale', '2', str(image)]) == 2
    error = capsys.readouterr().err
    assert (
        'dasr_s_x2_general.probe.safetensors: there is no probe for these weights; fit one with `dasr probe`' in error
    )
    assert 'or choose weights with a probe: dasr_s_x2_iso, ' in error and error.count('\n') == 1


def test_help_names_the_installed_probes(capsys):
    with pytest.raises(SystemExit):
        main(['inspect', '--help'])
    said = ' '.join(capsys.readouterr().out.split())
    packaged = read_manifest().files
    found = [f'{one.setting} x{one.scale}' for one in packaged if probe_path(WEIGHTS_FOLDER / one.file).is_file()]
    assert sorted(found) == ['general x4', 'iso x2', 'iso x3', 'iso x4', 'photo x2', 'photo x3', 'photo x4']
    assert 'installed for iso at x2, x3, x4, general at x4, photo at x2, x3, x4' in said


def test_a_bad_image_does_not_stop_the_rest(folder, capsys, tmp_path):
    (tmp_path / 'empty.png').write_bytes(b'')
    good = write_blurred(tmp_path / 'a.png', 0.2)
    assert inspect(folder, str(tmp_path / 'empty.png'), str(good)) == 2
    caught = capsys.readouterr()
    assert str(good) in caught.out
    assert caught.err.count('\n') == 1 and 'empty.png' in caught.err


@pytest.mark.parametrize(
    ('setting', 'quantity', 'classes', 'maps'), [('iso', 'kernel', 5, 1), ('photo', 'jpeg', 40, 3)]
)
def test_reports_have_maps(folder, tmp_path, setting, quantity, classes, maps):
    pytest.importorskip('sklearn', reason='the extra `report` is not installed')
    many = tmp_path / 'many'
    many.mkdir()
    for seed in range(20, 36):
        write_image(many / f'{seed}.png', make_image(seed))
    out = ['-o', str(tmp_path / 'p'), '--report', str(tmp_path / 'report')]
    arguments = ['--scale', '2', '--setting', setting, '--images', str(folder / 'train'), '--test', str(many)]
    assert main(['probe', str(folder / 'tiny.pth'), *arguments, *out]) == 0
    record = json.loads((tmp_path / 'report' / 'report.json').read_text())
    assert np.sum(record['quantities'][quantity]['counts']) == 16 * classes
    assert len(list((tmp_path / 'report').glob('map_*.svg'))) == maps
    assert '| kernel | 5 |' in (tmp_path / 'report' / 'report.md').read_text()
    assert (tmp_path / 'report' / 'map_1.svg').read_text().count('width') >= 4


def test_general_map_has_round_and_long_kernels(folder, tmp_path):
    pytest.importorskip('sklearn', reason='the extra `report` is not installed')
    for seed in range(16):
        write_image(tmp_path / f'{seed}.png', make_image(seed)[:32, :32])
    kernels, levels = make_test_maps(load_network(folder / 'tiny.pth', 2).eval(), open_source(str(tmp_path)), 'general')
    labels = list(dict.fromkeys(point.degradation for point in kernels.points))
    assert labels == ['width 0.3', 'width 1.9', 'axes 1.9 x 0.3 at 0', 'axes 1.9 x 0.3 at 90']
    assert levels.title.startswith('four noise levels, width ')


@pytest.mark.parametrize(
    ('more', 'said'),
    [
        ((), 'exists already'),
        (('--force', '--limit', '0'), 'limit must be at least 1'),
        (('--force', '--test', 'TRAIN'), 'every image is among those to fit to'),
        (('--force', '--test', 'nowhere'), 'nowhere'),
        (('--force', '--report', 'REPORT'), 'maps need at least 16 images, got 4'),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_lost(folder, capsys, more, said):
    before = (folder / 'tiny.probe.safetensors').read_bytes()
    assert probe(folder, *(str(folder / 'train') if word == 'TRAIN' else word for word in more)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1
    assert (folder / 'tiny.probe.safetensors').read_bytes() == before


def test_weights_without_a_probe_say_how_to_make_one(folder, capsys, tmp_path):
    other = tmp_path / 'other.pth'
    other.write_bytes((folder / 'tiny.pth').read_bytes())
    image = write_blurred(tmp_path / 'a.png', 0.2)
    assert main(['inspect', '--model', str(other), '--scale', '2', str(image)]) == 2
    assert 'fit one with `dasr probe`' in capsys.readouterr().err


def test_installed_weights_get_no_probe_beside_them(folder, capsys):
    paths = ['--images', str(folder / 'train'), '--test', str(folder / 'test')]
    assert main(['probe', 'general', '--scale', '2', *paths]) == 2
    assert capsys.readouterr().err == (
        'dasr: error: name the file to write with -o; the folder of the installed weights is left alone\n'
    )


def test_maps_need_scikit_learn(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'sklearn', None)
    assert probe(folder, '--force', '--report', str(tmp_path / 'report')) == 2
    assert 'maps need scikit-learn; install the extra `report`' in capsys.readouterr().err
    assert not (tmp_path / 'report').exists()


@pytest.mark.parametrize('top', [0, -1])
def test_no_candidates_are_refused(folder, capsys, top):
    assert inspect(folder, 'a.png', '--top', str(top)) == 2
    assert capsys.readouterr().err == f'dasr: error: --top must be at least 1, got {top}\n'


@pytest.mark.parametrize('report', ['report', 'weights'])
def test_earlier_reports_and_weights_are_kept(report, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / 'tiny.pth', 'net.pth')
    Path('rep').mkdir()
    Path('rep/report.md').write_text('notes')
    paths = ['--images', str(folder / 'train'), '--test', str(folder / 'test'), '--scale', '2', '--setting', 'iso']
    own = ['--report', 'rep'] if report == 'report' else ['-o', 'net.pth', '--force']
    before = Path('net.pth').read_bytes()
    assert main(['probe', 'net.pth', *paths, *own]) == 2
    message = 'rep/report.md: exists already' if report == 'report' else 'net.pth: is the weights file itself'
    assert message in capsys.readouterr().err
    assert Path('rep/report.md').read_text() == 'notes'
    assert Path('net.pth').read_bytes() == before
