"""Free sample images that are installed with scikit-image, a dependency of BasicSR."""

import importlib.util
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from dasr_arch._errors import InputError

Part = Literal['train', 'test']


class SampleImage(msgspec.Struct, frozen=True):
    """An image inside scikit-image's package."""

    file: str
    part: Part  # the two share no image
    content: str  # content and author
    licence: str  # under which terms it is free, as scikit-image states them


_DATA_FILE = Path(__file__).resolve().parents[1] / 'assets' / 'sample_images.yml'
SAMPLE_IMAGES = msgspec.convert(yaml.safe_load(_DATA_FILE.read_text(encoding='utf-8')), tuple[SampleImage, ...])
"""The images of the demo and of the speed benchmark, in the order in which they are shown."""


def find_sample_images(part: Part) -> list[Path]:
    """Files of one part of the sample images inside the installed package, only to be read.

    InputError if scikit-image is missing or was installed without its images.
    """
    spec = importlib.util.find_spec('skimage')
    if spec is None or not spec.submodule_search_locations:
        raise InputError('the sample images come with scikit-image, which is not installed; pip install scikit-image')
    folder = Path(spec.submodule_search_locations[0]) / 'data'
    paths = [folder / image.file for image in SAMPLE_IMAGES if image.part == part]
    for path in paths:
        if not path.is_file():
            raise InputError(f'{path}: the sample image is missing; pip install --force-reinstall scikit-image')
    return paths
