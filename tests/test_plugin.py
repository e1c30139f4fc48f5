"""The package fills BasicSR's registries, whoever imports BasicSR and when, and does without it where it can."""

import subprocess
import sys

import pytest

from dasr_arch import _plugin
from dasr_arch._registration import Registry

WITHOUT_BASICSR = ('degradations', 'losses', 'archs', 'data', 'inference', 'export', 'web')

WITHOUT = f"""
import importlib, pkgutil, sys

for name in ('basicsr', 'torchvision'):
    sys.modules[name] = None  # importing it is an error from here on

import numpy
import dasr_arch

for folder in {WITHOUT_BASICSR}:
    package = importlib.import_module(f'dasr_arch.{{folder}}')
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != 'spandrel':  # which brings torchvision itself
            importlib.import_module(f'dasr_arch.{{folder}}.{{module.name}}')
large = dasr_arch.Upscaler(scale=4)(numpy.zeros((9, 7, 3), numpy.uint8))
assert large.shape == (36, 28, 3), large.shape
"""

BASICSR_LATER = """
import sys
import dasr_arch

assert 'basicsr' not in sys.modules
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY

assert ARCH_REGISTRY.get('DASR') is dasr_arch.DASR
assert 'SAN' in ARCH_REGISTRY and 'RCAN' in ARCH_REGISTRY
assert 'DegradationDataset' in DATASET_REGISTRY and 'DASRModel' in MODEL_REGISTRY
import basicsr
assert basicsr.__spec__.loader is basicsr.__loader__ and 'dasr_arch' not in type(basicsr.__loader__).__module__
assert not any('dasr_arch._plugin' in type(finder).__module__ for finder in sys.meta_path)
"""

BASICSR_FIRST = """
import sys, types
import torchvision.transforms.functional as functional

shim = types.ModuleType('torchvision.transforms.functional_tensor')
shim.rgb_to_grayscale = functional.rgb_to_grayscale
sys.modules[shim.__name__] = shim
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
import dasr_arch

assert ARCH_REGISTRY.get('DASR') is dasr_arch.DASR and 'IKCModel' in MODEL_REGISTRY
"""

FAILING = """
import sys
import dasr_arch

sys.modules['basicsr.archs'] = None
try:
    import basicsr
except ImportError:
    pass
del sys.modules['basicsr.archs']
from basicsr.utils.registry import MODEL_REGISTRY

assert 'DASRModel' in MODEL_REGISTRY
"""


def run_python(program: str) -> None:
    """Runs a program in a process of its own; it has to end without an error."""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    'program', [WITHOUT, BASICSR_LATER, BASICSR_FIRST, FAILING], ids=['without', 'later', 'first', 'after a failure']
)
def test_plugin_and_basicsr_in_any_order(program):
    run_python(program)


@pytest.mark.parametrize('module', ['models.supervised_model', 'models.ikc_model', 'metrics.structural_similarity'])
def test_a_module_that_needs_basicsr_may_be_the_first_to_import_it(module):
    run_python(
        f"import dasr_arch.{module}\nfrom basicsr.utils.registry import MODEL_REGISTRY\nMODEL_REGISTRY.get('IKCModel')"
    )


class Target:
    """Stands where BasicSR's registry stands."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def register(self, obj: type) -> None:
        self.names.append(obj.__name__)


def test_classes_are_passed_on_in_order_and_those_that_come_later_at_once():
    registry, target = Registry('arch'), Target()
    first = registry.register()(type('First', (), {}))
    registry.pass_on(target)
    registry.register()(type('Second', (), {}))
    registry.pass_on(target)  # BasicSR's import failed behind it, and is tried again
    assert target.names == ['First', 'Second']
    assert registry.get('First') is first
    assert [name for name, _ in registry] == ['First', 'Second']


def test_a_second_class_of_a_name_is_refused():
    registry = Registry('arch')
    registry.register()(type('Net', (), {}))
    with pytest.raises(ValueError, match="arch 'Net' is registered already"):
        registry.register()(type('Net', (), {}))


def test_basicsr_that_is_not_installed_is_not_found(monkeypatch):
    finder = _plugin._BasicSRFinder()
    monkeypatch.setattr(sys, 'meta_path', [finder])
    assert finder.find_spec('basicsr', None) is None
