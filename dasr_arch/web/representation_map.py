"""Map of representations: the position of an image among known degradations.

Representations depend on the content of an image as well as on its degradation, with some weights mainly on the
content. The map therefore compares within one image: the mean of its representations under all known degradations is
subtracted from each of them, and the difference divided by their spread, as in ``dasr_arch.probe.tsne``.
"""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dasr_arch._errors import InputError
from dasr_arch.checkpoints.packaged import Setting
from dasr_arch.data.image_io import cut_middle, read_image
from dasr_arch.data.sample_images import find_sample_images
from dasr_arch.degradations import Degradation, build_degradation, degrade_image
from dasr_arch.inference.upscaler import Upscaler
from dasr_arch.probe.tsne import normalise
from dasr_arch.web.schemas import Point, RepresentationMapResult

PLAYGROUND_SIDE = 480
"""Largest height and width in HR pixels of the part of an image that experiments use."""

MAP_SIDE = 256  # of the sample images on the map, in HR pixels
_WIDTHS = {
    'iso': (0.05, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),  # times the scale: 0.2 to 4.0 at x4, as the paper
    'general': (0.05, 0.3, 0.5, 0.75, 1.0),
}
_NOISES = {'iso': (0.0,), 'general': (0.0, 10.0, 25.0)}
_ANGLES = (0.0, 45.0, 90.0, 135.0)
_NEAREST = 3

Array = NDArray[np.float64]


class KnownDegradation(NamedTuple):
    """A degradation of the map; the attributes are those of :class:`~dasr_arch.web.schemas.Point`."""

    degradation: Degradation
    width: float
    noise: float
    aniso: bool


class Reference(NamedTuple):
    """The map of a network."""

    known: list[KnownDegradation]  # length D
    axes: Array  # the two principal components, shape (2, representation_dim)
    share: float  # share of the variance that they explain
    others: list[Point]  # the sample images


@cache
def load_samples(side: int) -> dict[str, NDArray[np.uint8]]:
    """The middle parts of the sample images by name; empty if scikit-image lacks them."""
    try:
        paths = [*find_sample_images('train'), *find_sample_images('test')]
    except InputError:
        return {}
    return {path.stem: cut_middle(read_image(path), side) for path in paths}


def list_known(setting: Setting | None, scale: int) -> list[KnownDegradation]:
    """The degradations of a map: those in the training of 'iso', else those of 'general'."""
    kind = 'iso' if setting == 'iso' else 'general'
    known = [
        make_isotropic(round(factor * scale, 2), noise, scale) for noise in _NOISES[kind] for factor in _WIDTHS[kind]
    ]
    if kind == 'general':
        known += [make_anisotropic((float(scale), scale / 4), angle, 0.0, scale) for angle in _ANGLES]
    return known


def make_isotropic(width: float, noise: float, scale: int) -> KnownDegradation:
    """Isotropic blur and noise."""
    block = {'type': 'IsotropicGaussian', 'sigma': width, 'noise': noise}
    return KnownDegradation(build_degradation(block, scale), round(width, 2), noise, aniso=False)


def make_anisotropic(axes: tuple[float, float], theta: float, noise: float, scale: int) -> KnownDegradation:
    """Anisotropic blur with an angle in degrees, and noise."""
    blur = {'type': 'AnisotropicGaussian', 'lambda_1': axes[0], 'lambda_2': axes[1], 'theta_deg': theta}
    degradation = build_degradation({**blur, 'noise': noise}, scale)
    return KnownDegradation(degradation, round(math.sqrt(math.prod(axes)), 2), noise, aniso=True)


class MapStore:
    """Cache of maps; each is computed on the first request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._references: dict[tuple[str, int], Reference] = {}

    def has(self, key: tuple[str, int]) -> bool:
        """True if the map of a network is in the cache."""
        return key in self._references

    def get(
        self, key: tuple[str, int], upscaler: Upscaler, setting: Setting | None, report: Callable[[float], object]
    ) -> Reference:
        """The map of the network with a name and scale, trained in a setting; InputError if sample images are missing.

        ``report`` gets the number of LR pixels encoded since the last call; an exception from it ends the work.
        """
        with self._lock:
            if key not in self._references:
                self._references[key] = make_reference(upscaler, list_known(setting, upscaler.scale), report)
            return self._references[key]


def make_reference(
    upscaler: Upscaler, known: list[KnownDegradation], report: Callable[[float], object] = lambda _: None
) -> Reference:
    """Degrades the sample images by every known degradation and computes the axes of the map; see ``MapStore.get``."""
    samples = load_samples(MAP_SIDE)
    if not samples:
        raise InputError('the map needs the sample images of scikit-image; pip install --force-reinstall scikit-image')
    relative = {}
    for name, image in samples.items():
        vectors = encode_known(upscaler, image, known, name, report)
        relative[name] = normalise(vectors, vectors)
    stacked = np.concatenate(list(relative.values()))
    _, sizes, axes = np.linalg.svd(stacked, full_matrices=False)
    axes = _orient(np.pad(axes, ((0, max(0, 2 - len(axes))), (0, 0)))[:2], known, relative)
    share = float((sizes[:2] ** 2).sum() / max((sizes**2).sum(), np.finfo(np.float64).tiny))
    others = [
        _place(one, vector @ axes.T, name)
        for name, vectors in relative.items()
        for one, vector in zip(known, vectors, strict=True)
    ]
    return Reference(known, axes, share, others)


def count_encoded(scale: int, known: Sequence[KnownDegradation], images: Iterable[NDArray[np.uint8]]) -> int:
    """Number of LR pixels that are encoded for clean images under every known degradation."""
    return len(known) * sum(int(image.shape[0] // scale) * int(image.shape[1] // scale) for image in images)


def encode_known(
    upscaler: Upscaler,
    image: NDArray[np.uint8],
    known: Sequence[KnownDegradation],
    name: str,
    report: Callable[[float], object] = lambda _: None,
) -> Array:
    """Representations of a clean RGB image under each degradation, shape (D, representation_dim).

    The noise depends on the name.
    """
    rows = []
    for one in known:
        lq = degrade_image(one.degradation, cut_middle(image, max(image.shape), upscaler.scale), 0, name)
        rows.append(upscaler.represent([lq])[0].cpu().double().numpy())
        report(lq.shape[0] * lq.shape[1])
    return np.stack(rows)


def place_experiment(
    reference: Reference,
    upscaler: Upscaler,
    clean: NDArray[np.uint8],
    lq: NDArray[np.uint8],
    here: KnownDegradation,
    report: Callable[[float], object] = lambda _: None,
) -> RepresentationMapResult:
    """Places an LR image, and its clean image under each known degradation, on the map of a network."""
    own = encode_known(upscaler, clean, reference.known, 'experiment', report)
    vector = normalise(upscaler.represent([lq])[0].cpu().double().numpy()[None], own)[0]
    relative = normalise(own, own)
    order = np.argsort(np.linalg.norm(relative - vector, axis=1), kind='stable')[:_NEAREST]
    return RepresentationMapResult(
        here=_place(here, vector @ reference.axes.T, ''),
        own=[_place(one, row @ reference.axes.T, '') for one, row in zip(reference.known, relative, strict=True)],
        others=reference.others,
        nearest=[reference.known[index].degradation.label for index in order],
        share=reference.share,
    )


def _orient(axes: Array, known: Sequence[KnownDegradation], relative: dict[str, Array]) -> Array:
    """Fixes the signs of the axes: more blur to the right, more noise up."""
    places = np.mean(list(relative.values()), 0) @ axes.T  # (D, 2)
    wanted = np.array([[one.width, one.noise + 1e-3 * one.width] for one in known])
    agreement = ((wanted - wanted.mean(0)) * places).sum(0)
    oriented: Array = axes * np.where(agreement < 0, -1.0, 1.0)[:, None]
    return oriented


def _place(one: KnownDegradation, place: Array, image: str) -> Point:
    x, y = (round(float(value), 5) for value in place)
    label = one.degradation.label
    return Point(x=x, y=y, label=label, width=one.width, noise=one.noise, aniso=one.aniso, image=image)
