"""Checks that the network, the data sets and the section `train` fit together.

Each raises InputError that names the key to change.
"""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from torch import nn

from dasr_arch._errors import InputError, suggest
from dasr_arch.archs.contract import facts_of
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.config import train_schema as schema
from dasr_arch.config.typed import section


def check_fit(network: nn.Module, train: schema.TrainOptions, where: str, *, has_weights: bool) -> None:
    """Refuses a network, with or without weights of a file, that `train` and its model cannot train."""
    if isinstance(train, schema.IKCTrainOptions):
        _check_arch(network, 'IKCModel', 'IKC', where)
        if not has_weights and train.stage_1.total_iter == 0:
            raise InputError(
                f'{where}: path.pretrain_network_g: without iterations in train.stage_1 the estimators need a trained '
                'SFTMD; name its weights'
            )
    elif isinstance(train, schema.MZSRTrainOptions):
        _check_arch(network, 'MZSRModel', 'MZSR', where)
    elif isinstance(train, schema.SupervisedTrainOptions):
        _check_supervised(network, train, f'{where}: train')
    elif isinstance(train, schema.DASRTrainOptions):
        _check_arch(network, 'DASRModel', 'DASR', where)
        assert isinstance(network, DASR)
        _check_dasr(network, train, f'{where}: train')


def _check_arch(network: nn.Module, model: str, arch: str, where: str) -> None:
    if arch not in {kind.__name__ for kind in type(network).__mro__}:
        name = type(network).__name__
        other = 'model_type: SupervisedModel' if model == 'DASRModel' else 'another model_type'
        raise InputError(f'{where}: network_g.type: {model} trains {arch}, got {name}; use {other}')


def _check_supervised(network: nn.Module, train: schema.SupervisedTrainOptions, place: str) -> None:
    names = [name for name, _ in network.named_parameters()]
    for words in train.lr_factors:
        if not any(name == words or name.startswith(f'{words}.') for name in names):
            hint = suggest(words, {name.split('.')[0] for name in names})
            raise InputError(f"{place}.lr_factors: no parameter's name begins with '{words}'{hint}")
    if train.multi_stage and 'return_stages' not in signature(network.forward).parameters:
        raise InputError(f'{place}.multi_stage: {type(network).__name__} gives one image, no stages; remove the key')


def _check_dasr(network: DASR, train: schema.DASRTrainOptions, place: str) -> None:
    if train.filter_opt is not None and (network.enlargement is None or not network.blind):
        raise InputError(
            f'{place}.filter_opt: the network has no filter that the encoder chooses; write network_g.skip: wiener'
        )
    if network.blind:
        return
    if train.freeze_encoder:
        raise InputError(f'{place}.freeze_encoder: a network with condition: kernel has no encoder; remove it')
    if train.contrast_opt is not None:
        raise InputError(
            f'{place}.contrast_opt: a non-blind network (condition: kernel) has no encoder to train and learns nothing '
            'by contrast; write contrast_opt: ~ and stage_1.total_iter: 0'
        )
    for key in ('code_opt', 'teacher_opt'):
        if getattr(train, key) is not None:
            raise InputError(
                f'{place}.{key}: a non-blind network (condition: kernel) has no encoder to train; write {key}: ~'
            )


def check_data(
    network: nn.Module, train: schema.Options, model: str, datasets: Mapping[str, object], batches: int, where: str
) -> None:
    """Refuses validated data sets that the network or its training cannot use.

    ``batches`` are drawn at once, one for each process or GPU.
    """
    data: Mapping[str, Any] = section(datasets, 'train', where)
    batch, raw = data['batch_size_per_gpu'], data['type'] == 'DegradationDataset' and data['degrade_on'] == 'device'
    _check_batch(train, batch, batches, where)
    place = f'{where}: datasets.train'
    if isinstance(train, schema.DASRTrainOptions):
        _check_dasr_data(train, data, raw, where)
    elif isinstance(train, schema.IKCTrainOptions | schema.MZSRTrainOptions) and not raw:
        raise InputError(
            f'{place}: {model} needs the true kernels; use DegradationDataset with degrade_on: device, the default'
        )
    elif data['type'] == 'LQDataset':
        raise InputError(f'{place}.type: {model} needs HR images, got LQDataset; use model_type: DASRModel')
    elif raw and model not in schema.TRAIN_OPTIONS:
        raise InputError(f'{place}.degrade_on: {model} takes ready pairs, got device; write degrade_on: worker')
    if isinstance(train, schema.TrainOptions):
        _check_known_degradations(network, train, datasets, raw, where)


def _check_batch(train: schema.Options, batch: int, batches: int, where: str) -> None:
    """Refuses a batch that cannot be split, fills no task, or exceeds the queue of the contrast."""
    if isinstance(train, schema.CommonTrainOptions) and batch % train.accumulate:
        raise InputError(
            f'{where}: train.accumulate: expected a divisor of the batch of {batch}, got {train.accumulate}'
        )
    if isinstance(train, schema.MZSRTrainOptions):
        size = train.meta_opt.support + train.meta_opt.query
        if batch % size:
            raise InputError(
                f'{where}: datasets.train.batch_size_per_gpu: expected a multiple of support + query = {size}, '
                f'the images of a task, got {batch}'
            )
    contrast = train.contrast_opt if isinstance(train, schema.DASRTrainOptions) else None
    if contrast is None:
        return
    if contrast.positives == 'other' and batch < 2:
        raise InputError(
            f'{where}: train.contrast_opt.positives: other takes patches of two images of a batch, which has one; '
            'write batch_size_per_gpu: 2 or more'
        )
    if batch * batches > contrast.queue_length:
        raise InputError(
            f'{where}: train.contrast_opt.queue_length: expected at least the batch of all processes, '
            f'{batch * batches}, got {contrast.queue_length}'
        )


def _check_dasr_data(train: schema.DASRTrainOptions, data: Mapping[str, object], raw: bool, where: str) -> None:
    """Refuses a training set without the HR images, kernels or second patches that DASR's losses need."""
    kind, place, contrast = data['type'], f'{where}: datasets.train', train.contrast_opt
    if kind == 'DegradationDataset':
        patches = data.get('num_patches', 2)
        if not (raw and (patches == 2 or (patches == 1 and contrast is None))):
            raise InputError(
                f'{place}: DASRModel needs num_patches: 2 and degrade_on: device, the defaults; without contrast_opt '
                'one patch will do'
            )
        return
    if kind == 'LQDataset' and train.stage_2.total_iter != 0:
        raise InputError(
            f'{where}: train.stage_2.total_iter: expected 0, since LR images alone (LQDataset) can train only '
            f'the encoder, got {train.stage_2.total_iter}'
        )
    for key in ('code_opt', 'filter_opt'):
        if getattr(train, key) is not None:
            raise InputError(f'{place}.type: train.{key} needs known kernels, from DegradationDataset, got {kind}')
    if contrast is not None and contrast.positives == 'other':
        raise InputError(
            f'{place}.type: contrast_opt.positives: other needs degradations that are made in training, from '
            f'DegradationDataset, got {kind}'
        )
    if contrast is not None and kind != 'LQDataset':
        raise InputError(
            f'{place}.type: the contrast needs two patches of each image, from DegradationDataset or LQDataset, '
            f'got {kind}; or write train.contrast_opt: ~ and stage_1.total_iter: 0'
        )


def _check_known_degradations(
    network: nn.Module, train: schema.TrainOptions, datasets: Mapping[str, object], raw: bool, where: str
) -> None:
    """Refuses data sets without the true kernels that a non-blind network takes, in training and in validation."""
    name, needs = type(network).__name__, facts_of(network).needs
    if needs and not raw:
        raise InputError(
            f'{where}: datasets.train: {name} is non-blind and needs {" and ".join(needs)}, which DegradationDataset '
            'with degrade_on: device gives; use it'
        )
    # IKC's first stage validates SFTMD with the true kernels.
    kernel_stage = isinstance(train, schema.IKCTrainOptions) and train.stage_1.total_iter > 0
    for key in datasets if needs or kernel_stage else ():
        kind = section(datasets, key, where)['type']
        if key != 'train' and kind != 'DegradedTestDataset':
            raise InputError(
                f'{where}: datasets.{key}.type: {name} is non-blind and needs the true kernels in validation, which '
                f'DegradedTestDataset gives, got {kind}; use it, or validate later with a test file'
            )
