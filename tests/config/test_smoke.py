import logging

import pytest

from dasr_arch._errors import InputError
from dasr_arch.config.smoke import shrink_options
from dasr_arch.config.yaml_reader import find_moved, read_yaml
from tests.option_files import COURSES, OPTIONS


def test_schedules_shrink_in_proportion_and_the_rest_stays():
    options = read_yaml(OPTIONS / 'train_dasr_x4.yml')
    small = shrink_options(options)
    assert small['train']['total_iter'] == 20
    for stage, milestones in (('stage_1', [6]), ('stage_2', [2, 5, 8])):
        expected = {**options['train'][stage], 'total_iter': 10, 'milestones': milestones}
        assert small['train'][stage] == expected
    assert small['train']['contrast_opt'] == {**options['train']['contrast_opt'], 'queue_length': 256}
    assert small['train']['pixel_opt'] == options['train']['pixel_opt']
    assert small['network_g'] == options['network_g']
    assert small['datasets']['train']['degradation'] == options['datasets']['train']['degradation']
    assert options == read_yaml(OPTIONS / 'train_dasr_x4.yml')


def test_deep_networks_become_shallow():
    small = read_yaml(OPTIONS / 'train_rcan_x4.yml', smoke=True)['network_g']
    assert (small['num_group'], small['num_block']) == (2, 2)


def test_stage_that_a_file_leaves_out_stays_out():
    train = read_yaml(OPTIONS / 'train_encoder_lq.yml', smoke=True)['train']
    assert (train['stage_1']['total_iter'], train['stage_2']['total_iter'], train['total_iter']) == (10, 0, 10)


def test_weights_to_start_from_are_left_out():
    file = OPTIONS / 'weights' / 'weights_x2_iso_3.yml'
    assert read_yaml(file)['train']['freeze_encoder'] is True
    small = read_yaml(file, smoke=True)
    assert set(small['path'].values()) == {None}
    assert small['train']['freeze_encoder'] is False


def test_values_of_the_command_line_are_laid_over_the_small_file():
    options = read_yaml(OPTIONS / 'train_dasr_x4.yml', ['train.stage_1.total_iter=3'], smoke=True)
    assert options['train']['stage_1']['total_iter'] == 3


@pytest.mark.parametrize('value', [None, 3, 'text', []])
def test_parts_of_the_wrong_type_are_left_to_the_checks(value):
    for key in ('datasets', 'network_g', 'path', 'train'):
        small = shrink_options({'scale': 4, key: value})
        assert small[key] == value
    assert shrink_options({'datasets': {'train': value}})['datasets'] == {'train': value}


def test_old_smoke_file_is_the_small_training_file_with_a_warning(caplog):
    old = OPTIONS / 'smoke' / 'smoke_dasr_s_x3_aniso.yml'
    with caplog.at_level(logging.WARNING, 'dasr_arch'):
        options = read_yaml(old)
    assert options == read_yaml(OPTIONS / 'train_dasr_s_x3_aniso.yml', smoke=True)
    assert f'{old} is now {OPTIONS / "train_dasr_s_x3_aniso.yml"} with --smoke' in caplog.text


def test_old_path_of_a_course_is_its_new_file_with_a_warning(caplog):
    old = OPTIONS / 'weights' / 'weights_x4_iso.yml'
    with caplog.at_level(logging.WARNING, 'dasr_arch'):
        assert read_yaml(old) == read_yaml(COURSES / 'weights_x4_iso.yml')
    assert f'{old} is now {COURSES / "weights_x4_iso.yml"};' in caplog.text


def test_smoke_file_of_ones_own_is_read_as_it_is(tmp_path):
    own = tmp_path / 'smoke' / 'smoke_own.yml'
    own.parent.mkdir()
    own.write_text('name: own\n')
    (tmp_path / 'train_own.yml').write_text('name: other\n')
    assert find_moved(own) == (own, False)
    assert read_yaml(own) == {'name': 'own'}


def test_file_that_was_never_there_is_named_by_its_path(tmp_path):
    with pytest.raises(InputError, match=r'smoke_none\.yml: the option file does not exist'):
        read_yaml(tmp_path / 'smoke' / 'smoke_none.yml')
