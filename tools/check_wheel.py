"""Installs a wheel into an empty environment and upscales there offline: `python tools/check_wheel.py FILE.whl`.

The installation needs several GB and minutes, most of it for PyTorch.
"""

import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / 'constraints.txt'
NO_NETWORK = """import socket
def refuse(*_): raise OSError('the network is switched off for this check')
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
DRAW = "from PIL import Image; Image.linear_gradient('L').resize((40, 30)).convert('RGB').save('low.png')"
CHECK = "from PIL import Image; size = Image.open('low_x4.png').size; assert size == (160, 120), size"


def check_wheel(wheel: Path, folder: Path) -> None:
    """Installs the wheel below a folder, then lists its models, upscales an image and checks the result.

    Raises:
        subprocess.CalledProcessError: if a step fails.
    """
    environment = folder / 'venv'
    venv.create(environment, with_pip=True)
    python = environment / 'bin' / 'python'
    install = [python, '-m', 'pip', 'install', '--quiet', '--constraint', CONSTRAINTS]
    _run('pip', [*install, 'pip', 'setuptools', 'wheel'], folder)
    # BasicSR has no wheel on Python 3.11 and 3.12, and an isolated build would fetch torch a second time.
    _run('install', [*install, '--no-build-isolation', wheel.resolve()], folder)
    _run('size', ['du', '-sh', environment], folder)
    (folder / 'offline').mkdir()
    (folder / 'offline' / 'sitecustomize.py').write_text(NO_NETWORK, encoding='utf-8')
    offline = {**os.environ, 'PYTHONPATH': str(folder / 'offline')}
    dasr = environment / 'bin' / 'dasr'
    _run('version', [dasr, '--version'], folder, offline)
    _run('models', [dasr, 'models'], folder, offline)
    _run('draw', [python, '-c', DRAW], folder, offline)
    _run('upscale', [dasr, 'upscale', 'low.png'], folder, offline)
    _run('check', [python, '-c', CHECK], folder, offline)


def _run(label: str, command: list[str | Path], folder: Path, environment: dict[str, str] | None = None) -> None:
    start = time.monotonic()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    print(f'{label}: {time.monotonic() - start:.1f} s', flush=True)


def main() -> None:
    """Checks the wheel that the command line names."""
    (wheel,) = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix='dasr_wheel_') as folder:
        check_wheel(Path(wheel), Path(folder))
    print(f'{Path(wheel).name} installs and upscales offline')


if __name__ == '__main__':
    main()
