"""Anisotropic Gaussian blur as SRMD and MZSR draw it: by the variances along the axes, the second below the first.

Zhang et al., Learning a Single Convolutional Super-Resolution Network for Multiple Degradations, CVPR 2018; Soh et al.,
Meta-Transfer Learning for Zero-Shot Super-Resolution, CVPR 2020.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dasr_arch._errors import InputError
from dasr_arch._registration import DEGRADATION_REGISTRY
from dasr_arch.degradations.base import Degradation, Range, check_range, draw_uniform, format_range
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel


@DEGRADATION_REGISTRY.register()
@dataclass(frozen=True, kw_only=True)
class CovarianceGaussian(Degradation):
    """Blur by an anisotropic Gaussian of any angle.

    Attributes:
        variance_range: where the larger variance is drawn from, square HR pixels; the smaller one is drawn between the
            lower end and the larger. SRMD's code has [0.1, 10] at every scale, MZSR [1, 2.5 scale]. A variance of 4 is
            a deviation, and with DASR's words a width, of 2.

    Raises:
        InputError: if a parameter has the wrong type or lies outside its range.
    """

    variance_range: Range | None = None

    def __post_init__(self) -> None:
        """Checks every parameter."""
        super().__post_init__()
        if self.variance_range is None:
            raise InputError('CovarianceGaussian needs variance_range')
        check_range('variance_range', self.variance_range, low=0, high=10_000, above_low=True)

    def draw_kernel(self, generator: torch.Generator) -> Tensor:
        """One blur kernel, shape (kernel_size, kernel_size), float32."""
        assert self.variance_range is not None
        theta = draw_uniform(None, (0.0, math.pi), generator)
        larger = draw_uniform(None, self.variance_range, generator)
        smaller = draw_uniform(None, (self.variance_range[0], larger), generator)
        values = torch.tensor([math.sqrt(larger), math.sqrt(smaller), theta], dtype=torch.float32).unsqueeze(1)
        return anisotropic_gaussian_kernel(values[0], values[1], values[2], self.kernel_size)[0]

    @property
    def kernel_label(self) -> str:
        """'variances 0.1-10'."""
        assert self.variance_range is not None
        return f'variances {format_range(self.variance_range)}'

    @property
    def fixed_kernel(self) -> bool:
        """False: the angle is always drawn."""
        return False
