import email
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from dasr_arch import version

ROOT = Path(__file__).resolve().parents[1]
TREES = ('dasr_arch', 'dasr_cli', 'options', 'tests')
FILES = ('setup.py', 'pyproject.toml', 'LICENSE', 'NOTICE.md', 'README.md')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Content that `pip install .` installs, built from a copy so that the project folder stays clean."""
    project = tmp_path_factory.mktemp('project')
    for tree in TREES:
        shutil.copytree(ROOT / tree, project / tree, ignore=shutil.ignore_patterns('__pycache__', 'golden'))
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, project)
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '--no-index', '.']
    subprocess.run([*command, '--wheel-dir', 'out'], cwd=project, check=True, timeout=120)
    (path,) = (project / 'out').glob('*.whl')
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope='module')
def metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith('.dist-info/METADATA')]
    return email.message_from_bytes(wheel.read(name))


def read_pins():
    lines = (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines()
    pins = (line.split('==') for line in lines if line and not line.startswith('#'))
    return {canonicalize_name(name): Version(number) for name, number in pins}


def test_version_is_that_of_the_package(metadata):
    assert re.fullmatch(r'\d+\.\d+\.\d+(\.dev\d+)?', version.__version__)
    assert metadata['Version'] == version.__version__


def test_name_cannot_be_mixed_up_with_the_other_networks_called_dasr(metadata):
    assert metadata['Name'] == 'dasr-representation-learning'


def test_only_the_two_packages_are_installed(wheel):
    tops = {name.split('/')[0] for name in wheel.namelist() if '.dist-info/' not in name}
    assert tops == {'dasr_arch', 'dasr_cli'}


@pytest.mark.parametrize('package', ['dasr_arch', 'dasr_cli'])
def test_every_file_of_the_packages_is_installed(wheel, package):
    files = [path for path in (ROOT / package).rglob('*') if path.is_file() and '__pycache__' not in path.parts]
    names = [path.relative_to(ROOT).as_posix() for path in files if not path.name.startswith('.')]
    assert f'{package}/py.typed' in names
    assert [name for name in names if name not in wheel.namelist()] == []


def test_licence_and_origins_are_installed(wheel, metadata):
    names = {Path(name).name for name in wheel.namelist() if '/licenses/' in name}
    assert names == {'LICENSE', 'NOTICE.md'}
    assert metadata['License-Expression'] == 'Apache-2.0'


def test_command_is_installed(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith('.dist-info/entry_points.txt')]
    assert 'dasr = dasr_cli.main:main' in wheel.read(name).decode()


@pytest.mark.parametrize(('python', 'expected'), [('3.11', 'basicsr'), ('3.12', 'basicsr'), ('3.13', 'new-basicsr')])
def test_exactly_one_basicsr_is_required(metadata, python, expected):
    requirements = [Requirement(text) for text in metadata.get_all('Requires-Dist')]
    names = [
        requirement.name
        for requirement in requirements
        if 'basicsr' in requirement.name and requirement.marker.evaluate({'python_version': python})
    ]
    assert names == [expected]


def test_every_requirement_is_pinned_to_a_version_that_it_allows(metadata):
    pins = read_pins()
    for text in metadata.get_all('Requires-Dist'):
        requirement = Requirement(text)
        pinned = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned, prereleases=True), text


def test_readme_of_the_data_folder_is_kept_while_data_are_ignored():
    kept = ['datasets/README.md', 'datasets/demo/image.png']
    ignored = [
        'datasets/DIV2K/0001.png',
        'datasets/x.lmdb/data.mdb',
        'experiments/a/models/net_g_1.pth',
        'results/a.json',
    ]
    command = ['git', 'check-ignore', '--no-index', *kept, *ignored]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    if result.returncode not in (0, 1):
        pytest.skip('not a git checkout')
    assert result.stdout.split() == ignored
