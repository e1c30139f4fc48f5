"""The paper's first setting: isotropic Gaussian blur, noise-free by default."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from dasr_arch._errors import InputError, check_choice
from dasr_arch._registration import DEGRADATION_REGISTRY
from dasr_arch.degradations.base import (
    Degradation,
    Range,
    check_number,
    check_one_of,
    check_range,
    draw_uniform,
    format_setting,
)
from dasr_arch.degradations.kernels import dirac_kernel, isotropic_gaussian_kernel

Distribution = Literal['uniform', 'arcsine', 'beta']
_SMALLEST_SHAPE = 0.05


@DEGRADATION_REGISTRY.register()
@dataclass(frozen=True, kw_only=True)
class IsotropicGaussian(Degradation):
    """Blur by an isotropic Gaussian.

    Attributes:
        sigma: fixed kernel width in HR pixels; 0 means no blur, that is plain bicubic downsampling.
        sigma_range: widths to draw from, positive; the paper has [0.2, 2.0], [0.2, 3.0] and [0.2, 4.0] at x2, x3, x4.
        distribution: of the widths over their range. 'uniform' as in the paper; 'arcsine' draws both ends more often,
            a fifth of all widths from the lowest tenth of the range and a fifth from the highest; 'beta' as ``beta``
            says.
        beta: the two shapes of a beta distribution, 0.05 to 1 each; [1, 1] is 'uniform' and [0.5, 0.5] 'arcsine', and
            smaller numbers draw the low and the high end more often.

    Raises:
        InputError: if a parameter has the wrong type or lies outside its range.

    Source:
        Wang et al., CVPR 2021, section 4.1.
    """

    sigma: float | None = None
    sigma_range: Range | None = None
    distribution: Distribution = 'uniform'
    beta: Range | None = None

    separable = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of('IsotropicGaussian', 'sigma', self.sigma, self.sigma_range)
        if self.sigma is not None:
            check_number('sigma', self.sigma, low=0, high=100)
        if self.sigma_range is not None:
            check_range('sigma_range', self.sigma_range, low=0, high=100, above_low=True)
        check_choice('distribution', self.distribution, get_args(Distribution))
        if self.distribution != 'uniform' and self.sigma_range is None:
            raise InputError(f"distribution '{self.distribution}' needs a sigma_range; a fixed sigma has none")
        if (self.distribution == 'beta') != (self.beta is not None):
            raise InputError(
                "beta has the shapes of distribution 'beta'; give both, such as beta: [0.3, 0.3], or neither"
            )
        if self.beta is not None:
            if not isinstance(self.beta, tuple) or len(self.beta) != 2:
                raise InputError(f'beta must be two numbers, got {self.beta!r}')
            for shape in self.beta:
                check_number('beta', shape, low=_SMALLEST_SHAPE, high=1)

    def draw_kernel(self, generator: torch.Generator) -> Tensor:
        """One blur kernel, shape (kernel_size, kernel_size), float32."""
        if self.sigma_range is None or self.distribution == 'uniform':
            sigma = draw_uniform(self.sigma, self.sigma_range, generator)
        else:
            low, high = self.sigma_range
            sigma = low + (high - low) * self._draw_share(generator)
        if sigma == 0:
            return dirac_kernel(self.kernel_size)[0]
        return isotropic_gaussian_kernel(torch.tensor([sigma], dtype=torch.float32), self.kernel_size)[0]

    def _draw_share(self, generator: torch.Generator) -> float:
        """Place of a width in its range, in [0, 1]."""
        if self.beta is not None:
            return _draw_beta(self.beta, generator)
        return math.sin(math.pi / 2 * draw_uniform(None, (0.0, 1.0), generator)) ** 2

    @property
    def kernel_label(self) -> str:
        """'sigma 1.2' or 'sigma 0.2-4'."""
        return f'sigma {format_setting(self.sigma, self.sigma_range)}'

    @property
    def fixed_kernel(self) -> bool:
        """True if sigma is a constant."""
        return self.sigma_range is None


def _draw_beta(shapes: Range, generator: torch.Generator) -> float:
    """A draw from a beta distribution whose shapes are at most 1, in [0, 1] (Johnk, Metrika 8, 1964)."""
    while True:
        one, other = (draw_uniform(None, (0.0, 1.0), generator) ** (1 / shape) for shape in shapes)
        if 0 < one + other <= 1:
            return float(one / (one + other))
