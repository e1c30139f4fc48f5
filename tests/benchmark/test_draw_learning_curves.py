"""Learning curves come from the logs and option files that lie in the project."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = runpy.run_path(str(ROOT / 'tools' / 'draw_learning_curves.py'))
OPTIONS = 'train: {stage_1: {total_iter: 100}}'
LOG = """
INFO: validation 100, Set14, mean: psnr 20.0, ssim 0.2
INFO: validation 200, Set14, width 0: psnr 29.0, ssim 0.9
INFO: validation 200, Set14, mean: psnr 26.0, ssim 0.7
INFO: validation 300, Set14, mean: psnr 26.5, ssim 0.7
INFO: validation 300, Set14, mean: psnr 26.6, ssim 0.7
"""


def test_means_of_joint_iterations_are_read_and_the_later_of_two_counts():
    assert TOOL['read_curve'](LOG, OPTIONS) == {100: 26.0, 200: 26.6}


def test_curves_follow_each_other():
    assert TOOL['join_curves']([{100: 1.0, 200: 2.0}, {}, {50: 3.0}]) == [[(100, 1.0), (200, 2.0)], [], [(250, 3.0)]]


def test_image_in_the_documents_is_what_the_logs_say(tmp_path):
    TOOL['draw'](TOOL['TRAININGS'], tmp_path / 'curves.svg')
    made, own = ((path).read_text() for path in (tmp_path / 'curves.svg', ROOT / 'docs/images/learning_curves.svg'))
    numbers = re.compile(r'-?\d+\.\d+')
    first, second = ([float(number) for number in numbers.findall(text)] for text in (made, own))
    assert len(first) == len(second) > 100
    assert first == pytest.approx(second, abs=0.5)
