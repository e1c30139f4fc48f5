"""Progress within tiles: the reported pixels add up to the expected number in every implementation."""

import numpy as np
import pytest

from dasr_arch.inference.tiling import Tiling
from dasr_arch.inference.upscaler import AdaptationOptions, Upscaler
from tests.inference.making import make_network

pytest.importorskip('fastapi', reason='the extra serve is not installed')

from dasr_arch.web.progress_hooks import ProgressHooks, Size, count_computed

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def make_upscaler(tile=None, **options):
    network = make_network(2, num_groups=2, num_blocks=2, **options)
    upscaler = Upscaler(2, network, device='cpu', precision='fp32', tiling=Tiling(tile, pad=4))
    return upscaler, ProgressHooks(upscaler.network)


@pytest.mark.parametrize('options', [{}, {'implementation': 'reference'}, {'da_conv': 'concat'}, {'da_conv': 'kernel'}])
@pytest.mark.parametrize(
    'adaptation',
    [
        AdaptationOptions(),
        AdaptationOptions(strength=0.5),
        AdaptationOptions(ensemble=True),
        AdaptationOptions(strength=0, ensemble=True),
    ],
)
@pytest.mark.parametrize('tile', [None, 32])
def test_reported_pixels_add_up(options, adaptation, tile):
    upscaler, hooks = make_upscaler(tile, **options)
    reported = []
    with hooks.following(reported.append):
        upscaler(IMAGE, adaptation)
    assert sum(reported) == pytest.approx(count_computed(upscaler, [Size(50, 70)], adaptation, 1))
    assert len(reported) > 3


def test_layers_and_pages_count():
    upscaler, hooks = make_upscaler(20)
    rng = np.random.default_rng(0)
    pages = [rng.integers(0, 256, (30, 40, 4), dtype=np.uint8), rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)]
    reported = []
    with hooks.following(reported.append):
        for page in pages:
            upscaler(page)
    sizes = [Size(30, 40, 2), Size(20, 24)]
    assert sum(reported) == pytest.approx(count_computed(upscaler, sizes, AdaptationOptions(), 2))


def test_listener_may_stop_the_work_in_the_middle_of_a_tile():
    upscaler, hooks = make_upscaler()
    reported = []

    class StopError(Exception):
        pass

    def listen(pixels):
        reported.append(pixels)
        if sum(reported) > 0:
            raise StopError

    with pytest.raises(StopError), hooks.following(listen):
        upscaler(IMAGE)
    assert sum(reported) < count_computed(upscaler, [Size(50, 70)], AdaptationOptions(), 1)
    assert upscaler(IMAGE).shape == (100, 140, 3)  # and nothing stays locked


def test_encoding_of_large_images_is_reported(monkeypatch):
    monkeypatch.setattr('dasr_arch.inference.upscaler._ENCODER_PIXELS', 1024)
    upscaler, hooks = make_upscaler()
    reported = []
    with hooks.following(reported.append):
        upscaler.represent([IMAGE])
    assert len(reported) > 6
    assert sum(reported) == 0


def test_hooks_change_no_result():
    hooked, _ = make_upscaler(20)
    plain = Upscaler(
        2,
        make_network(2, num_groups=2, num_blocks=2),
        device='cpu',
        precision='fp32',
        tiling=Tiling(20, pad=4),
    )
    assert (hooked(IMAGE) == plain(IMAGE)).all()
