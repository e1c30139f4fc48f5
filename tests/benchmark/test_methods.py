"""Methods: auxiliary networks, non-blind inputs, and what is refused before anything is computed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.dncnn_arch import DnCNN
from dasr_arch.archs.ikc_arch import IKC, Predictor
from dasr_arch.archs.mzsr_arch import MZSR
from dasr_arch.archs.srcnn_arch import SRCNN
from dasr_arch.archs.srmd_arch import SRMD, SRMDNF
from dasr_arch.benchmark.config import NetworkPlan, PartPlan
from dasr_arch.benchmark.methods import Method, build_method, describe_method, probe_method, run_network
from dasr_arch.degradations import build_degradation, image_generator
from dasr_arch.zero_shot.adaptation import build_adapter
from dasr_arch.zero_shot.kernel_estimation import estimate_kernel
from tests.benchmark.making import save_weights, small_dasr

SMALL_SRMD = {'scale': 4, 'num_feat': 8, 'num_layers': 3}
SMALL_IKC = {'scale': 4, 'num_feat': 8, 'num_blocks': 1, 'num_steps': 2}
BLUR = build_degradation({'type': 'IsotropicGaussian', 'sigma': 2.4, 'noise': 5}, 4)
LQ = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
DRAWS = BLUR.draw(image_generator(0, 'a'), (20, 24))


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of small networks of every kind."""
    root = tmp_path_factory.mktemp('weights')
    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {
        'srmdnf': SRMDNF(**SMALL_SRMD),
        'srmd': SRMD(**SMALL_SRMD),
        'ikc': IKC(**SMALL_IKC),
        'predictor': Predictor(num_feat=8),
        'dncnn': DnCNN(num_feat=8, num_layers=3),
        'mzsr': MZSR(scale=4, num_feat=8, num_layers=3),
        'srcnn': SRCNN(scale=4, num_feat=8, num_map=4),
        'dasr': DASR(**small_dasr()),
    }
    for name, network in networks.items():
        save_weights(network, root / f'{name}.pth')
    return root


def restore(method: Method, name: str = 'a') -> torch.Tensor:
    return method.restore(LQ, DRAWS, 4, image_generator(0, name))


def srmdnf(folder: Path, **changes: Any) -> NetworkPlan:
    return NetworkPlan('Ours', 'SRMDNF', SMALL_SRMD, folder / 'srmdnf.pth', **changes)


def predictor(folder: Path, name: str = 'ikc') -> PartPlan:
    return PartPlan('IKC', {key: SMALL_IKC[key] for key in ('num_feat', 'num_blocks')}, folder / f'{name}.pth')


def test_network_gets_the_true_kernel(folder: Path) -> None:
    method = build_method(srmdnf(folder), 4)
    with torch.no_grad():
        assert torch.equal(restore(method), method.network(LQ, kernel=DRAWS['kernel'][None]))
    assert describe_method(method)['known'] == 'kernel'
    assert describe_method(method)['upper_bound'] is True


def test_network_gets_the_estimated_kernel_and_never_the_true_one(folder: Path) -> None:
    method = build_method(srmdnf(folder, kernel='predicted', predictor=predictor(folder)), 4)
    assert method.estimator is not None
    with torch.no_grad():
        expected = method.network(LQ, kernel=estimate_kernel(method.estimator, LQ))
    assert torch.equal(restore(method), expected)
    assert torch.equal(method.restore(LQ, {}, 4, image_generator(0, '')), expected)  # no truth at hand
    assert describe_method(method)['known'] == 'predicted kernel'
    assert describe_method(method)['upper_bound'] is False
    probe_method(method, BLUR)


def test_predictor_can_be_a_file_of_its_own(folder: Path) -> None:
    method = build_method(srmdnf(folder, kernel='predicted', predictor=predictor(folder, 'predictor')), 4)
    own = Predictor(num_feat=8).eval()
    own.load_state_dict(torch.load(folder / 'predictor.pth', weights_only=True)['params'])
    assert method.estimator is not None
    with torch.no_grad():
        assert torch.equal(method.estimator.predictor(LQ), own(LQ))


def test_predictor_of_the_authors_needs_its_kernel_basis(folder: Path) -> None:
    own = torch.load(folder / 'predictor.pth', weights_only=True)['params']
    torch.save({key.replace('body.', 'ConvNet.'): value for key, value in own.items()}, folder / 'Predictor_G.pth')
    plan = srmdnf(folder, kernel='predicted', predictor=predictor(folder, 'Predictor_G'))
    with pytest.raises(InputError, match="is the authors', whose coefficients mean nothing without their kernel basis"):
        build_method(plan, 4)


def test_denoiser_comes_first_and_takes_the_noise_level_with_it(folder: Path) -> None:
    denoiser = PartPlan('DnCNN', {'num_feat': 8, 'num_layers': 3}, folder / 'dncnn.pth')
    method = build_method(srmdnf(folder, denoiser=denoiser), 4)
    assert method.denoiser is not None
    with torch.no_grad():
        clean = (method.denoiser(LQ) * 255).round().clamp(0, 255) / 255
        assert torch.equal(restore(method), method.network(clean, kernel=DRAWS['kernel'][None]))
    assert [type(network).__name__ for network in method.list_networks()] == ['DnCNN', 'SRMDNF']


def test_noise_level_can_be_kept_back(folder: Path) -> None:
    plan = NetworkPlan('Ours', 'SRMD', SMALL_SRMD, folder / 'srmd.pth')
    given = build_method(plan, 4)
    without = build_method(NetworkPlan('Ours', 'SRMD', SMALL_SRMD, folder / 'srmd.pth', noise_level='none'), 4)
    assert describe_method(given)['known'] == 'kernel, noise level'
    assert describe_method(without)['known'] == 'kernel'
    assert not torch.equal(restore(given), restore(without))


def test_digest_covers_the_weights_of_every_part(folder: Path, tmp_path: Path) -> None:
    alone = build_method(srmdnf(folder), 4).digest
    first = build_method(srmdnf(folder, kernel='predicted', predictor=predictor(folder)), 4).digest
    torch.manual_seed(1)
    save_weights(IKC(**SMALL_IKC), tmp_path / 'ikc.pth')
    second = build_method(srmdnf(folder, kernel='predicted', predictor=predictor(tmp_path)), 4).digest
    assert len({alone, first, second}) == 3


def test_test_time_training_is_seeded_by_it_and_left_as_it_was(folder: Path) -> None:
    arguments = {'scale': 4, 'num_feat': 8, 'num_layers': 3}
    adapt = {'max_steps': 3, 'crop_size': 16}
    method = build_method(NetworkPlan('Z', 'ZSSR', arguments, None, kernel='none', adapt=adapt), 4)
    assert method.digest == ''
    assert describe_method(method)['adapts'] is True
    assert describe_method(method)['known'] == 'nothing'
    probe_method(method, BLUR)
    first, again, other = restore(method), restore(method), restore(method, 'b')
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_test_time_training_gets_the_kernel(folder: Path) -> None:
    arguments = {'scale': 4, 'num_feat': 8, 'num_layers': 3}
    plan = NetworkPlan('M', 'MZSR', arguments, folder / 'mzsr.pth', adapt={'steps': 2})
    method = build_method(plan, 4)
    expected = build_adapter('MZSR', {'steps': 2})(method.network, LQ, kernel=DRAWS['kernel']).sr
    assert torch.equal(restore(method), expected)
    assert describe_method(method)['known'] == 'kernel'


@pytest.mark.parametrize('name', ['dasr', 'srcnn'])
def test_tiles_fit_together(folder: Path, name: str) -> None:
    plans = {
        'dasr': lambda **kw: NetworkPlan('D', 'DASR', {}, folder / 'dasr.pth', **kw),
        'srcnn': lambda **kw: NetworkPlan(
            'S', 'SRCNN', {'scale': 4, 'num_feat': 8, 'num_map': 4}, folder / 'srcnn.pth', **kw
        ),
    }
    lq = torch.rand(1, 3, 90, 100, generator=torch.Generator().manual_seed(1))
    whole = build_method(plans[name](), 4).restore(lq, {}, 4, image_generator(0, ''))
    tiled = build_method(plans[name](tile=40), 4).restore(lq, {}, 4, image_generator(0, ''))
    assert tiled.shape == whole.shape
    assert (tiled - whole).abs().max() < 1e-4  # rounding: both networks see less far than the margin


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ('srmdnf', {'kernel': 'none'}, 'SRMDNF is non-blind and needs the blur kernel, which `kernel: none` withholds'),
    ('srmdnf', {'kernel': 'predicted'}, '`kernel: predicted` needs `predictor: {path: FILE}`'),
    ('srmdnf', {'adapt': {'steps': 1}}, 'SRMDNF has no test-time training; remove `adapt`'),
    ('mzsr', {'adapt': {'stepps': 1}}, "unknown key 'stepps'"),
    ('mzsr', {'tile': 64}, 'MZSR trains on the whole image and cannot be cut into tiles; remove `tile`'),
    ('srcnn', {'kernel': 'predicted'}, 'SRCNN takes no kernel'),
]


@pytest.mark.parametrize(('name', 'changes', 'message'), REFUSED)
def test_what_makes_no_sense_is_one_line(folder: Path, name: str, changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, dict[str, Any]] = {
        'srmdnf': SMALL_SRMD,
        'mzsr': {'scale': 4, 'num_feat': 8, 'num_layers': 3},
        'srcnn': {'scale': 4, 'num_feat': 8, 'num_map': 4},
    }
    kind = {'srmdnf': 'SRMDNF', 'mzsr': 'MZSR', 'srcnn': 'SRCNN'}[name]
    with pytest.raises(InputError) as caught:
        build_method(NetworkPlan('Ours', kind, arguments[name], folder / f'{name}.pth', **changes), 4)
    assert str(caught.value).startswith('networks.Ours: ')
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


def test_predictor_without_use_and_parts_of_other_networks_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match='a predictor is given but not used'):
        build_method(srmdnf(folder, predictor=predictor(folder)), 4)
    with pytest.raises(InputError, match=r"networks.Ours: weights file '.*srcnn.pth' does not fit this IKC"):
        build_method(srmdnf(folder, kernel='predicted', predictor=predictor(folder, 'srcnn')), 4)
    wrong = PartPlan('DnCNN', {'num_feat': 8, 'num_layers': 3}, folder / 'dasr.pth')
    with pytest.raises(InputError, match=r"networks.Ours: weights file '.*dasr.pth' does not fit this DnCNN"):
        build_method(srmdnf(folder, denoiser=wrong), 4)
    other = PartPlan('Predictor', {'num_feat': 8}, folder / 'predictor.pth')
    with pytest.raises(InputError, match='predictor: expected an IKC, got Predictor'):
        build_method(srmdnf(folder, kernel='predicted', predictor=other), 4)
    save_weights(IKC(**SMALL_IKC).sftmd, folder / 'sftmd.pth')
    with pytest.raises(InputError, match=r"sftmd\.pth' is of SFTMD; give one of a Predictor or of a whole IKC"):
        build_method(srmdnf(folder, kernel='predicted', predictor=predictor(folder, 'sftmd')), 4)
    small = PartPlan('IKC', {'scale': 2, 'num_feat': 8, 'num_blocks': 1}, folder / 'predictor.pth')
    with pytest.raises(InputError, match='predictor: scale is 2, but the test has scale 4'):
        build_method(srmdnf(folder, kernel='predicted', predictor=small), 4)


def test_incomplete_dasr_is_named(folder: Path, tmp_path: Path) -> None:
    state = torch.load(folder / 'dasr.pth', weights_only=True)['params']
    del state['encoder.body.0.weight']
    torch.save(state, tmp_path / 'part.pth')
    with pytest.raises(
        InputError, match=r"weights file '.*part\.pth' is no complete DASR \(.*encoder\.body\.0\.weight"
    ):
        build_method(NetworkPlan('Ours', 'DASR', {}, tmp_path / 'part.pth'), 4)


def test_result_that_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match='expected an image as the output, got tuple'):
        run_network(Split(), LQ, {}, 1)


class Split(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.split(1)


def test_network_that_returns_no_image_is_no_method(folder: Path) -> None:
    with pytest.raises(InputError, match=r'networks\.Ours: Predictor returns no image'):
        build_method(NetworkPlan('Ours', 'Predictor', {'num_feat': 8}, folder / 'predictor.pth'), 4)
