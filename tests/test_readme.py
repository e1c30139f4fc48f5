"""Commands, files and links of the README exist."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from dasr_cli.main import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'```bash\n(.*?)```', README, flags=re.DOTALL)
INLINE = re.findall(r'`((?:dasr|make|python) [^`]+)`', re.sub(r'```.*?```', '', README, flags=re.DOTALL))
LINES = [
    line.split('#')[0].strip() for line in [*'\n'.join(BLOCKS).splitlines(), *INLINE] if line.split('#')[0].strip()
]


def test_readme_has_commands() -> None:
    assert len(LINES) > 10


@pytest.mark.parametrize('line', [line for line in LINES if line.startswith('dasr ')])
def test_subcommands_and_their_options_exist(line: str) -> None:
    arguments = build_parser().parse_args(shlex.split(line)[1:])
    assert callable(arguments.func)


@pytest.mark.parametrize('line', [line for line in LINES if 'train.py' in line or 'test.py' in line])
def test_scripts_take_these_arguments_and_files_exist(line: str) -> None:
    script, *rest = shlex.split(line[re.search(r'(train|test)\.py', line).start() :])  # type: ignore[union-attr]
    assert (ROOT / script).is_file()
    parsed = build_parser().parse_args([script.removesuffix('.py'), *rest])
    assert (ROOT / parsed.options).is_file()


@pytest.mark.parametrize('line', [line for line in LINES if 'tools/' in line])
def test_tools_exist(line: str) -> None:
    assert (ROOT / shlex.split(line)[1]).is_file()


def test_the_main_commands_are_named() -> None:
    expected = {
        'make demo',
        'make test',
        'python train.py -opt options/train_dasr_x4.yml',
        'python test.py -opt options/test_dasr.yml',
    }
    assert expected <= set(LINES)


def test_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (12, 9), 'red').save('photo.jpg')
    (code,) = re.findall(r'```python\n(.*?)```', README, flags=re.DOTALL)
    exec(code, {})
    with Image.open('large.png') as large:
        assert large.size == (48, 36)


@pytest.mark.parametrize('target', sorted({line.split()[1] for line in LINES if line.startswith('make ')}))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(encoding='utf-8'), flags=re.MULTILINE)


@pytest.mark.parametrize('target', sorted(set(re.findall(r'(?:\]\(|src=")([^)#"]+)[)#"]', README))))
def test_links_and_images_exist(target: str) -> None:
    assert target.startswith('https://') or (ROOT / target).exists()


@pytest.mark.parametrize('name', sorted(set(re.findall(r'`((?:train|test)_\w+\.yml)`', README))))
def test_option_files_exist(name: str) -> None:
    assert (ROOT / 'options' / name).is_file()
