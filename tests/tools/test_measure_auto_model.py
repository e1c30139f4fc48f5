"""Table of the accuracy of `--model auto`: losses against the best setting, and a run on a tiny image."""

import numpy as np
import pytest
from PIL import Image

from tests.tools.conftest import import_tool

TOOL = import_tool('measure_auto_model')


def test_table_counts_the_best_choices_and_the_loss():
    psnr = {'general': 20.0, 'iso': 22.0, 'photo': 21.0}
    trials = [TOOL.Trial('a', psnr, ['iso', 'photo']), TOOL.Trial('a', psnr, ['general', 'iso'])]
    lines = TOOL.format_table('data', trials).splitlines()
    assert lines[4] == '| a | 20.00 | 22.00 | 21.00 | 50 % | 1.000 | 50 % | 0.500 |'
    assert lines[5].startswith('| all | 20.00')
    assert lines[7] == 'Mean loss of one setting for all images: general 2.000, iso 0.000, photo 1.000.'


def test_run_measures_every_degradation(tmp_path, monkeypatch, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((60, 48)).save(tmp_path / 'a.png')
    clean, compressed = TOOL.COLUMNS[0], TOOL.COLUMNS[-1]
    monkeypatch.setattr(TOOL, 'COLUMNS', (clean, compressed))
    assert TOOL.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(' | ')[0] for line in lines[4:7]] == ['| sigma 0', '| sigma 1.2, jpeg 90', '| all']
    assert TOOL.main([str(tmp_path / 'none')]) == 2


@pytest.mark.parametrize(('quality', 'kind'), [(None, b'\x89PNG'), (50, b'\xff\xd8')])
def test_images_are_encoded(quality, kind):
    assert TOOL.encode(np.zeros((8, 8, 3), np.uint8), quality).startswith(kind)
