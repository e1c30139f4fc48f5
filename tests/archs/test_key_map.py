"""Names of other people's checkpoints are translated one to one, and what has no place is named."""

import pytest
import torch
from torch import nn

from dasr_arch import InputError
from dasr_arch.archs.contract import KeyMap
from dasr_arch.checkpoints.io import load_fitting, load_strictly

MAP = KeyMap('first.weight', {r'first\.(\w+)': r'body.0.\1', r'last\.(\w+)': r'body.1.\1'}, unused=[r'dead\..*'])


class Pair(nn.Module):
    """Two layers that their authors call first and last."""

    released_names = MAP

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def make_released() -> dict[str, torch.Tensor]:
    names = ('first.weight', 'first.bias', 'last.weight', 'last.bias')
    return {name: torch.full((2, 2) if name.endswith('weight') else (2,), 1.0 + i) for i, name in enumerate(names)}


def test_names_are_translated_and_values_are_kept():
    state = make_released()
    translated, unknown = MAP.translate({**state, 'dead.end': torch.zeros(1)})
    assert unknown == []
    assert list(translated) == ['body.0.weight', 'body.0.bias', 'body.1.weight', 'body.1.bias']
    assert translated['body.1.bias'] is state['last.bias']


def test_name_without_a_place_is_reported():
    assert MAP.our_name('middle.weight') is None
    assert MAP.translate({**make_released(), 'middle.weight': torch.zeros(1)})[1] == ['middle.weight']


def test_second_tensor_for_one_place_is_reported():
    twice = KeyMap('a', {'a': 'x', 'b': 'x'})
    assert twice.translate({'a': torch.zeros(1), 'b': torch.zeros(1)})[1] == ['b']


@pytest.mark.parametrize('released', [True, False])
def test_weights_load_under_either_names(released):
    state = make_released()
    network = Pair()
    load_strictly(network, state if released else MAP.translate(state)[0], 'state dict')
    assert torch.equal(network.body[1].bias, torch.full((2,), 4.0))
    other = Pair()
    assert load_fitting(other, state if released else MAP.translate(state)[0]) == (4, [])
    assert torch.equal(other.body[1].bias, torch.full((2,), 4.0))


def test_unknown_tensor_is_refused_when_every_one_must_fit():
    state = {**make_released(), 'middle.weight': torch.zeros(1)}
    with pytest.raises(InputError, match=r"holds tensors that no released Pair has, such as 'middle\.weight'"):
        load_strictly(Pair(), state, 'state dict')
    assert load_fitting(Pair(), state)[0] == 4


def test_missing_tensor_is_named_as_it_is_called_here():
    state = make_released()
    del state['last.bias']
    with pytest.raises(InputError, match=r"'body\.1\.bias' is missing"):
        load_strictly(Pair(), state, 'state dict')
