"""ZSSR's network starts near bicubic upsampling and can be trained on images upsampled by any factor."""

import pytest
import torch

from dasr_arch.archs.zssr_arch import ZSSR
from dasr_arch.degradations.resize import downsample_bicubic, upsample_bicubic


def make_images(batch: int = 1, height: int = 9, width: int = 7) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def make_smooth(side: int) -> torch.Tensor:
    return upsample_bicubic(make_images(1, side // 8, side // 8), 8).clamp(0, 1)


def test_size_is_that_of_the_paper():
    network = ZSSR()
    assert sum(parameter.numel() for parameter in network.parameters()) == 224_640
    assert all(name.endswith('weight') for name in network.state_dict())


def test_initial_weights_are_small():
    torch.manual_seed(0)
    weights = list(ZSSR().state_dict().values())
    assert weights[0].std() == pytest.approx((0.1 / 27) ** 0.5, rel=0.05)
    assert weights[3].std() == pytest.approx((0.1 / 576) ** 0.5, rel=0.02)


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_untrained_it_is_close_to_bicubic_upsampling(scale):
    torch.manual_seed(0)
    lq = make_images()
    with torch.no_grad():
        out = ZSSR(scale)(lq)
    assert torch.allclose(out, upsample_bicubic(lq, scale, 'mirror'), atol=0.02)


def test_upsampled_image_keeps_its_size():
    torch.manual_seed(0)
    network, lq = ZSSR(scale=3), make_images()
    upsampled = upsample_bicubic(lq, 3, 'mirror')
    assert torch.equal(network(upsampled, is_upsampled=True), network(lq))
    assert network(make_images(1, 10, 13), is_upsampled=True).shape == (1, 3, 10, 13)  # by a factor that is not whole


def test_adaptation_takes_the_kernel_and_forward_does_not():
    assert ZSSR.needs == ()
    assert ZSSR.adapts_to == ('kernel',)
    assert not ZSSR.blind


def test_a_few_steps_on_the_image_itself_lower_the_loss():
    torch.manual_seed(0)
    network, hr = ZSSR(num_layers=4, num_feat=16), make_smooth(32)
    lq_up = upsample_bicubic(downsample_bicubic(hr, 2), 2)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = (network(lq_up, is_upsampled=True) - hr).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scale': 1.5}, 'scale must be a whole number of at least 1 for ZSSR, got 1.5'),
        ({'num_feat': 0}, 'num_feat must be a whole number'),
        ({'num_layers': 1}, 'num_layers must be at least 2'),
    ],
)
def test_argument_without_such_a_choice_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ZSSR(**options)
