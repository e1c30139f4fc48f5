"""Modules that exist on Linux alone are not imported when a module of the package is loaded."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for package in ('dasr_arch', 'dasr_cli') for path in (ROOT / package).rglob('*.py'))
POSIX_MODULES = {'fcntl', 'grp', 'posix', 'pty', 'pwd', 'resource', 'syslog', 'termios', 'tty'}


def find_eager_posix(text):
    """Modules that Windows lacks and that are imported outside functions."""
    found = []
    waiting = list(ast.parse(text).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split('.')[0] in POSIX_MODULES]
        waiting += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_needs_what_windows_lacks(path):
    assert find_eager_posix(path.read_text(encoding='utf-8')) == []


def test_what_windows_lacks_is_found():
    assert find_eager_posix('import os\nif True:\n    import fcntl\nclass A:\n    from resource import getrusage') != []
    assert find_eager_posix('def f():\n    import fcntl') == []


ELSEWHERE = """
import os, sys
for name in {modules!r}:
    sys.modules[name] = None
for name in ('sysconf', 'sched_getaffinity', 'fork', 'getuid', 'geteuid', 'getloadavg', 'statvfs'):
    if hasattr(os, name):
        delattr(os, name)
from dasr_cli.main import main
import importlib
for name in sys.argv[4:]:
    importlib.import_module(name)
sys.exit(main(['upscale', sys.argv[1], sys.argv[2], '--model', sys.argv[3], '--scale', '2', '--device', 'cpu']))
"""


def test_images_are_upscaled_without_what_windows_lacks(tmp_path):
    """Modules and functions of POSIX are taken away, as far as Python itself does without them here."""
    import torch
    from PIL import Image

    from tests.inference.making import make_faithful

    Image.new('RGB', (20, 16), (90, 20, 200)).save(tmp_path / 'in.png')
    torch.save({'params': make_faithful().state_dict()}, tmp_path / 'net.pth')
    names = ['.'.join(path.relative_to(ROOT).with_suffix('').parts) for path in FILES]
    optional = ('dasr_arch.export.spandrel', '__init__', '__main__', 'dasr_arch.web')
    names = [name for name in names if not name.startswith(optional) and not name.endswith(optional)]
    command = [sys.executable, '-c', ELSEWHERE.format(modules=sorted(POSIX_MODULES - {'posix'})), 'in.png', 'out.png']
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(
        [*command, 'net.pth', *names], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env=env
    )
    assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / 'out.png').size == (40, 32)
