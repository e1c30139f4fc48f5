"""Accuracy of `--model auto`: `python tools/measure_auto_model.py DATA ... [--limit N]`.

Each image is degraded in known ways and upscaled by the three settings at x4. The best one has the highest PSNR; the
loss is the PSNR between it and the one that is chosen.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dasr_arch import Upscaler
from dasr_arch.benchmark.config import MetricPlan
from dasr_arch.benchmark.image_metrics import measure_image
from dasr_arch.checkpoints.packaged import SETTINGS
from dasr_arch.data.image_source import open_source
from dasr_arch.degradations import build_degradation, degrade_image
from dasr_arch.degradations.whole_image import crop_to_multiple
from dasr_arch.inference.images.io import read_image_file
from dasr_arch.probe.auto_model import AutoPool
from dasr_cli.main import run_guarded

SCALE = 4
METRIC = MetricPlan('PSNR', 'calculate_psnr', {'crop_border': SCALE, 'test_y_channel': True})
ISOTROPIC = ((0, 30), (0, 50), (0, 75), (0, 90), (1.2, 30), (1.2, 50), (1.2, 75), (1.2, 90))
"""Kernel widths in HR pixels and JPEG qualities."""
COLUMNS: Sequence[tuple[Mapping[str, Any], int | None]] = (
    *(({'type': 'IsotropicGaussian', 'sigma': sigma}, None) for sigma in (0, 1.2, 2.4, 3.6)),
    *(
        ({'type': 'AnisotropicGaussian', 'lambda_1': one, 'lambda_2': two, 'theta_deg': theta, 'noise': noise}, None)
        for one, two, theta in ((2, 1, 10), (3.5, 2, 45), (4, 1, 120))
        for noise in (0, 3, 10, 20)
    ),
    *(({'type': 'IsotropicGaussian', 'sigma': sigma}, quality) for sigma, quality in ISOTROPIC),
)


class Trial(NamedTuple):
    """One degraded image: PSNR of each setting, and the setting chosen for the file and for its pixels as a PNG."""

    column: str
    psnr: Mapping[str, float]
    chosen: Sequence[str]

    def loss(self, setting: str) -> float:
        """PSNR that a setting lacks to the best one, dB."""
        return max(self.psnr.values()) - self.psnr[setting]


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the arguments, prints a table in Markdown; 2 for bad input."""
    parser = argparse.ArgumentParser(description='Accuracy of --model auto, and its loss of PSNR of luma (dB), at x4.')
    parser.add_argument('data', nargs='+', metavar='DATA', help='folders or LMDBs of HR images')
    parser.add_argument('--limit', type=int, default=14, help='number of images of each, spread evenly (14)')
    args = parser.parse_args(argv)

    def work() -> int:
        pool = AutoPool('auto')
        upscalers = {setting: Upscaler(SCALE, setting) for setting in SETTINGS}
        for path in args.data:
            sys.stdout.write(format_table(path, list(run_trials(path, args.limit, pool, upscalers))) + '\n')
            sys.stdout.flush()
        return 0

    return run_guarded(work)


def run_trials(path: str, limit: int, pool: AutoPool, upscalers: Mapping[str, Upscaler]) -> Iterator[Trial]:
    """All degradations of some images of a data set."""
    source = open_source(path)
    count = min(limit, len(source.names))
    for number in range(count):
        index = number * len(source.names) // count
        hr = crop_to_multiple(source.read(index), SCALE)
        for options, quality in COLUMNS:
            degradation = build_degradation(dict(options), SCALE)
            lq = degrade_image(degradation, hr, 0, source.names[index])
            data = encode(lq, quality)
            file = read_image_file(data, 'image')
            lq = np.array(file.frames[0])
            chosen = [pool.choose_model(one)[0] for one in (file, read_image_file(encode(lq, None), 'image'))]
            psnr = {setting: measure_image(METRIC, upscaler(lq), hr) for setting, upscaler in upscalers.items()}
            yield Trial(degradation.label + (f', jpeg {quality}' if quality else ''), psnr, chosen)


def encode(image: NDArray[np.uint8], quality: int | None) -> bytes:
    """An image as a PNG, or as a JPEG of a quality with the chroma subsampling that Pillow gives it."""
    stream = BytesIO()
    Image.fromarray(image).save(
        stream, 'PNG' if quality is None else 'JPEG', **({'quality': quality} if quality else {})
    )
    return stream.getvalue()


def format_table(path: str, trials: Sequence[Trial]) -> str:
    """A row for each degradation and one for all: PSNR, accuracy and mean loss."""
    heads = [*SETTINGS, 'auto: accuracy', 'loss', 'as PNG: accuracy', 'loss']
    lines = [path, '', f'| degradation | {" | ".join(heads)} |', '| --- |' + ' ---: |' * len(heads)]
    for column in [*dict.fromkeys(trial.column for trial in trials), 'all']:
        rows = [trial for trial in trials if column in (trial.column, 'all')]
        cells = [f'{np.mean([trial.psnr[setting] for trial in rows]):.2f}' for setting in SETTINGS]
        for which in (0, 1):
            losses = [trial.loss(trial.chosen[which]) for trial in rows]
            cells += [f'{100 * np.mean([loss == 0 for loss in losses]):.0f} %', f'{np.mean(losses):.3f}']
        lines.append(f'| {column} | {" | ".join(cells)} |')
    losses = [f'{setting} {np.mean([trial.loss(setting) for trial in trials]):.3f}' for setting in SETTINGS]
    return '\n'.join([*lines, '', f'Mean loss of one setting for all images: {", ".join(losses)}.', ''])


if __name__ == '__main__':
    sys.exit(main())
