"""Strengths of the photographic degradation and how one image's parameters are drawn from them.

The stages are those of practical restorers (Zhang et al., BSRGAN, ICCV 2021; Wang et al., Real-ESRGAN, ICCVW 2021;
Liang et al., Efficient and Degradation-Adaptive Network for Real-World Image Super-Resolution, ECCV 2022). The ranges
are milder: most photographs that people have are JPEGs of medium or high quality with little blur or noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dasr_arch.degradations.kernels import (
    anisotropic_gaussian_kernel,
    dirac_kernel,
    generalized_gaussian_kernel,
    plateau_gaussian_kernel,
    sinc_kernel,
)
from dasr_arch.degradations.noise_compression import BLOCK, CODECS
from dasr_arch.degradations.resize import FILTERS

_NUMBERS = 32  # uniform numbers drawn for every image, more than any image uses
_SMALLEST_WIDTH = 0.2  # HR pixels
_BETA_GENERALIZED, _BETA_PLATEAU = (0.7, 4.0), (1.5, 3.0)
_SINC_CUTOFF = (0.7, 1.5)  # in units of the LR image's Nyquist frequency
_CAMERA_SHOT = (0.5, 0.9)
_BLUR_SHARES = {
    'isotropic': 0.5,
    'anisotropic': 0.25,
    'generalized isotropic': 0.06,
    'generalized anisotropic': 0.04,
    'plateau': 0.06,
    'sinc': 0.09,
}
_NOISE_SHARES = {'gaussian': 0.35, 'gaussian grey': 0.15, 'poisson': 0.15, 'poisson grey': 0.1, 'camera': 0.25}
_CODEC_SHARES = {'jpeg 4:4:4': 0.27, 'jpeg 4:2:0': 0.63, 'webp': 0.1}
_FILTER_SHARES = {'bicubic': 0.5, 'bilinear': 0.15, 'area': 0.2, 'lanczos': 0.15}
_FIRST_FILTER_SHARES = {'bicubic': 0.4, 'bilinear': 0.3, 'area': 0.3}


@dataclass(frozen=True)
class Level:
    """One strength of the degradation."""

    name: str
    sharp: float  # share of images without blur
    largest_width: float  # largest deviation of the kernel along an axis, LR pixels (times the scale: HR pixels)
    resized: float = 0.0  # share of images that are resized through an intermediate size
    noisy: float = 0.0  # share of images with noise
    noise: tuple[float, float] = (0.0, 0.0)  # noise levels, standard deviation at mid-grey, grey levels of 0..255
    compressed: float = 0.0  # share of images that a codec compresses
    quality: tuple[int, int] = (100, 100)  # qualities of JPEG and WebP


LEVELS = (
    Level('clean', 0.4, 0.4),
    Level('weak', 0.4, 0.35, resized=0.05, noisy=0.15, noise=(1, 5), compressed=0.95, quality=(70, 95)),
    Level('standard', 0.35, 0.5, resized=0.1, noisy=0.3, noise=(1, 12), compressed=0.95, quality=(35, 80)),
    Level('severe', 0.1, 1.0, resized=0.15, noisy=0.7, noise=(1, 25), compressed=0.5, quality=(30, 60)),
)
"""The strengths, mildest first."""

NOISE_LEVELS = (0.0, max(level.noise[1] for level in LEVELS))
QUALITIES = (min(level.quality[0] for level in LEVELS), 100)


def draw_parameters(
    generator: torch.Generator, scale: int, kernel_size: int, level_shares: Sequence[float]
) -> tuple[dict[str, Tensor], bool, bool]:
    """Draws one image's parameters; ``level_shares`` are the probabilities of LEVELS, with sum 1.

    Returns the draws of the degradation without the noise samples; True if all channels get the same samples; and True
    if neighbouring samples are correlated, as after a camera's demosaicing. The number of draws from the CPU generator
    is always the same.
    """
    numbers = _Numbers(generator)
    names = [level.name for level in LEVELS]
    index = names.index(numbers.choose(dict(zip(names, level_shares, strict=True))))
    level = LEVELS[index]
    kernel = _draw_kernel(numbers, level, scale, kernel_size)
    resize = _draw_resize(numbers, level, scale)
    noise_level, shot, grey, smooth = _draw_noise(numbers, level)
    codec, quality = 'none', 0
    if numbers.happens(level.compressed):
        codec = numbers.choose(_CODEC_SHARES)
        quality = numbers.whole(*level.quality)
    draws = {
        'level': torch.tensor(index),
        'kernel': kernel,
        'resize': torch.tensor(resize, dtype=torch.float64),
        'noise_level': torch.tensor(noise_level, dtype=torch.float32),
        'noise_shot': torch.tensor(shot, dtype=torch.float32),
        'codec': torch.tensor(CODECS.index(codec)),
        'jpeg_quality': torch.tensor(quality),
        'grid': torch.tensor([numbers.whole(0, BLOCK - 1), numbers.whole(0, BLOCK - 1)]),
    }
    return draws, grey, smooth


class _Numbers:
    """Random choices from a fixed count of uniform numbers."""

    def __init__(self, generator: torch.Generator) -> None:
        self.left = iter(torch.rand(_NUMBERS, generator=generator, dtype=torch.float64).tolist())

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(next(self.left))

    def whole(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        return low + int(float(next(self.left)) * (high - low + 1))

    def happens(self, probability: float) -> bool:
        """True with a probability."""
        return float(next(self.left)) < probability

    def choose(self, shares: dict[str, float]) -> str:
        """One of the names, by their probabilities."""
        rest = float(next(self.left))
        possible = [name for name, share in shares.items() if share > 0]
        for name in possible[:-1]:
            rest -= shares[name]
            if rest < 0:
                return name
        return possible[-1]


def _draw_kernel(numbers: _Numbers, level: Level, scale: int, kernel_size: int) -> Tensor:
    if numbers.happens(level.sharp):
        return dirac_kernel(kernel_size)[0]
    kind = numbers.choose(_BLUR_SHARES)
    if kind == 'sinc':
        cutoff = min(math.pi, numbers.uniform(*_SINC_CUTOFF) * math.pi / scale)
        return sinc_kernel(torch.tensor([cutoff]), kernel_size)[0]
    largest = max(_SMALLEST_WIDTH, level.largest_width * scale)
    first = numbers.uniform(_SMALLEST_WIDTH, largest)
    second, theta = first, 0.0
    if kind in ('anisotropic', 'generalized anisotropic', 'plateau'):
        second, theta = numbers.uniform(_SMALLEST_WIDTH, largest), numbers.uniform(0, math.pi)
    form = [torch.tensor([value], dtype=torch.float32) for value in (first, second, theta)]
    if kind == 'plateau':
        beta = torch.tensor([numbers.uniform(*_BETA_PLATEAU)], dtype=torch.float32)
        return plateau_gaussian_kernel(form[0], form[1], form[2], beta, kernel_size)[0]
    if kind.startswith('generalized'):
        beta = torch.tensor([numbers.uniform(*_BETA_GENERALIZED)], dtype=torch.float32)
        return generalized_gaussian_kernel(form[0], form[1], form[2], beta, kernel_size)[0]
    return anisotropic_gaussian_kernel(form[0], form[1], form[2], kernel_size)[0]


def _draw_resize(numbers: _Numbers, level: Level, scale: int) -> tuple[float, int, int]:
    last = FILTERS.index(numbers.choose(_FILTER_SHARES))
    if scale == 1 or not numbers.happens(level.resized):
        return 1.0, 0, last
    first = FILTERS.index(numbers.choose(_FIRST_FILTER_SHARES))
    return numbers.uniform(1 / scale, 1), first, last


def _draw_noise(numbers: _Numbers, level: Level) -> tuple[float, float, bool, bool]:
    if not numbers.happens(level.noisy):
        return 0.0, 0.0, False, False
    kind = numbers.choose(_NOISE_SHARES)
    strength = numbers.uniform(*level.noise)
    shot = {'poisson': 1.0, 'poisson grey': 1.0, 'camera': numbers.uniform(*_CAMERA_SHOT)}.get(kind, 0.0)
    return strength, shot, kind.endswith('grey'), kind == 'camera'
