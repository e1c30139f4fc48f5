"""Upscaler: all types of images, adaptation options, models, threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import dasr_arch.inference.upscaler
from dasr_arch import DASR, AdaptationOptions, InputError, Tiling, Upscaler
from dasr_arch.degradations.resize import upsample_bicubic
from dasr_arch.inference.self_ensemble import ORIENTATIONS, orient, orient_back
from dasr_arch.inference.tiling import Output
from tests.inference.making import make_faithful, make_network

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def make(network: DASR | None = None, **options: object) -> Upscaler:
    network = network or make_faithful()
    return Upscaler(network.scale, network, device='cpu', precision='fp32', **options)


@pytest.fixture(scope='module')
def upscaler():
    return make()


def test_numpy_equals_the_network(demo_image):
    network = make_network()
    lq = demo_image[:40, :50]
    with torch.no_grad():
        expected = network(torch.from_numpy(lq.copy()).permute(2, 0, 1)[None] / 255)
    out = make(network)(lq)
    assert np.array_equal(out, (expected.clamp(0, 1) * 255).round()[0].permute(1, 2, 0).byte().numpy())


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32', 'float64'])
def test_arrays_keep_their_type_and_shape(upscaler, demo_image, channels, dtype):
    top = {'uint8': 255, 'uint16': 65535}.get(dtype, 1)
    lq = np.concatenate([demo_image, demo_image[..., :1]], 2)[:20, :24, :channels] / 255
    out = upscaler((lq * top).astype(dtype))
    assert (out.shape, out.dtype) == ((40, 48, channels), dtype)
    expected = upsample_bicubic(torch.from_numpy(lq).permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0).clamp(0, 1)
    opaque = expected[..., -1] > 0.5 if channels in (2, 4) else torch.ones(40, 48, dtype=torch.bool)
    assert (torch.from_numpy(out / top) - expected)[opaque].abs().mean() < 0.05


def test_sixteen_bits_are_more_than_eight(upscaler):
    ramp = np.linspace(10000, 10200, 64).astype(np.uint16).reshape(1, 64, 1).repeat(16, 0).repeat(3, 2)
    assert len(np.unique(upscaler(ramp))) > 50


@pytest.mark.parametrize('dtype', [torch.uint8, *FLOATS])
@pytest.mark.parametrize('shape', [(1, 9, 7), (3, 9, 7), (4, 9, 7), (2, 3, 9, 7)])
def test_tensors_keep_their_type_and_shape(upscaler, shape, dtype):
    lq = (torch.rand(shape) * (255 if dtype == torch.uint8 else 1)).to(dtype)
    out = upscaler(lq)
    assert out.dtype == dtype
    assert out.shape == (*shape[:-2], 18, 14)


def test_tensor_equals_array(upscaler, demo_image):
    lq = demo_image[:30, :30].copy()
    out = upscaler(torch.from_numpy(lq).permute(2, 0, 1))
    assert np.array_equal(out.permute(1, 2, 0).numpy(), upscaler(lq))


def test_tensor_that_asks_for_gradients_is_taken_as_it_is(upscaler):
    out = upscaler(torch.rand(3, 8, 8, requires_grad=True))
    assert not out.requires_grad
    assert not out.is_inference()


@pytest.mark.parametrize('shape', [(5,), (2, 2), (5, 4, 4), (1, 1, 3, 4, 4)])
def test_tensors_of_other_shapes_are_refused(upscaler, shape):
    with pytest.raises(InputError, match='expected'):
        upscaler(torch.zeros(shape))


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16'])
def test_pillow_images_keep_mode_and_profile(upscaler, demo_image, mode):
    image = Image.fromarray(demo_image[:20, :30])
    image = image.convert('L').convert('I;16') if mode == 'I;16' else image.convert(mode)
    image.info['icc_profile'] = b'profile'
    out = upscaler(image)
    assert (out.mode, out.size) == ({'1': 'L', 'P': 'RGB'}.get(mode, mode), (60, 40))
    assert out.info['icc_profile'] == b'profile'


@pytest.mark.parametrize('size', [(1, 1), (1, 40), (2, 3), (5, 1)])
def test_tiny_images_work(upscaler, size):
    assert upscaler(np.full((*size, 3), 99, np.uint8)).shape == (2 * size[0], 2 * size[1], 3)


def test_grey_stays_grey_and_equals_grey_in_colour(upscaler, demo_image):
    grey = demo_image[:20, :20, 0]
    colour = upscaler(np.repeat(grey[..., None], 3, 2)).astype(int)
    assert np.abs(upscaler(grey).astype(int) - colour.mean(2)).max() < 10


def test_edges_of_transparency_have_no_halo(upscaler):
    image = np.zeros((24, 24, 4), np.uint8)
    image[6:18, 6:18] = (250, 200, 150, 255)  # on transparent black
    out = upscaler(image).astype(int)
    seen = out[..., 3] > 0
    assert np.abs(out[seen][:, :3] - (250, 200, 150)).max() <= 12
    assert (out[:6, :, 3] == 0).all()
    assert (out[18:30, 18:30, 3] == 255).all()


def test_opaque_images_stay_opaque_and_cost_no_more(upscaler, demo_image):
    image = Image.fromarray(demo_image[:16, :16])
    rgba = image.copy()
    rgba.putalpha(255)
    out = np.array(upscaler(rgba))
    assert np.array_equal(out[..., :3], np.array(upscaler(image)))
    assert (out[..., 3] == 255).all()
    assert Upscaler.work(rgba) == Upscaler.work(image) == 256


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_tiles_equal_the_whole(demo_image, precision):
    network = make_network()
    whole = Upscaler(2, network, device='cpu', precision=precision)
    tiles = Upscaler(2, network, device='cpu', precision=precision, tiling=Tiling(size=32))
    lq = demo_image[:100, :90] / np.float32(255)
    assert len(tiles.plan(100, 90).tiles) == 12
    assert len(whole.plan(100, 90).tiles) == 1
    assert np.abs(tiles(lq) - whole(lq)).max() < (0.5 if precision == 'fp32' else 2) / 255


def test_progress_counts_every_pixel(demo_image):
    seen = []
    rgba = np.concatenate([demo_image, demo_image[..., :1]], 2)[:70, :50]
    make(tiling=Tiling(size=20))(rgba, progress=seen.append)
    assert sum(seen) == Upscaler.work(rgba) == 2 * 70 * 50
    assert len(seen) == 2 * 4 * 3


@pytest.mark.parametrize('ensemble', [False, True])
def test_progress_counts_the_way_to_the_clean_representation(demo_image, monkeypatch, ensemble):
    monkeypatch.setattr(dasr_arch.inference.upscaler, 'CLEAN_SIDE', 32)
    seen = []
    adaptation = AdaptationOptions(strength=0.5, ensemble=ensemble)
    make(tiling=Tiling(size=20))(demo_image[:70, :50], adaptation, seen.append)
    assert sum(seen) == Upscaler.work(demo_image[:70, :50], adaptation) == 70 * 50 + 32 * 32
    assert Upscaler.work(demo_image[:70, :50], AdaptationOptions(ensemble=ensemble)) == 70 * 50
    assert Upscaler.work(demo_image[:20, :50], adaptation) == 20 * 50 + 20 * 32


def test_reference_gives_the_representation_of_another_image(demo_image):
    network = make_network()
    image, other = demo_image[:32, :32], demo_image[100:148, 100:148]
    with torch.no_grad():
        code = network.encode(torch.from_numpy(other.copy()).permute(2, 0, 1)[None] / 255)
        sr = network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255, representation=code)
    expected = (sr.clamp(0, 1) * 255).round()[0].permute(1, 2, 0).byte().numpy()
    upscaler = make(network)
    references = (other, Image.fromarray(other), torch.from_numpy(other.copy()).permute(2, 0, 1))
    assert all(
        np.array_equal(upscaler(image, AdaptationOptions(reference=reference)), expected) for reference in references
    )
    assert not np.array_equal(upscaler(image), expected)


def test_strength_blends_between_own_and_clean(demo_image):
    upscaler = make()
    image = demo_image[:48, :48]
    own, half, clean = (
        upscaler.represent([image], AdaptationOptions(strength=strength)) for strength in (1.0, 0.5, 0.0)
    )
    assert torch.allclose(half, (own + clean) / 2, atol=1e-4)
    sr = upscaler(image / np.float32(255))
    lq = dasr_arch.inference.upscaler.downsample_bicubic(torch.from_numpy(sr).permute(2, 0, 1)[None], 2)
    with torch.no_grad():
        expected = upscaler.network.encode(lq.clamp(0, 1))
    assert (clean - expected).abs().max() < 0.02 * expected.abs().max()  # the image was rounded on the way
    assert not torch.allclose(own, clean, atol=1e-3)


@pytest.mark.parametrize('strength', [-0.1, 2.1, float('nan')])
def test_impossible_strength_is_refused(strength):
    with pytest.raises(InputError, match=r'strength must be a number in \[0, 2\]'):
        AdaptationOptions(strength=strength)


def test_ensemble_is_the_average_over_orientations(demo_image):
    network = make_network()
    lq = torch.from_numpy(demo_image[:30, :44].copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        each = [orient_back(network(orient(lq, index)), index) for index in ORIENTATIONS]
    expected = torch.stack(each).mean(0).clamp(0, 1)[0]
    out = make(network)(lq[0], AdaptationOptions(ensemble=True))
    assert (out - expected).abs().max() < 1e-5
    assert make(network).represent([demo_image], AdaptationOptions(ensemble=True)).shape == (8, 12)


def test_ensemble_of_one_pixel():
    options = AdaptationOptions(ensemble=True, strength=0.5)
    assert make()(np.full((1, 1, 3), 90, np.uint8), options).shape == (2, 2, 3)


def test_frames_share_the_average_representation(demo_image):
    upscaler = make()
    frames = [demo_image[:40, :40], demo_image[50:90, 50:90]]
    each = torch.cat([upscaler.represent([frame]) for frame in frames])
    assert torch.allclose(upscaler.represent(frames), each.mean(0, keepdim=True))


def test_one_image_is_represented_without_a_list(demo_image):
    upscaler = make()
    expected = upscaler.represent([demo_image[:40, :40]])
    assert torch.equal(upscaler.represent(demo_image[:40, :40]), expected)
    assert torch.equal(upscaler.represent(Image.fromarray(demo_image[:40, :40])), expected)
    assert torch.equal(upscaler.represent(demo_image[None, :40, :40]), expected), 'an array of frames'


def test_threads_share_one_upscaler(demo_image):
    upscaler = make(make_network(), tiling=Tiling(size=16))
    images = [demo_image[index * 20 : index * 20 + 40, : 30 + index] for index in range(8)]
    expected = [upscaler(image) for image in images]
    start = threading.Barrier(8)

    def work(image):
        start.wait(timeout=60)
        return [upscaler(image) for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        for results, alone in zip(pool.map(work, images), expected, strict=True):
            assert all(np.array_equal(result, alone) for result in results)


def test_threads_leave_gradients_of_others_alone(upscaler):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(upscaler, np.zeros((32, 32, 3), np.uint8))
        x = torch.ones(3, requires_grad=True)
        (x * 2).sum().backward()
        waiting.result(timeout=60)
    assert x.grad is not None


def test_network_of_the_caller_is_left_alone():
    network = make_network().train()
    make(network)(np.zeros((8, 8, 3), np.uint8))
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_weights_file_is_read(tmp_path):
    torch.save({'params': make_network().state_dict()}, tmp_path / 'net.pth')
    lq = np.random.default_rng(0).random((9, 9, 3), np.float32)
    expected = make(make_network())(lq)
    for model in (tmp_path / 'net.pth', str(tmp_path / 'net.pth')):
        assert np.array_equal(Upscaler(2, model, device='cpu', precision='fp32')(lq), expected)


@pytest.mark.parametrize(
    ('scale', 'model', 'message'),
    [
        (4, make_network(2), 'the network is for x2, not for x4'),
        (2, 'none.pth', "'none.pth' does not exist"),
        (5, 'photo', "^no weights for model 'photo' at x5 are installed; there are: dasr_s_x4_iso"),
        (2, torch.nn.Conv2d(3, 3, 1), 'expected weights or a DASR, got Conv2d'),
        (2, make_network(2, condition='kernel'), 'the network is non-blind and needs the blur kernel'),
    ],
)
def test_wrong_models_are_refused(scale, model, message):
    with pytest.raises(InputError, match=message):
        Upscaler(scale, model, device='cpu')


def test_result_that_cannot_fit_into_the_memory_is_refused_at_once():
    row = np.zeros((1, 1, 3), np.uint8)
    huge = np.broadcast_to(row, (1 << 20, 1 << 20, 3))  # three terabytes that take three bytes
    with pytest.raises(InputError, match='not enough memory for a result of 2097152 x 2097152 pixels'):
        make()._check_room(huge, Output((1 << 21, 1 << 21)))


def test_tiles_that_were_asked_for_can_be_cut_to_the_memory(upscaler, monkeypatch):
    assert upscaler.fit_tiling(Tiling(exact=True)) == Tiling(exact=True)
    assert upscaler.fit_tiling(Tiling(24)) == Tiling(24)
    fitted = upscaler.fit_tiling(Tiling(65536)).size
    assert fitted is not None
    assert 24 < fitted < 65536
    monkeypatch.setattr(dasr_arch.inference.upscaler, 'available_memory', lambda device: 0)
    assert upscaler.fit_tiling(Tiling(65536)) == Tiling(16)


@pytest.mark.parametrize('failures', [1, 3])
def test_encoder_takes_smaller_tiles_where_memory_runs_out(upscaler, monkeypatch, demo_image, failures):
    encode, tried = dasr_arch.inference.upscaler.encode_tiled, []

    def fail_first(network, pixels, device, max_pixels):
        tried.append(max_pixels)
        if len(tried) <= failures:
            raise MemoryError
        return encode(network, pixels, device, max_pixels)

    expected = upscaler.represent([demo_image])
    monkeypatch.setattr(dasr_arch.inference.upscaler, 'encode_tiled', fail_first)
    if failures == 3:
        with pytest.raises(InputError, match='not enough memory to encode the image'):
            upscaler.represent([demo_image])
    else:
        assert torch.allclose(upscaler.represent([demo_image]), expected, atol=1e-5)
    assert tried == [1 << 17, 1 << 15, 1 << 13][: failures + 1]


def test_bug_of_the_encoder_is_not_tried_again(upscaler, monkeypatch, demo_image):
    def fail(*_):
        raise RuntimeError('a bug')

    monkeypatch.setattr(dasr_arch.inference.upscaler, 'encode_tiled', fail)
    with pytest.raises(RuntimeError, match=r'^a bug$'):
        upscaler.represent([demo_image])


@pytest.mark.parametrize('shape', [(8, 8), (2, 3, 8, 8)])
def test_reference_must_be_one_image(upscaler, demo_image, shape):
    with pytest.raises(InputError, match=r'expected one image as a tensor of \(C, H, W\), got \('):
        upscaler(demo_image[:16, :16], adaptation=AdaptationOptions(torch.zeros(shape)))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_network_that_is_not_finite_is_refused(value):
    network = make_network()
    with torch.no_grad():
        network.last_conv.bias[0] = value
    with pytest.raises(InputError, match=r"the network: 'last_conv\.bias' is not finite"):
        Upscaler(2, network, device='cpu')


@pytest.mark.parametrize('image', [np.full((12, 10, 3), 200, np.uint8), Image.new('RGBA', (10, 12), (9, 9, 9, 128))])
@pytest.mark.parametrize('options', [{}, {'ensemble': True}, {'strength': 0.5}])
def test_output_that_is_not_finite_is_refused(image, options):
    network = make_network()
    with torch.no_grad():
        network.last_conv.weight.fill_(3e38)  # finite, but its sums overflow
    upscaler = Upscaler(2, network, device='cpu', precision='fp32')
    with pytest.raises(InputError, match='the output of the network is not finite'):
        upscaler(image, AdaptationOptions(**options))
