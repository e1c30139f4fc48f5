"""Trainings of a tiny DASR: complete, interrupted, killed, resumed, and in several processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dasr_arch import InputError
from dasr_arch.degradations import build_degradation
from dasr_arch.models.dasr_model import DASRModel
from dasr_arch.pipelines import training
from dasr_arch.pipelines.checkpoints import read_state
from dasr_arch.pipelines.training import deferred_interrupt
from dasr_arch.pipelines.training_log import TrainingLog, read_history
from dasr_cli.main import main

PROJECT = Path(__file__).parents[2]
DEMO = PROJECT / 'datasets' / 'demo'
TINY = {'num_feat': 8, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 16, 'encoder_feat': 4}


def tiny_options(name: str = 'tiny', **train_options: object) -> dict[str, object]:
    degradation = {'type': 'AnisotropicGaussian', 'lambda_range': [0.2, 4.0], 'theta_deg_range': [0, 180]}
    return {
        'name': name,
        'model_type': 'DASRModel',
        'scale': 4,
        'num_gpu': 0,
        'manual_seed': 3,
        'datasets': {
            'train': {
                'name': 'demo_train',
                'type': 'DegradationDataset',
                'dataroot_gt': str(DEMO),
                'gt_size': 64,
                'degradation': {**degradation, 'noise_range': [0, 25]},
                'num_worker_per_gpu': 0,
                'batch_size_per_gpu': 2,
            },
            'val_1': {
                'name': 'demo',
                'type': 'DegradedTestDataset',
                'dataroot_gt': str(DEMO),
                'degradation': [{'type': 'IsotropicGaussian', 'sigma': 1.2, 'noise': 5}],
                'max_images': 1,
            },
        },
        'network_g': {'type': 'DASR', 'scale': 4, **TINY},
        'train': {
            'precision': 'fp32',
            'total_iter': 12,
            'stage_1': {'total_iter': 5, 'lr': 1e-3, 'milestones': [3]},
            'stage_2': {'total_iter': 7, 'lr': 1e-3, 'schedule': 'cosine'},
            'optim_g': {'type': 'Adam', 'betas': [0.9, 0.999]},
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 255.0, 'reduction': 'mean'},
            'contrast_opt': {'queue_length': 10},
            'ema_decay': 0.9,
            **train_options,
        },
        'val': {'val_freq': 6, 'save_img': False, 'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 4}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 4, 'keep_checkpoints': 2, 'use_tb_logger': False},
    }


def write_options(folder: Path, options: dict[str, object]) -> Path:
    path = folder / f'{options["name"]}.yml'
    path.write_text(yaml.safe_dump(options, sort_keys=False), encoding='utf-8')
    return path


def run_here(folder: Path, options: dict[str, object], *arguments: str) -> int:
    previous = Path.cwd()
    os.chdir(folder)
    try:
        return main(['train', '-opt', str(write_options(folder, options)), *arguments])
    finally:
        os.chdir(previous)


def start_process(folder: Path, options: dict[str, object], *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(PROJECT / 'train.py'), '-opt', str(write_options(folder, options)), *arguments]
    environment = {**os.environ, 'OMP_WAIT_POLICY': 'PASSIVE', 'PYTHONPATH': str(PROJECT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def losses(folder: Path, name: str = 'tiny') -> list[dict[str, object]]:
    """The history without what depends on the clock."""
    history = read_history(folder / 'experiments' / name / 'history.jsonl')
    return [{key: value for key, value in line.items() if 'time' not in key} for line in history]


def weights(folder: Path, name: str = 'tiny') -> dict[str, dict[str, torch.Tensor]]:
    return torch.load(folder / 'experiments' / name / 'models' / 'net_g_latest.pth', weights_only=True)


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for group, tensors in first.items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, second[group][key]), f'{group}.{key}'


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('whole')
    assert run_here(folder, tiny_options()) == 0
    return folder


def test_both_stages_leave_weights_states_history_and_log(whole_run: Path) -> None:
    experiment = whole_run / 'experiments' / 'tiny'
    assert {path.name for path in (experiment / 'models').iterdir()} == {
        'net_g_8.pth',
        'net_g_12.pth',
        'net_g_latest.pth',
        'net_g_best.pth',
    }
    assert {path.name for path in (experiment / 'training_states').iterdir()} == {'8.state', '12.state'}
    history = losses(whole_run)
    iterations = [line for line in history if 'lr' in line]
    assert [line['iter'] for line in iterations] == list(range(1, 13))
    assert ['l_pix' in line for line in iterations] == [False] * 5 + [True] * 7
    assert [line['iter'] for line in history if 'validation' in line] == [6, 12]
    log = next(experiment.glob('train_tiny_*.log')).read_text(encoding='utf-8')
    assert 'iteration 12/12' in log
    assert 'Best psnr' in log


def test_degradations_are_described_beside_the_weights(whole_run: Path) -> None:
    described = json.loads((whole_run / 'experiments' / 'tiny' / 'degradations.json').read_text(encoding='utf-8'))
    assert described['scale'] == 4
    train_set = described['datasets']['train']
    assert train_set['seed'] == 3
    rebuilt = build_degradation(train_set['degradation'][0], described['scale'])
    assert rebuilt.label == 'lambda 0.2-4, theta 0-180, noise 0-25'


@pytest.mark.parametrize('junk', [b'', b'PK', b'\x80\x02}q\x00.', bytes(range(256)) * 9])
def test_a_state_of_any_junk_is_refused_in_one_line(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / '4.state'
    path.write_bytes(junk)
    with pytest.raises(InputError, match=r'4\.state'):
        read_state(path)


@pytest.mark.parametrize('at', [pytest.param(3, marks=pytest.mark.slow), 5, pytest.param(8, marks=pytest.mark.slow)])
def test_stopping_and_resuming_equals_one_run_bit_for_bit(whole_run: Path, tmp_path: Path, at: int) -> None:
    options = tiny_options()
    process = start_process(tmp_path, options, '--set', 'logger.save_checkpoint_freq=1')
    history = tmp_path / 'experiments' / 'tiny' / 'history.jsonl'
    wait_for_line(history, at, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output.decode()
    assert run_here(tmp_path, options, '--auto_resume') == 0
    assert losses(tmp_path) == losses(whole_run)
    assert_same_weights(tmp_path, whole_run)


def test_state_is_saved_if_nobody_reads_the_log_any_more(tmp_path: Path) -> None:
    """Ctrl-C in `python train.py ... 2>&1 | tee log` ends tee as well, and sooner; SIGTERM reaches the loaders."""
    options: dict[str, Any] = tiny_options()
    options['datasets']['train']['num_worker_per_gpu'] = 1
    process = start_process(tmp_path, options, '--launcher', 'none')
    wait_for_line(tmp_path / 'experiments' / 'tiny' / 'history.jsonl', 2, process)
    assert process.stdout is not None
    process.stdout.close()
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    for pid in [*(map(int, children.read_text().split()) if children.exists() else ()), process.pid]:
        os.kill(pid, signal.SIGTERM)
    assert process.wait(120) == 130
    assert list((tmp_path / 'experiments' / 'tiny' / 'training_states').iterdir())
    assert run_here(tmp_path, options, '--auto_resume', '--launcher', 'none') == 0


def wait_for_line(history: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when that many iterations are in the history, or the process has ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if sum('lr' in line for line in read_history(history)) >= count:
            return
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[0].decode()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_kills_at_random_moments_change_nothing(whole_run: Path, tmp_path: Path) -> None:
    options = tiny_options()
    generator = torch.Generator().manual_seed(0)
    experiment = tmp_path / 'experiments' / 'tiny'
    for _ in range(12):
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
    assert losses(tmp_path) == losses(whole_run)
    assert_same_weights(tmp_path, whole_run)


def wait_for_change(experiment: Path, process: subprocess.Popen[bytes]) -> None:
    """Returns when the process writes its first line of history, or has ended."""
    history = experiment / 'history.jsonl'
    before = time_of(history)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if time_of(history) not in (0, before):
            return
        time.sleep(0.005)


def time_of(path: Path) -> int:
    """When a file was changed, in ns; 0 without it, as while a run without a state moves the folder of the last one."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def test_a_truncated_state_is_named_and_the_one_before_it_used(
    whole_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_here(tmp_path, tiny_options()) == 0
    states = tmp_path / 'experiments' / 'tiny' / 'training_states'
    newest = states / '12.state'
    newest.write_bytes(newest.read_bytes()[:2000])
    (states / 'notes.state').write_text('not a number')
    capfd.readouterr()
    assert run_here(tmp_path, tiny_options(), '--auto_resume') == 0
    output = capfd.readouterr().err
    assert '12.state' in output
    assert 'Continuing after iteration 8 of 12' in output
    assert losses(tmp_path) == losses(whole_run)
    assert_same_weights(tmp_path, whole_run)


def test_resuming_with_only_damaged_states_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    states = tmp_path / 'experiments' / 'tiny' / 'training_states'
    states.mkdir(parents=True)
    (states / '4.state').write_bytes(b'PK\x03\x04 cut off')
    assert run_here(tmp_path, tiny_options(), '--auto_resume') == 2
    assert 'dasr: error: no training state in' in capfd.readouterr().err.splitlines()[-1]
    assert (states / '4.state').exists()


def test_the_number_of_loader_workers_changes_nothing(whole_run: Path, tmp_path: Path) -> None:
    options = tiny_options()
    options['datasets']['train']['num_worker_per_gpu'] = 2  # type: ignore[index]
    assert run_here(tmp_path, options) == 0
    assert losses(tmp_path) == losses(whole_run)


def test_a_second_start_moves_the_first_experiment_aside(tmp_path: Path) -> None:
    options = tiny_options(total_iter=1, stage_1={'total_iter': 1, 'lr': 1e-3}, stage_2={'total_iter': 0, 'lr': 1e-4})
    options['val'] = None
    del options['datasets']['val_1']  # type: ignore[attr-defined]
    assert run_here(tmp_path, options) == 0
    assert run_here(tmp_path, options) == 0
    names = sorted(path.name for path in (tmp_path / 'experiments').iterdir())
    assert len(names) == 2
    assert names[0] == 'tiny'
    assert names[1].startswith('tiny_archived_')


def test_resuming_from_another_folder_leaves_the_experiment_alone(tmp_path: Path) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    first.mkdir()
    second.mkdir()
    options = tiny_options(total_iter=1, stage_1={'total_iter': 1, 'lr': 1e-3}, stage_2={'total_iter': 0, 'lr': 1e-4})
    options['val'] = None
    del options['datasets']['val_1']  # type: ignore[attr-defined]
    assert run_here(first, options) == 0
    before = {path: path.stat().st_mtime_ns for path in first.rglob('*')}
    assert run_here(second, options, '--auto_resume') == 0
    assert {path: path.stat().st_mtime_ns for path in first.rglob('*')} == before
    assert_same_weights(first, second)


def test_a_start_that_fails_leaves_the_earlier_experiment_alone(tmp_path: Path) -> None:
    kept = tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth'
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b'precious')
    options = tiny_options()
    options['train']['stage_1']['lr'] = '1e-3'  # type: ignore[index]
    assert run_here(tmp_path, options) == 2
    assert kept.read_bytes() == b'precious'
    assert [path.name for path in (tmp_path / 'experiments').iterdir()] == ['tiny']


def test_a_damaged_image_ends_the_run_with_its_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / 'pictures'
    data.mkdir()
    for path in DEMO.glob('*.png'):
        (data / path.name).write_bytes(path.read_bytes())
    victim = data / 'coffee.png'
    victim.write_bytes(victim.read_bytes()[:5000])
    options = tiny_options()
    options['datasets']['train'] |= {'dataroot_gt': str(data), 'num_worker_per_gpu': 1}  # type: ignore[index]
    assert run_here(tmp_path, options) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert 'coffee.png' in last
    assert 'Traceback' not in last


@pytest.mark.parametrize('accumulate', [1, 2])
def test_bfloat16_trains_with_finite_losses(tmp_path: Path, accumulate: int) -> None:
    assert run_here(tmp_path, tiny_options(precision='bf16', accumulate=accumulate)) == 0
    values = [value for line in losses(tmp_path) for key, value in line.items() if key.startswith('l_')]
    assert len(values) == 19
    assert all(torch.isfinite(torch.tensor(value)) for value in values)


def test_a_training_set_that_grew_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / 'images'
    shutil.copytree(DEMO, images)
    options: dict[str, Any] = tiny_options()
    options['datasets']['train']['dataroot_gt'] = str(images)
    options['train'] |= {'total_iter': 7, 'stage_2': {'total_iter': 2, 'lr': 1e-3}}
    assert run_here(tmp_path, options) == 0
    first = next(images.iterdir())
    shutil.copy(first, images / f'another{first.suffix}')
    options['train'] |= {'total_iter': 8, 'stage_2': {'total_iter': 3, 'lr': 1e-3}}
    capfd.readouterr()
    assert run_here(tmp_path, options, '--auto_resume') == 0
    count = len(list(images.iterdir()))
    output = capfd.readouterr()
    assert f'the training set has {count} images, and had {count - 1} when' in output.out + output.err


@pytest.mark.timeout(300)
def test_two_processes_equal_one_that_normalises_each_half_by_itself(tmp_path: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.mkdir()
    two.mkdir()
    options = tiny_options(accumulate=2)
    options['datasets']['train']['batch_size_per_gpu'] = 4  # type: ignore[index]
    assert run_here(one, options) == 0
    options = tiny_options()
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command += [str(PROJECT / 'train.py'), '-opt', str(write_options(two, options)), '--launcher', 'pytorch']
    environment = {**os.environ, 'OMP_WAIT_POLICY': 'PASSIVE', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(PROJECT)}
    done = subprocess.run(command, cwd=two, env=environment, capture_output=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    single, pair = losses(one), losses(two)
    for a, b in zip(single, pair, strict=True):
        for key in a:
            if key.startswith('l_'):
                assert b[key] == pytest.approx(a[key], rel=1e-4), (a['iter'], key)
    state_a = torch.load(one / 'experiments' / 'tiny' / 'training_states' / '12.state', weights_only=True)
    state_b = torch.load(two / 'experiments' / 'tiny' / 'training_states' / '12.state', weights_only=True)
    queue_a, queue_b = (state['networks']['net_contrast']['queue'] for state in (state_a, state_b))
    assert torch.allclose(queue_a, queue_b, atol=1e-3)
    assert json.dumps(single[0]['lr']) == json.dumps(pair[0]['lr'])


def short_options(**train: object) -> dict[str, Any]:
    """One iteration of the encoder, one of everything."""
    stages = {'stage_1': {'total_iter': 1, 'lr': 1e-3}, 'stage_2': {'total_iter': 1, 'lr': 1e-3}}
    return tiny_options(**{'total_iter': 2, **stages, **train})


def test_last_state_holds_the_best_of_the_last_validation(tmp_path: Path) -> None:
    options = short_options()
    options['val']['val_freq'] = 100
    assert run_here(tmp_path, options) == 0
    experiment = tmp_path / 'experiments' / 'tiny'
    state = torch.load(experiment / 'training_states' / '2.state', weights_only=False)
    (validation,) = (line['validation'] for line in losses(tmp_path) if 'validation' in line)
    assert state['extra']['best'] == {'name': 'psnr', 'value': validation['demo']['mean']['psnr'], 'iteration': 2}


def test_last_weights_are_there_even_if_the_last_validation_fails(tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, 'No space left on device', 'a')

    monkeypatch.setattr(training, 'validate', fail)
    options = short_options()
    options['val']['val_freq'] = 100
    assert run_here(tmp_path, options) == 2
    experiment = tmp_path / 'experiments' / 'tiny'
    assert (experiment / 'training_states' / '2.state').is_file()
    assert weights(tmp_path)


def test_freed_memory_is_kept_and_returned_after_each_validation(tmp_path: Path, monkeypatch: Any) -> None:
    calls: list[str] = []
    monkeypatch.setattr(training, 'keep_freed_memory', lambda: calls.append('keep'))
    monkeypatch.setattr(training, 'return_freed_memory', lambda: calls.append('return'))
    options = short_options()
    options['val']['val_freq'] = 1
    assert run_here(tmp_path, options) == 0
    assert calls == ['keep', 'return', 'return']


def test_best_is_counted_anew_by_another_metric(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = short_options()
    assert run_here(tmp_path, options) == 0
    options['val']['metrics'] = {'ssim': {'type': 'calculate_ssim', 'crop_border': 4}}
    options['train'] |= {'total_iter': 3, 'stage_2': {'total_iter': 2, 'lr': 1e-3}}
    capfd.readouterr()
    assert run_here(tmp_path, options, '--auto_resume') == 0
    output = ''.join(capfd.readouterr())
    assert 'The first of val.metrics has changed; the best validation is counted anew' in output
    assert re.search(r'Best ssim 0\.\d+ at iteration 3', output)


def test_curves_and_images_of_the_validation_are_written(tmp_path: Path) -> None:
    options = short_options()
    options['val']['save_img'] = options['logger']['use_tb_logger'] = True
    assert run_here(tmp_path, options) == 0
    images = list((tmp_path / 'experiments' / 'tiny' / 'visualization' / 'demo').iterdir())
    assert [path.name for path in images] == ['astronaut_sigma_1_2_noise_5_2.png']
    board = EventAccumulator(str(tmp_path / 'tb_logger' / 'tiny'))
    board.Reload()
    assert [event.step for event in board.Scalars('losses/l_contrast')] == [1, 2]
    (curve,) = (tag for tag in board.Tags()['scalars'] if tag.startswith('metrics/demo/sigma 1.2'))
    (validation,) = (line['validation'] for line in losses(tmp_path) if 'validation' in line)
    assert board.Scalars(curve)[0].value == pytest.approx(validation['demo']['mean']['psnr'], rel=1e-6)


@pytest.mark.parametrize('ema_decay', [0, 0.9])
def test_models_of_basicsr_leave_their_weights(tmp_path: Path, ema_decay: float) -> None:
    options = short_options()
    options |= {'model_type': 'SRModel', 'network_g': {'type': 'MSRResNet', 'num_feat': 8, 'num_block': 1}}
    options['train'] = {
        'total_iter': 1,
        'ema_decay': ema_decay,
        'optim_g': {'type': 'Adam', 'lr': 1e-4},
        'scheduler': {'type': 'MultiStepLR', 'milestones': [10]},
        'pixel_opt': {'type': 'L1Loss'},
    }
    options['datasets']['train']['degrade_on'] = 'worker'
    assert run_here(tmp_path, options) == 0
    assert set(weights(tmp_path)) == ({'params', 'params_ema'} if ema_decay else {'params'})


def test_a_state_beyond_the_end_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_here(tmp_path, short_options()) == 0
    shorter = short_options(total_iter=1, stage_2={'total_iter': 0, 'lr': 1e-3})
    assert run_here(tmp_path, shorter, '--auto_resume') == 2
    assert 'the training state is of iteration 2, beyond train.total_iter, 1' in capfd.readouterr().err


def test_weights_of_vgg_that_cannot_be_downloaded_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(options: dict[str, Any]) -> None:
        raise URLError('Name or service not known')

    monkeypatch.setattr('dasr_arch.pipelines.training.build_model', refuse)
    assert run_here(tmp_path, short_options()) == 2
    expected = 'train.perceptual_opt: the weights of VGG cannot be downloaded (Name or service not known); put them'
    assert expected in capfd.readouterr().err
    assert not (tmp_path / 'experiments').exists()


def test_the_last_report_before_a_stop_covers_what_no_other_will(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DASRModel.after_step

    def stop(model: DASRModel) -> None:
        step(model)
        if len(read_history(tmp_path / 'experiments' / 'tiny' / 'history.jsonl')) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(DASRModel, 'after_step', stop)
    options = tiny_options()
    options['logger']['print_freq'] = 2  # type: ignore[index]
    assert run_here(tmp_path, options) == 130
    assert [line['iter'] for line in losses(tmp_path)] == [2, 3]


def test_a_second_signal_stops_at_once() -> None:
    with deferred_interrupt(enabled=True) as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_signal_that_is_ignored_stays_so() -> None:
    """As SIGHUP after nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred_interrupt(enabled=True) as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_trainings_of_other_threads_leave_signals_alone() -> None:
    def train() -> list[int]:
        with deferred_interrupt(enabled=True) as received:
            assert signal.getsignal(signal.SIGINT) is before
            return received

    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train).result() == []


def test_bar_of_a_terminal_names_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = StringIO()
    monkeypatch.setattr(terminal, 'isatty', lambda: True)
    monkeypatch.setattr(sys, 'stderr', terminal)
    stages = {'stage_1': {'total_iter': 2}, 'stage_2': {'total_iter': 1}}
    options = {'rank': 0, 'name': 'tiny', 'path': {'log': str(tmp_path)}, 'logger': {}}
    log = TrainingLog({**options, 'train': {'total_iter': 3, **stages}}, 1)
    assert 'tiny, stage 1' in terminal.getvalue()
    assert 'stage 2' not in terminal.getvalue()
    log.step()
    log.bar.refresh()
    log.close()
    assert 'tiny, stage 2' in terminal.getvalue()


def test_second_training_of_a_name_is_refused_while_the_first_goes_on(tmp_path, capsys):
    options = tiny_options(total_iter=2000)
    options['train']['stage_2']['total_iter'] = 2000 - options['train']['stage_1']['total_iter']
    path = tmp_path / 'tiny.yml'
    path.write_text(yaml.safe_dump(options), encoding='utf-8')
    command = [sys.executable, str(PROJECT / 'train.py'), '-opt', str(path), '--launcher', 'none']
    environment = {**os.environ, 'PYTHONPATH': str(PROJECT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as first:
        try:
            history = tmp_path / 'experiments' / 'tiny' / 'degradations.json'
            while not history.exists():
                assert first.poll() is None
                time.sleep(0.2)
            time.sleep(1)
            for arguments in ([], ['--auto_resume']):
                second = subprocess.run(
                    [*command, *arguments], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
                )
                assert second.returncode == 2
                assert 'another process is training there; wait for it, or choose another name' in second.stderr
        finally:
            first.kill()
    assert [path.name for path in (tmp_path / 'experiments').iterdir()] == ['tiny']


@pytest.mark.parametrize('damage', ['small', 'truncated'])
def test_every_validation_image_is_checked_before_the_training(damage, tmp_path, capsys):
    folder = tmp_path / 'val'
    folder.mkdir()
    shutil.copy(DEMO / 'astronaut.png', folder / 'a.png')
    if damage == 'small':
        Image.new('RGB', (2, 2)).save(folder / 'b.png')
    else:
        (folder / 'b.png').write_bytes((DEMO / 'camera.png').read_bytes()[:3000])
    options = tiny_options()
    options['datasets']['val_1'].update(dataroot_gt=str(folder), max_images=None)
    assert run_here(tmp_path, options) == 2
    error = capsys.readouterr().err
    assert 'datasets.val_1' in error
    assert ("image 'b' of 2 x 2 is smaller than the scale 4" if damage == 'small' else 'b.png') in error
    assert not (tmp_path / 'experiments').exists()


def test_weights_that_a_training_starts_from_are_its_first_result(tmp_path):
    assert run_here(tmp_path, tiny_options()) == 0
    start = weights(tmp_path)['params_ema']
    options = tiny_options('fine', stage_1={'total_iter': 0, 'lr': 1e-3}, total_iter=7)
    options['train']['stage_2'] = {'total_iter': 7, 'lr': 0.05}  # makes them worse
    options['path'] = {'pretrain_network_g': str(tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth')}
    assert run_here(tmp_path, options) == 0
    validations = [line for line in losses(tmp_path, 'fine') if 'validation' in line]
    assert [line['iter'] for line in validations] == [0, 6, 7]
    best = torch.load(tmp_path / 'experiments' / 'fine' / 'models' / 'net_g_best.pth', weights_only=True)['params_ema']
    assert all(torch.equal(best[name], value) for name, value in start.items())
