"""tools/swap_representations.py: what a representation is worth to a network, and what is refused."""

import runpy
from pathlib import Path

import pytest
import torch

from dasr_arch.archs.dasr_arch import DASR
from tests.benchmark.making import save_weights, small_dasr, write_images

MAIN = runpy.run_path(str(Path(__file__).parents[2] / 'tools' / 'swap_representations.py'))['main']


def make_weights(path: Path, deaf: bool) -> Path:
    """A network whose code is zero, whatever the representation is, or one that multiplies it."""
    torch.manual_seed(0)
    network = DASR(**small_dasr())
    with torch.no_grad():
        for name, value in network.compress.named_parameters():
            value.mul_(0 if deaf or name.endswith('bias') else 3000)
    return save_weights(network, path)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[list[str]], str]:
    """Exit code, rows of the table and what stands on stderr."""
    code = MAIN([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, [[evaluation.strip() for evaluation in line.split('|')[1:-1]] for line in out.splitlines()], err


def test_a_network_that_ignores_its_representation_differs_from_one_that_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ['--test', write_images(tmp_path / 'test'), '--others', write_images(tmp_path / 'others', 3, 60, 64)]
    models = [make_weights(tmp_path / 'deaf.pth', True), make_weights(tmp_path / 'listens.pth', False)]
    code, rows, _ = run(capsys, *models, *data, '--sigma', 0, 2.4)
    assert code == 0
    assert rows[0] == ['', 'sigma', 'own', '0', '2.4']
    assert [row[:2] for row in rows[2:]] == [[str(model), sigma] for model in models for sigma in ('0', '2.4')]
    for deaf, listens in zip(rows[2:4], rows[4:], strict=True):
        assert len(set(deaf[2:])) == 1
        assert len(set(listens[2:])) > 1
    limited = run(capsys, models[1], *data, '--widths', 0, 2.4, '--limit', 1)[1]
    assert [row[2] for row in limited[2:]] == [row[2] for row in rows[4:]]
    assert limited[2:] != rows[4:]


def test_a_lent_representation_of_the_same_image_is_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_images(tmp_path / 'test', 1)
    weights = make_weights(tmp_path / 'net.pth', False)
    code, rows, _ = run(capsys, weights, '--test', images, '--others', images, '--widths', 1.2, '--noise', 10)
    assert code == 0
    assert rows[2][2] == rows[2][3]


@pytest.mark.parametrize('case', ['non-blind', 'limit', 'small', 'missing'])
def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    known = save_weights(DASR(**small_dasr(condition='kernel')), tmp_path / 'known.pth')
    blind = make_weights(tmp_path / 'blind.pth', False)
    images, small = write_images(tmp_path / 'some'), write_images(tmp_path / 'small', 1, 8, 60)
    arguments, message = {
        'non-blind': ([known, '--test', images], 'known.pth: is non-blind'),
        'limit': ([blind, '--test', images, '--limit', 0], '--limit must be at least 1, got 0'),
        'small': ([blind, '--test', small], 'a test image of 60 x 8 pixels is too small to measure'),
        'missing': ([blind, '--test', tmp_path / 'none'], 'none'),
    }[case]
    code, _, err = run(capsys, *arguments, '--others', images)
    assert code == 2
    assert err.count('\n') == 1
    assert message in err
