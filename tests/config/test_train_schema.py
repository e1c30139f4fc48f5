"""The structures of train_schema.py are the only place that knows the options of a training and their defaults."""

import ast
import runpy
from pathlib import Path

import msgspec
import pytest

import dasr_arch
from dasr_arch._errors import InputError
from dasr_arch.config.train_checks import load_training_options
from dasr_arch.config.train_schema import TRAIN_OPTIONS, StageOptions, SupervisedTrainOptions
from dasr_arch.config.typed import convert
from dasr_arch.models.supervised_model import SupervisedModel
from tests.option_files import OPTIONS, stand_in

FILE = OPTIONS / 'train_srcnn_x4.yml'
MODELS = sorted((Path(dasr_arch.__file__).parent / 'models').glob('*.py'))


class OwnOptions(SupervisedTrainOptions, kw_only=True, frozen=True):
    """One field more."""

    own_key: float = 0.5


def test_new_option_needs_its_field_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(TRAIN_OPTIONS, 'SupervisedModel', OwnOptions)
    overrides = stand_in(FILE, tmp_path)
    options = load_training_options(FILE, overrides, root=tmp_path)
    assert options['train']['own_key'] == 0.5
    options = load_training_options(FILE, [*overrides, 'train.own_key=2'], root=tmp_path)
    assert SupervisedModel(options).settings.own_key == 2.0
    with pytest.raises(InputError, match="train: unknown key 'own_kye'; did you mean 'own_key'"):
        load_training_options(FILE, [*overrides, 'train.own_kye=2'], root=tmp_path)


@pytest.mark.parametrize('path', MODELS, ids=lambda path: path.stem)
def test_models_read_their_settings_and_never_the_dictionary(path):
    """Beside what the base class converts, no key of `train` is spelled in a string, where a default could stand."""
    fields = {field.name for kind in TRAIN_OPTIONS.values() for field in msgspec.structs.fields(kind)} - {
        'precision',
        'schedule',
        'type',
    }
    tree = ast.parse(path.read_text(encoding='utf-8'))
    read = [
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
    ]
    read += [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == 'get'
        and isinstance(node.args[0], ast.Constant)
    ]
    assert not fields & {key for key in read if isinstance(key, str)}


def test_table_of_the_manual_is_that_of_the_structures():
    tool = runpy.run_path(str(OPTIONS.parent / 'tools' / 'list_training_options.py'))
    page = (OPTIONS.parent / 'docs' / 'option_files.md').read_text(encoding='utf-8')
    assert page == tool['render'](), 'run python tools/list_training_options.py'
    assert (
        '| `train.contrast_opt.queue_length` | a whole number of at least 1 and at most 16777216 | `8192` | keys,'
        in page
    )


def test_every_model_of_ours_has_a_structure():
    assert set(TRAIN_OPTIONS) == {
        path.stem.title().replace('_', '').replace('Dasr', 'DASR').replace('Ikc', 'IKC').replace('Mzsr', 'MZSR')
        for path in MODELS
        if path.stem.endswith('_model')
    }


def test_block_of_an_option_file_becomes_a_stage():
    stage = convert({'total_iter': 7, 'lr': 0.5, 'milestones': [3]}, StageOptions, 'o.yml', 'train.stage_1')
    assert stage == StageOptions(total_iter=7, lr=0.5, milestones=[3])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'total_iter': 7, 'lr': 0.5, 'milestone': [3]},
            "train.stage_1: unknown key 'milestone'; did you mean 'milestones'",
        ),
        ({'lr': 0.5}, "train.stage_1: the key 'total_iter' is missing"),
        ({'total_iter': 7}, "train.stage_1: the key 'lr' is missing"),
    ],
)
def test_unknown_or_missing_key_of_a_stage_is_named(options, message):
    with pytest.raises(InputError, match=message):
        convert(options, StageOptions, 'o.yml', 'train.stage_1')


def test_section_of_another_loop_may_hold_keys_that_are_not_ours():
    train = {
        'total_iter': 1,
        'warmup_iter': -1,
        'schedule': {'total_iter': 1, 'lr': 1e-3},
        'pixel_opt': {'type': 'L1Loss'},
    }
    assert convert(train, SupervisedTrainOptions, 'o.yml', 'train', foreign=True).accumulate == 1
    with pytest.raises(InputError, match="train: unknown key 'warmup_iter'"):
        convert(train, SupervisedTrainOptions, 'o.yml', 'train')
