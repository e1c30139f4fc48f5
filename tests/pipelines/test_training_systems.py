"""Trainings of the compared systems from option file to weights: resumed, killed, and in two processes."""

import os
import shutil
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from dasr_arch.pipelines.training_log import read_history
from tests.pipelines.test_training import (
    PROJECT,
    assert_same_weights,
    losses,
    run_here,
    start_process,
    tiny_options,
    wait_for_change,
    weights,
    write_options,
)

SCHEDULE = {'total_iter': 12, 'lr': 1e-3, 'schedule': 'cosine', 'periods': 2}
PIXEL = {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}
SYSTEMS = ('ikc', 'mzsr', 'target', 'srcnn', 'udvd')


def make_options(system: str) -> dict[str, Any]:
    """Twelve iterations of a tiny network, on two images at a time."""
    options: dict[str, Any] = deepcopy(tiny_options())
    data, train = options['datasets']['train'], options['train']
    if system == 'target':
        train['code_opt'] = {'loss_weight': 1.0}
        return options
    common = {'total_iter': 12, 'precision': 'fp32', 'pixel_opt': PIXEL, 'ema_decay': 0.9}
    data['num_patches'] = 1
    if system == 'ikc':
        options['model_type'] = 'IKCModel'
        options['network_g'] = {'type': 'IKC', 'scale': 4, 'num_feat': 8, 'num_blocks': 1, 'num_steps': 2}
        data['degradation'] = {'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0]}
        stages = {'stage_1': {'total_iter': 7, 'lr': 1e-3}, 'stage_2': {'total_iter': 2, 'lr': 1e-3}}
        options['train'] = {**common, **stages, 'stage_3': {'total_iter': 3, 'lr': 1e-3}, 'corrections': 2}
    elif system == 'mzsr':
        options['model_type'] = 'MZSRModel'
        options['network_g'] = {'type': 'MZSR', 'scale': 4, 'num_feat': 8, 'num_layers': 3}
        data |= {'degradation': {'type': 'CovarianceGaussian', 'variance_range': [1, 10]}, 'batch_size_per_gpu': 4}
        meta = {'support': 1, 'query': 1, 'inner_steps': 2, 'anneal_iter': 5}
        options['train'] = {**common, 'schedule': SCHEDULE, 'meta_opt': meta, 'adaptation': {'steps': 2}}
    else:
        options['model_type'] = 'SupervisedModel'
        network = {'srcnn': {'type': 'SRCNN'}, 'udvd': {'type': 'UDVD', 'num_blocks': 1, 'num_refine': 1}}[system]
        options['network_g'] = {**network, 'scale': 4, 'num_feat': 8}
        extra = {'srcnn': {'lr_factors': {'conv3': 0.1}}, 'udvd': {'multi_stage': True}}[system]
        options['train'] = {**common, 'schedule': SCHEDULE, **extra}
    return options


@pytest.fixture(scope='module')
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of an uninterrupted run of each system, made when it is asked for."""
    made: dict[str, Path] = {}

    class Runs(dict[str, Path]):
        def __missing__(self, system: str) -> Path:
            folder = tmp_path_factory.mktemp(system)
            assert run_here(folder, make_options(system)) == 0
            self[system] = folder
            return folder

    return Runs(made)


@pytest.mark.parametrize('system', SYSTEMS)
def test_resuming_equals_one_run_bit_for_bit(system: str, whole_runs: dict[str, Path], tmp_path: Path) -> None:
    whole = whole_runs[system]
    shutil.copytree(whole / 'experiments', tmp_path / 'experiments')
    states = tmp_path / 'experiments' / 'tiny' / 'training_states'
    (states / '12.state').unlink()
    for path in (tmp_path / 'experiments' / 'tiny' / 'models').glob('*.pth'):
        path.unlink()
    assert [path.name for path in states.iterdir()] == ['8.state']
    assert run_here(tmp_path, make_options(system), '--auto_resume') == 0
    assert losses(tmp_path) == losses(whole)
    assert_same_weights(tmp_path, whole)


def test_stages_of_ikc_follow_each_other_and_the_first_does_not_count_for_the_best(whole_runs: dict[str, Path]) -> None:
    folder = whole_runs['ikc']
    names = [set(line) & {'l_pix', 'l_predictor', 'l_corrector'} for line in losses(folder) if 'lr' in line]
    assert names == [{'l_pix'}] * 7 + [{'l_predictor'}] * 2 + [{'l_predictor', 'l_corrector'}] * 3
    assert [line['iter'] for line in losses(folder) if 'validation' in line] == [6, 12]
    state = torch.load(folder / 'experiments' / 'tiny' / 'training_states' / '12.state', weights_only=True)
    assert state['extra']['best']['iteration'] == 12
    assert set(weights(folder)) == {'params', 'params_ema'}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('system', ['ikc', 'mzsr', 'target'])
def test_kills_at_random_moments_change_nothing(system: str, whole_runs: dict[str, Path], tmp_path: Path) -> None:
    options, experiment = make_options(system), tmp_path / 'experiments' / 'tiny'
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        process = start_process(tmp_path, options, '--auto_resume', '--set', 'logger.save_checkpoint_freq=1')
        done = sum('lr' in line for line in read_history(experiment / 'history.jsonl'))
        if process.poll() is None and done < 11:
            wait_for_change(experiment, process)
            time.sleep(float(torch.rand((), generator=generator)) * 0.2)
        process.kill()
        process.communicate(timeout=60)
    process = start_process(tmp_path, options, '--auto_resume')
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    assert losses(tmp_path) == losses(whole_runs[system])
    assert_same_weights(tmp_path, whole_runs[system])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize('system', ['ikc', 'mzsr'])
def test_two_processes_equal_one_with_the_batches_of_both(system: str, tmp_path: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.mkdir()
    two.mkdir()
    options = make_options(system)
    batch = options['datasets']['train']['batch_size_per_gpu']
    options['datasets']['train']['batch_size_per_gpu'] = batch // 2
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command += [str(PROJECT / 'train.py'), '-opt', str(write_options(two, options)), '--launcher', 'pytorch']
    environment = {**os.environ, 'OMP_WAIT_POLICY': 'PASSIVE', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(PROJECT)}
    done = subprocess.run(command, cwd=two, env=environment, capture_output=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    options['datasets']['train']['batch_size_per_gpu'] = batch
    assert run_here(one, options) == 0
    for first, second in zip(losses(one), losses(two), strict=True):
        for key, value in first.items():
            if key.startswith('l_'):
                assert second[key] == pytest.approx(value, rel=1e-3), (first['iter'], key)
