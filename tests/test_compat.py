"""The functions that are replaced in other packages still exist there, and the replacements are in place."""

import importlib.util
import inspect
import os
import subprocess
import sys

import basicsr.train
import basicsr.utils.options
import pytest
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
