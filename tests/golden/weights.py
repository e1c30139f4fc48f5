"""Weights that any implementation can rebuild from the names and shapes of a checkpoint, for the golden outputs."""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DIV2K_MEAN = torch.tensor([0.4488, 0.4371, 0.4040]) * 255


def fill(name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Values of one tensor, drawn from a generator that is seeded with the CRC-32 of its name."""
    if name.endswith(('num_batches_tracked', 'queue_ptr')):
        return np.zeros(shape, np.int64)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith('running_var'):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith('running_mean'):
        values = rng.normal(0, 0.1, shape)
    elif name.endswith('queue'):
        values = rng.normal(0, 1, shape)
        values = values / np.linalg.norm(values, axis=0, keepdims=True)
    elif len(shape) <= 1:
        affine = name.endswith('weight')
        values = rng.uniform(0.5, 1.5, shape) if affine else rng.normal(0, 0.01, shape)
    else:
        values = rng.normal(0, 0.5 / np.sqrt(np.prod(shape[1:])), shape)
    return values.astype(np.float32)


def golden_state(golden: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    """The checkpoint, under the authors' names, that a golden file was computed with."""
    state = {}
    for name, shape_text, gain in zip(golden['keys'], golden['shapes'], golden['gains'], strict=True):
        shape = tuple(int(side) for side in str(shape_text).strip('()').split(',') if side.strip())
        if str(name).removeprefix('G.').startswith(('sub_mean.', 'add_mean.')):
            sign = -1 if 'sub_mean' in name else 1
            identity = torch.eye(3).reshape(3, 3, 1, 1)
            state[str(name)] = identity if name.endswith('weight') else sign * DIV2K_MEAN
            continue
        values = torch.from_numpy(np.asarray(fill(str(name), shape)))
        state[str(name)] = values * float(gain) if values.is_floating_point() else values
    return state


def relative_error(a: Tensor | NDArray[np.generic], b: Tensor | NDArray[np.generic]) -> float:
    """Norm of the difference over the norm of b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
