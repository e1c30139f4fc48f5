"""Trainings that diverge: one line, exit code 1, and nothing that is not finite is saved, kept or called the best."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dasr_arch.models.dasr_model import DASRModel
from tests.pipelines.test_training import PROJECT, run_here, tiny_options, write_options
from tests.pipelines.test_training_systems import make_options


def diverging_options(**logger: int) -> dict[str, Any]:
    """The first four iterations are saved; the sixth makes weights of 1e30."""
    options: dict[str, Any] = tiny_options(stage_2={'total_iter': 7, 'lr': 1e30})
    options['logger'] |= logger
    del options['val'], options['datasets']['val_1']
    return options


def assert_only_finite(folder: Path, *states: str) -> None:
    experiment = folder / 'experiments' / 'tiny'
    assert {path.name for path in (experiment / 'training_states').iterdir()} == set(states)
    for path in (experiment / 'models').iterdir():
        for tensors in torch.load(path, weights_only=True).values():
            assert all(torch.isfinite(tensor).all() for tensor in tensors.values()), path


@pytest.mark.parametrize(('print_freq', 'found_at'), [(1, 7), (100, 8)])
def test_losses_end_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], print_freq: int, found_at: int
) -> None:
    assert run_here(tmp_path, diverging_options(print_freq=print_freq, keep_checkpoints=1)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: error')]
    assert line.startswith(f'dasr: error: iteration {found_at}: l_')
    assert 'lower train.stage_2.lr, now ' in line
    assert line.endswith('continue with --auto_resume after iteration 4')
    assert_only_finite(tmp_path, '4.state')
    mended = diverging_options()
    mended['train']['stage_2']['lr'] = 1e-3
    assert run_here(tmp_path, mended, '--auto_resume') == 0


def test_weights_end_the_training_though_the_loss_is_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DASRModel.after_step

    def spoil(self: DASRModel) -> None:
        step(self)
        if self.stage == 2:
            self.net_g.head.bias.data[0] = float('nan')

    monkeypatch.setattr(DASRModel, 'after_step', spoil)
    options = diverging_options(print_freq=100, save_checkpoint_freq=2)
    options['train']['stage_2']['lr'] = 1e-3
    assert run_here(tmp_path, options) == 1
    assert "iteration 6: 'head.bias' of net_g is not finite, the training has diverged" in capsys.readouterr().err
    assert_only_finite(tmp_path, '2.state', '4.state')


def test_validation_scores_nothing_that_is_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = tiny_options(stage_2={'total_iter': 7, 'lr': 1e30})  # validates after iteration 6
    assert run_here(tmp_path, options) == 1
    assert 'validation: the output for ' in capsys.readouterr().err
    assert_only_finite(tmp_path, '4.state')


def test_model_of_basicsr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = make_options('srcnn')
    options |= {'model_type': 'SRModel', 'network_g': {'type': 'MSRResNet', 'num_feat': 8, 'num_block': 1}}
    options['train'] = {
        'total_iter': 12,
        'optim_g': {'type': 'Adam', 'lr': 1e30},
        'scheduler': {'type': 'MultiStepLR', 'milestones': [10]},
        'pixel_opt': {'type': 'L1Loss'},
    }
    options['datasets']['train']['degrade_on'] = 'worker'
    del options['val'], options['datasets']['val_1']
    assert run_here(tmp_path, options) == 1
    assert 'lower train.optim_g.lr, now 1e+30, and start again' in capsys.readouterr().err


def run_two(folder: Path, options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """A training in two processes."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command += [str(PROJECT / 'train.py'), '-opt', str(write_options(folder, options))]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(PROJECT)}
    return subprocess.run(
        [*command, '--launcher', 'pytorch'],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.timeout(300)
def test_every_process_ends_if_the_validation_of_the_first_fails(tmp_path: Path) -> None:
    done = run_two(tmp_path, tiny_options(stage_2={'total_iter': 7, 'lr': 1e30}))  # validates after iteration 6
    assert done.returncode == 1
    assert done.stderr.count('dasr: error: validation: the output for ') == 1
    assert 'RuntimeError' not in done.stderr
    assert_only_finite(tmp_path, '4.state')


@pytest.mark.timeout(300)
def test_every_process_ends(tmp_path: Path) -> None:
    done = run_two(tmp_path, diverging_options())
    assert done.returncode == 1
    assert done.stderr.count('dasr: error: iteration 7: l_') == 1
    assert 'Traceback (most recent call last):\n  File "' + str(PROJECT) not in done.stderr
    assert_only_finite(tmp_path, '4.state')


@pytest.mark.parametrize('named', [False, True])
def test_a_state_that_is_not_finite_is_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named: bool
) -> None:
    options: dict[str, Any] = tiny_options()
    assert run_here(tmp_path, options) == 0
    newest = tmp_path / 'experiments' / 'tiny' / 'training_states' / '12.state'
    state = torch.load(newest, weights_only=True)
    state['networks']['net_g']['head.bias'][0] = float('nan')
    torch.save(state, newest)
    capsys.readouterr()
    if named:
        options |= {'name': 'again', 'path': {'resume_state': str(newest)}}
    assert run_here(tmp_path, options, *([] if named else ['--auto_resume'])) == (2 if named else 0)
    output = capsys.readouterr()
    assert "12.state' holds numbers that are not finite" in output.out + output.err
