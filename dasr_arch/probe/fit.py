"""Fitting of a linear probe, and its confusion matrices on test images."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.packaged import Setting
from dasr_arch.degradations import build_degradation, degrade_image
from dasr_arch.probe.model import QUANTITIES, LinearClassifier, Probe, ProbeClass, Quantity, identify_encoder

NOISE_LEVELS = (0, 5, 10, 15, 20, 25)
"""Grey levels of 0..255."""

JPEG_QUALITIES = (90, 80, 70, 60, 50, 40, 30)
MAP_NOISE_LEVELS = (0, 5, 10, 15)
"""Noise levels of the map, as in the paper's figure 6."""

_AXES = (0.6, 1.4, 2.2, 3.0, 3.8)  # HR pixels at x4
_ANGLES = (0, 45, 90, 135)  # degrees
_PENALTY = 1e-4  # on squared weights, mean over samples
_STEPS = 400
_SIDE = 512  # HR pixels, centre crop


class Samples(NamedTuple):
    """Representations and their degradations."""

    vectors: Tensor  # (N, representation_dim), float64
    kernels: Tensor  # index of the kernel's class, (N,), int64
    noises: Tensor  # index of the noise level, (N,), int64
    qualities: Tensor  # index of the JPEG quality, (N,), int64


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix."""

    labels: Sequence[str]  # names of the C classes
    counts: NDArray[np.int64]  # (C, C); rows are true classes, columns predicted ones

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, in [0, 1]."""
        return float(np.trace(self.counts) / self.counts.sum())

    def within(self, steps: int) -> float:
        """Share of predictions at most ``steps`` classes from the true one, in [0, 1]; for ordered classes."""
        rows, columns = np.indices(self.counts.shape)
        return float(self.counts[np.abs(rows - columns) <= steps].sum() / self.counts.sum())


def list_kernels(setting: Setting, scale: int) -> list[ProbeClass]:
    """Kernel classes of a probe, with the parameters of a degradation.

    For 'iso' widths 0.2, 0.6, ... up to the scale; for 'photo' five isotropic kernels; for 'general' these and all
    pairs of different axis widths at four angles, 45 in all. The widths of 'general' and 'photo' are proportional to
    the upsampling factor.
    """
    if setting == 'iso':
        widths = [round(0.2 + 0.4 * index, 1) for index in range(math.ceil((scale - 0.2) / 0.4 - 1e-9))]
        return [ProbeClass(f'width {width:g}', {'sigma': width}) for width in widths]
    axes = [round(axis * scale / 4, 2) for axis in _AXES]
    round_ones = [ProbeClass(f'width {axis:g}', {'sigma': axis}) for axis in axes]
    if setting == 'photo':
        return round_ones
    pairs = [(longer, shorter) for shorter in axes for longer in axes if longer > shorter]
    return round_ones + [
        ProbeClass(
            f'axes {longer:g} x {shorter:g} at {angle}',
            {'lambda_1': longer, 'lambda_2': shorter, 'theta_deg': float(angle)},
        )
        for longer, shorter in pairs
        for angle in _ANGLES
    ]


def list_noises(setting: Setting) -> list[ProbeClass]:
    """Noise classes of a probe; for 'iso' 0 alone."""
    levels = NOISE_LEVELS[:1] if setting == 'iso' else NOISE_LEVELS
    return [ProbeClass(f'noise {level}', {'noise': float(level)}) for level in levels]


def list_qualities(setting: Setting) -> list[ProbeClass]:
    """JPEG qualities of a probe, with a class for no compression; for 'iso' and 'general' that class alone."""
    qualities = JPEG_QUALITIES if setting == 'photo' else ()
    compressed = [ProbeClass(f'quality {quality}', {'jpeg': float(quality)}) for quality in qualities]
    return [ProbeClass('none', {}), *compressed]


def degradation_options(*classes: ProbeClass) -> dict[str, Any]:
    """Options of `build_degradation` for a kernel class and further classes."""
    values: dict[str, Any] = {name: value for one in classes for name, value in one.values.items()}
    if 'jpeg' in values:
        values['jpeg'] = int(values['jpeg'])
    return {'type': 'IsotropicGaussian' if 'sigma' in values else 'AnisotropicGaussian', **values}


def gather_samples(
    network: DASR,
    images: Iterable[NDArray[np.uint8]],
    classes: Mapping[Quantity, Sequence[ProbeClass]],
    progress: Callable[[int], object],
) -> Samples:
    """Representations of all images, at most 512 x 512 of their centre, with all kernels and JPEG qualities.

    Noise levels alternate. The network is in evaluation mode, on the CPU. ``progress`` is called with 1 after each
    image.
    """
    kernels, noises, qualities = (classes[quantity] for quantity in QUANTITIES)
    vectors, chosen = [], []
    for index, whole in enumerate(images):
        image = _cut_middle(whole, network.scale)
        for row, (kernel, quality) in enumerate(product(range(len(kernels)), range(len(qualities)))):
            noise = (index + row) % len(noises)
            options = degradation_options(kernels[kernel], noises[noise], qualities[quality])
            lq = degrade_image(build_degradation(options, network.scale), image, 0, f'{index} {row}')
            vectors.append(encode_image(network, lq).tolist())  # tensors would fragment the heap
            chosen.append((kernel, noise, quality))
        progress(1)
    return Samples(torch.tensor(vectors, dtype=torch.float64), *torch.tensor(chosen).unbind(1))


def encode_image(network: DASR, image: NDArray[np.uint8]) -> Tensor:
    """Representation of an image (h, w, 3), shape (representation_dim,), float32."""
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).unsqueeze(0).float() / 255
    with torch.inference_mode():
        return network.encode(x)[0].float()


def fit_probe(
    network: DASR, train: Samples, test: Samples, classes: Mapping[Quantity, Sequence[ProbeClass]], tested_on: str
) -> tuple[Probe, dict[Quantity, Confusion]]:
    """The probe, fitted by logistic regression, and the confusion matrices of other images, called ``tested_on``.

    A quantity with a single class is left out.
    """
    mean, spread = train.vectors.mean(0), train.vectors.std(0).clamp_min(1e-8)
    inputs, outputs = (train.vectors - mean) / spread, (test.vectors - mean) / spread
    classifiers: dict[Quantity, LinearClassifier] = {}
    confusions: dict[Quantity, Confusion] = {}
    for quantity, train_targets, test_targets in zip(QUANTITIES, train[1:], test[1:], strict=True):
        known = classes[quantity]
        if len(known) < 2:
            continue
        weight, bias = fit_logistic(inputs, train_targets, len(known))
        predicted = (outputs @ weight.T + bias).argmax(1)
        counts = torch.bincount(test_targets * len(known) + predicted, minlength=len(known) ** 2)
        confusions[quantity] = Confusion([one.label for one in known], counts.reshape(len(known), -1).numpy())
        classifiers[quantity] = LinearClassifier(known, weight.float(), bias.float(), confusions[quantity].accuracy)
    probe = Probe(identify_encoder(network), mean.float(), spread.float(), classifiers, tested_on)
    return probe, confusions


def fit_logistic(inputs: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weight (classes, D) and bias (classes,) of multinomial logistic regression with L2 penalty, by L-BFGS from zero.

    Inputs have shape (N, D), float64, mean 0 and deviation 1; targets have shape (N,), int64.
    """
    weight = torch.zeros(classes, inputs.shape[1], dtype=inputs.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=inputs.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, history_size=20, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(inputs @ weight.T + bias, targets) + _PENALTY * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weight.detach(), bias.detach()


def _cut_middle(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    top, left = (max(0, (side - _SIDE) // 2) // scale * scale for side in image.shape[:2])
    return image[top : top + _SIDE, left : left + _SIDE]
