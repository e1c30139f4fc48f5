"""The free images that come with scikit-image."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from dasr_arch import InputError
from dasr_arch.data.image_io import read_image
from dasr_arch.data.sample_images import SAMPLE_IMAGES, find_sample_images

NOTICE = Path(__file__).parents[2] / 'NOTICE.md'


def test_every_image_is_installed_and_readable() -> None:
    paths = find_sample_images('train') + find_sample_images('test')
    assert len(paths) == len(SAMPLE_IMAGES)
    assert all(min(read_image(path).shape[:2]) >= 128 for path in paths)


def test_training_and_test_share_no_image() -> None:
    train, test = (find_sample_images(part) for part in ('train', 'test'))
    assert len(train) >= 8
    assert len(test) >= 4
    assert not {path.read_bytes() for path in train} & {path.read_bytes() for path in test}


def test_every_licence_is_named_in_the_notice() -> None:
    text = NOTICE.read_text(encoding='utf-8')
    for image in SAMPLE_IMAGES:
        assert image.licence
        assert f'`{image.file}`' in text


def test_missing_package_or_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_images = ModuleSpec('skimage', None, is_package=True)
    without_images.submodule_search_locations = [str(tmp_path)]
    for spec, message in ((None, 'scikit-image, which is not installed'), (without_images, r'brick\.png: the sample')):
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name, spec=spec: spec)
        with pytest.raises(InputError, match=message):
            find_sample_images('train')
