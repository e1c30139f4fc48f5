import logging
import os
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
import yaml
from basicsr.utils.registry import ARCH_REGISTRY

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.ikc_arch import IKC
from dasr_arch.archs.srmd_arch import SRMDNF
from dasr_arch.config.train_checks import load_training_options
from dasr_arch.config.yaml_reader import read_yaml
from tests.option_files import OPTIONS, stand_in, write_images

DASR_FILE = OPTIONS / 'train_dasr_s_x2.yml'
ENCODER_FILE = OPTIONS / 'train_encoder_lq.yml'
FOREIGN_FILE = OPTIONS / 'basicsr' / 'train_srmodel_dasr_x4.yml'
GAN_FILE = OPTIONS / 'basicsr' / 'train_srgan_dasr_x4.yml'
IKC_FILE = OPTIONS / 'train_ikc_x4.yml'
MZSR_FILE = OPTIONS / 'train_mzsr_x2.yml'
SRCNN_FILE = OPTIONS / 'train_srcnn_x4.yml'
SRMDNF_FILE = OPTIONS / 'train_srmdnf_x4.yml'
SUPERVISED_FILE = OPTIONS / 'basicsr' / 'train_rcan_iso_x4.yml'
SMALL = {DASR_FILE, ENCODER_FILE, GAN_FILE, IKC_FILE, MZSR_FILE, SRCNN_FILE, SRMDNF_FILE}  # loaded as smoke runs
SMALL_NETWORKS = {
    DASR_FILE: ['network_g.num_groups=1', 'network_g.num_blocks=1'],
    ENCODER_FILE: ['network_g.num_groups=1', 'network_g.num_blocks=1'],
    FOREIGN_FILE: ['network_g.num_groups=1', 'network_g.num_blocks=1'],
    SUPERVISED_FILE: ['network_g.num_group=1', 'network_g.num_block=1'],
    IKC_FILE: ['train.total_iter=14', 'train.stage_2.total_iter=4', 'train.stage_3.total_iter=4'],
    MZSR_FILE: ['datasets.train.batch_size_per_gpu=4', 'train.meta_opt.query=2'],
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    write_images(folder / 'hr')
    write_images(folder / 'lq', side=64, name='{}x4')
    return folder


@pytest.fixture
def load(images, tmp_path):
    """Loads a file with small images and networks, and asserts that nothing was made on the disk."""

    def call(file, *overrides, **arguments):
        fitted = ['datasets.train.batch_size_per_gpu=2', *SMALL_NETWORKS.get(file, ())]
        for key, dataset in yaml.safe_load(file.read_text())['datasets'].items():
            if 'dataroot_gt' in dataset:
                fitted.append(f'datasets.{key}.dataroot_gt={images / "hr"}')
            if 'dataroot_lq' in dataset:
                fitted.append(f'datasets.{key}.dataroot_lq={images / "lq"}')
        root = tmp_path / 'root'
        root.mkdir(exist_ok=True)
        try:
            return load_training_options(file, [*fitted, *overrides], root=root, smoke=file in SMALL, **arguments)
        finally:
            assert not list(root.iterdir())

    return call


def check_message(load, file, overrides, expected):
    with pytest.raises(InputError) as caught:
        load(file, *overrides)
    text = str(caught.value)
    assert expected in text
    assert '\n' not in text
    assert str(file) in text


# What comes out.


def test_dictionary_has_the_keys_that_basicsr_adds(load, tmp_path):
    options = load(DASR_FILE, auto_resume=True)
    root = tmp_path / 'root'
    assert (options['is_train'], options['dist'], options['rank'], options['world_size']) == (True, False, 0, 1)
    assert options['auto_resume'] is True
    assert options['num_gpu'] == 0
    assert options['root_path'] == str(root)
    experiment = root / 'experiments' / 'smoke_dasr_s_x2'
    assert options['path'] == {
        'pretrain_network_g': None,
        'pretrain_network_encoder': None,
        'param_key_g': None,
        'strict_load_g': True,
        'resume_state': None,
        'experiments_root': str(experiment),
        'models': str(experiment / 'models'),
        'training_states': str(experiment / 'training_states'),
        'log': str(experiment),
        'visualization': str(experiment / 'visualization'),
    }
    assert [(d['phase'], d['scale']) for d in options['datasets'].values()] == [('train', 2), ('val', 2)]


def test_automatic_number_of_gpus_is_a_number(load):
    assert load(DASR_FILE, 'num_gpu=auto')['num_gpu'] == torch.cuda.device_count()


def test_defaults_are_filled_in(load):
    options = load(DASR_FILE, 'logger=~', 'dist_params=~', 'path=~')
    assert options['logger']['keep_checkpoints'] == 3
    assert options['dist_params'] == {'backend': 'auto', 'timeout': 1800}
    assert options['path']['strict_load_g'] is True


def test_each_reading_gives_a_fresh_dictionary(load):
    first = load(DASR_FILE)
    kept = deepcopy(first)
    second = load(DASR_FILE)
    second['train']['optim_g'].pop('type')
    second['datasets']['train']['degradation'].clear()
    assert first == kept == load(DASR_FILE)


def test_random_state_is_left_alone(load):
    torch.manual_seed(5)
    load(DASR_FILE)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_seed_of_the_file_is_the_seed_of_the_training_data(load):
    assert load(DASR_FILE, 'manual_seed=7')['datasets']['train']['seed'] == 7
    assert load(DASR_FILE, 'manual_seed=7', 'datasets.train.seed=3')['datasets']['train']['seed'] == 3


def test_home_is_expanded(load, images, monkeypatch):
    monkeypatch.setenv('HOME', str(images))
    options = load(DASR_FILE, 'datasets.train.dataroot_gt=[~/hr]')
    assert options['datasets']['train']['dataroot_gt'] == [str(images / 'hr')]


def test_rank_comes_from_torchrun(load, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    options = load(DASR_FILE, launcher='pytorch')
    assert (options['dist'], options['rank'], options['world_size']) == (True, 1, 2)


def test_relative_roots_count_from_the_current_folder(images, tmp_path, monkeypatch):
    monkeypatch.chdir(images)
    overrides = ['datasets.train.dataroot_gt=hr', 'datasets.val_1.dataroot_gt=hr', *SMALL_NETWORKS[DASR_FILE]]
    options = load_training_options(DASR_FILE, overrides, smoke=True)
    assert options['path']['experiments_root'] == str(images / 'experiments' / 'smoke_dasr_s_x2')


def test_unknown_keys_of_a_foreign_model_are_kept_with_a_warning(load, caplog):
    with caplog.at_level(logging.WARNING, 'dasr_arch'):
        options = load(FOREIGN_FILE, 'train.gan_opt={type: GANLoss}', 'logger.wandb={project: ~}')
    assert options['train']['gan_opt'] == {'type': 'GANLoss'}
    assert options['logger']['wandb'] == {'project': None}
    assert "train: the key 'gan_opt' is not checked" in caplog.text
    assert "logger: the key 'wandb' is not checked" in caplog.text


def test_fitting_weights_are_accepted(load, tmp_path):
    network = DASR(2, 64, 1, 1, 192, 48, upsampler='direct', skip='bicubic')
    torch.save({'params': network.state_dict()}, tmp_path / 'net.pth')
    options = load(DASR_FILE, f'path.pretrain_network_g={tmp_path / "net.pth"}')
    assert options['path']['pretrain_network_g'] == str(tmp_path / 'net.pth')


def test_state_dict_of_a_file_is_chosen_by_its_key(load, tmp_path):
    fitting, other = (DASR(2, feat, 1, 1, 192, 48, upsampler='direct', skip='bicubic') for feat in (64, 32))
    torch.save({'params': fitting.state_dict(), 'params_ema': other.state_dict()}, tmp_path / 'net.pth')
    file = f'path.pretrain_network_g={tmp_path / "net.pth"}'
    assert load(DASR_FILE, file, 'path.param_key_g=params')['path']['param_key_g'] == 'params'
    check_message(load, DASR_FILE, [file], 'does not fit')


# What is refused.


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('name=a/b', 'name: expected a name of letters'),
        ('name=..', 'name: expected a name of letters'),
        ('name=', 'name: expected a name'),
        ('name=my_debug_run', "name must not contain 'debug'"),
        ('scael=2', "unknown key 'scael'; did you mean 'scale'?"),
        ('scale=0', 'scale: expected a whole number of at least 1, got 0'),
        ('model_type=DASRModell', "no model is called 'DASRModell'; did you mean 'DASRModel'?"),
        ('model_type=~', 'expected the name of a registered model'),
        ('num_gpu=-1', 'num_gpu: expected a whole number of at least 0'),
        ('num_gpu=99', 'num_gpu: expected at most'),
        ('manual_seed=4294967296', 'manual_seed: expected a whole number from 0 to 2147483647, got 4294967296'),
        ('manual_seed=99999999999999999999', 'expected a number below 2 to the 63rd, got one of 20 digits'),
        ('manual_seed=x', 'manual_seed: expected a whole number'),
        ('network_g.type=DASSR', "network_g.type: no arch is called 'DASSR'; did you mean 'DASR'?"),
        ('network_g.num_blcks=3', "DASR takes no argument 'num_blcks'; did you mean 'num_blocks'?"),
        ('network_g.scale=4', 'network_g.scale: expected the scale of the file, 2, got 4'),
        (
            'network_g.num_feat=many',
            "network_g.num_feat: expected a number, such as the default 64, got the text 'many'",
        ),
        ('network_g.num_feat=-1', 'network_g: DASR refuses these arguments'),
        ('network_g.num_feat=0', 'network_g: DASR'),
        ('network_g.upsampler=nearest', 'network_g: DASR refuses these arguments'),
        ('network_g={type: MSRResNet, upscale: 2}', 'DASRModel trains DASR, got MSRResNet; use model_type: Supervised'),
        ('network_g={type: DASR, scale: 2, condition: kernel}', 'learns nothing by contrast; write contrast_opt: ~'),
        ('path.pretrain_network_gg=x', "unknown key 'pretrain_network_gg'; did you mean 'pretrain_network_g'?"),
        ('path.pretrain_network_g=none.pth', "path.pretrain_network_g: weights file 'none.pth' does not exist"),
        ('path.resume_state=none.state', "path.resume_state: the file 'none.state' does not exist"),
    ],
)
def test_wrong_general_part_is_refused(load, override, expected):
    check_message(load, DASR_FILE, [override], expected)


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('train.ema_deacy=0.9', "train: unknown key 'ema_deacy'; did you mean 'ema_decay'?"),
        ('train.stage_1.lr=2e-4', "train.stage_1.lr: expected a number, got the text '2e-4'; write 2.0e-4 or"),
        ('train.stage_1.lr=.nan', 'train.stage_1.lr: expected a finite number'),
        ('train.stage_1.total_iter=50', 'train: total_iter must be the sum of the stages, 50 + 10 = 60, got 20'),
        ('train.stage_1.milestones=[6, 3]', 'train.stage_1: milestones must increase, got [6, 3]'),
        ('train.stage_1.milestones=[60]', 'train.stage_1: milestones must lie inside the stage of 10 iterations'),
        ('train.stage_1.warmup_iter=11', 'train.stage_1: warmup_iter must not exceed total_iter 10, got 11'),
        ('train.stage_1.lr_min=1', 'train.stage_1: lr_min must not exceed lr 0.001, got 1'),
        ('train.stage_2.milestones=[5]', "train.stage_2: schedule 'cosine' has no milestones"),
        ('train.stage_1.schedule=stairs', "expected one of 'step', 'cosine', got the text 'stairs'"),
        ('train.optim_g.type=Adma', "train.optim_g.type: expected one of 'Adam', 'AdamW'"),
        ('train.optim_g.betas=[0.9]', 'train.optim_g.betas: expected a list of 2'),
        ('train.pixel_opt.type=L1Los', "train.pixel_opt.type: no loss is called 'L1Los'; did you mean 'L1Loss'?"),
        ('train.pixel_opt.weight=1', "train.pixel_opt: L1Loss takes no argument 'weight'"),
        ('train.pixel_opt.reduction=avg', 'train.pixel_opt: L1Loss refuses these arguments'),
        ('train.pixel_opt.reduction=none', 'train.pixel_opt: L1Loss gives no finite number with these arguments'),
        ('train.pixel_opt.loss_weight=much', 'train.pixel_opt.loss_weight: expected a number, such as the default 1.0'),
        ('train.pixel_opt.loss_weight=[1, 2]', 'train.pixel_opt: L1Loss'),
        ('train.pixel_opt={}', 'stage_2 needs pixel_opt'),
        ('train.pixel_opt=~', 'stage_2 needs pixel_opt'),
        ('train.contrast_opt=~', 'stage_1 trains the encoder by contrast and needs contrast_opt'),
        ('train.contrast_opt.temperature=0', 'train.contrast_opt.temperature: expected a number above 0, got 0'),
        ('train.contrast_opt.queue_length=1', 'queue_length: expected at least the batch of all processes, 2, got 1'),
        ('train.accumulate=3', 'train.accumulate: expected a divisor of the batch of 2, got 3'),
        ('train.precision=fp16', "train.precision: expected one of 'auto', 'fp32', 'tf32', 'bf16'"),
        ('dist_params.backend=nccl', 'dist_params.backend: nccl needs GPUs'),
        ('dist_params.timeout=0', 'dist_params.timeout: expected a number above 0'),
        (
            'val.metrics.psnr.type=calculate_psrn',
            "no metric is called 'calculate_psrn'; did you mean 'calculate_psnr'?",
        ),
        ('val.metrics.psnr.test_y_chanel=true', "takes no argument 'test_y_chanel'; did you mean"),
        ('val.metrics.psnr.test_y_channel=1', 'val.metrics.psnr.test_y_channel: expected true or false'),
        ('val.metrics.psnr.crop_border=-1', 'val.metrics.psnr.crop_border: expected a whole number of pixels'),
        ('val.metrics.psnr.type=calculate_psnr_pt', "measures tensors; write 'calculate_psnr'"),
        ('val.metrics.psnr.crop_border=1000', 'pixels; val.metrics need sides of at least 2011'),
        ('val.metrics.lp={type: calculate_lpips, crop_border: 4, backbone_path: no.pth}', 'val.metrics.lp: '),
        ('train.pixel_opt={type: PerceptualLoss, layer_weights: {conv5_4: 1}}', 'belongs under perceptual_opt'),
        ('val.metrics.psnr.better=more', "val.metrics.psnr.better: expected 'higher' or 'lower'"),
        ('val.metrics={psnr: {type: calculate_psnr}}', "calculate_psnr needs the argument 'crop_border'"),
        ('val.val_freq=0', 'val.val_freq: expected a whole number of at least 1'),
        ('val=~', 'datasets.val_1 is never used; add a section val'),
        ('logger.print_frq=3', "logger: unknown key 'print_frq'; did you mean 'print_freq'?"),
    ],
)
def test_wrong_training_part_is_refused(load, override, expected):
    overrides = [override, 'train.stage_2.schedule=cosine', 'num_gpu=0']
    check_message(load, DASR_FILE, overrides, expected)


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('datasets.train=~', 'datasets.train.type: expected the name of a registered dataset'),
        ('datasets.train.type=DegradationDatset', "no dataset is called 'DegradationDatset'; did you mean"),
        ('datasets.train.gt_sise=48', "datasets.train: unknown key 'gt_sise'; did you mean 'gt_size'?"),
        (
            'datasets.train.gt_size=47',
            'datasets.train.gt_size: expected a multiple of the scale 2, got 47; take 46 or 48',
        ),
        ('datasets.train.gt_size=-48', 'datasets.train.gt_size: expected a whole number of at least 1'),
        ('datasets.train.gt_size=300', 'as large as a patch of 300 pixels'),
        ('datasets.train.scale=4', 'datasets.train.scale: expected the scale of the file, 2, got 4'),
        ('datasets.train.batch_size_per_gpu=5', 'expected images for at least one batch of 5, got 4'),
        ('datasets.train.dataroot_gt=nowhere/DIV2K', 'nowhere/DIV2K'),
        ('datasets.train.dataroot_gt=nowhere/DIV2K.lmdb', 'nowhere/DIV2K.lmdb'),
        (
            'datasets.train.dataroot_gt=[]',
            'datasets.train.dataroot_gt: expected a list, each entry text that is not empty',
        ),
        ('datasets.train.degradation.sigma_range=[-1, 4]', 'datasets.train.degradation: sigma_range must be'),
        ('datasets.train.degradation.sigma_range=[0.2, .nan]', 'expected a finite number, got nan'),
        ('datasets.train.degradation.kernel_size=20', 'datasets.train.degradation: kernel_size must be odd'),
        ('datasets.train.degradation.type=Isotropic', "unknown degradation type 'Isotropic'; did you mean"),
        ('datasets.train.degradation.sigma_rang=[1, 2]', "unknown parameter 'sigma_rang' of IsotropicGaussian"),
        ('datasets.train.degradation.noise_range=[0, 2e1]', "got the text '2e1'; write 2.0e+1"),
        ('datasets.train.degradation.jpeg_probability=1.5', 'jpeg_probability must be a number in [0, 1]'),
        (
            'datasets.val_1.degradation=[{type: IsotropicGaussian, sigma: 1}, {type: IsotropicGaussian, sigma: 1.0}]',
            "datasets.val_1.degradation.1: 'sigma 1' is there twice",
        ),
        ('datasets.train.degradation.kernel_size=1003', 'kernel_size must be odd, 1 to 1001, got 1003'),
        ('datasets.val_1.degradation.0.sigma=-1', 'datasets.val_1.degradation.0: sigma must be'),
        ('datasets.val_1.degradation=[{type: IsotropicGaussian, sigma_range: [1, 2]}]', 'needs fixed values'),
        ('datasets.val_1.name=demo_train', "'demo_train' is already the name of datasets.train"),
        ('datasets.train.type=DegradedTestDataset', 'datasets.train.type: DegradedTestDataset is for validation only'),
        ('datasets.val_1.type=DegradationDataset', 'datasets.val_1.type: DegradationDataset is for training only'),
        ('datasets.train.degrade_on=worker', 'DASRModel needs num_patches: 2 and degrade_on: device'),
        ('datasets.train.num_patches=1', 'DASRModel needs num_patches: 2 and degrade_on: device'),
        ('datasets.test={name: x, type: DegradedTestDataset}', 'datasets.test: expected data sets called train, val'),
    ],
)
def test_wrong_data_set_is_refused(load, override, expected):
    check_message(load, DASR_FILE, [override], expected)


def test_test_file_is_sent_to_the_other_script():
    with pytest.raises(InputError, match='expected a training file, got a test file'):
        load_training_options(OPTIONS / 'test_dasr.yml')


def test_missing_training_set_is_refused(tmp_path):
    options = yaml.safe_load(DASR_FILE.read_text())
    del options['datasets']['train']
    path = tmp_path / 'options.yml'
    path.write_text(yaml.safe_dump(options))
    with pytest.raises(InputError, match="datasets: the key 'train' is missing"):
        load_training_options(path, SMALL_NETWORKS[DASR_FILE], root=tmp_path)


def test_batch_counts_all_processes(load, monkeypatch):
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setenv('WORLD_SIZE', '3')
    with pytest.raises(InputError, match='at least one batch of 2 in each of 3 processes, got 4'):
        load(DASR_FILE, launcher='pytorch')


def test_a_batch_of_one_cannot_be_made_smaller(load, monkeypatch):
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setenv('WORLD_SIZE', '5')
    with pytest.raises(InputError, match=r'in each of 5 processes, got 4 of sufficient size; add images$'):
        load(DASR_FILE, 'datasets.train.batch_size_per_gpu=1', launcher='pytorch')


def test_launcher_without_torchrun_is_refused(load, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(InputError, match='start with torchrun'):
        load(DASR_FILE, launcher='pytorch')


def test_curves_need_tensorboard(load, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorboard', None)
    check_message(load, DASR_FILE, ['logger.use_tb_logger=true'], 'logger.use_tb_logger: needs TensorBoard; install')
    assert load(DASR_FILE, 'logger.use_tb_logger=false')['logger']['use_tb_logger'] is False


@pytest.mark.parametrize(
    ('override', 'launcher', 'expected'),
    [
        ('num_gpu=2', 'none', 'one process uses one GPU, got 2; start with torchrun --nproc_per_node=2 train.py'),
        ('num_gpu=2', 'pytorch', '3 processes on this machine need a GPU each, torch finds 2; start fewer, or write'),
    ],
)
def test_each_process_uses_one_gpu(load, monkeypatch, override, launcher, expected):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setenv('WORLD_SIZE', '3')
    with pytest.raises(InputError, match=expected):
        load(DASR_FILE, override, launcher=launcher)
    assert load(DASR_FILE, 'num_gpu=auto')['num_gpu'] == 1


def test_image_that_cannot_be_read_is_named(load, images, tmp_path):
    folder = write_images(tmp_path / 'bad', count=2)
    (folder / '0.png').write_bytes((folder / '0.png').read_bytes()[:200])
    check_message(load, DASR_FILE, [f'datasets.train.dataroot_gt={folder}'], '0.png')
    (folder / '0.png').write_bytes(b'')
    check_message(load, DASR_FILE, [f'datasets.train.dataroot_gt={folder}'], '0.png')


def test_two_validation_sets_may_share_images(load, images):
    second = f'{{name: again, type: DegradedTestDataset, dataroot_gt: {images / "hr"}, '
    second += 'degradation: {type: IsotropicGaussian, sigma: 0}}'
    assert load(DASR_FILE, f'datasets.val_2={second}')['datasets']['val_2']['phase'] == 'val'


def test_lq_images_alone_train_no_second_stage(load):
    overrides = ['train.stage_2.total_iter=10', 'train.total_iter=20', 'train.pixel_opt={type: L1Loss}']
    check_message(load, ENCODER_FILE, overrides, 'train.stage_2.total_iter: expected 0, since LR images alone')


def test_pairs_hold_no_contrast(load, images):
    pairs = f'{{name: pairs, type: PairedImageDataset, dataroot_gt: {images / "hr"}, dataroot_lq: {images / "lq"}, '
    pairs += "io_backend: {type: disk}, filename_tmpl: '{}x4', gt_size: 48, use_hflip: true, use_rot: true, "
    pairs += 'batch_size_per_gpu: 2}'
    overrides = [f'datasets.train={pairs}', 'scale=4', 'network_g.scale=4']
    check_message(load, DASR_FILE, overrides, 'the contrast needs two patches of each image')


def test_models_of_basicsr_take_ready_pairs_only(load, images):
    raw = f'{{name: raw, type: DegradationDataset, dataroot_gt: {images / "hr"}, gt_size: 48, batch_size_per_gpu: 2, '
    raw += 'degradation: {type: IsotropicGaussian, sigma_range: [0.2, 4.0]}}'
    check_message(
        load, FOREIGN_FILE, [f'datasets.train={raw}'], 'SRModel takes ready pairs, got device; write degrade_'
    )
    lone = f'{{name: lone, type: LQDataset, dataroot_lq: {images / "lq"}, lq_size: 48, batch_size_per_gpu: 2}}'
    check_message(load, FOREIGN_FILE, [f'datasets.train={lone}'], 'SRModel needs HR images, got LQDataset')


def test_metrics_need_hr_images(load, images):
    single = f'{{name: own, type: SingleImageDataset, dataroot_lq: {images / "lq"}, io_backend: {{type: disk}}}}'
    check_message(load, FOREIGN_FILE, [f'datasets.val_2={single}'], 'datasets.val_2: val.metrics need HR images')


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('network_g.type=RCANN', "no arch is called 'RCANN'; did you mean 'RCAN'?"),
        ('network_g.num_fet=64', "RCAN takes no argument 'num_fet'; did you mean 'num_feat'?"),
        ('network_g={type: RCAN, num_in_ch: 3}', "RCAN needs the argument 'num_out_ch'"),
        ('network_g.num_in_ch=1', 'network_g: RCAN fails on an image of 48 x 48'),
        (
            'network_g={type: UNetDiscriminatorSN, num_in_ch: 3}',
            'network_g: expected finite images of shape (1, 3, 32',
        ),
        ('network_g.res_scale=[1, 2]', 'network_g: RCAN fails on an image of 48 x 48'),
        ('network_g.upscale=2', 'network_g.upscale: expected the scale of the file, 4, got 2'),
        ('train.stage_1={}', "train: unknown key 'stage_1'"),
        ('train.total_iter=3', 'train: total_iter must be that of schedule, 500000, got 3'),
    ],
)
def test_wrong_options_of_a_foreign_arch_are_refused(load, override, expected):
    check_message(load, SUPERVISED_FILE, [override], expected)


def test_arch_that_makes_no_network_is_refused(load, monkeypatch):
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Odd', lambda: None)
    check_message(load, SUPERVISED_FILE, ['network_g={type: Odd}'], 'network_g.type: Odd is no network')


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('train.optim_g.type=Adma', "train.optim_g.type: no optimiser is called 'Adma'"),
        ('train.optim_g.lr=2e-4', "train.optim_g.lr: expected a number, got the text '2e-4'"),
        ('train.optim_g.lr=-1', 'train.optim_g.lr: expected a number above 0, got -1'),
        ('train.optim_g.betas=[2, 2]', 'train.optim_g: Adam refuses these arguments'),
        ('train.optim_g=~', 'train.optim_g: expected a mapping, got nothing'),
        ('train.scheduler.milestones=[a]', 'train.scheduler.milestones.0: expected a whole number of at least 1'),
        ('train.scheduler={type: CosineAnnealingRestartLR}', "train.scheduler: the key 'periods' is missing"),
        ('path.weights=a', "path: unknown key 'weights', of which BasicSR would make a folder"),
        ('train.pixel_opt=~', 'train: SRModel needs pixel_opt or perceptual_opt'),
        ('train.pixel_opt.loss_weight=-1', 'train.pixel_opt.loss_weight: expected a number of at least 0, got -1'),
        ('datasets.train.io_backend.type=[disk]', "io_backend.type: expected one of 'disk', 'lmdb', 'memcached', got"),
        ('datasets.train.io_backend.type=disc', "io_backend.type: expected one of 'disk', 'lmdb', 'memcached', got"),
        ('datasets.train.gt_size=400', 'PairedImageDataset refuses these options: ValueError'),
        ('train.optim_g.momentum=0.9', "Adam takes no argument 'momentum'"),
        ('train.scheduler.type=StepLR', "train.scheduler.type: no schedule is called 'StepLR'"),
        ('train.scheduler.milestone=[3]', "unknown key 'milestone'; did you mean 'milestones'?"),
        ('train.perceptual_opt={type: PerceptualLoss}', "PerceptualLoss needs the argument 'layer_weights'"),
        ('datasets.train.gt_size=190', 'datasets.train.gt_size: expected a multiple of the scale 4'),
        ('datasets.train.dataroot_lq=nowhere', 'nowhere'),
        ("datasets.train.filename_tmpl='{}x2'", 'PairedImageDataset refuses these options'),
        ('train.total_iter=~', 'train.total_iter: expected a whole number of at least 1, got nothing'),
    ],
)
def test_wrong_options_of_a_foreign_model_are_refused(load, override, expected):
    check_message(load, FOREIGN_FILE, [override], expected)


@pytest.mark.parametrize(
    ('override', 'expected'),
    [
        ('network_d=~', 'network_d: expected a mapping, got nothing'),
        ('network_d.type=UNet', "network_d.type: no arch is called 'UNet'"),
        ('network_d.feat=3', "network_d: UNetDiscriminatorSN takes no argument 'feat'"),
        (
            'network_d={type: VGGStyleDiscriminator, num_in_ch: 3, num_feat: 4, input_size: 100}',
            'network_d: VGGStyleDiscriminator refuses these arguments: AssertionError: input size must be 128 or 256',
        ),
        ('train.optim_d=~', 'train.optim_d: expected a mapping, got nothing'),
        ('train.optim_d.lr=x', "train.optim_d.lr: expected a number, such as the default 0.001, got the text 'x'"),
        ('train.gan_opt=~', 'train.gan_opt: expected a mapping, got nothing'),
        ('train.gan_opt.gan_type=abc', 'train.gan_opt: GANLoss refuses these arguments: NotImplementedError'),
        ('train.net_d_iters=0', 'train.net_d_iters: expected a whole number of at least 1, got 0'),
        ('path.pretrain_network_g=a.safetensors', 'SRGANModel reads .pth files; make one with `dasr convert a.safe'),
        ('datasets.train.degrade_on=device', 'SRGANModel takes ready pairs, got device'),
    ],
)
def test_wrong_options_of_an_adversarial_model_are_refused(load, override, expected):
    check_message(load, GAN_FILE, [override], expected)


@pytest.mark.parametrize(
    ('file', 'override', 'expected'),
    [
        (IKC_FILE, 'train.total_iter=3', 'train: total_iter must be the sum of the stages, 6 + 4 + 4 = 14, got 3'),
        (IKC_FILE, 'train.stage_4={}', "train: unknown key 'stage_4'; did you mean 'stage_"),
        (IKC_FILE, 'train.stage_1.periods=0', 'train.stage_1.periods: expected a whole number of at least 1, got 0'),
        (IKC_FILE, 'train.stage_3.periods=2', "train.stage_3: periods belong to schedule 'cosine'"),
        (IKC_FILE, 'train.corrections=0', 'train.corrections: expected a whole number of at least 1'),
        (IKC_FILE, 'network_g={type: SRCNN}', 'network_g.type: IKCModel trains IKC, got SRCNN'),
        (IKC_FILE, 'datasets.train.degrade_on=worker', 'IKCModel needs the true kernels'),
        (MZSR_FILE, 'network_g={type: SRCNN, scale: 2}', 'network_g.type: MZSRModel trains MZSR, got SRCNN'),
        (MZSR_FILE, 'train.precision=bf16', "train.precision: expected 'fp32', got the text 'bf16'"),
        (MZSR_FILE, 'train.meta_opt.support=3', 'expected a multiple of support + query = 5, the images of a task'),
        (MZSR_FILE, 'train.meta_opt.loss_weights=none', "expected one of 'anneal', 'uniform', got the text 'none'"),
        (MZSR_FILE, 'train.adaptation.rates=[]', 'train.adaptation: rates must hold at least one number'),
        (MZSR_FILE, 'train.accumulate=2', "train: unknown key 'accumulate'"),
        (SRCNN_FILE, 'train.lr_factors={conv9: 0.1}', "train.lr_factors: no parameter's name begins with 'conv9'; did"),
        (SRCNN_FILE, 'train.lr_factors={conv3: 0}', 'train.lr_factors.conv3: expected a number above 0, got 0'),
        (SRCNN_FILE, 'train.multi_stage=true', 'train.multi_stage: SRCNN gives one image, no stages'),
        (DASR_FILE, 'train.code_opt={components: 0}', 'train.code_opt.components: expected a whole number of at least'),
        (
            DASR_FILE,
            'train.filter_opt={}',
            'train.filter_opt: the network has no filter that the encoder chooses; write',
        ),
        (DASR_FILE, 'train.filter_opt={loss_weight: -1}', 'train.filter_opt.loss_weight: expected a number'),
        (DASR_FILE, 'network_g.skip=linear', 'skip must be one of none, bicubic, wiener for DASR'),
        (DASR_FILE, 'train.teacher_opt={temperature: 0}', 'train.teacher_opt.temperature: expected'),
        (DASR_FILE, 'train.teacher_opt={}', 'teacher_opt: the encoder learns in stage 2 from its teacher alone'),
        (DASR_FILE, 'train.code_opt={weight: 1}', "train.code_opt: unknown key 'weight'; did you mean 'loss_weight'?"),
    ],
)
def test_wrong_options_of_the_compared_systems_are_refused(load, file, override, expected):
    check_message(load, file, [override], expected)


def test_estimators_need_a_trained_network(load):
    overrides = ['train.stage_1.total_iter=0', 'train.total_iter=8']
    check_message(load, IKC_FILE, overrides, 'path.pretrain_network_g: without iterations in train.stage_1')


def test_positives_of_other_images_need_degradations_made_in_training(load):
    check_message(load, ENCODER_FILE, ['train.contrast_opt.positives=other'], 'positives: other needs degradations')
    assert load(DASR_FILE, 'train.contrast_opt.positives=other')['train']['contrast_opt']['positives'] == 'other'
    check_message(load, DASR_FILE, ['train.contrast_opt.positives=all'], "expected one of 'same', 'other', got")


def test_positives_of_other_images_need_two_images(load):
    overrides = ['train.contrast_opt.positives=other', 'datasets.train.batch_size_per_gpu=1']
    check_message(load, DASR_FILE, overrides, 'takes patches of two images of a batch, which has one')


def test_non_blind_networks_need_data_sets_that_know_the_kernel(load, images):
    overrides = ['datasets.train.degrade_on=worker']
    check_message(
        load, SRMDNF_FILE, overrides, 'datasets.train: SRMDNF is non-blind and needs kernel, which DegradationDataset'
    )
    own = f'{{name: own, type: SingleImageDataset, dataroot_lq: {images / "lq"}, io_backend: {{type: disk}}}}'
    overrides = [f'datasets.val_1={own}', 'val.metrics=~']
    for file, name in ((SRMDNF_FILE, 'SRMDNF'), (IKC_FILE, 'IKC')):
        check_message(
            load, file, overrides, f'datasets.val_1.type: {name} is non-blind and needs the true kernels in validation'
        )
    assert load(SRCNN_FILE, *overrides)['datasets']['val_1']['type'] == 'SingleImageDataset'


def test_encoder_that_stays_as_it_is_must_have_learned(load, tmp_path):
    stages = ['train.stage_1.total_iter=0', 'train.stage_2.total_iter=20', 'train.contrast_opt=~']
    overrides = ['train.freeze_encoder=true', *stages]
    check_message(load, DASR_FILE, overrides, 'train.freeze_encoder: an encoder of random weights finds nothing')
    known = ['network_g.condition=kernel', 'network_g.kernel_size=21']
    check_message(load, DASR_FILE, [*overrides, *known], 'train.freeze_encoder: a network with condition: kernel')


def test_target_needs_known_kernels(load):
    check_message(load, ENCODER_FILE, ['train.code_opt={}'], 'train.code_opt needs known kernels, from Degradation')
    overrides = ['network_g.skip=wiener', 'train.filter_opt={}']
    check_message(load, ENCODER_FILE, overrides, 'train.filter_opt needs known kernels, from Degradation')


def test_encoder_may_rest_after_it_has_learned_in_stage_1(load):
    options = load(DASR_FILE, 'network_g.skip=wiener', 'train.filter_opt={}', 'train.freeze_encoder=true')
    assert options['train']['filter_opt']['loss_weight'] == 5
    assert options['train']['freeze_encoder'] is True


@pytest.mark.parametrize('part', ['sftmd', 'predictor', 'corrector'])
def test_weights_of_a_part_are_accepted(load, tmp_path, part):
    network = getattr(IKC(num_blocks=2, num_steps=2), part)
    torch.save({'params': network.state_dict()}, tmp_path / 'part.pth')
    options = load(IKC_FILE, f'path.pretrain_network_g={tmp_path / "part.pth"}')
    assert options['path']['pretrain_network_g'] == str(tmp_path / 'part.pth')


# Weights and folders.


def test_weights_of_another_scale_are_refused(load, tmp_path):
    network = DASR(4, 64, 1, 1, 192, 48, upsampler='direct', skip='bicubic')
    torch.save({'params': network.state_dict()}, tmp_path / 'net.pth')
    check_message(load, DASR_FILE, [f'path.pretrain_network_g={tmp_path / "net.pth"}'], 'is for x4, the network for x2')


def test_weights_of_another_network_are_refused(load, tmp_path):
    torch.save({'params': torch.nn.Linear(2, 2).state_dict()}, tmp_path / 'net.pth')
    check_message(load, DASR_FILE, [f'path.pretrain_network_g={tmp_path / "net.pth"}'], 'it is of another network')


@pytest.mark.parametrize('lost', ['head.weight', 'compress.weight', 'encoder.body.0.weight'])
def test_incomplete_weights_are_refused(load, tmp_path, lost):
    network = DASR(2, 64, 1, 1, 192, 48, upsampler='direct', skip='bicubic')
    torch.save({name: value for name, value in network.state_dict().items() if name != lost}, tmp_path / 'net.pth')
    check_message(load, DASR_FILE, [f'path.pretrain_network_g={tmp_path / "net.pth"}'], f"'{lost}' is missing")


def test_weights_with_the_names_of_their_authors_are_for_our_models(load, tmp_path):
    torch.save({'head.0.weight': torch.zeros(8, 3, 3, 3)}, tmp_path / 'net.pt')
    network = 'network_g={type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1}'
    overrides = [network, f'path.pretrain_network_g={tmp_path / "net.pt"}']
    check_message(load, FOREIGN_FILE, overrides, "has its authors' names, which SRModel does not read; write model_")


def test_training_needs_the_basis_of_the_weights(load, tmp_path):
    state = SRMDNF(num_layers=6).state_dict()
    released = {name.replace('body', 'model'): value for name, value in state.items() if 'basis' not in name}
    torch.save(released, tmp_path / 'net.pth')
    overrides = [f'path.pretrain_network_g={tmp_path / "net.pth"}']
    check_message(load, SRMDNF_FILE, overrides, 'does not hold the PCA basis that its kernel codes are in; name it')
    np.save(tmp_path / 'basis.npy', state['kernel_code.basis'].flatten(1).numpy())
    options = load(SRMDNF_FILE, *overrides, f'network_g.basis_path={tmp_path / "basis.npy"}')
    assert options['path']['pretrain_network_g'] == str(tmp_path / 'net.pth')


def test_an_encoder_from_a_file_must_fit(load, tmp_path):
    path = tmp_path / 'net.pth'
    options = load(DASR_FILE)['network_g']
    own = {key: options[key] for key in ('encoder_feat', 'representation_dim') if key in options}
    torch.save({'params': DASR(scale=3, num_groups=1, num_blocks=1, **own).state_dict()}, path)
    option = f'path.pretrain_network_encoder={path}'
    assert load(DASR_FILE, option)['path']['pretrain_network_encoder'] == str(path)
    check_message(load, SRCNN_FILE, [option], 'pretrain_network_encoder: DASRModel alone trains a network with')
    torch.save({'params': DASR(scale=3, num_groups=1, num_blocks=1, encoder_feat=8).state_dict()}, path)
    check_message(load, DASR_FILE, [option], f"path.pretrain_network_encoder: the encoder of '{path}'")
    option = option.replace('net.pth', 'none.pth')
    check_message(load, DASR_FILE, [option], 'path.pretrain_network_encoder: weights file')


def test_truncated_weights_are_refused(load, tmp_path):
    path = tmp_path / 'net.pth'
    torch.save({'params': DASR(scale=2, num_groups=1, num_blocks=1).state_dict()}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    check_message(load, DASR_FILE, [f'path.pretrain_network_g={path}'], str(path))


def test_folder_of_experiments_that_is_a_file_is_refused(images, tmp_path):
    (tmp_path / 'experiments').write_text('')
    overrides = [f'datasets.{key}.dataroot_gt={images / "hr"}' for key in ('train', 'val_1')]
    with pytest.raises(InputError, match="experiments' is a file"):
        load_training_options(DASR_FILE, [*overrides, *SMALL_NETWORKS[DASR_FILE]], root=tmp_path, smoke=True)


def test_folder_of_experiments_that_cannot_be_written_is_refused(load, tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: path != tmp_path / 'root')  # the superuser may write anywhere
    check_message(load, DASR_FILE, [], f"but '{tmp_path / 'root'}' is not writable")


def test_code_in_an_option_file_never_runs(tmp_path):
    mark = tmp_path / 'mark'
    path = tmp_path / 'options.yml'
    path.write_text(DASR_FILE.read_text() + f'extra: !!python/object/apply:os.system ["touch {mark}"]\n')
    with pytest.raises(InputError, match='is refused'):
        load_training_options(path, root=tmp_path)
    assert not mark.exists()


def list_places(value, path=()):
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from list_places(item, (*path, key))


@pytest.mark.slow
@pytest.mark.parametrize(
    'file', [DASR_FILE, ENCODER_FILE, FOREIGN_FILE, IKC_FILE, MZSR_FILE, SRCNN_FILE], ids=lambda file: file.stem
)
def test_any_value_anywhere_gives_options_or_one_line(file, tmp_path):
    smoke = file in SMALL
    base = read_yaml(file, [*stand_in(file, tmp_path, smoke=smoke), *SMALL_NETWORKS.get(file, ())], smoke=smoke)
    for place in list_places(base):
        for value in (None, '', -1, 'x', [], {}, float('nan'), True, [{}], {'a': 1}):
            changed = deepcopy(base)
            here = changed
            for key in place[:-1]:
                here = here[key]
            here[place[-1]] = value
            path = tmp_path / file.name
            path.write_text(yaml.safe_dump(changed))
            try:
                load_training_options(path, root=tmp_path)
            except InputError as error:
                assert '\n' not in str(error)
