"""SRMD and SRMDNF equal the authors' networks, with kernel codes in the basis of their weights."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from dasr_arch import InputError
from dasr_arch.archs.srmd_arch import SRMD, SRMDNF
from dasr_arch.checkpoints.io import load_fitting, load_strictly
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel, isotropic_gaussian_kernel
from tests.golden.weights import golden_state, relative_error

GOLDEN = Path(__file__).parents[1] / 'golden'
TINY = {'scale': 2, 'num_feat': 8, 'num_layers': 3}


def make_images(batch: int = 2, height: int = 6, width: int = 5) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def make_tiny(kind: type[SRMDNF], **options: object) -> SRMDNF:
    torch.manual_seed(0)
    return kind(**{**TINY, **options}).eval()


def make_kernels(side: int = 15) -> torch.Tensor:
    return anisotropic_gaussian_kernel(
        torch.tensor([1.5, 0.8]), torch.tensor([0.6, 0.8]), torch.tensor([0.5, 0.0]), side
    )


def released_state(network: SRMDNF) -> dict[str, torch.Tensor]:
    """The weights of a network as the authors would save them."""
    state = network.state_dict()
    return {name.replace('body', 'model'): value for name, value in state.items() if 'basis' not in name}


@pytest.mark.parametrize(
    ('name', 'kind', 'scale'),
    [('srmd_x2', SRMD, 2), ('srmd_x4', SRMD, 4), ('srmdnf_x3', SRMDNF, 3), ('srmdnf_x4', SRMDNF, 4)],
)
def test_outputs_equal_the_authors_code(name, kind, scale):
    golden = np.load(GOLDEN / f'{name}.npz')
    network = kind(scale=scale)
    load_strictly(network, golden_state(golden), name)
    code = torch.from_numpy(golden['code'])
    conditions = {'code': code[:, :15], 'noise_level': code[:, 15] * 255} if kind is SRMD else {'code': code}
    with torch.no_grad():
        out = network(torch.from_numpy(golden['lr']), **conditions)
    assert relative_error(out, golden['sr']) < 1e-5
    assert sum(parameter.numel() for parameter in network.parameters()) == golden['params']


@pytest.mark.parametrize(
    ('kind', 'scale', 'expected'),
    [
        (SRMD, 2, 1_511_692),
        (SRMD, 3, 1_528_987),
        (SRMD, 4, 1_553_200),
        (SRMDNF, 2, 1_510_540),
        (SRMDNF, 3, 1_527_835),
        (SRMDNF, 4, 1_552_048),
    ],
)
def test_sizes_are_those_of_the_published_networks(kind, scale, expected):
    with torch.device('meta'):
        network = kind(scale=scale)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_inputs_of_each_are_declared():
    assert SRMD.needs == ('kernel', 'noise_level')
    assert SRMDNF.needs == ('kernel',)
    assert not SRMD.blind
    assert not SRMDNF.blind


@pytest.mark.parametrize('kind', [SRMD, SRMDNF])
def test_other_kernels_give_other_images(kind):
    network, lq, kernel = make_tiny(kind), make_images(), make_kernels()
    out = network(lq, kernel=kernel)
    assert not torch.allclose(out, network(lq, kernel=kernel.flip(0)), atol=1e-4)
    assert torch.allclose(network(lq, kernel=kernel[:1]), network(lq, kernel=kernel[:1].expand(2, -1, -1)), atol=1e-6)


def test_code_is_the_projection_of_the_kernel_on_the_basis():
    network, lq, kernel = make_tiny(SRMDNF), make_images(), make_kernels()
    code = torch.einsum('bij,cij->bc', kernel, network.kernel_code.basis)
    assert torch.allclose(network(lq, code=code), network(lq, kernel=kernel), atol=1e-6)
    maps = code[..., None, None].expand(-1, -1, 6, 5)
    assert torch.equal(network(lq, code=maps), network(lq, code=code))


def test_large_kernel_is_cut_around_its_centre_and_small_one_padded():
    network, lq = make_tiny(SRMDNF), make_images(1)
    narrow = isotropic_gaussian_kernel(torch.tensor([0.7]), 21)
    assert torch.allclose(
        network(lq, kernel=narrow), network(lq, kernel=isotropic_gaussian_kernel(torch.tensor([0.7]), 15)), atol=1e-6
    )
    assert torch.allclose(
        network(lq, kernel=narrow), network(lq, kernel=isotropic_gaussian_kernel(torch.tensor([0.7]), 11)), atol=1e-6
    )


def test_noise_level_counts_in_grey_levels_and_is_zero_by_default():
    network, lq, kernel = make_tiny(SRMD), make_images(), make_kernels()
    assert torch.equal(network(lq, kernel=kernel), network(lq, kernel=kernel, noise_level=torch.zeros(2)))
    levels = torch.tensor([0.0, 25.5])
    out = network(lq, kernel=kernel, noise_level=levels)
    seen = []
    network.body[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    assert torch.equal(network(lq, kernel=kernel, noise_level=levels.reshape(2, 1, 1, 1).expand(2, 1, 6, 5)), out)
    assert torch.allclose(seen[0][1, -1], torch.full((6, 5), 0.1))
    assert torch.equal(seen[0][:, :3], lq)


@pytest.mark.parametrize('kind', [SRMD, SRMDNF])
def test_kernel_reaches_the_gradient(kind):
    kernel = make_kernels().requires_grad_()
    make_tiny(kind)(make_images(), kernel=kernel).square().sum().backward()
    assert torch.isfinite(kernel.grad).all()
    assert kernel.grad.abs().sum() > 0


@pytest.mark.parametrize('kind', [SRMD, SRMDNF])
def test_missing_kernel_is_one_line(kind):
    with pytest.raises(ValueError, match=f'{kind.__name__} needs the blur kernel, got none; pass kernel='):
        make_tiny(kind)(make_images())


@pytest.mark.parametrize(
    ('conditions', 'message'),
    [
        ({'kernel': torch.ones(3, 15, 15)}, r'kernel must have shape \(2, k, k\), got \(3, 15, 15\)'),
        ({'kernel': torch.ones(2, 15, 13)}, 'kernel must have shape'),
        ({'code': torch.ones(2, 16)}, r'code must have shape \(2, 15\), got \(2, 16\)'),
        ({'kernel': torch.ones(2, 14, 14)}, 'kernel must have an odd side, got 14'),
        ({'kernel': torch.ones(2, 15, 15), 'noise_level': torch.ones(3)}, r'noise_level must have shape \(2,\)'),
    ],
)
def test_inputs_of_the_wrong_shape_are_refused(conditions, message):
    with pytest.raises(ValueError, match=message):
        make_tiny(SRMD)(make_images(), **conditions)


# --- the basis of the kernels ---


def test_weights_carry_their_basis():
    network, other = make_tiny(SRMD), make_tiny(SRMD)
    other.kernel_code.basis.add_(1)
    load_strictly(other, network.state_dict(), 'state dict')
    lq, kernel = make_images(), make_kernels()
    assert torch.equal(other(lq, kernel=kernel), network(lq, kernel=kernel))


def test_released_weights_without_their_basis_refuse_kernels_and_take_codes():
    network = make_tiny(SRMDNF)
    load_strictly(network, released_state(make_tiny(SRMDNF)), 'state dict')
    lq = make_images()
    assert torch.isfinite(network(lq, code=torch.zeros(2, 15))).all()
    with pytest.raises(ValueError, match='these SRMDNF weights came without the basis of their kernels; give'):
        network(lq, kernel=make_kernels())
    again = make_tiny(SRMDNF)
    load_strictly(again, network.state_dict(), 'state dict')
    with pytest.raises(ValueError, match='came without the basis'):
        again(lq, kernel=make_kernels())
    load_strictly(again, make_tiny(SRMDNF).state_dict(), 'state dict')
    assert torch.isfinite(again(lq, kernel=make_kernels())).all()


def test_released_weights_that_need_not_fit_refuse_kernels_too():
    network = make_tiny(SRMDNF)
    load_fitting(network, released_state(make_tiny(SRMDNF)))
    with pytest.raises(ValueError, match='came without the basis'):
        network(make_images(), kernel=make_kernels())


@pytest.mark.parametrize(('suffix', 'transposed'), [('.mat', False), ('.pth', True), ('.npy', False)])
def test_basis_of_released_weights_comes_from_its_file(suffix, transposed, tmp_path):
    matrix = np.random.default_rng(0).normal(size=(15, 225)).astype(np.float32)
    path = tmp_path / f'basis{suffix}'
    stored = matrix.T.copy() if transposed else matrix
    if suffix == '.mat':
        scipy.io.savemat(path, {'P': stored})
    elif suffix == '.npy':
        np.save(path, stored)
    else:
        torch.save(torch.from_numpy(stored), path)
    network = make_tiny(SRMDNF, basis_path=path)
    load_strictly(network, released_state(make_tiny(SRMDNF)), 'state dict')
    kernel, lq = make_kernels(), make_images()
    column_by_column = np.stack([k.flatten(order='F') for k in kernel.numpy()])
    code = torch.from_numpy(column_by_column @ matrix.T)
    assert torch.allclose(network(lq, kernel=kernel), network(lq, code=code), atol=1e-5)


def test_file_that_holds_no_basis_is_one_line(tmp_path):
    with pytest.raises(InputError, match='does not exist'):
        make_tiny(SRMDNF, basis_path=tmp_path / 'none.mat')
    for name, content in (('text.mat', b'text'), ('text.pth', b'text'), ('text.npy', b'text')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r'is no \.mat, \.pth or \.npy file with a matrix'):
            make_tiny(SRMDNF, basis_path=tmp_path / name)
    torch.save({'P': torch.zeros(15, 225)}, tmp_path / 'dictionary.pth')
    with pytest.raises(InputError, match=r'is no \.mat'):
        make_tiny(SRMDNF, basis_path=tmp_path / 'dictionary.pth')
    np.save(tmp_path / 'small.npy', np.zeros((10, 225)))
    with pytest.raises(InputError, match=r'expected a matrix of \(15, 225\) numbers'):
        make_tiny(SRMDNF, basis_path=tmp_path / 'small.npy')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scale': 5}, 'scale must be one of 2, 3, 4 for SRMD, got 5'),
        ({'num_feat': 0}, 'num_feat must be a whole number'),
        ({'num_layers': 1}, 'num_layers must be at least 2'),
        ({'kernel_size': 14}, 'kernel_size must be odd and positive for SRMD'),
        ({'num_components': 300}, 'num_components must lie in'),
    ],
)
def test_argument_without_such_a_choice_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SRMD(**options)


@pytest.mark.parametrize('kind', [SRMDNF, SRMD])
def test_untrained_network_tells_colours_apart(kind):
    """A chain whose values shrink from layer to layer answers every image alike, and learns colours last."""
    torch.manual_seed(0)
    network = kind(scale=2, num_feat=32)
    red, green = torch.zeros(1, 3, 12, 12), torch.zeros(1, 3, 12, 12)
    red[:, 0], green[:, 1] = 1, 1
    with torch.no_grad():
        first, second = (network(image, kernel=make_kernels()[:1]) for image in (red, green))
    assert (first - second).pow(2).mean().sqrt() > 0.1 * first.pow(2).mean().sqrt()
    assert 0.1 < first.pow(2).mean().sqrt() < 10
