"""HTML pages from Jinja2 templates: one file each, images included, which needs no network."""

import base64
import io

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

_ENVIRONMENT = Environment(
    loader=PackageLoader('dasr_arch.benchmark'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)


def render_template(name: str, **context: object) -> str:
    """The text of a page from a file in ``templates``; text of the context is escaped, Markup is not."""
    return _ENVIRONMENT.get_template(name).render(context)


def embed_image(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as a data URL, lossless."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, format='WEBP', lossless=True, quality=70)
    return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode("ascii")}'
