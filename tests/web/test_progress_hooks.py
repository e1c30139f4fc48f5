"""Progress inside tiles: what is told adds up to what was foretold, whichever way the network computes."""

import numpy as np
import pytest

from dasr_arch.inference.tiling import Tiling
from dasr_arch.inference.upscaler import AdaptationOptions, Upscaler
from tests.inference.making import make_network

pytest.importorskip('starlette', reason='the extra serve is not installed')

from dasr_arch.web.progress_hooks import Size, Watch, count_computed

PICTURE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def make_upscaler(tile=None, **options):
    network = make_network(2, num_groups=2, num_blocks=2, **options)
    upscaler = Upscaler(2, network, device='cpu', precision='fp32', tiling=Tiling(tile, pad=4))
    return upscaler, Watch(upscaler.network)


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
def test_what_is_told_adds_up(options, adaptation, tile):
    upscaler, watch = make_upscaler(tile, **options)
    told = []
    with watch.following(told.append):
        upscaler(PICTURE, adaptation)
    assert sum(told) == pytest.approx(count_computed(upscaler, [Size(50, 70)], adaptation, 1))
    assert len(told) > 3


def test_layers_and_pages_count():
    upscaler, watch = make_upscaler(20)
    rng = np.random.default_rng(0)
    pages = [rng.integers(0, 256, (30, 40, 4), dtype=np.uint8), rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)]
    told = []
    with watch.following(told.append):
        for page in pages:
            upscaler(page)
    sizes = [Size(30, 40, 2), Size(20, 24)]
    assert sum(told) == pytest.approx(count_computed(upscaler, sizes, AdaptationOptions(), 2))


def test_listener_may_stop_the_work_in_the_middle_of_a_tile():
    upscaler, watch = make_upscaler()
    told = []

    class StopError(Exception):
        pass

    def listen(pixels):
        told.append(pixels)
        if sum(told) > 0:
            raise StopError

    with pytest.raises(StopError), watch.following(listen):
        upscaler(PICTURE)
    assert sum(told) < count_computed(upscaler, [Size(50, 70)], AdaptationOptions(), 1)
    assert upscaler(PICTURE).shape == (100, 140, 3)  # and nothing stays locked


def test_large_pictures_are_heard_of_while_they_are_encoded(monkeypatch):
    monkeypatch.setattr('dasr_arch.inference.upscaler._ENCODER_PIXELS', 1024)
    upscaler, watch = make_upscaler()
    told = []
    with watch.following(told.append):
        upscaler.represent([PICTURE])
    assert len(told) > 6
    assert sum(told) == 0


def test_watching_changes_no_result():
    watched, _ = make_upscaler(20)
    plain = Upscaler(
        2,
        make_network(2, num_groups=2, num_blocks=2),
        device='cpu',
        precision='fp32',
        tiling=Tiling(20, pad=4),
    )
    assert (watched(PICTURE) == plain(PICTURE)).all()
