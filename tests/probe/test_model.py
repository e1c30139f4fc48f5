"""A probe names what it was fitted to, survives its file, and refuses what does not belong to it."""

from pathlib import Path

import pytest
import torch

from dasr_arch import DASR, InputError
from dasr_arch.probe.model import (
    LinearClassifier,
    Probe,
    ProbeClass,
    identify_encoder,
    probe_path,
    read_probe,
    write_probe,
)


@pytest.fixture
def network() -> DASR:
    torch.manual_seed(0)
    return DASR(scale=2, num_feat=8, num_groups=1, num_blocks=1, encoder_feat=4, representation_dim=8).eval()


def make_probe(network: DASR) -> Probe:
    """Reads 'width 1' where the first number is high and 'width 2' where the second is."""
    classes = [ProbeClass('width 1', {'sigma': 1.0}), ProbeClass('width 2', {'sigma': 2.0})]
    reading = LinearClassifier(classes, torch.eye(2, 8), torch.zeros(2), 0.75)
    return Probe(identify_encoder(network), torch.full((8,), 3.0), torch.full((8,), 2.0), {'kernel': reading}, 'B100')


def test_the_most_similar_comes_first_and_shares_add_up(network: DASR) -> None:
    guesses = make_probe(network).read(torch.tensor([[3.0, 7.0, 3, 3, 3, 3, 3, 3]]))['kernel']
    assert [guess.label for guess in guesses] == ['width 2', 'width 1']
    assert guesses[0].values == {'sigma': 2.0}
    assert guesses[0].confidence == pytest.approx(torch.tensor([0.0, 2.0]).softmax(0)[1].item())
    assert sum(guess.confidence for guess in guesses) == pytest.approx(1)


def test_a_file_holds_the_whole_probe(network: DASR, tmp_path: Path) -> None:
    probe = make_probe(network)
    write_probe(tmp_path / 'a.probe.safetensors', probe)
    read = read_probe(tmp_path / 'a.probe.safetensors', network)
    vector = torch.arange(8.0)
    assert read.read(vector) == probe.read(vector)
    assert read.classifiers['kernel'].accuracy == 0.75
    assert read.tested_on == 'B100'


def test_an_encoder_is_the_same_in_half_precision_and_another_one_is_not(network: DASR) -> None:
    before = identify_encoder(network)
    assert identify_encoder(network.half().float()) == before
    with torch.no_grad():
        next(network.encoder.parameters()).mul_(1.1)
    assert identify_encoder(network) != before


def test_a_probe_of_another_encoder_is_refused(network: DASR, tmp_path: Path) -> None:
    write_probe(tmp_path / 'a', make_probe(network))
    other = DASR(scale=2, num_feat=8, num_groups=1, num_blocks=1, encoder_feat=4, representation_dim=8)
    with pytest.raises(InputError, match='fitted to another encoder'):
        read_probe(tmp_path / 'a', other)


def test_missing_and_damaged_files_are_one_line(network: DASR, tmp_path: Path) -> None:
    path = tmp_path / 'a'
    with pytest.raises(InputError, match='there is no probe'):
        read_probe(path, network)
    path.write_bytes(b'')
    with pytest.raises(InputError, match='cannot be read as a probe'):
        read_probe(path, network)
    write_probe(path, make_probe(network))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match='cannot be read as a probe'):
        read_probe(path, network)


def test_shapes_that_do_not_fit_are_refused(network: DASR, tmp_path: Path) -> None:
    probe = make_probe(network)
    short = LinearClassifier(probe.classifiers['kernel'].classes, torch.eye(2, 7), torch.zeros(2), 0.5)
    write_probe(tmp_path / 'a', Probe(probe.encoder, probe.mean, probe.spread, {'kernel': short}, ''))
    with pytest.raises(InputError, match='shapes of kernel do not fit'):
        read_probe(tmp_path / 'a', network)


def test_weights_are_no_probe(network: DASR, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({'a': torch.zeros(1)}, tmp_path / 'a')
    with pytest.raises(InputError, match='no probe of this version'):
        read_probe(tmp_path / 'a', network)


@pytest.mark.parametrize('name', ['a.b.pth', 'a.b.safetensors'])
def test_a_probe_lies_beside_its_weights(name: str) -> None:
    assert probe_path(Path('x') / name) == Path('x/a.b.probe.safetensors')
