"""The functions that are replaced in other packages still exist there, and the replacements are in place."""

import importlib.util
import inspect
import os
import socket
import subprocess
import sys

import basicsr.train
import basicsr.utils.options
import pytest
import torch
import yaml
from basicsr.models.base_model import BaseModel

from dasr_arch import _compat


def test_every_replaced_function_is_looked_up_where_it_is_replaced() -> None:
    assert 'load_resume_state(opt)' in inspect.getsource(basicsr.train.train_pipeline)
    parse = inspect.getsource(basicsr.utils.options.parse_options)
    assert 'init_dist(' in parse
    source = inspect.getsource(basicsr.utils.options)
    assert 'ordered_yaml()[0]' in source
    assert hasattr(BaseModel, 'model_to_device')


def test_basicsr_imports_with_torchvision_of_today() -> None:
    assert importlib.util.find_spec('basicsr.data.degradations') is not None
    from torchvision.transforms.functional_tensor import rgb_to_grayscale

    assert callable(rgb_to_grayscale)


def test_basicsr_reads_option_files_without_running_code() -> None:
    loader = basicsr.utils.options.ordered_yaml()[0]
    with pytest.raises(yaml.constructor.ConstructorError):
        yaml.load('a: !!python/object/apply:os.getcwd []', Loader=loader)


def test_another_launcher_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match='slurm'):
        _compat.initialise_distributed('slurm')


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({}, 'PASSIVE 1000'),
        ({'GOMP_SPINCOUNT': '5'}, 'PASSIVE 5'),
        ({'OMP_WAIT_POLICY': 'ACTIVE'}, 'ACTIVE None'),
        ({'OMP_WAIT_POLICY': 'PASSIVE'}, 'PASSIVE None'),
    ],
)
def test_threads_wait_for_a_moment_unless_the_user_has_chosen(given, expected) -> None:
    names = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    program = f'import dasr_arch, os; print(*map(os.environ.get, {names}))'
    done = subprocess.run([sys.executable, '-c', program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_newest_state_of_an_experiment_is_resumed_on_a_cpu(tmp_path) -> None:
    for iteration in (4, 12, 8):
        torch.save({'iter': iteration}, tmp_path / f'{iteration}.state')
    (tmp_path / 'notes.state').touch()
    options = {'auto_resume': True, 'path': {'training_states': str(tmp_path), 'resume_state': None}}
    assert basicsr.train.load_resume_state(options) == {'iter': 12}
    assert options['path']['resume_state'] == str(tmp_path / '12.state')
    named = {'path': {'resume_state': str(tmp_path / '4.state')}}
    assert basicsr.train.load_resume_state(named) == {'iter': 4}
    assert basicsr.train.load_resume_state({'auto_resume': True, 'path': {'training_states': 'none'}}) is None


def test_models_of_basicsr_are_wrapped_for_several_processes_on_a_cpu(monkeypatch) -> None:
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    place = {'RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': True})
    try:
        for _ in range(2):  # joining again does nothing
            _compat.initialise_distributed(on_gpu=False)
        network = torch.nn.Linear(2, 2)
        assert model.model_to_device(network).module is network
    finally:
        torch.distributed.destroy_process_group()
