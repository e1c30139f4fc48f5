"""Draws images of the documents from free images and packaged weights: `python tools/draw_overview.py`.

`overview` is the first image of the README, `models` the comparison of the models in docs/upscaler.md.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dasr_arch import InputError, Upscaler
from dasr_arch.archs.bicubic_arch import Bicubic
from dasr_arch.benchmark.config import MetricPlan
from dasr_arch.benchmark.image_metrics import measure_image
from dasr_arch.data.image_io import read_image
from dasr_arch.data.sample_images import find_sample_images
from dasr_arch.degradations import build_degradation, degrade_image

SCALE = 4
SIDE = 280  # pixels of each part
GAP, LINE = 10, 26  # pixels
FOLDER = Path(__file__).resolve().parents[1] / 'docs' / 'images'


class Row(NamedTuple):
    """One image with one degradation.

    Attributes:
        image: name of a sample image.
        window: top and left of the shown part.
        models: settings of the packaged weights.
        degradation: block of an option file.
        label: description of the degradation.
    """

    image: str
    window: tuple[int, int]
    models: tuple[str, ...]
    degradation: dict[str, object]
    label: str


_SLANTED = {'type': 'AnisotropicGaussian', 'lambda_1': 3.0, 'lambda_2': 1.2, 'theta_deg': 30, 'noise': 10}
_ALL = ('photo', 'general', 'iso')
FIGURES = {
    'overview': (
        Row(
            'astronaut',
            (0, 84),
            ('photo',),
            {'type': 'IsotropicGaussian', 'sigma': 0.8, 'jpeg': 50},
            'JPEG of quality 50',
        ),
        Row('chelsea', (16, 84), ('general',), _SLANTED, 'slanted blur, noise of 10'),
    ),
    'models': (
        Row('chelsea', (16, 84), _ALL, {'type': 'IsotropicGaussian', 'sigma': 0.8, 'jpeg': 40}, 'JPEG of quality 40'),
        Row('chelsea', (16, 84), _ALL, _SLANTED, 'slanted blur, noise of 10'),
        Row('chelsea', (16, 84), _ALL, {'type': 'IsotropicGaussian', 'sigma': 2.4}, 'blur of width 2.4'),
    ),
}


def compute_row(row: Row) -> list[tuple[NDArray[np.uint8], str]]:
    """The original, the LR image, Bicubic and each network, with their captions."""
    source = next(path for path in find_sample_images('test') if path.stem == row.image)
    top, left = row.window
    truth = np.ascontiguousarray(read_image(source)[top : top + SIDE, left : left + SIDE])
    low = degrade_image(build_degradation(row.degradation, SCALE), truth, name=row.image)
    tensor = torch.from_numpy(low).permute(2, 0, 1).unsqueeze(0).float() / 255
    bicubic = (Bicubic(SCALE)(tensor)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    parts = [
        (truth, 'original'),
        (low.repeat(SCALE, 0).repeat(SCALE, 1), row.label),
        (bicubic, f'Bicubic {measure(bicubic, truth):.2f} dB'),
    ]
    for model in row.models:
        ours = Upscaler(SCALE, model)(low)
        assert isinstance(ours, np.ndarray)
        parts.append((ours, f'DASR-S {model} {measure(ours, truth):.2f} dB'))
    return parts


def measure(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """PSNR of luma in dB."""
    metric = MetricPlan('PSNR', 'calculate_psnr', {'crop_border': SCALE, 'test_y_channel': True})
    return measure_image(metric, image, truth)


def draw(rows: list[list[tuple[NDArray[np.uint8], str]]]) -> Image.Image:
    """All rows on white."""
    width = len(rows[0]) * (SIDE + GAP) - GAP
    page = Image.new('RGB', (width, len(rows) * (SIDE + LINE) + (len(rows) - 1) * GAP), 'white')
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for line, parts in enumerate(rows):
        top = line * (SIDE + LINE + GAP)
        for column, (image, text) in enumerate(parts):
            left = column * (SIDE + GAP)
            page.paste(Image.fromarray(image), (left, top))
            pen.text((left + SIDE / 2, top + SIDE + LINE / 2), text, 'black', font, anchor='mm')
    return page


def main() -> int:
    """Reads the arguments and writes the image; 2 on failure."""
    parser = argparse.ArgumentParser(description='Draw an image of the documents.')
    parser.add_argument('figure', nargs='?', choices=FIGURES, default='overview', help='overview')
    parser.add_argument('--out', type=Path, help='docs/images/overview.png or models.webp')
    args = parser.parse_args()
    out = args.out or FOLDER / {'overview': 'overview.png', 'models': 'models.webp'}[args.figure]
    try:
        draw([compute_row(row) for row in FIGURES[args.figure]]).save(out, quality=90, method=6)
    except (InputError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
