"""Trainings whose batches are shared by processes on one CPU."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dasr_arch.config.train_checks import load_training_options
from dasr_arch.models.synced_batch_norm import SyncedBatchNorm2d, synchronise_batch_norm
from dasr_arch.pipelines import cpu_processes, training
from dasr_arch.pipelines.cpu_processes import Choice, all_cores, choose_processes, joined_processes, take_share
from tests.pipelines.test_training import (
    assert_same_weights,
    losses,
    run_here,
    start_process,
    tiny_options,
    write_options,
)

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='training by processes is for Linux')
LIMIT = 120  # seconds


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)


def long_options(**train: object) -> dict[str, Any]:
    options: dict[str, Any] = tiny_options(**train)
    options['train'] |= {'total_iter': 5000, 'stage_2': {'total_iter': 4995, 'lr': 1e-4}}
    return options


def choose(folder: Path, options: dict[str, Any], *overrides: str) -> Choice:
    return choose_processes(load_training_options(write_options(folder, options), overrides, root=folder))


@pytest.mark.parametrize(
    ('batch', 'threads', 'expected'), [(2, 2, (2, 1)), (4, 2, (2, 1)), (4, 8, (4, 2)), (6, 4, (3, 1)), (6, 13, (6, 2))]
)
def test_processes_share_the_batch_and_the_cores(tmp_path, monkeypatch, batch, threads, expected):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    options = long_options(contrast_opt={'queue_length': 90})
    choice = choose(tmp_path, options, f'datasets.train.batch_size_per_gpu={batch}')
    assert choice[:2] == expected
    assert choice.line.startswith(f'{expected[0]} processes of {expected[1]} thread')


@pytest.mark.usefixtures('two_threads')
@pytest.mark.parametrize(
    ('override', 'reason'),
    [
        ('datasets.train.batch_size_per_gpu=3', 'a batch of 3 has no divisor up to 2'),
        ('train.accumulate=2', 'the batch is split by train.accumulate'),
        ('train.compile=true', 'train.compile'),
        ('train.contrast_opt.positives=other', 'contrast_opt.positives: other'),
    ],
)
def test_one_process_where_the_result_would_differ(tmp_path, override, reason):
    choice = choose(tmp_path, long_options(), override)
    assert choice[:2] == (1, 2)
    assert choice.line.startswith(f'One process of 2 threads: {reason}')


@pytest.mark.usefixtures('two_threads')
def test_one_process_for_short_trainings_and_one_core(tmp_path, monkeypatch):
    assert choose(tmp_path, tiny_options()).reason == 'the training is short'
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    assert choose(tmp_path, long_options()).line == 'One process of 1 thread: torch uses one thread (OMP_NUM_THREADS)'


def test_a_share_is_a_part_of_batch_and_loaders():
    options = {'datasets': {'train': {'batch_size_per_gpu': 8, 'num_worker_per_gpu': 3}, 'val': {}}, 'name': 'a'}
    share = take_share(options, 1, Choice(2, 1, ''))
    assert share['datasets'] == {'train': {'batch_size_per_gpu': 4, 'num_worker_per_gpu': 2}, 'val': {}}
    assert (share['dist'], share['rank'], share['world_size'], share['name']) == (True, 1, 2, 'a')
    assert options['datasets']['train']['batch_size_per_gpu'] == 8


def test_validation_gets_the_threads_of_all():
    threads = torch.get_num_threads()
    with all_cores({'cpu_processes': 3}):
        assert torch.get_num_threads() == 3 * threads
    assert torch.get_num_threads() == threads


# --- batch statistics ---


def normalise(options: dict[str, Any]) -> None:
    """Normalises a share of the batch of the file, and writes what came of it."""
    x, weight = torch.load(options['batch'])
    half = slice(4 * options['rank'], 4 * options['rank'] + 4)
    net = make_norm()
    synchronise_batch_norm(net, torch.device('cpu'))
    assert type(net[0]) is SyncedBatchNorm2d
    torch.save(apply_norm(net, x[half], weight[half]), f'{options["batch"]}.{options["rank"]}')


def make_norm() -> nn.Sequential:
    net = nn.Sequential(nn.BatchNorm2d(6))
    with torch.no_grad():
        net[0].weight.copy_(torch.linspace(0.5, 2, 6))
        net[0].bias.copy_(torch.linspace(-1, 1, 6))
    return net


def apply_norm(net: nn.Sequential, x: torch.Tensor, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = net(x)
    (out.sin() * weight).mean().backward()
    norm = net[0]
    return {
        'out': out.detach(),
        'x': x.grad,
        'weight': norm.weight.grad,
        'bias': norm.bias.grad,
        'mean': norm.running_mean,
        'var': norm.running_var,
    }


@pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last])
def test_batch_statistics_are_those_of_the_whole_batch(tmp_path, order):
    torch.manual_seed(0)
    x, weight = (torch.randn(8, 6, 5, 7) * 3 + 20).to(memory_format=order), torch.randn(8, 6, 5, 7)
    whole = apply_norm(make_norm(), x, weight)
    torch.save((x, weight), tmp_path / 'batch')
    options = {'batch': str(tmp_path / 'batch'), 'datasets': {'train': {'batch_size_per_gpu': 8}}}
    with joined_processes(normalise, options, Choice(2, 1, '')) as own:
        normalise(own)
    parts = [torch.load(tmp_path / f'batch.{rank}') for rank in (0, 1)]
    for key in ('out', 'x'):
        scale = 1 if key == 'out' else 2  # gradients of the mean over half as many values
        torch.testing.assert_close(torch.cat([part[key] for part in parts]) / scale, whole[key], rtol=1e-4, atol=1e-5)
    for key in ('weight', 'bias'):
        torch.testing.assert_close((parts[0][key] + parts[1][key]) / 2, whole[key], rtol=1e-4, atol=1e-5)
    for part in parts:
        torch.testing.assert_close(part['mean'], whole['mean'])
        torch.testing.assert_close(part['var'], whole['var'])
    assert parts[0]['x'].is_contiguous(memory_format=order)


# --- trainings ---


@pytest.fixture
def in_two_processes(monkeypatch):
    monkeypatch.setattr(training, 'choose_processes', lambda options: Choice(2, 1, 'a test'))


@pytest.mark.usefixtures('in_two_processes')
def test_two_processes_train_as_one(tmp_path):
    alone, shared = tmp_path / 'alone', tmp_path / 'shared'
    options = tiny_options(stage_1={'total_iter': 5, 'lr': 1e-4}, stage_2={'total_iter': 7, 'lr': 1e-4})
    for folder, arguments in ((alone, ['--launcher', 'none']), (shared, [])):
        folder.mkdir()
        assert run_here(folder, options, *arguments) == 0
    expected, found = losses(alone), losses(shared)
    assert len(expected) == len(found) == 14
    for one, two in zip(expected, found, strict=True):
        assert one.keys() == two.keys()
        for key, value in one.items():
            if key.startswith('l_'):
                assert two[key] == pytest.approx(value, rel=1e-4, abs=1e-6), (one['iter'], key)
    (log,) = (shared / 'experiments' / 'tiny').glob('*.log')
    assert '2 processes of 1 thread share each batch: a test' in log.read_text()


@pytest.mark.usefixtures('in_two_processes')
def test_resumed_processes_train_as_uninterrupted_ones(tmp_path):
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    options: dict[str, Any] = tiny_options(stage_2={'total_iter': 7, 'lr': 1e-3})
    short: dict[str, Any] = tiny_options(total_iter=8, stage_2={'total_iter': 3, 'lr': 1e-3})
    for folder, runs in ((whole, [(options, [])]), (resumed, [(short, []), (options, ['--auto_resume'])])):
        folder.mkdir()
        for given, arguments in runs:
            assert run_here(folder, given, *arguments) == 0
    assert_same_weights(resumed, whole)


def list_children(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that train with one."""
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    return [int(child) for child in children if b'spawn_main' in Path(f'/proc/{child}/cmdline').read_bytes()]


@pytest.fixture
def running(tmp_path, monkeypatch):
    """A training of two processes, started by the command, after its first checkpoint."""
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    options = long_options()
    options['datasets']['train']['num_worker_per_gpu'] = 2  # one for each process
    process = start_process(tmp_path, options)
    saved = tmp_path / 'experiments' / 'tiny' / 'training_states' / '4.state'
    end = time.monotonic() + LIMIT
    while not saved.is_file():
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < end
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def finish(process: subprocess.Popen[bytes], code: int) -> str:
    """The output of a process that ends with a code and leaves no other process."""
    children = list_children(process)
    output = process.communicate(timeout=LIMIT)[0].decode()
    assert process.returncode == code, output
    end = time.monotonic() + LIMIT
    while any(Path(f'/proc/{child}').exists() for child in children):
        assert time.monotonic() < end
        time.sleep(0.05)
    return output


def list_tree(pid: int) -> list[int]:
    """A process with all that it has started, and they in turn."""
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return [pid, *(one for child in children for one in list_tree(int(child)))]


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_all_processes_after_a_step(running, tmp_path, number):
    """As sent by a terminal, `timeout`, Slurm and systemd: to all processes."""
    assert len(list_children(running)) == 1
    tree = list_tree(running.pid)
    assert len(tree) >= 4
    for pid in tree:
        if b'resource_tracker' not in Path(f'/proc/{pid}/cmdline').read_bytes():  # of Python; SIGHUP ends it
            os.kill(pid, number)
    output = finish(running, 130)
    (iteration,) = re.findall(r'Stopped after iteration (\d+); --auto_resume', output)
    assert (tmp_path / 'experiments' / 'tiny' / 'training_states' / f'{iteration}.state').is_file()
    assert 'Traceback' not in output
    assert 'leaked' not in output  # semaphores of loader processes


@pytest.mark.slow
def test_killed_process_ends_the_training_with_one_line(running, tmp_path):
    os.kill(list_children(running)[0], signal.SIGKILL)
    output = finish(running, 2)
    assert 'dasr: error: a process of the training was killed (signal 9)' in output
    assert 'Traceback' not in output


@pytest.mark.slow
def test_processes_end_if_the_first_is_killed(running):
    running.kill()
    finish(running, -signal.SIGKILL)


@pytest.mark.usefixtures('in_two_processes')
def test_bad_image_of_another_process_is_an_error_of_the_training(tmp_path, capfd):
    options: dict[str, Any] = tiny_options()
    folder = tmp_path / 'images'
    folder.mkdir()
    for path in sorted(Path(options['datasets']['train']['dataroot_gt']).glob('*.png')):
        data = path.read_bytes()
        (folder / path.name).write_bytes(data if not list(folder.iterdir()) else data[: len(data) // 2])
    options['datasets']['train']['dataroot_gt'] = str(folder)
    assert run_here(tmp_path, options) == 2
    message = capfd.readouterr().err
    assert message.count('dasr: error:') == 1
    assert 'Traceback' not in message


def stumble(options: dict[str, Any]) -> None:
    if options['rank'] == 1:
        raise KeyError('a bug')
    torch.distributed.barrier()


def test_bug_in_another_process_shows_its_traceback():
    options = {'datasets': {'train': {'batch_size_per_gpu': 2}}}
    with (
        pytest.raises(RuntimeError, match=r'(?s)in another process of the training:.*def stumble|raise KeyError'),
        joined_processes(stumble, options, Choice(2, 1, '')) as own,
    ):
        stumble(own)
    assert multiprocessing.active_children() == []


def test_process_whose_first_is_gone_ends_quietly(capfd):
    """As after a second Ctrl-C, while it starts."""
    here, there = multiprocessing.Pipe(duplex=False)
    here.close()
    process = multiprocessing.get_context('fork').Process(
        target=cpu_processes._run, args=(stumble, {}, '', 1, there)
    )  # which leaves signals alone from then on
    process.start()
    process.join(LIMIT)
    assert process.exitcode == 1
    assert 'Traceback' not in capfd.readouterr().err
