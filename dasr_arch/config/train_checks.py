"""From an option file to BasicSR's option dictionary, everything checked before anything is created.

BasicSR finds most mistakes late or never: a misspelt optional key is ignored, a missing folder surfaces in a loader
process, a wrong metric at the first validation, and by then the earlier experiment of the name has been renamed.
"""

import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import torch
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from dasr_arch._errors import InputError, suggest
from dasr_arch.archs.contract import facts_of
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.layers.kernel_pca import KernelPCA
from dasr_arch.checkpoints.io import (
    choose_part,
    infer_arguments,
    load_encoder,
    load_strictly,
    read_dasr_weights,
    read_weights,
)
from dasr_arch.checkpoints.rcan_edsr_keys import find_released_names
from dasr_arch.config.arguments import Launcher
from dasr_arch.config.dataset_checks import check_datasets
from dasr_arch.config.registry_checks import (
    check_loss_arguments,
    check_metrics,
    check_network,
    check_optimizer,
    check_pixel_loss,
    check_schedule,
    probe_network,
)
from dasr_arch.config.train_schema import TRAIN_OPTIONS, ForeignTrainOptions, GeneralOptions
from dasr_arch.config.typed import check_known, convert, section, to_plain
from dasr_arch.config.yaml_reader import read_yaml

PATH_KEYS = ('pretrain_network_g', 'pretrain_network_encoder', 'param_key_g', 'strict_load_g', 'resume_state')
PATH_KEY = re.compile(r'(pretrain_network|param_key|strict_load)_\w+|resume_state|ignore_resume_networks')
"""What BasicSR's models read from the section path; of every other key BasicSR makes a folder."""


class Processes(NamedTuple):
    """Which of how many processes this is.

    Attributes:
        dist: whether torchrun started it.
        rank: its number among all.
        world_size: number of all.
        local_world_size: number of those on this machine.
    """

    dist: bool
    rank: int
    world_size: int
    local_world_size: int


def load_training_options(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    root: str | Path | None = None,
    launcher: Launcher = 'none',
    auto_resume: bool = False,
    smoke: bool = False,
) -> dict[str, object]:
    """Read a training file and check all of it.

    Nothing is created or renamed on the disk, and torch's random state stays as it was.

    Args:
        path: the option file.
        overrides: `key=value`, laid over the file.
        root: folder of `experiments/` and `tb_logger/`; the current one by default.
        launcher: 'pytorch' under torchrun, whose variables then tell rank and number of processes.
        auto_resume: passed on to BasicSR.
        smoke: take a small version of the file, of a few iterations on a CPU with the demo images.

    Returns:
        BasicSR's option dictionary: the file's sections with defaults filled in, and the keys that BasicSR adds
        (is_train, dist, rank, world_size, num_gpu as a number, root_path, paths of the experiment, phase and scale of
        each data set). It shares nothing with any other dictionary.

    Raises:
        InputError: on the first thing that is wrong, in one line.
    """
    where = str(path)
    data = read_yaml(path, overrides, smoke=smoke)
    for key in ('path', 'logger', 'dist_params'):
        if key in data and data[key] is None:
            del data[key]
    if 'network_g' not in data and 'networks' in data:
        raise InputError(f'{where}: expected a training file, got a test file; run python test.py -opt {where}')
    model = check_known(data.get('model_type'), MODEL_REGISTRY.keys(), f'{where}: model_type', 'model')
    foreign = model not in TRAIN_OPTIONS
    if foreign:
        _check_path_keys(section(data, 'path', where), where)
    general = convert(data, GeneralOptions, where, foreign=foreign)
    processes = _find_processes(launcher)
    num_gpu = _count_gpus(general, processes, where, foreign)

    options = _merge(data, to_plain(general)) if foreign else to_plain(general)
    options['train'] = _check_train(general.train, model, where)
    _check_hardware(options, num_gpu, where)
    network = check_network(general.network_g, general.scale, f'{where}: network_g')
    _check_fit(network, model, options, where)
    _check_weights(network, options, where)
    if general.val is not None:
        check_metrics(general.val.metrics, f'{where}: val.metrics')
    batches = processes.world_size if processes.dist else max(1, num_gpu)  # BasicSR's DataParallel
    datasets = check_datasets(general.datasets, general.scale, batches, where)
    _check_together(options, datasets, batches, where)
    _check_batches(options, datasets, model, where)
    _check_told(network, options, datasets, model, where)
    if model == 'MZSRModel':
        _check_tasks(section(options, 'train', where), section(datasets, 'train', where), where)
    if not foreign or model == 'SRModel':
        patch = section(datasets, 'train', where).get('gt_size')
        sides = (8, patch // general.scale) if isinstance(patch, int) else (8,)
        probe_network(network, general.scale, sides, f'{where}: network_g')
    section(datasets, 'train', where).setdefault('seed', general.manual_seed)
    options['datasets'] = datasets

    root_path = Path(root) if root is not None else Path.cwd()
    options['path'] = _experiment_paths(options, root_path.absolute(), general.name, where)
    options.update(
        num_gpu=num_gpu,
        dist=processes.dist,
        rank=processes.rank,
        world_size=processes.world_size,
        is_train=True,
        auto_resume=auto_resume,
        root_path=str(root_path.absolute()),
    )
    return deepcopy(options)


def _check_path_keys(paths: Mapping[str, object], where: str) -> None:
    for key in paths:
        if not PATH_KEY.fullmatch(key):
            hint = suggest(key, PATH_KEYS)
            raise InputError(f"{where}: path: unknown key '{key}', of which BasicSR would make a folder{hint}")


def _merge(given: Mapping[str, object], checked: Mapping[str, object]) -> dict[str, object]:
    """What the file gives, with checked values and defaults in place of its own."""
    merged = dict(given)
    for key, value in checked.items():
        below = given.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _find_processes(launcher: Launcher) -> Processes:
    if launcher == 'none':
        return Processes(dist=False, rank=0, world_size=1, local_world_size=1)
    try:
        rank, world_size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
        local_world_size = int(os.environ.get('LOCAL_WORLD_SIZE', world_size))
    except (KeyError, ValueError) as error:
        raise InputError(
            '--launcher pytorch: RANK and WORLD_SIZE are not set; start with torchrun --nproc_per_node=N train.py ...'
        ) from error
    return Processes(dist=True, rank=rank, world_size=world_size, local_world_size=local_world_size)


def _count_gpus(general: GeneralOptions, processes: Processes, where: str, foreign: bool) -> int:
    """How many GPUs are used; without torchrun our models use one, BasicSR's split the batch over all."""
    present = torch.cuda.device_count()
    asked = present if general.num_gpu == 'auto' else general.num_gpu
    if asked > present:
        raise InputError(
            f'{where}: num_gpu: expected at most {present}, the GPUs that torch finds here, got {asked}; '
            f'write num_gpu: {present or "0, which trains on the CPU"}'
        )
    if processes.dist and asked and processes.local_world_size > present:
        raise InputError(
            f'--launcher pytorch: {processes.local_world_size} processes on this machine need a GPU each, torch finds '
            f'{present}; start fewer, or write num_gpu: 0'
        )
    if asked > 1 and not processes.dist and not foreign:
        if general.num_gpu != 'auto':
            raise InputError(
                f'{where}: num_gpu: one process uses one GPU, got {asked}; start with '
                f'torchrun --nproc_per_node={asked} train.py ... --launcher pytorch'
            )
        return 1
    return asked


def _check_train(train: dict[str, object], model: str, where: str) -> dict[str, object]:
    """The section `train` with defaults, its losses, optimiser and schedule held against their classes."""
    if model in TRAIN_OPTIONS:
        checked = to_plain(convert(train, TRAIN_OPTIONS[model], where, 'train'))
    else:
        checked = _merge(train, to_plain(convert(train, ForeignTrainOptions, where, 'train', foreign=True)))
    place = f'{where}: train'
    if checked.get('pixel_opt'):
        check_pixel_loss(section(checked, 'pixel_opt', place), f'{place}.pixel_opt')
    if checked.get('perceptual_opt'):
        check_loss_arguments(section(checked, 'perceptual_opt', place), f'{place}.perceptual_opt')
    if model == 'SRModel' and not checked.get('pixel_opt') and not checked.get('perceptual_opt'):
        raise InputError(f'{place}: SRModel needs pixel_opt or perceptual_opt; write pixel_opt: {{type: L1Loss}}')
    if model not in TRAIN_OPTIONS:
        check_optimizer(section(checked, 'optim_g', place), where, 'train.optim_g')
        check_schedule(section(checked, 'scheduler', place), where, 'train.scheduler')
    return checked


def _check_hardware(options: Mapping[str, object], num_gpu: int, where: str) -> None:
    """Refuse what needs a GPU where none is used."""
    if num_gpu:
        return
    if section(options, 'train', where).get('sync_batchnorm'):
        raise InputError(f'{where}: train.sync_batchnorm: needs GPUs, and num_gpu is 0; write sync_batchnorm: false')
    if section(options, 'dist_params', where).get('backend') == 'nccl':
        raise InputError(f'{where}: dist_params.backend: nccl needs GPUs, and num_gpu is 0; write backend: auto')


def _check_fit(network: nn.Module, model: str, options: Mapping[str, object], where: str) -> None:
    """Refuse a network that the model cannot train."""
    name = type(network).__name__
    train = section(options, 'train', where)
    expected = {'IKCModel': 'IKC', 'MZSRModel': 'MZSR'}.get(model)
    if expected is not None and name != expected:
        raise InputError(f'{where}: network_g.type: {model} trains {expected}, got {name}; use another model_type')
    untrained = section(options, 'path', where).get('pretrain_network_g') is None
    if model == 'IKCModel' and untrained and section(train, 'stage_1', where)['total_iter'] == 0:
        raise InputError(
            f'{where}: path.pretrain_network_g: without iterations in train.stage_1 the estimators need a trained '
            'SFTMD; name its weights'
        )
    if model == 'SupervisedModel':
        _check_parameters(network, train, where)
    if model != 'DASRModel':
        return
    if not isinstance(network, DASR):
        raise InputError(f'{where}: network_g.type: DASRModel trains DASR, got {name}; use model_type: SupervisedModel')
    frozen = train.get('freeze_encoder')
    paths = section(options, 'path', where)
    if frozen and not network.blind:
        raise InputError(f'{where}: train.freeze_encoder: a network that is told the kernel has no encoder; remove it')
    if (
        frozen
        and not section(train, 'stage_1', where)['total_iter']
        and not any(paths.get(key) for key in ('pretrain_network_g', 'pretrain_network_encoder', 'resume_state'))
    ):
        raise InputError(
            f'{where}: train.freeze_encoder: an encoder of random weights finds nothing; name trained ones in '
            'path.pretrain_network_encoder'
        )
    if train.get('filter_opt') is not None and (network.enlargement is None or not network.blind):
        raise InputError(
            f'{where}: train.filter_opt: the network has no filter that the encoder chooses; write '
            'network_g.skip: wiener'
        )
    if not network.blind and train.get('contrast_opt') is not None:
        raise InputError(
            f'{where}: train.contrast_opt: a network that is told the kernel learns nothing by contrast; '
            'write contrast_opt: ~ and stage_1.total_iter: 0'
        )


def _check_parameters(network: nn.Module, train: Mapping[str, object], where: str) -> None:
    """Refuse factors of parameters that the network does not have, and stages of one that has one."""
    names = [name for name, _ in network.named_parameters()]
    for words in section(train, 'lr_factors', where):
        if not any(name == words or name.startswith(f'{words}.') for name in names):
            hint = suggest(words, {name.split('.')[0] for name in names})
            raise InputError(f"{where}: train.lr_factors: no parameter's name begins with '{words}'{hint}")
    if train.get('multi_stage') and 'return_stages' not in signature(network.forward).parameters:
        raise InputError(
            f'{where}: train.multi_stage: {type(network).__name__} gives one image, no stages; remove the key'
        )


def _check_weights(network: nn.Module, options: Mapping[str, object], where: str) -> None:
    """Read the files that training starts from, and hold the weights against the network."""
    paths = section(options, 'path', where)
    resume, weights = paths.get('resume_state'), paths.get('pretrain_network_g')
    if resume is not None and not Path(str(resume)).expanduser().is_file():
        raise InputError(f"{where}: path.resume_state: the file '{resume}' does not exist")
    _check_encoder(network, options, where)
    if weights is None:
        return
    file = Path(str(weights)).expanduser()
    param_key = paths.get('param_key_g')
    foreign = options.get('model_type') not in TRAIN_OPTIONS
    try:
        if isinstance(network, DASR):
            state = read_dasr_weights(file, param_key if isinstance(param_key, str) else None).network
        else:
            state = read_weights(file, param_key if isinstance(param_key, str) else None)
        names = find_released_names(network)
        if foreign and names is not None and names.is_released(state):
            raise InputError(
                f"weights file '{file}' has its authors' names, which {options.get('model_type')} does not "
                'read; write model_type: SupervisedModel'
            )
        if paths.get('strict_load_g'):
            if isinstance(network, DASR):
                _check_scale(network, state, file)
            load_strictly(choose_part(network, state), state, f"weights file '{file}'")
        if not all(module.known for module in network.modules() if isinstance(module, KernelPCA)):
            raise InputError(
                f"weights file '{file}' does not hold the PCA basis that its kernel codes are in; name it in "
                'network_g.basis_path'
            )
    except InputError as error:
        raise InputError(f'{where}: path.pretrain_network_g: {error}') from error


def _check_encoder(network: nn.Module, options: Mapping[str, object], where: str) -> None:
    """Read the file that the encoder comes from."""
    source = section(options, 'path', where).get('pretrain_network_encoder')
    if source is None:
        return
    place = f'{where}: path.pretrain_network_encoder'
    if not isinstance(network, DASR) or not network.blind or options.get('model_type') != 'DASRModel':
        raise InputError(f'{place}: DASRModel alone trains a network with a degradation encoder; remove the key')
    try:
        load_encoder(network, os.path.expanduser(str(source)))
    except InputError as error:
        raise InputError(f'{place}: {error}') from error


def _check_scale(network: DASR, state: Mapping[str, Tensor], file: Path) -> None:
    """Names the scales where they differ, which a tensor's shape would tell less plainly."""
    try:
        scale = infer_arguments(state)['scale']
    except (KeyError, ZeroDivisionError, ValueError):  # no whole DASR; loading it will say what is missing
        return
    if scale != network.scale:
        raise InputError(
            f"weights file '{file}' is for x{scale}, the network for x{network.scale}; choose another file, or "
            'write strict_load_g: false to take what fits'
        )


def _check_together(options: Mapping[str, object], datasets: Mapping[str, object], batches: int, where: str) -> None:
    """What several sections must satisfy together."""
    validated = [key for key in datasets if key != 'train']
    if validated and options.get('val') is None:
        raise InputError(f'{where}: datasets.{validated[0]} is never used; add a section val, or remove it')
    train, settings = section(datasets, 'train', where), section(options, 'train', where)
    batch, parts = train['batch_size_per_gpu'], settings.get('accumulate', 1)
    assert isinstance(batch, int)
    if isinstance(parts, int) and batch % parts:
        raise InputError(f'{where}: train.accumulate: expected a divisor of the batch of {batch}, got {parts}')
    contrast = settings.get('contrast_opt')
    if isinstance(contrast, dict) and contrast['positives'] == 'other' and batch < 2:
        raise InputError(
            f'{where}: train.contrast_opt.positives: other takes patches of two images of a batch, which has one; '
            'write batch_size_per_gpu: 2 or more'
        )
    if isinstance(contrast, dict) and batch * batches > contrast['queue_length']:
        raise InputError(
            f'{where}: train.contrast_opt.queue_length: expected at least the batch of all processes, '
            f'{batch * batches}, got {contrast["queue_length"]}'
        )
    metrics = section(options, 'val', where).get('metrics')
    for key in validated:
        if metrics and 'dataroot_gt' not in section(datasets, key, where):
            raise InputError(f'{where}: datasets.{key}: val.metrics need HR images to compare with; give dataroot_gt')


def _check_batches(options: Mapping[str, object], datasets: Mapping[str, object], model: str, where: str) -> None:
    """Refuse a training set whose batches the model cannot take."""
    train, settings = section(datasets, 'train', where), section(options, 'train', where)
    kind, place = train['type'], f'{where}: datasets.train'
    raw = kind == 'DegradationDataset' and train['degrade_on'] == 'device'
    if model == 'DASRModel':
        if kind == 'LQDataset' and section(settings, 'stage_2', where)['total_iter'] != 0:
            raise InputError(
                f'{where}: train.stage_2.total_iter: expected 0, since LR images alone (LQDataset) can train only '
                f'the encoder, got {section(settings, "stage_2", where)["total_iter"]}'
            )
        patches = train.get('num_patches', 2)
        if kind == 'DegradationDataset' and not (
            raw and (patches == 2 or (patches == 1 and not settings.get('contrast_opt')))
        ):
            raise InputError(
                f'{place}: DASRModel needs num_patches: 2 and degrade_on: device, the defaults; without contrast_opt '
                'one patch will do'
            )
        told = next((key for key in ('code_opt', 'filter_opt') if settings.get(key) is not None), None)
        if kind != 'DegradationDataset' and told is not None:
            raise InputError(f'{place}.type: train.{told} needs known kernels, from DegradationDataset, got {kind}')
        contrast = settings.get('contrast_opt')
        if kind != 'DegradationDataset' and isinstance(contrast, dict) and contrast['positives'] == 'other':
            raise InputError(
                f'{place}.type: contrast_opt.positives: other needs degradations that are made in training, from '
                f'DegradationDataset, got {kind}'
            )
        if kind not in {'DegradationDataset', 'LQDataset'} and contrast is not None:
            raise InputError(
                f'{place}.type: the contrast needs two patches of each image, from DegradationDataset or LQDataset, '
                f'got {kind}; or write train.contrast_opt: ~ and stage_1.total_iter: 0'
            )
    elif model in {'IKCModel', 'MZSRModel'} and not raw:
        raise InputError(
            f'{place}: {model} needs the true kernels; use DegradationDataset with degrade_on: device, the default'
        )
    elif kind == 'LQDataset':
        raise InputError(f'{place}.type: {model} needs HR images, got LQDataset; use model_type: DASRModel')
    elif raw and model not in TRAIN_OPTIONS:
        raise InputError(f'{place}.degrade_on: {model} takes ready pairs, got device; write degrade_on: worker')


def _check_told(
    network: nn.Module, options: Mapping[str, object], datasets: Mapping[str, object], model: str, where: str
) -> None:
    """Refuse data sets without the true kernels that a network or its training must be told."""
    needs = facts_of(network).needs
    if model not in TRAIN_OPTIONS:
        return
    name = type(network).__name__
    train = section(datasets, 'train', where)
    stages = section(options, 'train', where)
    first = section(stages, 'stage_1', where)['total_iter'] if model == 'IKCModel' else 0
    told = isinstance(first, int) and first > 0  # IKC validates SFTMD with the kernels
    if needs and not (train['type'] == 'DegradationDataset' and train['degrade_on'] == 'device'):
        raise InputError(
            f'{where}: datasets.train: {name} is told {" and ".join(needs)}, which DegradationDataset with '
            'degrade_on: device knows; use it'
        )
    for key in datasets if needs or told else ():
        kind = section(datasets, key, where)['type']
        if key != 'train' and kind != 'DegradedTestDataset':
            raise InputError(
                f'{where}: datasets.{key}.type: {name} is told the true kernels in validation, which '
                f'DegradedTestDataset knows, got {kind}; use it, or validate later with a test file'
            )


def _check_tasks(settings: Mapping[str, object], train: Mapping[str, object], where: str) -> None:
    """Refuse a batch that cannot be cut into MZSR's tasks."""
    meta = section(settings, 'meta_opt', where)
    support, query, batch = meta['support'], meta['query'], train['batch_size_per_gpu']
    assert isinstance(support, int)
    assert isinstance(query, int)
    assert isinstance(batch, int)
    if batch % (support + query):
        raise InputError(
            f'{where}: datasets.train.batch_size_per_gpu: expected a multiple of support + query = {support + query}, '
            f'the images of a task, got {batch}'
        )


def _experiment_paths(options: Mapping[str, object], root: Path, name: str, where: str) -> dict[str, object]:
    """The section `path` with the folders of the experiment, which must be writable."""
    paths = section(options, 'path', where)
    for key in ('pretrain_network_g', 'pretrain_network_encoder', 'resume_state'):
        if isinstance(paths.get(key), str):
            paths[key] = os.path.expanduser(str(paths[key]))
    experiment = root / 'experiments' / name
    for folder in (experiment, root / 'tb_logger' / name):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not existing.is_dir():
            raise InputError(f"{where}: name: results go to '{folder}', but '{existing}' is a file")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise InputError(f"{where}: name: results go to '{folder}', but '{existing}' is not writable")
    paths.update(
        experiments_root=str(experiment),
        models=str(experiment / 'models'),
        training_states=str(experiment / 'training_states'),
        log=str(experiment),
        visualization=str(experiment / 'visualization'),
    )
    return paths
