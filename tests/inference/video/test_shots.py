"""Cut detection, and the moving average of the representation within shots."""

import math

import numpy as np
import pytest
import torch

from dasr_arch import AdaptationOptions, Upscaler
from dasr_arch.inference.video.shots import SMOOTHING_SECONDS, CutDetector, ShotRepresentation
from tests.inference.making import make_network
from tests.inference.making_video import make_scene


def as_floats(frames):
    return [frame.astype(np.float32) / 255 for frame in frames]


def find_cuts(frames):
    detector = CutDetector()
    return [index for index, frame in enumerate(frames) if detector.is_new_shot(frame)]


@pytest.fixture(scope='module')
def upscaler():
    return Upscaler(2, make_network(2), device='cpu', precision='fp32')


def test_cuts_are_found_and_nothing_else():
    frames = as_floats(make_scene(0, 9) + make_scene(5, 7) + make_scene(7, 2) + make_scene(11, 6))
    assert find_cuts(frames) == [0, 9, 16, 18]


def test_noise_and_slow_movement_are_no_cuts():
    rng = np.random.default_rng(0)
    frames = [frame + rng.normal(0, 0.1, frame.shape).astype(np.float32) for frame in as_floats(make_scene(0, 30))]
    assert find_cuts([frame.clip(0, 1) for frame in frames]) == [0]


def test_fast_movement_is_no_cut_and_hides_none():
    """A camera that is swung: every frame differs from the last by more than CUT_LEAST."""
    wide = np.random.default_rng(0).random((18, 400, 3)).astype(np.float32).repeat(4, 0).repeat(4, 1)
    pan = [wide[:, 16 * step : 16 * step + 128] for step in range(20)]
    assert np.abs(pan[1] - pan[0]).mean() > 0.1
    assert find_cuts(pan) == [0]


def test_fade_is_no_cut():
    first, second = as_floats([make_scene(0, 1)[0], make_scene(5, 1)[0]])
    frames = [first + share * (second - first) for share in np.linspace(0, 1, 25, dtype=np.float32)]
    assert find_cuts(frames) == [0]


def test_size_does_not_matter():
    large = [frame.repeat(5, 0).repeat(5, 1) for frame in as_floats(make_scene(0, 5) + make_scene(5, 5))]
    assert find_cuts(large) == [0, 5]
    tiny = [frame[:3, :2] for frame in large]
    assert find_cuts(tiny) == [0, 5]


def test_representation_is_the_mean_at_first_and_then_a_moving_average(upscaler):
    frames = as_floats(make_scene(0, 6))
    found = [upscaler.represent([frame]) for frame in frames]
    represent = ShotRepresentation(upscaler)
    seen = [represent(frame, index * 0.5) for index, frame in enumerate(frames)]
    assert torch.equal(seen[0], found[0])
    assert torch.allclose(seen[1], (found[0] + found[1]) / 2)
    share = 1 - math.exp(-0.5 / SMOOTHING_SECONDS)  # more than 1 / 3
    expected = seen[1]
    for index in range(2, 6):
        expected = expected + share * (found[index] - expected)
        assert torch.allclose(seen[index], expected)


def test_frame_rate_does_not_matter(upscaler):
    still, later = as_floats([make_scene(0, 1)[0], make_scene(0, 2)[1]])
    ends = []
    for rate in (25, 100):
        represent = ShotRepresentation(upscaler)
        for index in range(4 * rate):
            represent(still, index / rate)
        for index in range(rate):
            ends.append(represent(later, 4 + index / rate))
    assert represent.shots == 1
    assert torch.allclose(ends[24], ends[-1], atol=1e-2 * (ends[0] - ends[24]).abs().max())


def test_noise_of_single_frames_is_averaged_out(upscaler):
    rng = np.random.default_rng(0)
    still = as_floats(make_scene(0, 1))[0]
    noisy = [(still + rng.normal(0, 0.1, still.shape)).clip(0, 1).astype(np.float32) for _ in range(60)]
    represent = ShotRepresentation(upscaler)
    smooth = torch.cat([represent(frame, index / 25) for index, frame in enumerate(noisy)])[30:]
    single = torch.cat([upscaler.represent([frame]) for frame in noisy])[30:]
    assert smooth.diff(dim=0).abs().mean() < 0.1 * single.diff(dim=0).abs().mean()


def test_cut_forgets_the_shot_before(upscaler):
    frames = as_floats(make_scene(0, 8) + make_scene(5, 3))
    represent = ShotRepresentation(upscaler)
    seen = [represent(frame, index / 25) for index, frame in enumerate(frames)]
    assert represent.shots == 2
    assert torch.equal(seen[8], upscaler.represent([frames[8]]))
    assert not torch.allclose(seen[7], upscaler.represent([frames[7]]), atol=1e-6)


def test_strength_blends_towards_the_clean_representation_of_the_shot(upscaler):
    frames = as_floats(make_scene(0, 3) + make_scene(5, 3))
    represent = ShotRepresentation(upscaler, AdaptationOptions(strength=0.3))
    plain = ShotRepresentation(upscaler)
    for index, frame in enumerate(frames):
        found, own = represent(frame, index / 25), plain(frame, index / 25)
        clean = upscaler.represent([frames[index - index % 3]], AdaptationOptions(strength=0))
        assert torch.allclose(found, clean + 0.3 * (own - clean), atol=1e-6)


def test_reference_holds_throughout(upscaler):
    frames = as_floats(make_scene(0, 3) + make_scene(5, 3))
    reference = make_scene(9, 1)[0]
    represent = ShotRepresentation(upscaler, AdaptationOptions(reference=reference, ensemble=True))
    expected = upscaler.represent([reference], AdaptationOptions(ensemble=True))
    for index, frame in enumerate(frames):
        assert torch.equal(represent(frame, index / 25), expected)
