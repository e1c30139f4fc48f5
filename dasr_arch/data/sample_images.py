"""Free sample images that are installed with scikit-image, a dependency of BasicSR."""

import importlib.util
from pathlib import Path
from typing import Literal, NamedTuple

from dasr_arch._errors import InputError

Part = Literal['train', 'test']


class SampleImage(NamedTuple):
    """An image inside scikit-image's package."""

    file: str
    part: Part  # the two share no image
    content: str  # content and author
    licence: str  # under which terms it is free, as scikit-image states them


_NASA = 'public domain (NASA)'
_CC0 = 'CC0'
_NO_RESTRICTIONS = 'no known copyright restrictions'

SAMPLE_IMAGES = (
    SampleImage('brick.png', 'train', 'brick wall, CC0Textures', _CC0),
    SampleImage('camera.png', 'train', 'photographer, by Lav Varshney', _CC0),
    SampleImage('coffee.png', 'train', 'cup of coffee, by Rachel Michetti', _CC0),
    SampleImage('coins.png', 'train', 'Greek coins from Pompeii, Brooklyn Museum', _NO_RESTRICTIONS),
    SampleImage('grass.png', 'train', 'grass, by linolafett', _CC0),
    SampleImage('gravel.png', 'train', 'gravel, CC0Textures', _CC0),
    SampleImage('hubble_deep_field.jpg', 'train', 'Hubble eXtreme Deep Field', _NASA),
    SampleImage('ihc.png', 'train', 'stained tissue, Center for Microscopy and Molecular Imaging', _NO_RESTRICTIONS),
    SampleImage('retina.jpg', 'train', 'retina, by Mikael Häggström', _CC0),
    SampleImage('astronaut.png', 'test', 'Eileen Collins, NASA Great Images', _NASA),
    SampleImage('chelsea.png', 'test', 'the cat Chelsea, by Stefan van der Walt', _CC0),
    SampleImage('rocket.jpg', 'test', 'launch of DSCOVR on Falcon 9, SpaceX', 'public domain (SpaceX)'),
    SampleImage('text.png', 'test', 'printed text, Wikipedia', 'public domain'),
)
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
