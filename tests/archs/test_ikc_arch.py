"""IKC's three networks equal the public code, and the whole finds the kernel without looking at the ground truth."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch import InputError
from dasr_arch.archs.ikc_arch import IKC, SFTMD, Corrector, IKCOutput, Predictor
from dasr_arch.checkpoints.io import load_strictly
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel
from tests.golden.weights import golden_state, relative_error

GOLDEN = Path(__file__).parents[1] / 'golden'
DEAD = 3_731_456  # numbers of the stack that the public SFTMD never computes with
TINY = {'scale': 2, 'num_feat': 8, 'num_blocks': 1}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def make_images(batch: int = 2, height: int = 7, width: int = 6) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def make_tiny(kind: type = SFTMD, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return kind(**{**TINY, **options}).eval()


def load_golden(name: str, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Fills a network with the weights of a golden file and returns the file's tensors."""
    golden = np.load(GOLDEN / f'{name}.npz')
    load_strictly(network, golden_state(golden), name)
    return {key: torch.from_numpy(golden[key]) for key in golden.files if golden[key].dtype.kind in 'fi'}


# --- against the public code ---


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_sftmd_equals_the_public_code(scale):
    network = SFTMD(scale, clamp=False)
    golden = load_golden(f'ikc_sftmd_x{scale}', network)
    with torch.no_grad():
        sr = network(golden['lr'], code=golden['code'])
        network.clamp = True
        assert torch.equal(network(golden['lr'], code=golden['code']), sr.clamp(0, 1))
    assert relative_error(sr, golden['sr']) < 1e-5
    assert count(network) == golden['params'] - DEAD


def test_predictor_equals_the_public_code():
    network = Predictor()
    golden = load_golden('ikc_predictor', network)
    with torch.no_grad():
        assert relative_error(network(golden['lr']), golden['code']) < 1e-5
    assert count(network) == golden['params']


def test_corrector_equals_the_public_code():
    network = Corrector()
    golden = load_golden('ikc_corrector', network)
    with torch.no_grad():
        assert relative_error(network(golden['sr_in'], golden['code_in']), golden['code']) < 1e-5
    assert count(network) == golden['params']


@pytest.mark.parametrize(
    ('scale', 'sftmd', 'whole'),
    [(2, 4_086_979, 5_167_639), (3, 4_271_619, 5_352_279), (4, 4_234_691, 5_315_351)],
)
def test_sizes_are_those_of_the_public_code_without_what_it_never_uses(scale, sftmd, whole):
    with torch.device('meta'):
        network = IKC(scale)
    assert count(network.sftmd) == sftmd
    assert count(network.predictor) == 430_730
    assert count(network.corrector) == 649_930
    assert count(network) == whole


def test_every_tensor_of_the_public_sftmd_has_one_place_or_is_unused():
    state = golden_state(np.load(GOLDEN / 'ikc_sftmd_x4.npz'))
    translated, unknown = SFTMD.released_names.translate(state)
    assert unknown == []
    assert set(translated) | {'kernel_code.basis'} == set(SFTMD(4).state_dict())
    assert sum(value.numel() for name, value in state.items() if name.startswith('sft_branch.')) == DEAD
    with pytest.raises(InputError, match='no released SFTMD has'):
        load_strictly(SFTMD(4), {**state, 'SFT-residual17.conv1.weight': torch.zeros(1)}, 'state dict')


def test_public_files_of_the_parts_fill_the_whole():
    network = IKC(4)
    for name, part in (('sftmd_x4', 'sftmd'), ('predictor', 'predictor'), ('corrector', 'corrector')):
        load_golden(f'ikc_{name}', getattr(network, part))
    golden = np.load(GOLDEN / 'ikc_predictor.npz')
    with torch.no_grad():
        out = network(torch.from_numpy(golden['lr'])[..., :8, :8], return_steps=True)
    assert torch.isfinite(out.sr).all()


# --- SFTMD ---


def test_kernel_code_has_the_coefficients_of_the_kernel():
    network, lq = make_tiny(clamp=False), make_images()
    kernel = isotropic_gaussian_kernel(torch.tensor([0.5, 1.9]))
    code = torch.einsum('bij,cij->bc', kernel, network.kernel_code.basis)
    out = network(lq, kernel=kernel)
    assert torch.allclose(network(lq, code=code), out, atol=1e-6)
    assert not torch.allclose(network(lq, kernel=kernel.flip(0)), out, atol=1e-6)


def test_kernel_needs_the_basis_of_the_weights(tmp_path):
    matrix = torch.linalg.qr(torch.randn(441, 10, generator=torch.Generator().manual_seed(0))).Q
    torch.save(matrix, tmp_path / 'pca_matrix.pth')
    kernel, lq = isotropic_gaussian_kernel(torch.tensor([1.3])), make_images(1, 5, 5)
    state = golden_state(np.load(GOLDEN / 'ikc_sftmd_x2.npz'))
    without, given = SFTMD(2, clamp=False), SFTMD(2, clamp=False, basis_path=tmp_path / 'pca_matrix.pth')
    load_strictly(without, state, 'state dict')
    load_strictly(given, state, 'state dict')
    code = kernel.flatten(1) @ matrix
    with torch.no_grad():
        assert torch.allclose(given(lq, kernel=kernel), without(lq, code=code), atol=1e-5)
        with pytest.raises(ValueError, match='these SFTMD weights came without the basis'):
            without(lq, kernel=kernel)


def test_missing_kernel_is_one_line():
    with pytest.raises(ValueError, match='SFTMD needs the blur kernel, got none; pass kernel='):
        make_tiny()(make_images())


# --- Predictor and Corrector ---


@pytest.mark.parametrize('size', [(1, 1), (2, 5), (9, 7)])
def test_coefficients_come_from_images_of_any_size(size):
    torch.manual_seed(0)
    predictor, corrector = Predictor(num_feat=8), Corrector(num_feat=8)
    code = predictor(make_images(2, *size))
    assert code.shape == (2, 10)
    assert corrector(make_images(2, *size), code).shape == (2, 10)


def test_predictor_for_srmdnf_has_more_coefficients_of_either_sign():
    assert count(Predictor(15)) == 438_735
    torch.manual_seed(0)
    signed, limited = Predictor(num_feat=8, signed=True), Predictor(num_feat=8)
    limited.load_state_dict(signed.state_dict())
    for network in (signed, limited):
        torch.nn.init.constant_(network.body[10].bias, -1.0)
    assert torch.allclose(limited(make_images()), 0.2 * signed(make_images()), atol=1e-6)
    assert signed(make_images()).max() < 0


def test_corrector_adds_to_the_coefficients():
    torch.manual_seed(0)
    network = Corrector(num_feat=8)
    torch.nn.init.zeros_(network.fusion[-1].weight)
    torch.nn.init.constant_(network.fusion[-1].bias, 0.5)
    code = torch.rand(2, 10, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(network(make_images(), code), code + 0.5)


def test_corrector_depends_on_image_and_kernel_code():
    torch.manual_seed(0)
    network, code = Corrector(num_feat=8), torch.zeros(2, 10)
    difference = network(make_images(), code)
    assert not torch.equal(network(make_images().flip(0), code), difference)
    assert not torch.allclose(network(make_images(), code + 1) - 1, difference, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_parts_work_in_other_types(dtype):
    torch.manual_seed(0)
    predictor, corrector = Predictor(num_feat=8).to(dtype), Corrector(num_feat=8).to(dtype)
    code = predictor(make_images().to(dtype))
    assert code.dtype == dtype
    assert corrector(make_images().to(dtype), code).dtype == dtype


def test_gradients_reach_every_parameter_of_the_parts():
    torch.manual_seed(0)
    predictor, corrector = Predictor(num_feat=8), Corrector(num_feat=8)
    corrector(make_images(), predictor(make_images())).square().sum().backward()
    for part in (predictor, corrector):
        assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in part.parameters())


# --- the whole ---


def test_iteration_is_predict_restore_correct_restore():
    network, lq = make_tiny(IKC, num_steps=3), make_images()
    with torch.no_grad():
        out = network(lq, return_steps=True)
        code = network.predictor(lq)
        for step in range(3):
            assert torch.equal(out.codes[step], code)
            sr = network.sftmd(lq, code=code)
            assert torch.equal(out.steps[step], sr)
            code = network.corrector(sr, code)
    assert isinstance(out, IKCOutput)
    assert len(out.steps) == len(out.codes) == 3


def test_result_is_always_the_last_step():
    network, lq = make_tiny(IKC), make_images()
    with torch.no_grad():
        out = network(lq, return_steps=True)
        assert out.sr is out.steps[-1]
        assert len(out.steps) == 7
        assert torch.equal(network(lq), out.sr)


def test_ground_truth_cannot_be_given():
    assert list(inspect.signature(IKC.forward).parameters) == ['self', 'lq', 'return_steps']


@pytest.mark.parametrize('num_steps', [1, 3])
def test_last_image_is_not_corrected_after(num_steps):
    network = make_tiny(IKC, num_steps=num_steps)
    calls = []
    network.corrector.register_forward_hook(lambda *args: calls.append(1))
    network(make_images())
    assert len(calls) == num_steps - 1


def test_inputs_of_each_are_declared():
    assert SFTMD.needs == ('kernel',)
    assert not SFTMD.blind
    assert IKC.needs == Predictor.needs == Corrector.needs == ()
    assert IKC.blind


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: SFTMD(5), 'scale must be one of 2, 3, 4 for SFTMD, got 5'),
        (lambda: SFTMD(num_blocks=0), 'num_blocks must be a whole number of at least 1 for SFTMD'),
        (lambda: SFTMD(kernel_size=20), 'kernel_size must be odd and positive for SFTMD'),
        (lambda: Predictor(0), 'code_length must be a whole number of at least 1 for Predictor'),
        (lambda: Corrector(num_feat=0), 'num_feat must be a whole number of at least 1 for Corrector'),
        (lambda: IKC(num_steps=0), 'num_steps must be a whole number of at least 1 for IKC'),
        (lambda: IKC(1), 'scale must be one of 2, 3, 4 for SFTMD'),
    ],
)
def test_argument_without_such_a_choice_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
