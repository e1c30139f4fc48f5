"""LPIPS with a backbone that the user supplies; nothing is downloaded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import alexnet

from dasr_arch._errors import InputError
from dasr_arch.metrics import lpips_metric
from dasr_arch.metrics.lpips_metric import calculate_lpips, check_backbone
from tests.benchmark.making import make_image


@pytest.fixture(scope='module')
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AlexNet's convolutions with seeded weights, under torchvision's names."""
    pytest.importorskip('lpips', reason='the extra lpips is not installed')
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('backbone') / 'alexnet.pth'
    features = alexnet(weights=None).features
    torch.save({f'features.{key}': value for key, value in features.state_dict().items()}, path)
    return path


def test_distance_is_zero_for_equal_images_and_grows_with_the_damage(backbone: Path) -> None:
    hr = make_image(80, 84)
    generator = np.random.default_rng(0)
    worse = [(hr + generator.normal(0, level, hr.shape)).clip(0, 255).astype(np.uint8) for level in (8, 60)]
    assert calculate_lpips(hr, hr, 4, str(backbone)) == 0
    small, large = (calculate_lpips(image, hr, 4, str(backbone)) for image in worse)
    assert 0 < small < large


def test_distance_is_that_of_the_package(backbone: Path) -> None:
    import lpips

    network = lpips.LPIPS(net='alex', pnet_rand=True, verbose=False).eval()
    state = torch.load(backbone, weights_only=True)
    for name, value in network.net.state_dict().items():
        value.copy_(state[f'features.{name.split(".", 1)[1]}'])
    sr, hr = make_image(80, 84, seed=1), make_image(80, 84, seed=2)
    tensors = [torch.from_numpy(p[4:-4, 4:-4].astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1 for p in (sr, hr)]
    with torch.no_grad():
        expected = float(network(*tensors))
    assert calculate_lpips(sr[..., ::-1], hr[..., ::-1], 4, str(backbone)) == pytest.approx(expected, rel=1e-5)


def test_file_of_another_network_is_one_line(backbone: Path, tmp_path: Path) -> None:
    path = tmp_path / 'other.pth'
    torch.save({'features.0.weight': torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"other.pth' holds no weights of torchvision's network for net=alex"):
        calculate_lpips(make_image(80, 80), make_image(80, 80), 0, str(path))
    with pytest.raises(InputError, match=r'holds no weights .* for net=vgg'):
        calculate_lpips(make_image(80, 80), make_image(80, 80), 0, str(backbone), 'vgg')


def test_missing_file_and_package_and_unknown_net_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="m: net must be one of alex, vgg, squeeze, got 'alxe'"):
        check_backbone('x', 'alxe', 'm')
    monkeypatch.setattr(lpips_metric.importlib.util, 'find_spec', lambda name: object())
    with pytest.raises(InputError, match=r"m: backbone_path: 'none.pth' does not exist; give .* torchvision's VGG-16"):
        check_backbone('none.pth', 'vgg', 'm')
    monkeypatch.setattr(lpips_metric.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match='m: LPIPS needs the package lpips; pip install'):
        check_backbone('none.pth', 'alex', 'm')
