"""The project's training files, and small images that stand in for the data that they name."""

from pathlib import Path

import cv2
import numpy as np

from dasr_arch.config.yaml_reader import read_yaml

OPTIONS = Path(__file__).parents[1] / 'options'
SHALLOW = {
    'EDSR': ['num_feat=8', 'num_block=1'],
    'IKC': ['num_blocks=1'],
    'RCAN': ['num_group=1', 'num_block=1'],
    'SAN': ['num_groups=1', 'num_blocks=1'],
    'UDVD': ['num_blocks=1'],
}
"""Arguments that make the deepest networks quick to build."""
COURSES = OPTIONS.parent / 'docs' / 'models' / 'courses'
TRAINING_FILES = sorted(
    path for folder in (OPTIONS, COURSES) for path in folder.rglob('*.yml') if 'network_g' in read_yaml(path)
)


def write_images(folder: Path, count: int = 4, side: int = 256, name: str = '{}') -> Path:
    """Fill a folder with seeded blocks of colour, 8 pixels wide.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        blocks = generator.integers(0, 256, (-(-side // 8), -(-side // 8), 3), dtype=np.uint8)
        image = np.kron(blocks, np.ones((8, 8, 1), dtype=np.uint8))[:side, :side]
        assert cv2.imwrite(str(folder / f'{name.format(index)}.png'), image)
    return folder


def stand_in(path: Path, folder: Path, *, smoke: bool = False) -> list[str]:
    """Overrides that point a file at small images, made in a folder, with small batches, and at no weights."""
    options = read_yaml(path, smoke=smoke)
    scale = options['scale']
    batch = 2
    overrides = ['datasets.train.num_worker_per_gpu=0', 'num_gpu=0', 'path.pretrain_network_g=~']
    if 'pretrain_network_encoder' in options.get('path', {}):
        overrides.append('path.pretrain_network_encoder=~')
    if options['train'].get('freeze_encoder'):
        overrides.append('train.freeze_encoder=false')  # it needs weights
    if options['train'].get('perceptual_opt'):
        overrides.append('train.perceptual_opt=~')  # it needs VGG's weights
    if 'meta_opt' in options['train']:
        overrides += ['train.meta_opt.support=2', 'train.meta_opt.query=2']
        batch = 4
    overrides.append(f'datasets.train.batch_size_per_gpu={batch}')
    overrides += [f'network_g.{argument}' for argument in SHALLOW.get(options['network_g']['type'], ())]
    for key, dataset in options['datasets'].items():
        if 'dataroot_gt' in dataset:
            overrides.append(f'datasets.{key}.dataroot_gt={write_images(folder / "hr")}')
        if 'dataroot_lq' in dataset:
            name = dataset.get('filename_tmpl', '{}')
            root = write_images(folder / 'lq', side=256 // scale, name=name)
            overrides.append(f'datasets.{key}.dataroot_lq={root}')
    return overrides
