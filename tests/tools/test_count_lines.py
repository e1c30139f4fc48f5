import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'count_lines.py'


@pytest.fixture
def checkout(tmp_path):
    files = {
        'dasr_arch/__init__.py': 'import dasr_arch.unused\n',
        'dasr_arch/unused.py': '\n',
        'dasr_arch/archs/__init__.py': '',
        'dasr_arch/archs/dasr_arch.py': (
            'from typing import TYPE_CHECKING\nimport torch\nfrom dasr_arch.archs import blocks\n'
            'if TYPE_CHECKING:\n    from dasr_arch.archs.typed import T\n\n\n'
            'def f():\n    from dasr_arch.archs.late import g\n'
        ),
        'dasr_arch/archs/blocks.py': 'try:\n    from dasr_arch.archs.deep import X\nexcept ImportError:\n    X = 0\n',
        'dasr_arch/archs/deep.py': 'X = 1\n',
        'dasr_arch/archs/typed.py': 'T = int\n',
        'dasr_arch/archs/late.py': 'g = 1\n',
        'dasr_cli/main.py': '# A Picture, not pictures\n',
        'options/a.yml': 'a: 1\n\nb: 2\n',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    subprocess.run(['git', 'init', '--quiet'], cwd=tmp_path, check=True)
    subprocess.run(['git', 'add', '.'], cwd=tmp_path, check=True)
    return tmp_path


def test_counts_of_a_small_checkout(load_tool, checkout):
    counts = {count.label: count for count in load_tool('count_lines').count_everything(checkout)}
    values = [count.value for count in counts.values()]
    assert values == [9 + 4 + 1 + 1 + 1 + 1 + 1 + 1, 3, 9, 2, 5, 1]
    assert counts['modules imported by archs/dasr_arch.py'].detail == 'dasr_arch.archs.blocks, dasr_arch.archs.deep'
    assert counts['Python files in the largest folder'].detail == 'dasr_arch/archs'


def test_a_value_above_its_limit_misses_the_target(load_tool):
    module = load_tool('count_lines')
    assert module.Count('x', 5, 5).is_met
    assert not module.Count('x', 6, 5).is_met
    assert '| x | 6 | 5 | MISSED |  |' in module.format_table([module.Count('x', 6, 5)])


@pytest.mark.parametrize(('value', 'code'), [(1, None), (2, 1)])
def test_check_exits_with_1_for_a_missed_target(load_tool, monkeypatch, value, code):
    module = load_tool('count_lines')
    monkeypatch.setattr(module, 'count_everything', lambda root: [module.Count('x', value, 1)])
    monkeypatch.setattr(sys, 'argv', ['count_lines.py', '--check'])
    if code is None:
        module.main()
    else:
        with pytest.raises(SystemExit) as stopped:
            module.main()
        assert stopped.value.code == code


def test_script_prints_the_counts_of_this_project():
    if not (TOOL.parents[1] / '.git').exists():
        pytest.skip('not a git checkout')
    output = subprocess.run([sys.executable, TOOL], capture_output=True, text=True, check=True, timeout=60).stdout
    assert output.startswith('| Count | Now | At most |')
    assert len(output.splitlines()) == 8
