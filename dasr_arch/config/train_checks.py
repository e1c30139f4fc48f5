"""Conversion of an option file to BasicSR's option dictionary; everything is checked before anything is created.

BasicSR reports most errors late or never: it ignores a misspelt optional key, fails on a missing folder in a loader
process and on a wrong metric at the first validation, when the earlier experiment of the name has been renamed.
"""

import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY
from torch import Tensor, nn

from dasr_arch._errors import InputError, naming, suggest
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
from dasr_arch.config import registry_checks
from dasr_arch.config import train_schema as schema
from dasr_arch.config.dataset_checks import check_datasets
from dasr_arch.config.fit_checks import check_data, check_fit
from dasr_arch.config.typed import check_known, convert, section, to_plain
from dasr_arch.config.yaml_reader import read_yaml
from dasr_arch.metrics.facts import smallest_side

Launcher = Literal['auto', 'none', 'pytorch']

PATH_KEYS = ('pretrain_network_g', 'pretrain_network_encoder', 'param_key_g', 'strict_load_g', 'resume_state')
PATH_KEY = re.compile(r'(pretrain_network|param_key|strict_load)_\w+|resume_state|ignore_resume_networks')
"""Keys that BasicSR's models read from the section path; BasicSR creates a folder for every other key."""


class Processes(NamedTuple):
    """This process among those of the training; the defaults are those of a single one."""

    dist: bool = False  # torchrun started them
    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1  # processes on this machine


def load_training_options(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    root: str | Path | None = None,
    launcher: Launcher = 'none',
    auto_resume: bool = False,
    smoke: bool = False,
) -> dict[str, object]:
    """Reads a training file and checks all of it, changing neither the disk nor torch's random state.

    ``overrides`` and ``smoke`` are those of :func:`~dasr_arch.config.yaml_reader.read_yaml`; ``root`` is the folder of
    `experiments/` and `tb_logger/`, the current one by default; ``launcher`` is 'pytorch' under torchrun, whose
    variables then give rank and number of processes; ``auto_resume`` is passed on to BasicSR.

    Returns BasicSR's option dictionary: the file's sections with defaults filled in, and the keys that BasicSR adds. It
    is a deep copy. InputError for the first error.
    """
    where = str(path)
    data = read_yaml(path, overrides, smoke=smoke)
    for key in ('path', 'logger', 'dist_params'):
        if key in data and data[key] is None:
            del data[key]
    if 'network_g' not in data and 'networks' in data:
        raise InputError(f'{where}: expected a training file, got a test file; run python test.py -opt {where}')
    registry_checks.import_modules(data, where)
    model = check_known(data.get('model_type'), MODEL_REGISTRY.keys(), f'{where}: model_type', 'model')
    model = schema.find_own_model(MODEL_REGISTRY.get(model)) or model  # a class of the user's, by what it derives from
    foreign = model not in schema.TRAIN_OPTIONS
    for key in section(data, 'path', where) if foreign else ():
        if not PATH_KEY.fullmatch(key):
            hint = suggest(key, PATH_KEYS)
            raise InputError(f"{where}: path: unknown key '{key}', of which BasicSR would make a folder{hint}")
    adversarial = model in schema.ADVERSARIAL_MODELS
    general_kind = schema.AdversarialOptions if adversarial else schema.GeneralOptions
    general = convert(data, general_kind, where, foreign=foreign)
    processes = _find_processes(launcher)
    num_gpu = _count_gpus(general, processes, where, foreign)

    options = _merge(data, to_plain(general)) if foreign else to_plain(general)
    foreign_kind = schema.AdversarialTrainOptions if adversarial else schema.ForeignTrainOptions
    kind: type[schema.Options] = foreign_kind if foreign else schema.TRAIN_OPTIONS[model]
    train = convert(general.train, kind, where, 'train', foreign=foreign)
    options['train'] = _merge(general.train, to_plain(train)) if foreign else to_plain(train)
    patch = section(general.datasets, 'train', where).get('gt_size')
    side = min(max(patch, 8), 256) if isinstance(patch, int) else 64
    _check_training_parts(section(options, 'train', where), model, side, where)
    _check_hardware(general, num_gpu, where)
    network = registry_checks.check_network(general.network_g, general.scale, f'{where}: network_g')
    if isinstance(general, schema.AdversarialOptions):
        registry_checks.build(general.network_d, ARCH_REGISTRY, f'{where}: network_d', 'arch')
    if isinstance(train, schema.TrainOptions):
        _check_length(train, where)
        check_fit(network, train, where, has_weights=general.path.pretrain_network_g is not None)
    _check_start(network, train, model, section(options, 'path', where), where)
    if general.val is not None:
        registry_checks.check_metrics(general.val.metrics, f'{where}: val.metrics')
    batches = processes.world_size if processes.dist else max(1, num_gpu)  # BasicSR's DataParallel
    measured = smallest_side(((general.val and general.val.metrics) or {}).values())
    datasets = check_datasets(general.datasets, general.scale, batches, where, measured)
    _check_validation(general.val, datasets, where)
    check_data(network, train, model, datasets, batches, where)
    if not foreign or model == 'SRModel':
        sides = (8, patch // general.scale) if isinstance(patch, int) else (8,)
        registry_checks.probe_network(network, general.scale, sides, f'{where}: network_g')
    section(datasets, 'train', where).setdefault('seed', general.manual_seed)
    options['datasets'] = datasets

    root_path = Path(root or '.').absolute()
    options['path'] = _experiment_paths(options, root_path, general.name, where)
    options.update(
        num_gpu=num_gpu,
        dist=processes.dist,
        rank=processes.rank,
        world_size=processes.world_size,
        is_train=True,
        auto_resume=auto_resume,
        root_path=str(root_path),
    )
    return deepcopy(options)


def _merge(given: Mapping[str, object], checked: Mapping[str, object]) -> dict[str, object]:
    """The file's options, its values replaced by the checked ones and completed by defaults."""
    merged = dict(given)
    for key, value in checked.items():
        below = given.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _find_processes(launcher: Launcher) -> Processes:
    if launcher != 'pytorch':
        return Processes()
    try:
        rank, world_size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
        local_world_size = int(os.environ.get('LOCAL_WORLD_SIZE', world_size))
    except (KeyError, ValueError) as error:
        raise InputError(
            '--launcher pytorch: RANK and WORLD_SIZE are not set; start with torchrun --nproc_per_node=N train.py ...'
        ) from error
    return Processes(dist=True, rank=rank, world_size=world_size, local_world_size=local_world_size)


def _count_gpus(general: schema.GeneralOptions, processes: Processes, where: str, foreign: bool) -> int:
    """Number of GPUs; without torchrun our models use one, and BasicSR's split the batch over all."""
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


def _check_training_parts(train: Mapping[str, object], model: str, side: int, where: str) -> None:
    """Validates losses on patches, and for BasicSR's models optimiser and schedule, against their classes."""
    place = f'{where}: train'
    if train.get('pixel_opt'):
        registry_checks.check_pixel_loss(section(train, 'pixel_opt', place), side, f'{place}.pixel_opt')
    if train.get('perceptual_opt'):
        perceptual = section(train, 'perceptual_opt', place)  # not built, since it may fetch weights
        registry_checks.check_class(perceptual, LOSS_REGISTRY, f'{place}.perceptual_opt', 'loss')
    if model == 'SRModel' and not train.get('pixel_opt') and not train.get('perceptual_opt'):
        raise InputError(f'{place}: SRModel needs pixel_opt or perceptual_opt; write pixel_opt: {{type: L1Loss}}')
    if model not in schema.TRAIN_OPTIONS:
        registry_checks.check_optimizer(section(train, 'optim_g', place), where, 'train.optim_g')
        registry_checks.check_schedule(section(train, 'scheduler', place), where, 'train.scheduler')
    if model in schema.ADVERSARIAL_MODELS:
        registry_checks.check_optimizer(section(train, 'optim_d', place), where, 'train.optim_d')
        registry_checks.build(section(train, 'gan_opt', place), LOSS_REGISTRY, f'{place}.gan_opt', 'loss')


def _check_length(train: schema.TrainOptions, where: str) -> None:
    lengths = [stage.total_iter for stage in train.stages]
    if train.total_iter != sum(lengths):
        total = f'the sum of the stages, {" + ".join(map(str, lengths))} =' if lengths[1:] else 'that of schedule,'
        raise InputError(f'{where}: train: total_iter must be {total} {sum(lengths)}, got {train.total_iter}')


def _check_hardware(general: schema.GeneralOptions, num_gpu: int, where: str) -> None:
    """Refuses options that need a GPU where none is used, or TensorBoard where it is not installed."""
    if general.logger.use_tb_logger and find_spec('tensorboard') is None:
        raise InputError(f'{where}: logger.use_tb_logger: needs TensorBoard; install tb-nightly or set it to false')
    if num_gpu == 0 and general.dist_params.backend == 'nccl':
        raise InputError(f'{where}: dist_params.backend: nccl needs GPUs, and num_gpu is 0; write backend: auto')


def _check_validation(val: schema.ValOptions | None, datasets: Mapping[str, object], where: str) -> None:
    """Refuses validation sets that are never used, or have no HR images for the metrics."""
    for key in datasets:
        if key != 'train' and val is None:
            raise InputError(f'{where}: datasets.{key} is never used; add a section val, or remove it')
        if key != 'train' and val is not None and val.metrics and 'dataroot_gt' not in section(datasets, key, where):
            raise InputError(f'{where}: datasets.{key}: val.metrics need HR images to compare with; give dataroot_gt')


def _check_start(network: nn.Module, train: schema.Options, model: str, paths: Mapping[str, Any], where: str) -> None:
    """Reads the files that training starts from; the weights must fit the network."""
    resume, weights = paths.get('resume_state'), paths.get('pretrain_network_g')
    encoder = paths.get('pretrain_network_encoder')
    if resume is not None and not Path(resume).expanduser().is_file():
        raise InputError(f"{where}: path.resume_state: the file '{resume}' does not exist")
    frozen = isinstance(train, schema.DASRTrainOptions) and train.freeze_encoder and not train.stage_1.total_iter
    if frozen and not (resume or weights or encoder):
        raise InputError(
            f'{where}: train.freeze_encoder: an encoder of random weights finds nothing; name trained ones in '
            'path.pretrain_network_encoder'
        )
    if encoder is not None:
        _check_encoder(network, encoder, model, f'{where}: path.pretrain_network_encoder')
    if weights is not None:
        with naming(f'{where}: path.pretrain_network_g'):
            _check_weights(network, Path(weights).expanduser(), model, paths)


def _check_encoder(network: nn.Module, file: str, model: str, place: str) -> None:
    """Reads the file that the encoder is loaded from."""
    if not isinstance(network, DASR) or not network.blind or model != 'DASRModel':
        raise InputError(f'{place}: DASRModel alone trains a network with a degradation encoder; remove the key')
    with naming(place):
        load_encoder(network, os.path.expanduser(file))


def _check_weights(network: nn.Module, file: Path, model: str, paths: Mapping[str, object]) -> None:
    """Reads a weights file; it must fit the network."""
    if model not in schema.TRAIN_OPTIONS and file.suffix == '.safetensors':
        raise InputError(
            f'{model} reads .pth files; make one with `dasr convert {file} {file.stem}.pth`, and name that'
        )
    key = paths.get('param_key_g')
    param_key = key if isinstance(key, str) else None
    is_dasr = isinstance(network, DASR)
    state = read_dasr_weights(file, param_key).network if is_dasr else read_weights(file, param_key)
    names = find_released_names(network)
    if model not in schema.TRAIN_OPTIONS and names is not None and names.is_released(state):
        raise InputError(
            f"weights file '{file}' has its authors' names, which {model} does not read; write "
            'model_type: SupervisedModel'
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


def _check_scale(network: DASR, state: Mapping[str, Tensor], file: Path) -> None:
    """Raises InputError that names both scales if they differ, clearer than the shape of a tensor."""
    try:
        scale = infer_arguments(state)['scale']
    except (KeyError, ZeroDivisionError, ValueError):  # no whole DASR; loading it will say what is missing
        return
    if scale != network.scale:
        raise InputError(
            f"weights file '{file}' is for x{scale}, the network for x{network.scale}; choose another file, or "
            'write strict_load_g: false to take what fits'
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
