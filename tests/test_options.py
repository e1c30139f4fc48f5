"""Every training file in options/ is read, and its data sets, network and model are built and run."""

import pytest
import torch
from basicsr.data import build_dataset
from basicsr.models import build_model

from dasr_arch.pipelines.options import load_training_options
from dasr_arch.pipelines.yaml_reader import read_yaml
from tests.option_files import OPTIONS, TRAINING_FILES, stand_in

SMOKE_FILES = [path for path in TRAINING_FILES if path.parent.name == 'smoke']

each_file = pytest.mark.parametrize('path', TRAINING_FILES, ids=lambda path: path.stem)


def collate(dataset, count):
    return torch.utils.data.default_collate([dataset[index] for index in range(count)])


def test_there_are_files_for_both_settings_and_sizes():
    stems = {path.stem for path in TRAINING_FILES if path.parent == OPTIONS}
    expected = {
        f'train_{network}_x{scale}{setting}'
        for network in ('dasr', 'dasr_s')
        for scale in (2, 3, 4)
        for setting in ('', '_aniso')
    }
    assert expected | {'train_encoder_lq'} <= stems


def test_names_equal_file_stems_and_are_unique():
    names = [read_yaml(path)['name'] for path in TRAINING_FILES]
    assert names == [path.stem for path in TRAINING_FILES]
    assert len(set(names)) == len(names)


def test_every_training_file_has_a_smoke_file():
    stems = {path.stem.replace('train_', 'smoke_') for path in TRAINING_FILES if path.parent == OPTIONS}
    assert stems == {path.stem for path in SMOKE_FILES}


@each_file
def test_only_the_first_line_is_a_comment_of_its_own(path):
    comments = [number for number, line in enumerate(path.read_text().splitlines()) if line.lstrip().startswith('#')]
    assert comments == [0]


@each_file
def test_sections_stand_in_the_order_of_basicsr(path):
    order = ['name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'datasets', 'network_g', 'path', 'train', 'val']
    order += ['logger', 'dist_params']
    keys = list(read_yaml(path))
    assert keys == [key for key in order if key in keys]


@each_file
def test_data_sets_network_and_model_are_built(path, tmp_path):
    options = load_training_options(path, stand_in(path, tmp_path), root=tmp_path)
    for dataset in options['datasets'].values():
        assert len(build_dataset(dataset)) > 0
    network = build_model(options).net_g
    assert type(network).__name__ == options['network_g']['type']
    assert not (tmp_path / 'experiments').exists()


@pytest.mark.parametrize('path', SMOKE_FILES, ids=lambda path: path.stem)
def test_smoke_file_runs_on_the_cpu_in_at_most_twenty_iterations(path):
    options = read_yaml(path)
    assert options['num_gpu'] == 0
    assert options['train']['total_iter'] <= 20
    assert all(
        dataset.get('dataroot_gt', 'datasets/demo') == 'datasets/demo' for dataset in options['datasets'].values()
    )


@pytest.mark.parametrize(
    'name',
    ['smoke_dasr_s_x2', 'smoke_dasr_s_x3_aniso', 'smoke_encoder_lq', 'train_srmodel_dasr_x4', 'train_rcan_x4'],
)
def test_model_of_file_takes_a_step_and_restores_a_picture(name, tmp_path):
    path = next(path for path in TRAINING_FILES if path.stem == name)
    overrides = stand_in(path, tmp_path)
    if name == 'train_rcan_x4':
        overrides += ['network_g.num_group=2', 'network_g.num_block=2']
    if name == 'train_srmodel_dasr_x4':
        overrides += ['network_g.num_groups=1', 'network_g.num_blocks=1']
    options = load_training_options(path, overrides, root=tmp_path)
    torch.manual_seed(0)
    model = build_model(options)
    before = {key: value.clone() for key, value in model.get_bare_model(model.net_g).state_dict().items()}
    model.update_learning_rate(1)
    model.feed_data(collate(build_dataset(options['datasets']['train']), 2))
    model.optimize_parameters(1)
    assert all(torch.isfinite(torch.tensor(value)) for value in model.get_current_log().values())
    after = model.get_bare_model(model.net_g).state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    if 'val_1' in options['datasets']:
        sample = collate(build_dataset(options['datasets']['val_1']), 1)
        model.feed_data(sample)
        model.test()
        assert model.output.shape == sample['gt'].shape


def test_models_of_basicsr_train_their_archs_on_our_data_sets(tmp_path):
    path = OPTIONS / 'basicsr' / 'train_srmodel_dasr_x4.yml'
    overrides = [
        *stand_in(path, tmp_path),
        'network_g={type: RCAN, num_in_ch: 3, num_out_ch: 3, num_group: 1, num_block: 1, upscale: 4}',
        f'datasets.train={{name: own, type: DegradationDataset, dataroot_gt: {tmp_path / "hr"}, gt_size: 48, '
        'degradation: {type: IsotropicGaussian, sigma_range: [0.2, 4.0]}, degrade_on: worker, batch_size_per_gpu: 2}',
    ]
    options = load_training_options(path, overrides, root=tmp_path)
    model = build_model(options)
    model.feed_data(collate(build_dataset(options['datasets']['train']), 2))
    model.optimize_parameters(1)
    assert model.output.shape == (2, 3, 48, 48)
