"""Cases of the timing: one forward pass, or one training step with its data.

Run as a module, it runs one case in a process of its own and reports peak memory: the peak of a process never falls, so
that cases in one process would hide each other.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch.utils.data import default_collate

from dasr_arch._errors import InputError, suggest
from dasr_arch._memory import keep_freed_memory
from dasr_arch.benchmark.own_process import read_peak_memory
from dasr_arch.data.degradation_dataset import DegradationDataset
from dasr_arch.models.dasr_model import DASRModel
from dasr_arch.models.supervised_model import SupervisedModel

Operation = Literal['inference', 'stage_1', 'stage_2']
PAPER_RANGES = {2: [0.2, 2.0], 3: [0.2, 3.0], 4: [0.2, 4.0]}
_FIRST_STAGE = 1000  # iterations of the first stage; only its first one is run
_SMALL = {'num_groups': 3, 'num_blocks': 3, 'encoder_feat': 48, 'representation_dim': 192}

SPEED_NETWORKS: dict[str, dict[str, Any]] = {
    'Bicubic': {'type': 'Bicubic'},
    'DASR-S': {'type': 'DASR', **_SMALL, 'upsampler': 'direct', 'skip': 'bicubic'},
    'DASR': {'type': 'DASR'},
    'RCAN': {'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_block': 20},
}
"""Networks by their name in the table, with the arguments of their option files."""

IMPLEMENTATIONS = ('auto', 'reference', 'fast', 'ncnn', 'openvino', 'compiled')
"""Implementations of DASR with the same results, the last by torch.compile; other networks have only 'auto'."""

PRECISIONS = ('fp32', 'bf16')


@dataclass(frozen=True)
class SpeedCase:
    """One row of the table."""

    network: str  # key of SPEED_NETWORKS
    implementation: str  # one of IMPLEMENTATIONS
    precision: str  # 'fp32', or 'bf16' under autocast
    operation: Operation  # networks without an encoder have a single training stage, 'stage_2'
    scale: int  # upsampling factor
    size: int  # side of the LR images or patches, pixels
    batch: int  # images; in training, pairs of patches
    device: str = 'cpu'  # 'cpu' or 'cuda'

    @property
    def label(self) -> str:
        """Network, implementation and precision."""
        return f'{self.network} {self.implementation} {self.precision}'


class Timing(NamedTuple):
    """Seconds of one run."""

    loading: float  # cutting patches out of decoded images, in this process
    degrading: float  # blur, downsampling and noise on the device
    computing: float  # the networks, the losses and the optimiser


def is_possible(case: SpeedCase) -> bool:
    """True if a case exists: only DASR has an encoder stage and several implementations."""
    kind = SPEED_NETWORKS[case.network]['type']
    if kind == 'Bicubic' and case.operation != 'inference':
        return False
    if case.implementation == 'reference' and case.precision != 'fp32':
        return False
    if case.implementation in {'ncnn', 'openvino'} and (case.operation, case.device) != ('inference', 'cpu'):
        return False
    if case.implementation == 'ncnn' and case.precision != 'fp32':
        return False
    return kind == 'DASR' or (case.operation != 'stage_1' and case.implementation == 'auto')


def build_action(case: SpeedCase, images: Path) -> Callable[[], Timing]:
    """A function that runs a case once; training reads its images from an LMDB."""
    torch.manual_seed(0)
    return _build_inference(case) if case.operation == 'inference' else _build_training(case, images)


def make_network_options(case: SpeedCase) -> dict[str, Any]:
    """Arch and arguments of a case's network."""
    options = dict(SPEED_NETWORKS[case.network])
    options['upscale' if options['type'] == 'RCAN' else 'scale'] = case.scale
    if options['type'] == 'DASR' and case.implementation not in {'auto', 'compiled'}:
        options['implementation'] = case.implementation
    return options


def _build_inference(case: SpeedCase) -> Callable[[], Timing]:
    keep_freed_memory()
    options = make_network_options(case)
    network = ARCH_REGISTRY.get(options.pop('type'))(**options).eval().to(case.device)
    if case.implementation == 'compiled':
        network = torch.compile(network)
    image = torch.rand(case.batch, 3, case.size, case.size).to(case.device)
    autocast = torch.autocast(case.device, dtype=torch.bfloat16, enabled=case.precision == 'bf16')

    def run() -> Timing:
        _wait(case.device)
        started = time.perf_counter()
        with torch.inference_mode(), autocast:
            network(image)
        _wait(case.device)
        return Timing(0.0, 0.0, time.perf_counter() - started)

    return run


def _build_training(case: SpeedCase, images: Path) -> Callable[[], Timing]:
    contrast = SPEED_NETWORKS[case.network]['type'] == 'DASR'
    data = {
        'dataroot_gt': str(images),
        'scale': case.scale,
        'gt_size': case.size * case.scale,
        'num_patches': 2 if contrast else 1,
        'degradation': {'type': 'IsotropicGaussian', 'sigma_range': PAPER_RANGES[case.scale]},
    }
    dataset = DegradationDataset(data)
    dataset.fill_cache()
    model = (DASRModel if contrast else SupervisedModel)(_make_model_options(case, data))
    iteration = 1 if case.operation == 'stage_1' or not contrast else _FIRST_STAGE + 1
    position = 0

    def run() -> Timing:
        nonlocal position
        started = time.perf_counter()
        numbers = range(position, position + case.batch)
        batch = default_collate([dataset[number % len(dataset), number] for number in numbers])
        position += case.batch
        loaded = time.perf_counter()
        model.feed_data(batch)
        _wait(case.device)
        degraded = time.perf_counter()
        model.optimize_parameters(iteration)
        _wait(case.device)
        return Timing(loaded - started, degraded - loaded, time.perf_counter() - degraded)

    return run


def _make_model_options(case: SpeedCase, data: Mapping[str, Any]) -> dict[str, Any]:
    """BasicSR's option dictionary, as the training pipeline hands it to a model."""
    total = 2 * _FIRST_STAGE
    train: dict[str, Any] = {
        'precision': case.precision,
        'compile': case.implementation == 'compiled',
        'total_iter': total,
        'optim_g': {'type': 'Adam', 'betas': [0.9, 0.999]},
        'pixel_opt': {'type': 'L1Loss', 'loss_weight': 255, 'reduction': 'mean'},
    }
    if SPEED_NETWORKS[case.network]['type'] == 'DASR':
        train['stage_1'] = train['stage_2'] = {'total_iter': _FIRST_STAGE, 'lr': 1e-4}
        train['contrast_opt'] = {'loss_weight': 1.0, 'queue_length': 8192, 'momentum': 0.999, 'temperature': 0.07}
    else:
        train['schedule'] = {'total_iter': total, 'lr': 1e-4}
    return {
        'num_gpu': int(case.device == 'cuda'),
        'is_train': True,
        'dist': False,
        'rank': 0,
        'world_size': 1,
        'scale': case.scale,
        'datasets': {'train': data},
        'network_g': make_network_options(case),
        'path': {'pretrain_network_g': None, 'strict_load_g': True},
        'train': train,
    }


def _wait(device: str) -> None:
    """Waits until the device has finished."""
    if device == 'cuda':
        torch.cuda.synchronize()


def measure_memory(text: str) -> dict[str, int]:
    """Runs a case twice in this process, which must be new; the text is JSON with 'case' and 'pictures', the LMDB.

    Returns bytes: 'peak' memory, and 'base', that of Python and its libraries before, 0 on a GPU.
    """
    request = json.loads(text)
    case = SpeedCase(**request['case'])
    if case.network not in SPEED_NETWORKS:
        raise InputError(f"unknown network '{case.network}'{suggest(case.network, SPEED_NETWORKS)}")
    base = read_peak_memory()
    action = build_action(case, Path(request['pictures']))
    for _ in range(2):
        action()
    if case.device == 'cuda':
        return {'peak': torch.cuda.max_memory_allocated(), 'base': 0}
    return {'peak': read_peak_memory(), 'base': base}


if __name__ == '__main__':
    sys.stdout.write(json.dumps(measure_memory(sys.stdin.read())) + '\n')
