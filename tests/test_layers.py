"""Every import points left in the order of the layers, so that cycles cannot appear and the command starts at once."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (
    {
        '_bars',
        '_compat',
        '_plugin',
        '_registration',
        '_errors',
        '_extras',
        '_files',
        '_memory',
        '_svg',
        'version',
    },
    {'degradations', 'metrics'},
    {'data'},
    {'backends'},
    {'archs'},
    {'checkpoints', 'losses'},
    {'inference'},
    {'config'},
    {'zero_shot', 'probe'},
    {'cluster'},
    {'models'},
    {'export', 'benchmark'},
    {'pipelines', 'web'},
)
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for package in ('dasr_arch', 'dasr_cli') for path in (ROOT / package).rglob('*.py'))


def name_module(path: Path) -> str:
    """Dotted name of a file below the project folder."""
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def resolve_imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a syntax tree imports; package is what relative imports start from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split('.')[: len(package.split('.')) - node.level + 1] if node.level else []
            source = '.'.join([*parents, *([node.module] if node.module else [])])
            yield from ((node.lineno, f'{source}.{alias.name}') for alias in node.names)


def find_violations(module: str, text: str, is_package: bool = False) -> list[str]:
    """Imports of one module of dasr_arch that do not point left, each with its line."""
    own = module.split('.')[1]
    package = module if is_package else module.rpartition('.')[0]
    violations = []
    for line, imported in resolve_imports(ast.parse(text), package):
        parts = imported.split('.')
        if parts[0] == 'dasr_cli':
            violations.append(f'{module}:{line}: {imported} is further right')
        if parts[0] != 'dasr_arch' or parts[1:2] == [own]:
            continue
        if len(parts) < 2 or parts[1] not in RANKS:
            violations.append(f'{module}:{line}: {imported} is not part of a layer; import from where it is defined')
        elif RANKS[parts[1]] >= RANKS[own] and RANKS[parts[1]] + RANKS[own] > 0:
            violations.append(f'{module}:{line}: {imported} is not further left')
    return violations


def find_eager_imports(module: str, text: str) -> list[str]:
    """Imports of a module of dasr_cli that run when it is loaded and are neither its own nor the standard library's."""
    tree = ast.parse(text)
    eager = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in _find_deferred(tree)
    ]
    allowed = sys.stdlib_module_names | {'dasr_cli'}
    return [
        f'{module}:{line}: {imported} is imported when the module is loaded'
        for node in eager
        for line, imported in resolve_imports(node, 'dasr_cli')
        if imported.split('.')[0] not in allowed
    ]


def _find_deferred(tree: ast.AST) -> set[int]:
    """Identities of all nodes inside functions and inside `if TYPE_CHECKING:`."""
    deferred = set()
    for node in ast.walk(tree):
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test).endswith('TYPE_CHECKING')
        if typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            deferred |= {id(inner) for inner in ast.walk(node)}
    return deferred


@pytest.mark.parametrize(
    'path', [path for path in FILES if path.parts[len(ROOT.parts)] == 'dasr_arch'], ids=name_module
)
def test_imports_point_left(path):
    module = name_module(path)
    if module == 'dasr_arch':
        return  # it registers everything and names the public API
    assert module.split('.')[1] in RANKS, f'{module} is in no layer; add its folder to LAYERS where it belongs'
    assert find_violations(module, path.read_text(encoding='utf-8'), path.name == '__init__.py') == []


@pytest.mark.parametrize('path', [path for path in FILES if path.parts[len(ROOT.parts)] == 'dasr_cli'], ids=name_module)
def test_command_loads_only_the_standard_library(path):
    assert find_eager_imports(name_module(path), path.read_text(encoding='utf-8')) == []


@pytest.mark.parametrize(
    ('module', 'text'),
    [
        ('dasr_arch.degradations.blur', 'from dasr_arch.archs import dasr_arch'),
        ('dasr_arch.backends.onednn', 'from dasr_arch.archs.dasr_arch import DAConv'),
        ('dasr_arch.degradations.blur', 'import dasr_arch.metrics.ssim_metric'),
        ('dasr_arch.data.prepare', 'from dasr_arch import archs'),
        ('dasr_arch.data.prepare', 'def f():\n    from dasr_arch.models.dasr_model import DASRModel'),
        ('dasr_arch.models.dasr_model', 'from ..pipelines import train'),
        ('dasr_arch.models.dasr_model', 'from dasr_arch import load_network'),
        ('dasr_arch.pipelines.training', 'import dasr_cli.commands.train'),
        ('dasr_arch._files', 'import dasr_arch.data.image_io'),
        ('dasr_arch._files', 'import dasr_arch'),
    ],
)
def test_imports_to_the_right_are_found(module, text):
    assert len(find_violations(module, text)) == 1


@pytest.mark.parametrize(
    ('module', 'text'),
    [
        (
            'dasr_arch.models.dasr_model',
            'from dasr_arch.losses.contrastive import MoCo\nfrom .schedule import Schedule',
        ),
        ('dasr_arch.archs.dasr_arch', 'import torch\nfrom dasr_arch._errors import InputError'),
        ('dasr_arch._files', 'from dasr_arch._errors import InputError'),
        ('dasr_arch.pipelines.training', 'from dasr_arch import benchmark'),
    ],
)
def test_imports_to_the_left_are_accepted(module, text):
    assert find_violations(module, text) == []


def test_importing_the_network_imports_five_other_modules():
    text = (
        'import sys, types; package = types.ModuleType("dasr_arch"); package.__path__ = [sys.argv[1]]\n'
        'sys.modules["dasr_arch"] = package; import dasr_arch.archs.dasr_arch\n'
        'names = [n for n, m in sys.modules.items() if n.startswith("dasr_arch.") and not hasattr(m, "__path__")]\n'
        'print(*sorted(names))'
    )
    command = [sys.executable, '-c', text, str(ROOT / 'dasr_arch')]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == [
        'dasr_arch._registration',
        'dasr_arch.archs.contract',
        'dasr_arch.archs.dasr_arch',
        'dasr_arch.backends.cache',
        'dasr_arch.backends.channels_last',
        'dasr_arch.backends.choose',
    ]


@pytest.mark.parametrize(
    'text', ['import torch', 'from dasr_arch._errors import InputError', 'if True:\n    import numpy']
)
def test_imports_that_slow_the_command_are_found(text):
    assert len(find_eager_imports('dasr_cli.x', text)) == 1


def test_imports_inside_handlers_are_accepted():
    text = 'if TYPE_CHECKING:\n    import torch\ndef run(args):\n    import torch\n    from dasr_arch import archs'
    assert find_eager_imports('dasr_cli.x', text) == []
