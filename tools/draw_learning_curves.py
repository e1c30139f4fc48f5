"""Draws how the packaged weights learned, from docs/results/logs: `python tools/draw_learning_curves.py`."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from matplotlib import rc_context
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / 'docs' / 'images' / 'learning_curves.svg'
MEAN = re.compile(r'validation (\d+), Set14, mean: psnr ([\d.]+)')


class Training(NamedTuple):
    """One file of weights.

    Attributes:
        name: what the title says.
        courses: names of option files, one after the other, each with a log of its name.
        bicubic: mean PSNR of Bicubic over the images and degradations of the validation, in dB.
    """

    name: str
    courses: tuple[str, ...]
    bicubic: float


TRAININGS = (
    Training(
        'x4 iso',
        ('weights_x4_iso', 'weights_x4_iso_longer', 'weights_x4_iso_2', 'weights_x4_iso_3', 'weights_x4_iso_4'),
        24.83,
    ),
    Training('x4 general', ('weights_x4_general', 'weights_x4_general_2'), 24.36),
    Training('x2 iso', ('weights_x2_iso', 'weights_x2_iso_2', 'weights_x2_iso_3'), 28.42),
    Training('x3 iso', ('weights_x3_iso', 'weights_x3_iso_2', 'weights_x3_iso_3'), 26.37),
    Training('x2 general', ('weights_x2_general',), 27.37),
    Training('x3 general', ('weights_x3_general',), 25.41),
)


def find_options(name: str) -> Path:
    """The option file of a course: earlier ones lie beside the model cards, the last ones in options/weights."""
    earlier = ROOT / 'docs' / 'models' / 'courses' / f'{name}.yml'
    return earlier if earlier.is_file() else ROOT / 'options' / 'weights' / f'{name}.yml'


def read_course(log: str, options: str) -> dict[int, float]:
    """Mean PSNR after as many joint iterations.

    Args:
        log: text of a training's log; of an iteration that was validated twice, the later counts.
        options: text of its option file, which says how many iterations the encoder was trained alone.
    """
    alone = int(yaml.safe_load(options)['train']['stage_1']['total_iter'])
    return {int(n) - alone: float(psnr) for n, psnr in MEAN.findall(log) if int(n) > alone}


def join(courses: Sequence[dict[int, float]]) -> list[list[tuple[int, float]]]:
    """Points of each course, behind the iterations of the ones before."""
    lines, done = [], 0
    for course in courses:
        lines.append([(done + n, psnr) for n, psnr in sorted(course.items())])
        done += max(course, default=0)
    return lines


def draw(trainings: Sequence[Training], out: Path) -> None:
    """One panel for each training whose logs are there.

    Raises:
        OSError: if a log cannot be read or the image not be written.
    """
    logs = ROOT / 'docs' / 'results' / 'logs'
    shown = [one for one in trainings if all((logs / f'{name}.log').is_file() for name in one.courses)]
    with rc_context({'svg.hashsalt': 'curves', 'font.size': 9}):  # the same file for the same logs
        figure = Figure(figsize=(9, 2.6 * ((len(shown) + 1) // 2)), layout='constrained')
        panels = figure.subplots((len(shown) + 1) // 2, 2, squeeze=False).flat
        for one, axes in zip(shown, panels, strict=False):
            courses = [
                read_course(
                    (logs / f'{name}.log').read_text(encoding='utf-8'),
                    find_options(name).read_text(encoding='utf-8'),
                )
                for name in one.courses
            ]
            for name, points in zip(one.courses, join(courses), strict=True):
                axes.plot(*zip(*points, strict=True), marker='.', label=name)
            axes.axhline(one.bicubic, color='grey', linestyle='dashed', label='Bicubic')
            axes.set(title=one.name, xlabel='joint iterations', ylabel='mean PSNR on Set14, dB')
            axes.legend(loc='center right')
        for axes in list(panels):
            axes.set_axis_off()
        figure.savefig(out, format='svg', metadata={'Date': None})


def main() -> int:
    """Reads the arguments and draws; 2 if something is wrong."""
    parser = argparse.ArgumentParser(description='Draw how the packaged weights learned.')
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
