"""Every training file in options/ is read, and its data sets, network and model are built and run."""

import pytest
import torch
from basicsr.data import build_dataset
from basicsr.models import build_model

from dasr_arch.config.train_checks import load_training_options
from dasr_arch.config.yaml_reader import read_yaml
from tests.option_files import OPTIONS, TRAINING_FILES, stand_in

each_file = pytest.mark.parametrize('path', TRAINING_FILES, ids=lambda path: path.stem)


def collate(dataset, count):
    return torch.utils.data.default_collate([dataset[index % len(dataset)] for index in range(count)])


def test_there_are_files_for_both_settings_and_sizes():
    stems = {path.stem for path in TRAINING_FILES if path.parent == OPTIONS}
    expected = {
        f'train_{network}_x{scale}{setting}'
        for network in ('dasr', 'dasr_s')
        for scale in (2, 3, 4)
        for setting in ('', '_aniso')
    }
    expected |= {f'train_dasr_w_x{scale}' for scale in (2, 3, 4)}
    assert expected | {'train_encoder_lq'} <= stems


def test_names_equal_file_stems_and_are_unique():
    names = [read_yaml(path)['name'] for path in TRAINING_FILES]
    assert names == [path.stem for path in TRAINING_FILES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ('system', 'scales'),
    [
        *((system, (2, 3, 4)) for system in ('srcnn', 'rcan', 'edsr', 'san', 'srmd', 'srmdnf', 'udvd', 'ikc')),
        ('mzsr', (2, 4)),
    ],
)
def test_scales_of_a_system_differ_in_what_depends_on_the_scale_alone(system, scales):
    by_scale = {'name', 'scale', 'network_g', 'path'}
    for scale in scales:
        options = read_yaml(OPTIONS / f'train_{system}_x{scale}.yml')
        other = read_yaml(OPTIONS / f'train_{system}_x{scales[0]}.yml')
        assert (options['scale'], options['datasets']['train']['degradation']['type']) == (
            scale,
            other['datasets']['train']['degradation']['type'],
        )
        changed = {key for key in options.keys() | other.keys() if options.get(key) != other.get(key)}
        assert changed - by_scale <= {'datasets', 'train', 'val'}
        assert options['train'].get('optim_g') == other['train'].get('optim_g')
        assert options['val']['metrics']['psnr']['crop_border'] == scale
        patch, batch = (options['datasets']['train'][key] for key in ('gt_size', 'batch_size_per_gpu'))
        assert patch % scale == 0
        assert batch == other['datasets']['train']['batch_size_per_gpu']


def test_the_papers_five_models_are_there_and_differ_in_what_the_paper_says():
    files = {number: read_yaml(OPTIONS / 'ablation' / f'model_{number}_x4.yml') for number in range(1, 6)}
    for number, options in files.items():
        assert options['train']['total_iter'] == files[4]['train']['total_iter']
        assert (options['train']['contrast_opt'] is None) == (number in (1, 5))
        assert (options['datasets']['train'].pop('num_patches', 2) == 1) == (number in (1, 5))
        assert options['datasets'] == files[4]['datasets']
    conditions = {number: options['network_g'].get('condition', 'encoder') for number, options in files.items()}
    assert conditions == {1: 'encoder', 2: 'encoder', 3: 'encoder', 4: 'encoder', 5: 'kernel'}
    kinds = {number: options['network_g'].get('da_conv', 'full') for number, options in files.items()}
    assert kinds == {1: 'full', 2: 'concat', 3: 'kernel', 4: 'full', 5: 'full'}


def test_the_papers_model_4_is_dasr_in_the_race_but_for_the_noise():
    model, racer = (read_yaml(OPTIONS / name) for name in ('ablation/model_4_x4.yml', 'race/dasr_x4.yml'))
    assert model['network_g'].pop('da_conv') == 'full'  # the default
    assert racer['datasets']['train']['degradation'].pop('noise_range') == [0, 15]
    for options in (model, racer):
        for section in ('name', 'val', 'logger'):  # nothing is chosen by validation
            del options[section]
        assert options['train'].pop('precision', 'auto') == 'auto'  # the default
        options['datasets'] = {'train': options['datasets']['train']}
    assert model == racer


def test_the_two_by_two_differ_in_target_and_patch_alone():
    files = {path.stem: read_yaml(path) for path in (OPTIONS / 'race').glob('dasr*_x4.yml')}
    teacher, ours, first = (files.pop(f'dasr_{name}_x4') for name in ('teacher', 'w', 'w_two_stages'))
    assert set(files) == {f'dasr{target}{patch}_x4' for target in ('', '_target') for patch in ('', '_64')}
    for stem, options in files.items():
        assert ('code_opt' in options['train']) == ('target' in stem)
        options['train'].pop('code_opt', None)
        assert options['datasets']['train'].pop('gt_size') == (256 if '64' in stem else 192)
    for options in files.values():
        assert {**options, 'name': 'dasr_x4'} == files['dasr_x4']
    assert teacher['network_g'] == files['dasr_x4']['network_g']
    assert ours['network_g'] == first['network_g'] == {**files['dasr_x4']['network_g'], 'skip': 'wiener'}
    assert ours['datasets'] == first['datasets']


@each_file
def test_only_the_first_line_is_a_comment_of_its_own(path):
    comments = [number for number, line in enumerate(path.read_text().splitlines()) if line.lstrip().startswith('#')]
    assert comments == [0]


@each_file
def test_sections_stand_in_the_order_of_basicsr(path):
    order = ['name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'datasets', 'network_g']
    order += ['network_d', 'path', 'train', 'val', 'logger', 'dist_params']
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


@each_file
def test_smoke_run_takes_at_most_twenty_iterations_on_the_cpu(path, tmp_path, monkeypatch):
    monkeypatch.chdir(OPTIONS.parent)  # the demo images
    pairs = 'dataroot_lq' in (data := read_yaml(path)['datasets']['train']) and 'dataroot_gt' in data
    overrides = stand_in(path, tmp_path, smoke=True) if pairs else ()
    options = load_training_options(path, overrides, root=tmp_path, smoke=True)
    assert options['name'] == f'smoke_{path.stem.removeprefix("train_")}'
    assert options['num_gpu'] == 0
    assert 0 < options['train']['total_iter'] <= 20
    assert not options['path']['pretrain_network_g']
    if not pairs:
        roots = [dataset.get('dataroot_gt') or dataset['dataroot_lq'] for dataset in options['datasets'].values()]
        assert set(roots) == {'datasets/demo'}


@pytest.mark.parametrize(
    'name',
    [
        'smoke_dasr_s_x2',
        'smoke_dasr_s_x3_aniso',
        'smoke_encoder_lq',
        'smoke_srcnn_x4',
        'smoke_rcan_x4',
        'smoke_edsr_x4',
        'smoke_san_x4',
        'smoke_dncnn',
        'smoke_srmd_x4',
        'smoke_srmdnf_x4',
        'smoke_udvd_x4',
        'smoke_ikc_x4',
        'smoke_mzsr_large_x2',
        'smoke_mzsr_x2',
        'dasr_target_x4',
        'dasr_teacher_x4',
        'smoke_dasr_w_x4',
        'smoke_srgan_dasr_x4',
        'train_srmodel_dasr_x4',
        'train_rcan_iso_x4',
    ],
)
def test_model_of_file_takes_a_step_and_restores_an_image(name, tmp_path):
    smoke = name.startswith('smoke_')
    stem = name.replace('smoke_', 'train_')
    path = next(path for path in TRAINING_FILES if path.stem == stem)
    overrides = stand_in(path, tmp_path, smoke=smoke)
    if name == 'train_srmodel_dasr_x4':
        overrides += ['network_g.num_groups=1', 'network_g.num_blocks=1']
    options = load_training_options(path, overrides, root=tmp_path, smoke=smoke)
    torch.manual_seed(0)
    model = build_model(options)
    before = {key: value.clone() for key, value in model.get_bare_model(model.net_g).state_dict().items()}
    model.update_learning_rate(1)
    batch = options['datasets']['train']['batch_size_per_gpu']
    model.feed_data(collate(build_dataset(options['datasets']['train']), batch))
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
