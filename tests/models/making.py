"""Options and batches for models that train in a moment."""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import default_collate

from dasr_arch.data.degradation_dataset import DegradationDataset

DEMO = Path(__file__).parents[2] / 'datasets' / 'demo'
TINY = {'num_feat': 8, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 12, 'encoder_feat': 4}
TRAIN_SET = {
    'name': 'demo',
    'type': 'DegradationDataset',
    'dataroot_gt': str(DEMO),
    'scale': 2,
    'gt_size': 32,
    'degradation': {'type': 'IsotropicGaussian', 'sigma_range': [0.2, 2.0]},
}
PIXEL = {'type': 'L1Loss', 'loss_weight': 255.0, 'reduction': 'mean'}
CONTRAST = {'loss_weight': 1.0, 'queue_length': 16}


def make_options(model: str, folder: Path | None = None, **train: Any) -> dict[str, Any]:
    """BasicSR's option dictionary for one process on a CPU; ``folder`` is where files go."""
    stages = [value['total_iter'] for key, value in train.items() if key == 'schedule' or key.startswith('stage_')]
    paths = {key: str(folder / key) for key in ('models', 'training_states', 'visualization')} if folder else {}
    return {
        'name': 'test',
        'model_type': model,
        'scale': 2,
        'num_gpu': 0,
        'is_train': True,
        'dist': False,
        'rank': 0,
        'world_size': 1,
        'datasets': {'train': dict(TRAIN_SET)},
        'network_g': {'type': 'DASR', 'scale': 2, **TINY},
        'path': paths,
        'train': {
            'total_iter': sum(stages),
            'precision': 'fp32',
            'optim_g': {'type': 'Adam', 'betas': [0.9, 0.999]},
            'pixel_opt': dict(PIXEL),
            **train,
        },
    }


def make_dasr_options(stage_1: int = 2, stage_2: int = 2, folder: Path | None = None, **train: Any) -> dict[str, Any]:
    """Options of DASRModel with so many iterations in each stage."""
    stages = {'stage_1': {'total_iter': stage_1, 'lr': 1e-3}, 'stage_2': {'total_iter': stage_2, 'lr': 1e-4}}
    return make_options('DASRModel', folder, **{**stages, 'contrast_opt': dict(CONTRAST), **train})


def make_batch(size: int = 4, start: int = 0, **options: Any) -> dict[str, Any]:
    """A batch of raw patches of the demo images."""
    dataset = DegradationDataset({**TRAIN_SET, **options})
    return default_collate([dataset[number % len(dataset), number] for number in range(start, start + size)])


def train_step(model: Any, iteration: int, batch: dict[str, Any]) -> dict[str, float]:
    """One iteration, as the training loop runs it."""
    model.update_learning_rate(iteration)
    model.feed_data(batch)
    model.optimize_parameters(iteration)
    return dict(model.get_current_log())


def copy_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state dict that later steps do not change."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
