"""Two-dimensional maps of degradation representations, by t-SNE or PCA, saved for reports."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch.archs.dasr_arch import DASR

_PERPLEXITY = 20.0
_PAPER_PERPLEXITY = 30.0

MIN_MAP_POINTS = int(2 * _PAPER_PERPLEXITY) + 1
"""A t-SNE map needs more points than this."""


class MapPoint(msgspec.Struct, frozen=True):
    """One patch on a map: its image, the label of its degradation, and coordinates without unit."""

    image: str = msgspec.field(name='picture')  # the key of stored maps
    degradation: str
    x: float
    y: float


class RepresentationMap(msgspec.Struct, frozen=True):
    """A map with a title, a description of the method in whole sentences, and the patches."""

    title: str
    method: str
    points: list[MapPoint]


class EncodedPatches(NamedTuple):
    """Representations of the same patches under several degradations."""

    images: list[str]  # name of the image of each patch, length N
    degradations: list[str]  # labels, length D
    vectors: NDArray[np.float64]  # (D, N, representation_dim), float64


def encode_patches(
    network: DASR, images: Mapping[str, Mapping[str, NDArray[np.uint8]]], patch: int, step: int
) -> EncodedPatches:
    """Representations of all patches of LR images, by a network in evaluation mode on the CPU.

    The images are RGB (h, w, 3) by degradation and name, with the same names and sizes for each degradation. Patch size
    and stride are in LR pixels; a patch is at most as large as the shorter side of the image.
    """
    names: list[str] = []
    vectors = []
    for number, group in enumerate(images.values()):
        rows = []
        for name, image in group.items():
            windows = _cut_windows(image, patch, step)
            with torch.inference_mode():
                rows.append(network.encode(windows).double().numpy())
            names += [name] * len(windows) if number == 0 else []
        vectors.append(np.concatenate(rows))
    return EncodedPatches(names, list(images), np.stack(vectors))


def make_maps(encoded: EncodedPatches) -> list[RepresentationMap]:
    """Maps in two dimensions: of the representations, and of their differences from the mean of each patch."""
    count, patches, length = encoded.vectors.shape
    plain = encoded.vectors - encoded.vectors.mean((0, 1))
    own = encoded.vectors - encoded.vectors.mean(0)
    share = float((own**2).sum() / max((plain**2).sum(), np.finfo(np.float64).tiny))
    relative = normalise(encoded.vectors, encoded.vectors)
    if importlib.util.find_spec('sklearn') is not None and count * patches > 3 * _PERPLEXITY:
        places = _reduce_by_tsne(plain.reshape(-1, length))
        method = f'Reduced from {length} dimensions by t-SNE, perplexity {_PERPLEXITY:g}.'
    else:
        places = _find_components(plain.reshape(-1, length))[:, :2]
        method = f'The first two principal components of {length} dimensions.'
    method += f' Degradation makes up {100 * share:.2g} % of the variance, the content of the patches the rest.'
    components = _find_components(relative.reshape(-1, length))[:, :2]
    remark = (
        'The same patches, each relative to its own mean over the degradations and scaled to the same spread, so that '
        'its content no longer counts; the first two principal components.'
    )
    return [
        RepresentationMap('representations as they are', method, _place(encoded, places)),
        RepresentationMap('what the degradation changes', remark, _place(encoded, components)),
    ]


def normalise(vectors: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtracts from representations the mean of those of the same patches, and divides by their spread.

    ``own`` holds D degradations, shape (D, N, representation_dim), or (D, representation_dim) for one patch.
    """
    mean = own.mean(0)
    spread = np.sqrt(((own - mean) ** 2).sum((0, -1), keepdims=True))
    relative: NDArray[np.float64] = (vectors - mean) / np.where(spread > 0, spread, 1)
    return relative


def map_by_tsne(encoded: EncodedPatches, title: str) -> RepresentationMap:
    """A t-SNE map of more than MIN_MAP_POINTS representations, as in the paper; it needs scikit-learn."""
    length = encoded.vectors.shape[-1]
    plain = (encoded.vectors - encoded.vectors.mean((0, 1))).reshape(-1, length)
    places = _reduce_by_tsne(plain, _PAPER_PERPLEXITY)
    method = f'Reduced from {length} dimensions by t-SNE, perplexity {_PAPER_PERPLEXITY:g}, a point for each image.'
    return RepresentationMap(title, method, _place(encoded, places))


def write_maps(path: Path, maps: Sequence[RepresentationMap]) -> None:
    """Saves maps as JSON."""
    write_whole(path, msgspec.json.format(msgspec.json.encode({'maps': maps}), indent=1) + b'\n')


def read_maps(path: Path) -> list[RepresentationMap]:
    """Reads saved maps. Raises InputError if the file is missing or holds no maps."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, list[RepresentationMap]])['maps']
    except FileNotFoundError as error:
        raise InputError(f'{path}: the maps of representations do not exist; run the demo again') from error
    except (msgspec.MsgspecError, KeyError) as error:
        raise InputError(f'{path}: holds no maps of representations; run the demo again') from error


def _cut_windows(image: NDArray[np.uint8], patch: int, step: int) -> Tensor:
    """Patches of an image (h, w, 3), shape (N, 3, side, side) in [0, 1]."""
    side = min(patch, *image.shape[:2])
    windows = [
        image[top : top + side, left : left + side]
        for top in range(0, image.shape[0] - side + 1, step)
        for left in range(0, image.shape[1] - side + 1, step)
    ]
    return torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2).float() / 255


def _place(encoded: EncodedPatches, places: NDArray[np.float64]) -> list[MapPoint]:
    pairs = [(name, label) for label in encoded.degradations for name in encoded.images]
    return [MapPoint(name, label, float(x), float(y)) for (name, label), (x, y) in zip(pairs, places, strict=True)]


def _find_components(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates along the principal components, largest first, shape (N, min(N, D)); at least two columns."""
    left, sizes, _ = np.linalg.svd(vectors, full_matrices=False)
    places: NDArray[np.float64] = left * sizes
    missing = max(0, 2 - places.shape[1])
    return np.pad(places, ((0, 0), (0, missing)))


def _reduce_by_tsne(vectors: NDArray[np.float64], perplexity: float = _PERPLEXITY) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE  # noqa: PLC0415 (optional, slow to import)

    components = np.ascontiguousarray(_find_components(vectors)[:, :30])
    reducer = TSNE(2, perplexity=perplexity, init='pca', random_state=0)
    return np.asarray(reducer.fit_transform(components), np.float64)
