import logging
from typing import Annotated, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta

from dasr_arch._errors import InputError
from dasr_arch.config.typed import check_arguments, check_finite, check_known, convert, section, to_plain


class Stage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    lr: Annotated[float, Meta(gt=0)]
    total_iter: Annotated[int, Meta(ge=1)] = 1
    milestones: list[Annotated[int, Meta(ge=1)]] = []
    schedule: Literal['step', 'cosine'] = 'step'

    def __post_init__(self) -> None:
        if self.milestones and self.milestones[-1] >= self.total_iter:
            raise ValueError('milestones must lie inside the stage')


class File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    stage: Stage
    num_gpu: Annotated[int, Meta(ge=0)] | Literal['auto'] = 'auto'
    root: str | list[str] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    network: dict[str, object] = {}
    stages: dict[str, Stage] = {}
    flag: bool = False


def read(**values: object) -> File:
    return convert({'stage': {'lr': 1.0}, **values}, File, 'o.yml')


def test_defaults_are_filled_in():
    assert read() == File(stage=Stage(lr=1.0))


def test_whole_float_counts_as_whole_number():
    converted = convert({'lr': 1, 'total_iter': 5e3}, Stage, 'o.yml')
    assert converted.total_iter == 5000
    assert isinstance(converted.total_iter, int)
    assert isinstance(converted.lr, float)


def test_data_are_not_altered():
    data = {'stage': {'lr': 1, 'total_iter': 5e3, 'milestones': [2.0]}}
    converted = to_plain(convert(data, File, 'o.yml'))
    converted['stage']['milestones'].append(7)
    assert data == {'stage': {'lr': 1, 'total_iter': 5e3, 'milestones': [2.0]}}
    assert isinstance(data['stage']['total_iter'], float)


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ({'stage': {'lr': '2e-4'}}, "o.yml: stage.lr: expected a number above 0, got the text '2e-4'; write 2.0e-4 or"),
        ({'stage': {'lr': '2.5e4'}}, 'write 2.5e+4 or !!float 2.5e4'),
        ({'stage': {'lr': '0.1'}}, 'write it without quotes'),
        ({'stage': {'lr': 'fast'}}, "expected a number above 0, got the text 'fast'"),
        ({'stage': {'lr': -1}}, 'stage.lr: expected a number above 0, got -1'),
        ({'stage': {'lr': float('nan')}}, 'stage.lr: expected a finite number, got nan'),
        ({'stage': {'lr': True}}, 'got true'),
        ({'stage': {}}, "stage: the key 'lr' is missing; expected a number above 0"),
        ({'stage': None}, 'stage: expected a mapping, got nothing'),
        ({'stage': {'lr': 1, 'total_itr': 3}}, "stage: unknown key 'total_itr'; did you mean 'total_iter'?"),
        ({'stage': {'lr': 1, 'total_iter': 2.5}}, 'stage.total_iter: expected a whole number of at least 1, got 2.5'),
        ({'stage': {'lr': 1, 'milestones': [1, 0]}}, 'milestones.1: expected a whole number of at least 1, got 0'),
        ({'stage': {'lr': 1, 'milestones': 3}}, 'stage.milestones: expected a list'),
        ({'stage': {'lr': 1, 'schedule': 'stp'}}, "expected one of 'step', 'cosine', got the text 'stp'"),
        ({'stage': {'lr': 1, 'milestones': [1]}}, 'o.yml: stage: milestones must lie inside the stage'),
        ({'num_gpu': -1}, "num_gpu: expected a whole number of at least 0 or 'auto', got -1"),
        ({'num_gpu': 'all'}, "got the text 'all'"),
        ({'root': ['a', 3]}, 'root.1: expected text, got 3'),
        ({'root': {'a': 1}}, 'root: expected text or a list, each entry text or nothing (~), got a mapping'),
        ({'betas': [1, 2, 3]}, 'betas: expected a list of 2, each entry a number, got the list [1, 2, 3]'),
        ({'network': [1]}, 'network: expected a mapping, got the list [1]'),
        ({'network': {'a': {'b': float('inf')}}}, 'network.a.b: expected a finite number, got inf'),
        ({'network': {'a': ['1e-3']}}, "network.a.0: expected a number, got the text '1e-3'; write 1.0e-3"),
        ({'stages': {'first': {'lr': 'x'}}}, 'stages.first.lr: expected a number'),
        ({'flag': 'maybe'}, "flag: expected true or false, got the text 'maybe'"),
    ],
)
def test_mistake_gives_one_line_with_its_key(values, expected):
    with pytest.raises(InputError) as caught:
        read(**values)
    assert expected in str(caught.value)
    assert '\n' not in str(caught.value)


def test_missing_key_at_the_top_names_the_file():
    with pytest.raises(InputError, match=r"^o.yml: the key 'stage' is missing; expected a mapping$"):
        convert({}, File, 'o.yml')


def test_unknown_key_of_foreign_data_is_a_warning(caplog):
    with caplog.at_level(logging.WARNING, 'dasr_arch'):
        converted = convert({'lr': 1, 'lrr': 2}, Stage, 'o.yml', 'stage', foreign=True)
    assert converted == Stage(lr=1.0)
    assert "o.yml: stage: the key 'lrr' is not checked" in caplog.text


def test_nan_is_found_in_plain_data():
    with pytest.raises(InputError, match=r'o.yml: a.1.b: expected a finite number, got nan'):
        check_finite({'a': [1, {'b': float('nan')}]}, 'o.yml')


class Foreign:
    def __init__(self, num_feat, upscale=4, *, norm=True):
        self.values = num_feat, upscale, norm


def swallow(crop_border, test_y_channel=False, **kwargs):
    return crop_border, test_y_channel, kwargs


def test_fitting_arguments_pass():
    check_arguments(Foreign, {'type': 'Foreign', 'num_feat': 3, 'norm': False}, 'o.yml: network_g', skip=('type',))


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        ({'num_feat': 3, 'upscael': 4}, "Foreign takes no argument 'upscael'; did you mean 'upscale'?"),
        ({'upscale': 4}, "Foreign needs the argument 'num_feat'"),
    ],
)
def test_wrong_arguments_of_a_foreign_class_are_named(arguments, expected):
    with pytest.raises(InputError) as caught:
        check_arguments(Foreign, arguments, 'o.yml: network_g')
    assert str(caught.value).startswith(f'o.yml: network_g: {expected}')


def test_near_miss_is_refused_even_where_any_name_is_taken():
    with pytest.raises(InputError, match="did you mean 'test_y_channel'"):
        check_arguments(swallow, {'crop_border': 4, 'test_y_chanel': True}, 'o.yml')


def test_other_name_passes_where_any_name_is_taken():
    check_arguments(swallow, {'crop_border': 4, 'colour': True}, 'o.yml')


def test_known_name_is_found_with_basicsr_suffix():
    assert check_known('X', {'X_basicsr', 'Y'}, 'o.yml', 'arch') == 'X_basicsr'
    assert check_known('Y', {'X_basicsr', 'Y'}, 'o.yml', 'arch') == 'Y'


@pytest.mark.parametrize('name', ['DASSR', None, 3, ''])
def test_unknown_name_lists_the_known(name):
    with pytest.raises(InputError, match=r'known: DASR, RCAN'):
        check_known(name, {'DASR', 'RCAN'}, 'o.yml: network_g.type', 'arch')


def test_section_must_be_a_mapping():
    assert section({'path': None}, 'path', 'o.yml') == {}
    with pytest.raises(InputError, match=r'o.yml: path: expected a mapping, got the list'):
        section({'path': [1]}, 'path', 'o.yml')


class Renamed(msgspec.Struct, kw_only=True, frozen=True):
    renamed: ClassVar[dict[str, str]] = {'max_pictures': 'max_images'}

    max_images: int = 1


def test_old_spelling_of_a_key_is_read_and_warns(caplog):
    assert convert({'max_pictures': 3}, Renamed, 'a.yml', 'val').max_images == 3
    assert "a.yml: val: the key 'max_pictures' is deprecated; write 'max_images'" in caplog.text


def test_both_spellings_of_a_key_are_refused():
    with pytest.raises(InputError, match="give 'max_images' or its old spelling 'max_pictures', not both"):
        convert({'max_pictures': 3, 'max_images': 3}, Renamed, 'a.yml')
