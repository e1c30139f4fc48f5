"""Tool that draws the overview image of the README from free images with the packaged weights."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

TOOL = Path(__file__).parents[2] / 'tools' / 'draw_overview.py'


def run_tool(out: Path, monkeypatch: pytest.MonkeyPatch, figure: str = 'overview') -> int:
    monkeypatch.setattr(sys, 'argv', [str(TOOL), figure, '--out', str(out)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_overview_shows_two_images_in_four_states(tmp_path, monkeypatch):
    assert run_tool(tmp_path / 'overview.png', monkeypatch) == 0
    with (
        Image.open(tmp_path / 'overview.png') as image,
        Image.open(TOOL.parents[1] / 'docs/images/overview.png') as own,
    ):
        assert image.size == own.size == (4 * 280 + 3 * 10, 2 * 306 + 10)


def test_models_are_shown_on_three_degradations(tmp_path, monkeypatch):
    assert run_tool(tmp_path / 'models.webp', monkeypatch, 'models') == 0
    with (
        Image.open(tmp_path / 'models.webp') as image,
        Image.open(TOOL.parents[1] / 'docs/images/models.webp') as own,
    ):
        assert image.size == own.size == (6 * 280 + 5 * 10, 3 * 306 + 2 * 10)


def test_folder_that_is_missing_is_one_line(tmp_path, monkeypatch, capsys):
    assert run_tool(tmp_path / 'none' / 'overview.png', monkeypatch) == 2
    assert capsys.readouterr().err.startswith('error: ')
    assert not (tmp_path / 'none').exists()
