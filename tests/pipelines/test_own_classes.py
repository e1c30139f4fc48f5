"""Classes of the user's own module, which `imports` names, in trainings and tests by the command line."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from basicsr.metrics import calculate_psnr

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.benchmark.result_cache import digest_code
from dasr_arch.config.train_checks import load_training_options
from dasr_arch.pipelines.testing import run_test
from tests.benchmark.making import make_options
from tests.pipelines.test_training import DEMO, PROJECT, tiny_options, write_options

MODULE = """
from dataclasses import dataclass

import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from torch import nn

from dasr_arch.degradations import DEGRADATION_REGISTRY, Degradation
from dasr_arch.models.dasr_model import DASRModel
from dasr_arch.models.supervised_model import SupervisedModel


@ARCH_REGISTRY.register()
class {prefix}Net(nn.Module):
    def __init__(self, scale=4, norm='batch'):
        super().__init__()
        self.conv = nn.Conv2d(3, 3 * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, lq):
        return self.shuffle(self.conv(lq)) + {offset}


@LOSS_REGISTRY.register()
class {prefix}Loss(nn.Module):
    def __init__(self, loss_weight=1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, sr, hr):  # other names than BasicSR's, and a window of 11 pixels
        return self.loss_weight * (nn.functional.avg_pool2d(sr, 11) - nn.functional.avg_pool2d(hr, 11)).abs().mean()


@METRIC_REGISTRY.register()
@torch.no_grad()
def {prefix}_error(img, img2, crop_border=0):
    return float(abs(img.astype(float) - img2).mean())


@DEGRADATION_REGISTRY.register()
@dataclass(frozen=True, kw_only=True)
class {prefix}Motion(Degradation):
    length: int = 5

    def draw_kernel(self, generator):
        kernel = torch.zeros(self.kernel_size, self.kernel_size)
        kernel[self.kernel_size // 2, : self.length] = 1 / self.length
        return kernel

    @property
    def kernel_label(self):
        return f'motion {{self.length}}'

    @property
    def fixed_kernel(self):
        return True


@MODEL_REGISTRY.register()
class {prefix}Supervised(SupervisedModel):
    pass


@MODEL_REGISTRY.register()
class {prefix}DASR(DASRModel):
    pass
"""


def write_module(folder: Path, name: str, offset: float = 0) -> str:
    """Writes a module whose classes start with its name; returns that start."""
    prefix = name.title()
    (folder / f'{name}.py').write_text(MODULE.format(prefix=prefix, offset=offset), encoding='utf-8')
    return prefix


def run_command(folder: Path, *arguments: str, threads: int = 1) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, 'PYTHONPATH': str(PROJECT), 'OMP_NUM_THREADS': str(threads)}
    command = [sys.executable, '-m', 'dasr_cli', *arguments]
    return subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def own_training(folder: Path, name: str) -> dict:
    prefix = write_module(folder, name)
    options = tiny_options(name)
    options['imports'] = [name]
    options['model_type'] = f'{prefix}Supervised'
    options['network_g'] = {'type': f'{prefix}Net', 'scale': 4, 'norm': None}
    options['datasets']['train']['degradation'] = {'type': f'{prefix}Motion', 'length': 7}
    options['datasets']['train']['num_patches'] = 1
    options['train'] = {
        'total_iter': 4,
        'schedule': {'total_iter': 4, 'lr': 1e-3},
        'pixel_opt': {'type': f'{prefix}Loss'},
    }
    options['val']['val_freq'] = 2
    options['val']['metrics'] = {'error': {'type': f'{prefix}_error', 'crop_border': 4, 'better': 'lower'}}
    return options


def test_own_classes_are_trained_and_compared(tmp_path):
    options = own_training(tmp_path, 'mine')
    trained = run_command(tmp_path, 'train', '-opt', str(write_options(tmp_path, options)))
    assert trained.returncode == 0, trained.stderr
    weights = tmp_path / 'experiments' / 'mine' / 'models' / 'net_g_best.pth'
    assert weights.is_file()
    test = make_options(DEMO, imports=['mine'], costs={'size': 16, 'repeats': 1}, report=True)
    test['networks']['Own'] = {'type': 'MineNet', 'path': str(weights)}
    test['degradations'] = [{'type': 'MineMotion', 'length': 3}]
    test['metrics'] = {'error': {'type': 'Mine_error', 'crop_border': 4, 'better': 'lower'}}
    (tmp_path / 'test.yml').write_text(yaml.safe_dump(test), encoding='utf-8')
    tested = run_command(tmp_path, 'test', '-opt', 'test.yml')
    assert tested.returncode == 0, tested.stderr
    record = json.loads((tmp_path / 'results' / 'trial' / 'table.json').read_text())
    rows = {row['network']: row['means']['error'] for row in record['rows']}
    assert record['systems']['Own']['costs']['milliseconds'] > 0, 'the process that measures lacks the class'
    best = min(rows, key=rows.get)
    latex = (tmp_path / 'results' / 'trial' / 'table.tex').read_text()
    assert next(line for line in latex.splitlines() if 'textbf' in line).startswith(best)
    # A change of the code is a change of the results.
    write_module(tmp_path, 'mine', offset=0.25)
    assert run_command(tmp_path, 'test', '-opt', 'test.yml').returncode == 0
    record = json.loads((tmp_path / 'results' / 'trial' / 'table.json').read_text())
    changed = {row['network']: row['means']['error'] for row in record['rows']}
    assert changed['Own'] != rows['Own']
    assert changed['Bicubic'] == rows['Bicubic']


@pytest.mark.skipif(sys.platform != 'linux', reason='training by processes is for Linux')
def test_processes_of_a_training_import_own_classes(tmp_path):
    prefix = write_module(tmp_path, 'shared')
    options = tiny_options('shared', total_iter=20, stage_1={'total_iter': 2, 'lr': 1e-3})
    options['train']['stage_2'] = {'total_iter': 18, 'lr': 1e-3}
    options['imports'] = ['shared']
    options['datasets']['train']['degradation'] = {'type': f'{prefix}Motion'}
    options['train']['pixel_opt'] = {'type': f'{prefix}Loss'}
    done = run_command(tmp_path, 'train', '-opt', str(write_options(tmp_path, options)), threads=2)
    assert done.returncode == 0, done.stderr
    log = next((tmp_path / 'experiments' / 'shared').glob('*.log')).read_text()
    assert '2 processes of 1 thread' in log


def test_subclass_of_a_model_has_the_options_of_its_base_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prefix = write_module(tmp_path, 'derived')
    options = tiny_options('derived')
    options['imports'] = ['derived']
    options['model_type'] = f'{prefix}DASR'
    checked = load_training_options(write_options(tmp_path, options), root=tmp_path)
    assert checked['model_type'] == f'{prefix}DASR'
    assert checked['train']['contrast_opt']['temperature'] == 0.07  # DASRModel's default
    options['train']['stage_3'] = {'total_iter': 1}
    with pytest.raises(InputError, match="unknown key 'stage_3'; did you mean"):
        load_training_options(write_options(tmp_path, options), root=tmp_path)


def test_file_of_an_own_class_is_part_of_a_result(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    prefix = write_module(tmp_path, 'hashed')
    module = importlib.import_module('hashed')
    expected = {'code': hashlib.sha256((tmp_path / 'hashed.py').read_bytes()).hexdigest()}
    for name in ('Net', '_error', 'Motion'):  # the metric is decorated by torch
        assert digest_code(getattr(module, prefix + name)) == expected
    assert digest_code(DASR) == digest_code(calculate_psnr) == {}


@pytest.mark.parametrize(
    ('imports', 'message'),
    [
        (['absent_module'], "imports: cannot import 'absent_module': ModuleNotFoundError: No module named"),
        (['broken'], "imports: cannot import 'broken': SyntaxError"),
        (['leaving'], "imports: cannot import 'leaving': SystemExit"),
        ('broken', 'imports: expected a list, each entry text'),
    ],
)
def test_module_that_cannot_be_imported_is_named(tmp_path, monkeypatch, imports, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'broken.py').write_text('def')
    (tmp_path / 'leaving.py').write_text('import sys; sys.exit()')
    path = write_options(tmp_path, tiny_options('tiny') | {'imports': imports})
    with pytest.raises(InputError, match=re.escape(message)):
        load_training_options(path, root=tmp_path)
    with pytest.raises(InputError, match=re.escape(message)):
        run_test(make_options(DEMO, imports=imports))
    assert {item.name for item in tmp_path.iterdir()} <= {'broken.py', 'leaving.py', '__pycache__', path.name}
