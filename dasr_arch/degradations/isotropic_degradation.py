"""The paper's first setting: isotropic Gaussian blur, noise-free by default."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._registration import DEGRADATION_REGISTRY
from dasr_arch.degradations.base import (
    Degradation,
    Range,
    check_number,
    check_one_of,
    check_range,
    draw_uniform,
    format_number,
    format_range,
)
from dasr_arch.degradations.kernels import dirac_kernel, isotropic_gaussian_kernel

Distribution = Literal['uniform', 'arcsine']


@DEGRADATION_REGISTRY.register()
@dataclass(frozen=True, kw_only=True)
class IsotropicGaussian(Degradation):
    """Blur by an isotropic Gaussian.

    Attributes:
        sigma: fixed kernel width in HR pixels; 0 means no blur, that is plain bicubic down-sampling.
        sigma_range: widths to draw from, positive; the paper has [0.2, 2.0], [0.2, 3.0] and [0.2, 4.0] at x2, x3, x4.
        distribution: of the widths over their range. 'uniform' as in the paper; 'arcsine' draws both ends more often,
            a fifth of all widths from the lowest tenth of the range and a fifth from the highest.

    Raises:
        InputError: if a parameter has the wrong type or lies outside its range.

    Source:
        Wang et al., CVPR 2021, section 4.1.
    """

    sigma: float | None = None
    sigma_range: Range | None = None
    distribution: Distribution = 'uniform'

    def __post_init__(self) -> None:
        """Checks every parameter."""
        super().__post_init__()
        check_one_of('IsotropicGaussian', 'sigma', self.sigma, self.sigma_range)
        if self.sigma is not None:
            check_number('sigma', self.sigma, low=0, high=100)
        if self.sigma_range is not None:
            check_range('sigma_range', self.sigma_range, low=0, high=100, above_low=True)
        if self.distribution not in get_args(Distribution):
            raise InputError(
                f'distribution must be one of {", ".join(get_args(Distribution))}, got {self.distribution!r}'
            )
        if self.distribution != 'uniform' and self.sigma_range is None:
            raise InputError(f"distribution '{self.distribution}' needs a sigma_range; a fixed sigma has none")

    def draw_kernel(self, generator: torch.Generator) -> Tensor:
        """One blur kernel, shape (kernel_size, kernel_size), float32."""
        if self.sigma_range is not None and self.distribution == 'arcsine':
            low, high = self.sigma_range
            sigma = low + (high - low) * math.sin(math.pi / 2 * draw_uniform(None, (0.0, 1.0), generator)) ** 2
        else:
            sigma = draw_uniform(self.sigma, self.sigma_range, generator)
        if sigma == 0:
            return dirac_kernel(self.kernel_size)[0]
        return isotropic_gaussian_kernel(torch.tensor([sigma], dtype=torch.float32), self.kernel_size)[0]

    @property
    def kernel_label(self) -> str:
        """'width 1.2' or 'width 0.2-4'."""
        if self.sigma_range is not None:
            return f'width {format_range(self.sigma_range)}'
        return f'width {format_number(self.sigma)}'

    @property
    def fixed_kernel(self) -> bool:
        """Whether the width is a constant."""
        return self.sigma_range is None

    @property
    def separable(self) -> bool:
        """True: a Gaussian in two dimensions is the product of two in one."""
        return True
