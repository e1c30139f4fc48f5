"""Networks are built, filled and tried before a benchmark starts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.archs.srresnet_arch import MSRResNet

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.ikc_arch import IKC, SFTMD
from dasr_arch.archs.srmd_arch import SRMD
from dasr_arch.benchmark.config import NetworkPlan
from dasr_arch.benchmark.methods import Method, build_method, build_network, check_finite, probe_method
from dasr_arch.degradations import build_degradation, image_generator
from dasr_arch.zero_shot.kernel_estimation import estimate_kernel
from tests.benchmark.making import save_weights, small_dasr
from tests.golden.weights import golden_state, relative_error

GOLDEN = Path(__file__).parents[1] / 'golden'

BLUR = build_degradation({'type': 'IsotropicGaussian', 'sigma': 1.2, 'noise': 5}, 4)


def make_method(network: torch.nn.Module, **plan: Any) -> Method:
    return Method(NetworkPlan('Ours', type(network).__name__, **plan), network, '')


def test_dasr_takes_its_sizes_from_the_weights_file(tmp_path: Path) -> None:
    trained = DASR(**small_dasr()).eval()
    path = save_weights(trained, tmp_path / 'net.pth')
    network, digest = build_network(NetworkPlan('Ours', 'DASR', {'scale': 4}, path))
    lq = torch.rand(1, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(lq), trained(lq))
    assert not network.training
    assert len(digest) == 64


def test_networks_of_basicsr_are_built_and_tried(tmp_path: Path) -> None:
    arguments = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_block': 1, 'upscale': 4}
    path = save_weights(MSRResNet(**arguments), tmp_path / 'net.pth')
    plan = NetworkPlan('Theirs', 'MSRResNet', arguments, path)
    system = build_method(plan, 4)
    probe_method(system, BLUR)
    wrong = build_degradation({'type': 'IsotropicGaussian', 'sigma': 1.2}, 2)
    with pytest.raises(InputError, match=r'expected an output of 96 x 96 pixels \(scale 2\), got 192 x 192'):
        probe_method(system, wrong)


def test_checkpoint_of_another_scale_is_refused(tmp_path: Path) -> None:
    path = save_weights(DASR(**small_dasr(scale=2)), tmp_path / 'net.pth')
    with pytest.raises(InputError, match=r'networks.Ours: .*is for x2, not for x4'):
        build_network(NetworkPlan('Ours', 'DASR', {'scale': 4}, path))


def test_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    path = save_weights(MSRResNet(num_feat=4, num_block=1), tmp_path / 'net.pth')
    with pytest.raises(InputError, match=r'networks.Ours: .*no DASR'):
        build_network(NetworkPlan('Ours', 'DASR', {'scale': 4}, path))
    wide = NetworkPlan('Theirs', 'MSRResNet', {'num_feat': 8, 'num_block': 1}, path)
    with pytest.raises(InputError, match=r"networks.Theirs: .*'conv_first.weight' has shape \(4, 3, 3, 3\)"):
        build_network(wide)


def test_network_with_weights_needs_a_file() -> None:
    with pytest.raises(InputError, match=r"networks.Ours: DASR has learnable weights; give 'path'"):
        build_network(NetworkPlan('Ours', 'DASR', small_dasr()))


def test_missing_and_truncated_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'networks.Ours: .*none\.pth.* does not exist'):
        build_network(NetworkPlan('Ours', 'DASR', {'scale': 4}, tmp_path / 'none.pth'))
    path = save_weights(DASR(**small_dasr()), tmp_path / 'net.pth')
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r'networks.Ours: .*net\.pth'):
        build_network(NetworkPlan('Ours', 'DASR', {'scale': 4}, path))


def test_constructor_that_refuses_is_one_line() -> None:
    with pytest.raises(InputError, match=r'networks.Ours: DASR refuses these arguments: scale must be ') as caught:
        build_network(NetworkPlan('Ours', 'DASR', small_dasr(scale=5)))
    assert '\n' not in str(caught.value)


def test_non_blind_network_gets_the_true_kernel() -> None:
    draws = BLUR.draw(image_generator(0, 'a'), (8, 8))
    method = make_method(DASR(**small_dasr(condition='kernel')).eval())
    known = method.gather_conditions(torch.zeros(1, 3, 8, 8), draws)
    assert list(known) == ['kernel']
    assert torch.equal(known['kernel'], draws['kernel'][None])


def test_network_gets_nothing_where_the_file_says_so() -> None:
    draws = BLUR.draw(image_generator(0, ''), (8, 8))
    for network in (SFTMD(num_feat=4, num_blocks=1), SRMD(num_feat=4, num_layers=2)):
        method = make_method(network, kernel='none', noise_level='none')
        assert method.gather_conditions(torch.zeros(1, 3, 8, 8), draws) == {}


def test_predicted_kernel_comes_from_the_image_and_the_noise_from_the_truth() -> None:
    lq = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    method = make_method(SRMD(num_feat=4, num_layers=2), kernel='predicted')
    method.estimator = IKC(num_feat=4, num_blocks=1, num_steps=1).eval()
    draws = {'kernel': torch.zeros(21, 21), 'noise_level': torch.tensor(5.0)}
    known = method.gather_conditions(lq, draws)
    assert torch.equal(known['kernel'], estimate_kernel(method.estimator, lq))
    assert known['noise_level'].tolist() == [5.0]


def test_blind_and_foreign_networks_get_no_inputs() -> None:
    draws = BLUR.draw(image_generator(0, 'a'), (8, 8))
    for network in (DASR(**small_dasr()), MSRResNet(num_feat=4, num_block=1)):
        assert make_method(network).gather_conditions(torch.zeros(1, 3, 8, 8), draws) == {}


def test_output_that_is_not_finite_is_refused() -> None:
    check_finite(torch.full((1, 3, 4, 4), 1e30))
    for value in (float('nan'), float('inf')):
        with pytest.raises(ValueError, match='NaN or infinite'):
            check_finite(torch.full((1, 3, 4, 4), value))


def test_checkpoint_with_the_authors_names_gives_the_golden_output(tmp_path: Path) -> None:
    golden = np.load(GOLDEN / 'dasr_eval_x2.npz')
    torch.save(golden_state(golden), tmp_path / 'model_600.pt')
    network, _ = build_network(NetworkPlan('DASR', 'DASR', {'scale': 2}, tmp_path / 'model_600.pt'))
    lq, expected = torch.from_numpy(golden['lr']) / 255, torch.from_numpy(golden['sr'])
    with torch.no_grad():
        sr = network(lq) * 255
    assert (sr - expected).norm() / expected.norm() < 1e-6


@pytest.mark.parametrize(
    ('name', 'kind', 'arguments', 'needs', 'inputs', 'outputs'),
    [
        ('san_small_x3', 'SAN', {'scale': 3, 'num_groups': 2, 'num_blocks': 2}, (), 'lr', 'sr'),
        ('srmdnf_x4', 'SRMDNF', {'scale': 4}, ('code',), 'lr', 'sr'),
        ('ikc_sftmd_x2', 'SFTMD', {'scale': 2, 'clamp': False}, ('code',), 'lr', 'sr'),
        ('dncnn_color_blind', 'DnCNN', {}, (), 'noisy', 'out'),
    ],
)
def test_files_of_other_authors_give_their_golden_outputs(
    name: str,
    kind: str,
    arguments: dict[str, object],
    needs: tuple[str, ...],
    inputs: str,
    outputs: str,
    tmp_path: Path,
) -> None:
    golden = np.load(GOLDEN / f'{name}.npz')
    torch.save(golden_state(golden), tmp_path / 'net.pth')
    network, _ = build_network(NetworkPlan(kind, kind, arguments, tmp_path / 'net.pth'))
    levels = golden[inputs].max().round()
    with torch.no_grad():
        out = network(
            torch.from_numpy(golden[inputs]) / levels, **{key: torch.from_numpy(golden[key]) for key in needs}
        )
    assert relative_error(out * levels, golden[outputs]) < 1e-5


def test_weights_of_other_authors_get_kernels_only_in_their_own_basis(tmp_path: Path) -> None:
    torch.save(golden_state(np.load(GOLDEN / 'srmd_x4.npz')), tmp_path / 'net.pth')
    plan = NetworkPlan('SRMD', 'SRMD', {'scale': 4}, tmp_path / 'net.pth')
    with pytest.raises(InputError, match='came without the basis of their kernels'):
        probe_method(build_method(plan, 4), BLUR)
    np.save(tmp_path / 'basis.npy', np.eye(15, 225))
    given = NetworkPlan('SRMD', 'SRMD', {'scale': 4, 'basis_path': str(tmp_path / 'basis.npy')}, tmp_path / 'net.pth')
    probe_method(build_method(given, 4), BLUR)
