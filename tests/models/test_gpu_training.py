"""Training on a GPU: the same values as on the processor, without waiting for the device in an iteration."""

import math

import pytest
import torch
from basicsr.models import build_model

from dasr_arch.backends.precision import exact_float32
from tests.models.making import TINY, make_batch, make_dasr_options, make_options, train_step

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu():
    if not torch.cuda.is_available():
        pytest.skip('no GPU')
    with exact_float32():
        yield


def build(options, *, on_gpu=True):
    torch.manual_seed(0)
    return build_model({**options, 'num_gpu': int(on_gpu)})


def pin(batch):
    return {key: value.pin_memory() if isinstance(value, torch.Tensor) else value for key, value in batch.items()}


def step(model, iteration, *, begins):
    """One iteration in which waiting for the GPU is an error, unless a stage begins with it."""
    batch = pin(make_batch(start=4 * iteration))
    torch.cuda.set_sync_debug_mode('default' if begins else 'error')
    try:
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('extra', [{}, {'code_opt': {}}, {'ema_decay': 0.9, 'accumulate': 2}])
def test_no_iteration_of_dasr_waits_for_the_gpu(precision, extra):
    model = build(make_dasr_options(3, 3, precision=precision, **extra))
    for iteration in range(1, 7):
        step(model, iteration, begins=iteration in {1, 4})
    assert all(math.isfinite(value) for value in model.get_current_log().values())


def test_no_iteration_of_another_system_waits_for_the_gpu():
    options = make_options('SupervisedModel', schedule={'total_iter': 5, 'lr': 1e-3})
    options['network_g'] = {'type': 'SRMD', 'scale': 2}
    model = build(options)
    for iteration in range(1, 5):
        step(model, iteration, begins=iteration == 1)
    assert all(math.isfinite(value) for value in model.get_current_log().values())


def test_losses_are_those_of_the_processor():
    logs = []
    for on_gpu in (False, True):
        model = build(make_dasr_options(3, 3), on_gpu=on_gpu)
        logs.append([train_step(model, iteration, make_batch(start=4 * iteration)) for iteration in range(1, 7)])
    for cpu, gpu in zip(*logs, strict=True):
        assert cpu.keys() == gpu.keys()
        for name, value in cpu.items():
            assert gpu[name] == pytest.approx(value, rel=5e-3), name


@pytest.mark.parametrize('kind', ['full', 'kernel', 'concat'])
def test_gradients_are_those_of_the_processor(kind):
    from dasr_arch.archs.dasr_arch import DASR

    torch.manual_seed(0)
    network = DASR(scale=2, **TINY, da_conv=kind).double().eval()  # else a norm takes all gradient from the biases
    image = torch.rand(3, 3, 20, 17, dtype=torch.float64)
    found = []
    for device, dtype in (('cpu', torch.float64), ('cuda', torch.float32)):
        network.to(device=device, dtype=dtype).zero_grad()
        out = network(image.to(device, dtype))
        out.square().mean().backward()
        found.append([out.detach(), *[p.grad.clone() for p in network.parameters() if p.grad is not None]])
    for exact, own in zip(*found, strict=True):
        scale = exact.abs().max().clamp_min(1e-12)
        assert ((own.cpu().double() - exact).abs().max() / scale) < 1e-4


@pytest.mark.parametrize('side', [40, 256])
def test_large_and_small_images_are_those_of_the_processor(side):
    from dasr_arch.archs.dasr_arch import DASR

    torch.manual_seed(0)
    network = DASR(scale=2, **TINY).eval()
    image = torch.rand(1, 3, side, side)
    with torch.no_grad():
        expected = network(image)
        found = network.cuda()(image.cuda()).cpu()
    assert ((found - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize(('where', 'resize_range'), [('auto', None), ('device', None), ('auto', [0.6, 1.6])])
def test_images_on_the_gpu_give_the_patches_of_the_loader_without_waiting(where, resize_range):
    from dasr_arch.pipelines.dataloaders import build_training_stream
    from tests.pipelines.test_training import tiny_options

    batches = []
    for images_on in ('host', where):
        options = {**tiny_options(), 'rank': 0, 'world_size': 1, 'num_gpu': 1}
        options['datasets']['train'].update(images_on=images_on, scale=4)
        if resize_range is not None:
            options['datasets']['train']['resize_range'] = resize_range
        stream, _ = build_training_stream(options, 0)
        batch = next(stream)
        torch.cuda.set_sync_debug_mode('default' if images_on == 'host' else 'error')
        try:
            batch = next(stream)
        finally:
            torch.cuda.set_sync_debug_mode('default')
        batches.append(batch)
    expected, found = batches
    assert found['hr'].is_cuda
    assert torch.equal(found['hr'].cpu(), expected['hr'])
    assert torch.equal(found['window'], expected['window'])


@pytest.mark.slow
def test_compiled_training_gives_the_same_losses():
    logs = []
    for compiled in (False, True):
        model = build(make_dasr_options(2, 2, precision='auto', compile=compiled))
        logs.append([train_step(model, iteration, make_batch(start=4 * iteration)) for iteration in range(1, 5)])
    for plain, compiled in zip(*logs, strict=True):
        for name, value in plain.items():
            assert compiled[name] == pytest.approx(value, rel=3e-2), name


def test_state_of_a_gpu_training_goes_on_on_the_processor(tmp_path):
    from dasr_arch.models.training_state import collect_training_state, restore_training_state

    first = build(make_dasr_options(2, 2))
    for iteration in (1, 2, 3):
        train_step(first, iteration, make_batch(start=4 * iteration))
    torch.save(collect_training_state(first, 0, 3), tmp_path / 'x.state')
    expected = train_step(first, 4, make_batch(start=16))
    second = build(make_dasr_options(2, 2), on_gpu=False)
    restore_training_state(second, torch.load(tmp_path / 'x.state', map_location='cpu', weights_only=True))
    resumed = train_step(second, 4, make_batch(start=16))
    for name, value in expected.items():
        assert resumed[name] == pytest.approx(value, rel=5e-3), name
