"""SAN equals the authors' network, its traps included, and reads their names of tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch import InputError
from dasr_arch.archs.san_arch import SAN, RegionNonLocal, SecondOrderAttention, covariance_root
from dasr_arch.checkpoints.io import load_strictly
from tests.golden.weights import golden_state, relative_error

GOLDEN = Path(__file__).parents[1] / 'golden'
SMALL = {'num_groups': 2, 'num_blocks': 2}
DEAD = 38_044  # numbers that the authors' code saves but never computes with, of 20 groups
SHIFTS = 24  # numbers of the two colour shifts, which are constants here


def make_features(batch: int = 2, height: int = 9, width: int = 7, num_feat: int = 16) -> torch.Tensor:
    return torch.randn(batch, num_feat, height, width, generator=torch.Generator().manual_seed(0))


def make_small(scale: int = 2) -> SAN:
    torch.manual_seed(0)
    return SAN(scale, num_feat=16, num_groups=1, num_blocks=1, reduction=4)


# --- against the authors' code ---


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_output_and_gradient_equal_the_authors_code(scale):
    golden = np.load(GOLDEN / f'san_small_x{scale}.npz')
    network = SAN(scale, **SMALL)
    load_strictly(network, golden_state(golden), 'state dict')
    lq = torch.from_numpy(golden['lr']).requires_grad_()
    sr = network(lq / 255) * 255
    assert relative_error(sr.detach(), golden['sr']) < 1e-5
    (sr.square().mean() / 1e4).backward()
    assert relative_error(lq.grad, golden['grad_lr']) < 1e-3


def test_whole_network_equals_the_authors_code():
    golden = np.load(GOLDEN / 'san_x4.npz')
    network = SAN(4)
    load_strictly(network, golden_state(golden), 'state dict')
    with torch.no_grad():
        sr = network(torch.from_numpy(golden['lr']) / 255) * 255
    assert relative_error(sr, golden['sr']) < 1e-5
    assert sum(parameter.numel() for parameter in network.parameters()) == golden['params'] - DEAD


@pytest.mark.parametrize(('scale', 'saved'), [(2, 15_712_800), (3, 15_897_440), (4, 15_860_512)])
def test_size_is_that_of_the_authors_without_what_they_never_use(scale, saved):
    with torch.device('meta'):
        network = SAN(scale)
    assert sum(parameter.numel() for parameter in network.parameters()) == saved - DEAD - SHIFTS
    assert sum(value.numel() for value in network.state_dict().values()) == saved - DEAD


def test_every_tensor_of_the_authors_has_one_place_or_is_one_of_the_unused():
    state = golden_state(np.load(GOLDEN / 'san_x4.npz'))
    translated, unknown = SAN.released_names.translate(state)
    assert unknown == []
    with torch.device('meta'):
        own = SAN(4).state_dict()
    assert {name: value.shape for name, value in translated.items()} == {
        name: value.shape for name, value in own.items()
    }
    unused = [name for name in state if SAN.released_names.our_name(name) is None]
    assert sum(state[name].numel() for name in unused) == DEAD


def test_tensor_that_no_san_has_is_refused():
    state = golden_state(np.load(GOLDEN / 'san_small_x2.npz'))
    with pytest.raises(InputError, match='no released SAN has'):
        load_strictly(SAN(2, **SMALL), {**state, 'RG.0.rcab.0.conv_second.0.weight': torch.zeros(1)}, 'state dict')


def test_colour_shifts_that_training_moved_are_kept():
    state = golden_state(np.load(GOLDEN / 'san_small_x2.npz'))
    state['sub_mean.weight'] = state['sub_mean.weight'] + 0.01
    state['add_mean.bias'] = state['add_mean.bias'] + 2.55
    network, moved = SAN(2, **SMALL), SAN(2, **SMALL)
    load_strictly(moved, state, 'state dict')
    state['sub_mean.weight'] = state['sub_mean.weight'] - 0.01
    load_strictly(network, state, 'state dict')
    lq = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(network(lq), moved(lq), atol=1e-4)
        before = network(lq)
        network.add_mean.bias.sub_(2.55)
        assert torch.allclose(before - network(lq), torch.full_like(before, 0.01), atol=1e-5)


# --- second-order attention ---


def test_covariance_root_is_that_of_well_conditioned_features():
    x = make_features(2, 40, 40, 4).double()
    root = covariance_root(x)
    rows = x.flatten(2)
    expected = torch.stack([torch.cov(image, correction=0) for image in rows])
    assert torch.allclose(root @ root, expected, atol=1e-3)
    assert torch.allclose(root, root.transpose(1, 2), atol=1e-12)


def test_small_eigenvalues_do_not_converge_and_must_not():
    x = torch.randn(1, 2, 100, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 1] *= 0.01
    root = covariance_root(x)[0]
    assert root[0, 0] == pytest.approx(1, abs=0.05)
    assert 0.0005 < root[1, 1] < 0.0009  # the true root is 0.01


def test_covariance_is_what_the_centring_matrix_gives():
    x = make_features(1, 5, 6, 3).double()
    positions = 30
    rows = x.flatten(2)[0]
    centring = (torch.eye(positions) - 1 / positions).double() / positions
    covariance = rows @ centring @ rows.T
    root, inverse = covariance / covariance.trace(), torch.eye(3).double()
    for _ in range(4):
        step = (3 * torch.eye(3) - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    root = root @ (3 * torch.eye(3) - inverse @ root) / 2
    assert torch.allclose(covariance_root(x)[0], root * covariance.trace().sqrt(), atol=1e-6)


@pytest.mark.parametrize('size', [(1, 1), (4, 4)])
def test_flat_features_give_finite_values_and_gradients(size):
    x = torch.full((1, 8, *size), 3.0, requires_grad=True)
    torch.manual_seed(0)
    SecondOrderAttention(8, 2)(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_statistics_of_large_features_come_from_their_middle():
    torch.manual_seed(0)
    attention = SecondOrderAttention(4, 2)
    x = make_features(1, 3, 1100, 4)
    other = x.clone()
    other[..., :50] += 10
    other[..., 1050:] += 10
    assert torch.equal(attention(x)[..., 50:1050], attention(other)[..., 50:1050])


def test_attention_is_computed_in_float32_under_autocast():
    torch.manual_seed(0)
    attention, x = SecondOrderAttention(16, 4), make_features()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = attention(x).float()
    assert torch.allclose(half, attention(x), atol=0.02)  # the gate alone is rounded


# --- non-local attention ---


def test_attention_starts_as_the_identity():
    x = make_features()
    assert torch.equal(RegionNonLocal(16)(x), x)


def attend_plainly(layer: RegionNonLocal, x: torch.Tensor) -> torch.Tensor:
    """One region, by the formula: softmax over pooled keys, without a factor."""
    pool = torch.nn.MaxPool2d(2)
    query, key, value = layer.query(x).flatten(2), pool(layer.key(x)).flatten(2), pool(layer.value(x)).flatten(2)
    weights = (query.transpose(1, 2) @ key).softmax(-1)
    return layer.out((value @ weights.transpose(1, 2)).reshape(len(x), -1, *x.shape[-2:])) + x


def test_quarters_attend_to_themselves_with_pooled_keys():
    torch.manual_seed(0)
    layer, x = RegionNonLocal(16), make_features()
    torch.nn.init.normal_(layer.out.weight)
    out = layer(x)
    for rows in (slice(0, 4), slice(4, 9)):
        for columns in (slice(0, 3), slice(3, 7)):
            assert torch.allclose(out[..., rows, columns], attend_plainly(layer, x[..., rows, columns]), atol=1e-5)


@pytest.mark.parametrize('size', [(1, 1), (1, 6), (3, 2), (3, 5), (4, 4)])
def test_small_features_are_attended_to_as_far_as_they_go(size):
    torch.manual_seed(0)
    layer = RegionNonLocal(16)
    torch.nn.init.normal_(layer.out.weight)
    out = layer(make_features(1, *size))
    assert out.shape == (1, 16, *size)
    assert torch.isfinite(out).all()


# --- the network ---


def test_source_is_shared_with_every_group():
    network, lq = make_small(), torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not network.source_weight.any()
    before = network(lq)
    torch.nn.init.constant_(network.source_weight, 0.5)
    assert not torch.allclose(network(lq), before, atol=1e-4)


def test_facts_are_declared():
    assert SAN.needs == ()
    assert not SAN.blind


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scale': 8}, 'scale must be one of 2, 3, 4 for SAN, got 8'),
        ({'num_groups': 0}, 'num_groups must be a whole number of at least 1 for SAN'),
        ({'num_feat': 8}, 'num_feat must be at least 8 and reduction for SAN'),
        ({'img_range': 0}, 'img_range must be positive for SAN'),
    ],
)
def test_argument_without_such_a_choice_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SAN(**options)
