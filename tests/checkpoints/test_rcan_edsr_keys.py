"""BasicSR's RCAN and EDSR give what their authors' networks give with their checkpoints."""

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional

import dasr_arch  # noqa: F401
from dasr_arch import InputError
from dasr_arch.checkpoints.io import load_fitting, load_strictly
from tests.golden.weights import relative_error

FEAT, COUNT = 16, 2
MEAN = (0.4488, 0.4371, 0.4040)
State = dict[str, Tensor]


def make_network(kind: str, scale: int) -> nn.Module:
    sizes = {'RCAN': {'num_group': COUNT, 'num_block': COUNT, 'squeeze_factor': 4}, 'EDSR': {'num_block': COUNT}}
    network: nn.Module = ARCH_REGISTRY.get(kind)(3, 3, num_feat=FEAT, upscale=scale, **sizes[kind])
    return network.eval()


def make_state(kind: str, scale: int, drift: float) -> State:
    """A small checkpoint of the authors' with random weights, and colour shifts that drifted so far in training."""
    generator = torch.Generator().manual_seed(0)
    state: State = {}

    def convolution(name: str, inputs: int, outputs: int, side: int = 3) -> None:
        state[f'{name}.weight'] = torch.randn(outputs, inputs, side, side, generator=generator) / (inputs * side)
        state[f'{name}.bias'] = torch.randn(outputs, generator=generator) / 4

    convolution('head.0', 3, FEAT)
    for i in range(COUNT):
        if kind == 'EDSR':
            convolution(f'body.{i}.body.0', FEAT, FEAT)
            convolution(f'body.{i}.body.2', FEAT, FEAT)
            continue
        for j in range(COUNT):
            convolution(f'body.{i}.body.{j}.body.0', FEAT, FEAT)
            convolution(f'body.{i}.body.{j}.body.2', FEAT, FEAT)
            convolution(f'body.{i}.body.{j}.body.3.conv_du.0', FEAT, FEAT // 4, 1)
            convolution(f'body.{i}.body.{j}.body.3.conv_du.2', FEAT // 4, FEAT, 1)
        convolution(f'body.{i}.body.{COUNT}', FEAT, FEAT)
    convolution(f'body.{COUNT}', FEAT, FEAT)
    for step in range(2 if scale == 4 else 1):
        convolution(f'tail.0.{2 * step}', FEAT, FEAT * (9 if scale == 3 else 4))
    convolution('tail.1', FEAT, 3)
    for layer, sign in (('sub_mean', -1), ('add_mean', 1)):
        noise = torch.randn(3, 4, generator=generator) * drift
        state[f'{layer}.weight'] = (torch.eye(3) + noise[:, :3]).reshape(3, 3, 1, 1)
        state[f'{layer}.bias'] = sign * 255 * torch.tensor(MEAN) + 255 * noise[:, 3]
    return state


def run_released(kind: str, state: State, lq: Tensor, scale: int) -> Tensor:
    """The authors' network, written out, from grey levels to grey levels."""

    def convolve(name: str, x: Tensor) -> Tensor:
        weight = state[f'{name}.weight']
        return functional.conv2d(x, weight, state[f'{name}.bias'], padding=weight.shape[-1] // 2)

    head = convolve('head.0', convolve('sub_mean', lq * 255))
    x = head
    for i in range(COUNT):
        if kind == 'EDSR':
            x = x + convolve(f'body.{i}.body.2', convolve(f'body.{i}.body.0', x).relu())
            continue
        group = x
        for j in range(COUNT):
            block = f'body.{i}.body.{j}.body'
            inner = convolve(f'{block}.2', convolve(f'{block}.0', x).relu())
            pooled = convolve(f'{block}.3.conv_du.0', inner.mean((-2, -1), keepdim=True)).relu()
            x = x + inner * convolve(f'{block}.3.conv_du.2', pooled).sigmoid()
        x = convolve(f'body.{i}.body.{COUNT}', x) + group
    x = convolve(f'body.{COUNT}', x) + head
    for step in range(2 if scale == 4 else 1):
        x = functional.pixel_shuffle(convolve(f'tail.0.{2 * step}', x), 3 if scale == 3 else 2)
    return convolve('add_mean', convolve('tail.1', x)) / 255


@pytest.mark.parametrize('drift', [0, 0.02])
@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('kind', ['RCAN', 'EDSR'])
@torch.no_grad()
def test_network_gives_what_the_authors_gives(kind, scale, drift):
    state, network = make_state(kind, scale, drift), make_network(kind, scale)
    lq = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    load_strictly(network, state, 'the checkpoint')
    assert relative_error(network(lq), run_released(kind, state, lq, scale)) < 1e-5


@torch.no_grad()
def test_checkpoint_without_colour_shifts_takes_the_constant():
    state, network = make_state('EDSR', 2, 0), make_network('EDSR', 2)
    lq = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    load_strictly(network, {key: value for key, value in state.items() if '_mean' not in key}, 'the checkpoint')
    assert relative_error(network(lq), run_released('EDSR', state, lq, 2)) < 1e-5


def test_body_of_another_scale_can_start_a_training():
    network = make_network('RCAN', 4)
    loaded, left = load_fitting(network, make_state('RCAN', 2, 0))
    assert left == ['upsample.2.weight', 'upsample.2.bias']
    assert loaded == len(network.state_dict()) - 2


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'sub_mean.weight': torch.zeros(3, 3, 1, 1)}, 'cannot be inverted'),
        ({'add_mean.bias': None}, "holds no 'add_mean.bias'"),
        ({'body.0.body.9.body.0.weight': torch.zeros(1)}, 'does not have'),
        ({'fc.weight': torch.zeros(1)}, "no released RCAN has, such as 'fc.weight'"),
        ({'sub_mean.bias': torch.zeros(4)}, r"'sub_mean.bias' of the checkpoint has shape \(4,\), expected \(3,\)"),
        ({'tail.1.weight': torch.zeros(1, FEAT, 3, 3)}, 'expected 3 colours'),
    ],
)
def test_damaged_checkpoint_is_refused_in_one_line(change, message):
    state = {key: value for key, value in {**make_state('RCAN', 2, 0), **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        load_strictly(make_network('RCAN', 2), state, 'the checkpoint')
