"""Momentum contrast: logits, queue, and a key encoder that follows slowly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dasr_arch.archs.dasr_arch import DASR, DegradationEncoder
from dasr_arch.checkpoints.io import read_dasr_weights
from dasr_arch.losses.contrastive import ContrastiveTraining, MomentumContrast
from tests.golden.weights import golden_state, relative_error

GOLDEN = Path(__file__).parents[1] / 'golden'


def make_contrast(queue_length: int = 10, **options: float) -> tuple[DegradationEncoder, MomentumContrast]:
    torch.manual_seed(0)
    encoder = DegradationEncoder(4, 6)
    return encoder, MomentumContrast(encoder, 6, queue_length, **options)


def make_keys(count: int, seed: int = 0) -> torch.Tensor:
    return functional.normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_projection_equals_the_released_code(scale):
    golden = np.load(GOLDEN / f'dasr_eval_x{scale}.npz')
    weights = read_dasr_weights(golden_state(golden))
    contrast = MomentumContrast(DegradationEncoder())
    contrast.load_state_dict(weights.contrast)
    with torch.no_grad():
        projection = contrast.projection(torch.from_numpy(golden['representation']))
    assert relative_error(projection, golden['projection']) < 1e-6


def test_logits_are_cosines_over_the_temperature_with_the_positive_first():
    encoder, contrast = make_contrast(temperature=0.5)
    contrast.eval()
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    representation = encoder.eval()(images)
    out = contrast(representation, images.flip(0))
    query = functional.normalize(contrast.projection(representation), dim=1)
    key = functional.normalize(contrast.projection_k(contrast.encoder_k(images.flip(0))), dim=1)
    expected = torch.cat([(query * key).sum(1, keepdim=True), query @ contrast.queue], 1) / 0.5
    assert out.logits.shape == (3, 11)
    assert torch.allclose(out.logits, expected, atol=1e-6)
    assert torch.allclose(out.keys, key, atol=1e-6)


def test_gradient_reaches_the_query_side_alone():
    encoder, contrast = make_contrast()
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    out = contrast(encoder(images), images)
    functional.cross_entropy(out.logits, torch.zeros(2, dtype=torch.int64)).backward()
    assert not out.keys.requires_grad
    for part in (encoder, contrast.projection):
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in part.parameters())
    for part in (contrast.encoder_k, contrast.projection_k):
        assert all(p.grad is None and not p.requires_grad for p in part.parameters())


def test_forward_leaves_the_queue_alone():
    encoder, contrast = make_contrast()
    before = contrast.queue.clone()
    images = torch.rand(2, 3, 8, 8)
    contrast(encoder(images), images)
    assert torch.equal(contrast.queue, before)
    assert contrast.queue_ptr.item() == 0


def test_logits_are_float32_under_autocast():
    encoder, contrast = make_contrast()
    images = torch.rand(2, 3, 8, 8)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = contrast(encoder(images), images)
    assert out.logits.dtype == out.keys.dtype == torch.float32


def test_queue_starts_with_unit_vectors_and_the_key_side_as_a_copy():
    encoder, contrast = make_contrast()
    assert torch.allclose(contrast.queue.norm(dim=0), torch.ones(10), atol=1e-6)
    for name, value in encoder.state_dict().items():
        assert torch.equal(contrast.encoder_k.state_dict()[name], value)
    for name, value in contrast.projection.state_dict().items():
        assert torch.equal(contrast.projection_k.state_dict()[name], value)


def test_queue_wraps_at_its_end():
    _, contrast = make_contrast(10)
    start = contrast.queue.clone()
    first, second, third = (make_keys(4, seed) for seed in range(3))
    contrast.enqueue(first)
    assert torch.equal(contrast.queue[:, :4], first.t())
    assert torch.equal(contrast.queue[:, 4:], start[:, 4:])
    contrast.enqueue(second)
    assert contrast.queue_ptr.item() == 8
    contrast.enqueue(third)
    assert contrast.queue_ptr.item() == 2
    assert torch.equal(contrast.queue[:, 8:], third[:2].t())
    assert torch.equal(contrast.queue[:, :2], third[2:].t())
    assert torch.equal(contrast.queue[:, 2:4], first[2:].t())


def test_batch_as_long_as_the_queue_replaces_all_of_it():
    _, contrast = make_contrast(4)
    contrast.enqueue(make_keys(1))
    keys = make_keys(4, 1)
    contrast.enqueue(keys)
    assert contrast.queue_ptr.item() == 1
    assert torch.equal(contrast.queue.roll(-1, 1), keys.t())


def test_momentum_moves_parameters_and_leaves_batch_statistics_alone():
    encoder, contrast = make_contrast(momentum=0.75)
    old = {name: value.clone() for name, value in contrast.encoder_k.state_dict().items()}
    with torch.no_grad():
        for value in [*encoder.parameters(), *contrast.projection.parameters()]:
            value.add_(1)
    encoder(torch.rand(2, 3, 8, 8))  # moves the statistics of the query side
    contrast.update_key_encoder(encoder)
    parameters = dict(contrast.encoder_k.named_parameters())
    assert set(old) - set(parameters) == {name for name in old if 'running' in name or 'num_batches' in name}
    for name, value in contrast.encoder_k.state_dict().items():
        moved = 0.75 * old[name] + 0.25 * encoder.state_dict()[name] if name in parameters else old[name]
        assert torch.allclose(value, moved, atol=1e-6), name
    for ours, theirs in zip(contrast.projection_k.parameters(), contrast.projection.parameters(), strict=True):
        assert torch.allclose(theirs - ours, torch.full_like(ours, 0.75), atol=1e-6)


def test_copying_takes_batch_statistics_as_well():
    encoder, contrast = make_contrast()
    encoder(torch.rand(2, 3, 8, 8))
    contrast.copy_to_key_encoder(encoder)
    for name, value in encoder.state_dict().items():
        assert torch.equal(contrast.encoder_k.state_dict()[name], value)


def test_training_network_gives_what_is_asked_for():
    torch.manual_seed(0)
    network = DASR(2, num_feat=8, num_groups=1, num_blocks=1, representation_dim=6, encoder_feat=4)
    training = ContrastiveTraining(network, MomentumContrast(network.encoder, 6, 10))
    query, key = torch.rand(2, 2, 3, 8, 8).unbind(1)
    both = training(query, key)
    assert both.sr.shape == (2, 3, 16, 16)
    assert both.contrast.logits.shape == (2, 11)
    assert training(query, key, super_resolve=False).sr is None
    assert training(query).contrast is None
    assert ContrastiveTraining(network, None)(query, key).contrast is None


def test_key_patches_are_seen_in_the_range_of_the_network():
    torch.manual_seed(0)
    network = DASR(2, num_feat=8, num_groups=1, num_blocks=1, representation_dim=6, encoder_feat=4).eval()
    training = ContrastiveTraining(network, MomentumContrast(network.encoder, 6, 10)).eval()
    image = torch.rand(1, 3, 8, 8)
    out = training(image, image, super_resolve=False).contrast
    assert out.logits[0, 0].item() == pytest.approx(1 / 0.07, abs=1e-4)  # an image is its own positive
