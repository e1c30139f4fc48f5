"""Training over two nodes, here two agents of torchrun with their own rendezvous on loopback."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dasr_arch.pipelines.training_log import read_history
from tests.pipelines.test_training import PROJECT, assert_same_weights, losses, tiny_options, write_options

LIMIT = 150  # seconds
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LIMIT)]


BLOCKS = re.findall(r'^```bash\n(.*?)^```', (PROJECT / 'docs' / 'scale.md').read_text(encoding='utf-8'), re.S | re.M)
COMMAND, SLURM = (
    next(block for block in BLOCKS if f'{word} --nnodes=' in block) for word in ('\ntorchrun', 'srun torchrun')
)


def run_script(folder: Path, script: str, options: dict[str, Any], **variables: str) -> subprocess.Popen[bytes]:
    """A script of docs/scale.md in a folder, with one process a node and a small training."""
    programs = folder / 'bin'
    if not programs.is_dir():
        programs.mkdir()
        run = f'exec {sys.executable} -m torch.distributed.run --local-addr=127.0.0.1'
        (programs / 'torchrun').write_text(f'#!/bin/bash\n{run} --rdzv-conf=is_host=${{HOST:-1}} "$@"\n')
        (programs / 'scontrol').write_text('#!/bin/bash\necho 127.0.0.1\necho 127.0.0.2\n')
        (programs / 'srun').write_text('#!/bin/bash\nHOST=0 "$@" & HOST=1 "$@"; own=$?; wait -n && exit $own\n')
        for program in programs.iterdir():
            program.chmod(0o755)
    script = script.replace('options/train_dasr_x4.yml', str(write_options(folder, options)))
    script = script.replace('train.py', str(PROJECT / 'train.py')).replace('nproc_per_node=4', 'nproc_per_node=1')
    search = f'{programs}{os.pathsep}{os.environ["PATH"]}'
    environment = {**os.environ, 'PATH': search, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(PROJECT), **variables}
    return subprocess.Popen(
        ['bash', '-e', '-c', script],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(folder / f'node{time.monotonic_ns()}.log').open('wb'),
        start_new_session=True,
    )


def start_node(folder: Path, port: int, options: dict[str, Any], host: bool) -> subprocess.Popen[bytes]:
    """One of two nodes, which have the same folder; one of them holds the rendezvous."""
    script = COMMAND.replace('node1:29400', f'127.0.0.1:{port}').replace('torchrun', 'exec torchrun')
    return run_script(folder, script, options, HOST=str(int(host)))


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def start_nodes(folder: Path, options: dict[str, Any], port: int) -> list[subprocess.Popen[bytes]]:
    return [start_node(folder, port, options, host) for host in (True, False)]


def wait_for(nodes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    for node in nodes:
        code = node.wait(LIMIT)
        logs = [path.read_text()[-2000:] for path in sorted(folder.glob('node*.log'))]
        assert code == 0, logs


def wait_for_iteration(folder: Path, iteration: int) -> None:
    history = folder / 'experiments' / 'tiny' / 'history.jsonl'
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if history.is_file() and any(line.get('iter', 0) >= iteration for line in read_history(history)):
            return
        time.sleep(0.02)
    raise AssertionError(f'iteration {iteration} was not reached')


def list_workers(node: subprocess.Popen[bytes]) -> list[int]:
    """The processes that train on a node."""
    children = Path(f'/proc/{node.pid}/task/{node.pid}/children').read_text().split()
    return [int(child) for child in children if b'train.py' in Path(f'/proc/{child}/cmdline').read_bytes()]


@pytest.fixture(scope='module')
def options() -> dict[str, Any]:
    options: dict[str, Any] = tiny_options()
    options['train'] |= {'total_iter': 60, 'stage_2': {'total_iter': 55, 'lr': 1e-3}}
    options['logger']['save_checkpoint_freq'] = 2
    return options


@pytest.fixture(scope='module')
def whole(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training over two nodes that nothing disturbs."""
    folder = tmp_path_factory.mktemp('whole')
    wait_for(start_nodes(folder, options, free_port()), folder)
    assert len(losses(folder)) > 60
    return folder


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
@pytest.mark.parametrize('victim', [0, 1])
def test_killed_worker_is_started_again_and_changes_nothing(
    victim: int, options: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    nodes = start_nodes(tmp_path, options, free_port())
    wait_for_iteration(tmp_path, 11)
    (worker,) = list_workers(nodes[victim])
    os.kill(worker, signal.SIGKILL)
    wait_for(nodes, tmp_path)
    assert losses(tmp_path) == losses(whole)
    assert_same_weights(tmp_path, whole)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_lost_node_comes_back_and_changes_nothing(options: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    port = free_port()
    first, second = start_nodes(tmp_path, options, port)
    wait_for_iteration(tmp_path, 11)
    for process in (second.pid, *list_workers(second)):
        os.kill(process, signal.SIGKILL)
    second.wait(LIMIT)
    wait_for([first, start_node(tmp_path, port, options, host=False)], tmp_path)
    assert losses(tmp_path) == losses(whole)
    assert_same_weights(tmp_path, whole)


def test_slurm_script_trains_on_both_nodes(options: dict[str, Any], whole: Path, tmp_path: Path) -> None:
    script = SLURM.replace('29400', str(free_port()))
    job = {'SLURM_JOB_NODELIST': 'node[1-2]', 'SLURM_NNODES': '2', 'SLURM_JOB_ID': '7'}
    wait_for([run_script(tmp_path, script, options, **job)], tmp_path)
    assert losses(tmp_path) == losses(whole)
    assert_same_weights(tmp_path, whole)
