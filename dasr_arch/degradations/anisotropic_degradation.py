"""Anisotropic Gaussian blur: the paper's general setting, and the setting of SRMD and MZSR."""

import math
from dataclasses import dataclass

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
    format_setting,
)
from dasr_arch.degradations.kernels import anisotropic_gaussian_kernel


@DEGRADATION_REGISTRY.register()
@dataclass(frozen=True, kw_only=True)
class AnisotropicGaussian(Degradation):
    """Blur by an anisotropic Gaussian.

    Attributes:
        lambda_1: fixed standard deviation along the first axis, HR pixels.
        lambda_2: fixed standard deviation along the second axis, HR pixels.
        lambda_range: deviations that both axes are drawn from, independently; the paper has [0.2, 4.0] at x4.
        theta_deg: fixed angle of the first axis in degrees, clockwise on the screen.
        theta_deg_range: angles to draw from, degrees; the paper has [0, 180].

    Raises:
        InputError: if a parameter has the wrong type or lies outside its range.

    Source:
        Wang et al., CVPR 2021, section 4.3.
    """

    lambda_1: float | None = None
    lambda_2: float | None = None
    lambda_range: Range | None = None
    theta_deg: float | None = None
    theta_deg_range: Range | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ('lambda_1', 'lambda_2'):
            check_one_of('AnisotropicGaussian', name, getattr(self, name), self.lambda_range, 'lambda_range')
            if self.lambda_range is None:
                check_number(name, getattr(self, name), low=0, high=100, above_low=True)
        if self.lambda_range is not None:
            check_range('lambda_range', self.lambda_range, low=0, high=100, above_low=True)
        check_one_of('AnisotropicGaussian', 'theta_deg', self.theta_deg, self.theta_deg_range)
        if self.theta_deg is not None:
            check_number('theta_deg', self.theta_deg, low=-360, high=360)
        if self.theta_deg_range is not None:
            check_range('theta_deg_range', self.theta_deg_range, low=-360, high=360)

    def draw_kernel(self, generator: torch.Generator) -> Tensor:
        """One blur kernel, shape (kernel_size, kernel_size), float32."""
        theta = draw_uniform(self.theta_deg, self.theta_deg_range, generator)
        axes = [draw_uniform(axis, self.lambda_range, generator) for axis in (self.lambda_1, self.lambda_2)]
        values = torch.tensor([*axes, math.radians(theta)], dtype=torch.float32).unsqueeze(1)
        return anisotropic_gaussian_kernel(values[0], values[1], values[2], self.kernel_size)[0]

    @property
    def kernel_label(self) -> str:
        """'lambda 2 0.5, theta 10' or 'lambda 0.2-4, theta 0-180'."""
        theta = format_setting(self.theta_deg, self.theta_deg_range)
        if self.lambda_range is not None:
            return f'lambda {format_range(self.lambda_range)}, theta {theta}'
        return f'lambda {format_number(self.lambda_1)} {format_number(self.lambda_2)}, theta {theta}'

    @property
    def fixed_kernel(self) -> bool:
        """True if axes and angle are constants."""
        return self.lambda_range is None and self.theta_deg_range is None


@DEGRADATION_REGISTRY.register()
@dataclass(frozen=True, kw_only=True)
class CovarianceGaussian(Degradation):
    """Blur by an anisotropic Gaussian of any angle, drawn by its variances as in SRMD and MZSR.

    Attributes:
        variance_range: range of the larger variance in square HR pixels; the smaller one is drawn between the lower
            end and the larger. SRMD's code has [0.1, 10] at every scale, MZSR [1, 2.5 scale]. A variance of 4 is a
            standard deviation of 2.

    Raises:
        InputError: if a parameter has the wrong type or lies outside its range.

    Source:
        Zhang et al., Learning a Single Convolutional Super-Resolution Network for Multiple Degradations, CVPR 2018;
        Soh et al., Meta-Transfer Learning for Zero-Shot Super-Resolution, CVPR 2020.
    """

    variance_range: Range | None = None

    fixed_kernel = False

    def __post_init__(self) -> None:
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
