"""Draws the learning curves of the packaged weights from docs/results/logs: `python tools/draw_learning_curves.py`."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from dasr_arch._svg import Axes, Panel, Series, draw_figure, draw_lines

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / 'docs' / 'images' / 'learning_curves.svg'
COLOURS = ('#2f6fc4', '#d1495b', '#2a9d8f', '#8f5bb5', '#b8860b')  # of the runs
MEAN = re.compile(r'validation (\d+), Set14, mean: psnr ([\d.]+)')


class Training(NamedTuple):
    """Trainings that led to one file of weights.

    Attributes:
        name: title of the chart.
        runs: stems of option files in order; each run has a log of that name.
        bicubic: mean PSNR of Bicubic over the images and degradations of the validation, in dB.
    """

    name: str
    runs: tuple[str, ...]
    bicubic: float


TRAININGS = (
    Training(
        'x4 iso',
        ('weights_x4_iso', 'weights_x4_iso_longer', 'weights_x4_iso_2', 'weights_x4_iso_3', 'weights_x4_iso_4'),
        24.83,
    ),
    Training('x4 general', ('weights_x4_general', 'weights_x4_general_2', 'weights_x4_general_3'), 24.36),
    Training('x2 iso', ('weights_x2_iso', 'weights_x2_iso_2', 'weights_x2_iso_3'), 28.42),
    Training('x3 iso', ('weights_x3_iso',), 26.37),
    Training('x2 general', ('weights_x2_general',), 27.37),
    Training('x3 general', ('weights_x3_general',), 25.41),
)


def find_options(name: str) -> Path:
    """Option file of a run: earlier ones are beside the model cards, the last ones in options/weights."""
    earlier = ROOT / 'docs' / 'models' / 'courses' / f'{name}.yml'
    return earlier if earlier.is_file() else ROOT / 'options' / 'weights' / f'{name}.yml'


def read_curve(log: str, options: str) -> dict[int, float]:
    """Mean PSNR by number of joint iterations.

    Args:
        log: text of a training's log; the later of two validations of one iteration counts.
        options: text of its option file, which has the number of iterations of the encoder alone.
    """
    alone = int(yaml.safe_load(options)['train']['stage_1']['total_iter'])
    return {int(n) - alone: float(psnr) for n, psnr in MEAN.findall(log) if int(n) > alone}


def join_curves(curves: Sequence[dict[int, float]]) -> list[list[tuple[float, float]]]:
    """Points of each curve; each curve starts where the one before ends."""
    lines: list[list[tuple[float, float]]] = []
    done = 0
    for curve in curves:
        lines.append([(done + n, psnr) for n, psnr in sorted(curve.items())])
        done += max(curve, default=0)
    return lines


def draw(trainings: Sequence[Training], out: Path) -> None:
    """Draws one chart for each training whose logs are there.

    Raises:
        OSError: if a log cannot be read or the image not be written.
    """
    logs = ROOT / 'docs' / 'results' / 'logs'
    shown = [one for one in trainings if all((logs / f'{name}.log').is_file() for name in one.runs)]
    out.write_text(draw_figure([make_panel(one, logs) for one in shown], columns=2), encoding='utf-8')


def make_panel(training: Training, logs: Path) -> Panel:
    """The chart of one training."""
    curves = [
        read_curve(
            (logs / f'{name}.log').read_text(encoding='utf-8'),
            find_options(name).read_text(encoding='utf-8'),
        )
        for name in training.runs
    ]
    lines = join_curves(curves)
    series = [Series(*facts) for facts in zip(training.runs, COLOURS, lines, strict=False)]
    end = max((x for line in lines for x, _ in line), default=1)
    series.append(Series('Bicubic', '#888888', [(0, training.bicubic), (end, training.bicubic)]))
    axes = Axes('joint iterations', 'mean PSNR on Set14, dB', description=training.name)
    return Panel(training.name, draw_lines(series, axes), series)


def main() -> int:
    """Reads the arguments and draws; 2 on failure."""
    parser = argparse.ArgumentParser(description='Draw the learning curves of the packaged weights.')
    parser.add_argument('--out', type=Path, default=TARGET, help='SVG file (docs/images/learning_curves.svg)')
    args = parser.parse_args()
    try:
        draw(TRAININGS, args.out)
    except OSError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
