"""Representations of patches and their maps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.probe.tsne import EncodedPatches, encode_patches, make_maps, read_maps, write_maps
from tests.benchmark.making import make_image, small_dasr


def make_encoded(patches: int = 30) -> EncodedPatches:
    """Content that differs much and three degradations that differ little."""
    generator = np.random.default_rng(0)
    content = generator.normal(0, 10, (1, patches, 16))
    shift = np.linspace(-1, 1, 3).reshape(3, 1, 1) * generator.normal(0, 0.1, (1, 1, 16))
    return EncodedPatches([f'p{index}' for index in range(patches)], ['low', 'middle', 'high'], content + shift)


def test_every_patch_is_encoded_under_every_degradation() -> None:
    network = DASR(**small_dasr()).eval()
    group = {'a': make_image(20, 24), 'b': make_image(12, 40, 1)}
    encoded = encode_patches(network, {'one': group, 'two': group}, patch=16, step=8)
    assert encoded.images == ['a', 'a', 'b', 'b', 'b', 'b']  # (20 - 16) // 8 + 1 rows, ...; side 12 in b
    assert encoded.vectors.shape == (2, 6, 16)
    assert np.array_equal(encoded.vectors[0], encoded.vectors[1])
    window = torch.from_numpy(group['a'][:16, 8:24].copy()).permute(2, 0, 1).unsqueeze(0).float() / 255
    with torch.inference_mode():
        expected = network.encode(window)[0].double().numpy()
    assert np.allclose(encoded.vectors[0, 1], expected, atol=1e-5)  # another batch size may round differently


def test_second_map_orders_degradations_whatever_the_content() -> None:
    maps = make_maps(make_encoded())
    means = [
        np.mean([point.x for point in maps[1].points if point.degradation == label])
        for label in ('low', 'middle', 'high')
    ]
    spread = np.std([point.x for point in maps[1].points if point.degradation == 'low'])
    assert means in (sorted(means), sorted(means, reverse=True))
    assert spread < 0.1 * abs(means[2] - means[0])


def test_share_of_variance_by_degradation_is_stated() -> None:
    assert 'Degradation makes up 0.' in make_maps(make_encoded())[0].method


@pytest.mark.parametrize('patches', [1, 5, 30])
def test_maps_hold_every_patch_and_survive_a_file(tmp_path: Path, patches: int) -> None:
    maps = make_maps(make_encoded(patches))
    assert [len(saved.points) for saved in maps] == [3 * patches, 3 * patches]
    assert all(np.isfinite([point.x, point.y]).all() for saved in maps for point in saved.points)
    write_maps(tmp_path / 'maps.json', maps)
    assert read_maps(tmp_path / 'maps.json') == maps


def test_identical_representations_give_a_map_all_the_same() -> None:
    maps = make_maps(EncodedPatches(['a', 'b'], ['x', 'y'], np.ones((2, 2, 4))))
    assert all(np.isfinite([point.x, point.y]).all() for saved in maps for point in saved.points)


@pytest.mark.parametrize(
    'content', ['', '[]', '{"maps": [{}]}', '{"maps": [{"title": 1, "method": 2, "points": [3]}]}']
)
def test_other_files_are_no_maps(tmp_path: Path, content: str) -> None:
    path = tmp_path / 'maps.json'
    with pytest.raises(InputError, match='do not exist'):
        read_maps(path)
    path.write_text(content)
    with pytest.raises(InputError, match='holds no maps'):
        read_maps(path)
