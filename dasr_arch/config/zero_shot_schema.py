"""Options of the test-time adaptation of ZSSR and MZSR, with their types, units, ranges and defaults."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from dasr_arch.config.train_schema import AdaptationOptions, Count, NotNegative, Options, WholeNumber


class MZSROptions(AdaptationOptions, kw_only=True, frozen=True):
    """Options of MZSR's test-time adaptation."""

    downsample: Literal['bicubic', 'direct'] = 'bicubic'  # as in training; 'direct' takes every s-th pixel, top left

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return self.rates[min(step, len(self.rates) - 1)]


class ZSSROptions(Options, kw_only=True, frozen=True):
    """Options of ZSSR's training on one image; the defaults are the authors' for a single scaling step."""

    renamed: ClassVar[dict[str, str]] = {'son_noise': 'lq_noise'}
    max_steps: WholeNumber = 3000  # training steps at most
    crop_size: Count = 128  # HR pixels, should be >= 32 * scale; at most the shorter side, as a multiple of the scale
    lr: Annotated[float, Meta(gt=0, le=1)] = 1e-3  # initial learning rate of Adam
    lr_min: Annotated[float, Meta(ge=0, le=1)] = 9e-6  # training ends when the learning rate is below it
    lr_factor: Annotated[float, Meta(gt=1)] = 10.0  # divisor of the learning rate
    check_every: Count = 60  # steps between two checks of the learning rate
    check_window: Count = 256  # steps of history that a check uses, and at least from a change to the next check
    measure_every: Count = 50  # steps between two measurements of the reconstruction error of the whole image
    # The rate falls where this times the negative slope of the errors is below the standard deviation of the slope.
    # 0.866 has the effect of the authors' 1.5 with NumPy before 1.16, which scaled deviations differently; 1.5 today
    # trains longer.
    lr_change_ratio: NotNegative = 0.866  # the larger, the longer it trains; 1.5 in the authors' code
    min_scale: Annotated[float, Meta(gt=0, le=1)] = 0.5  # smallest scale factor of warped crops; the largest is 1
    scale_difference: NotNegative = 0.25  # standard deviation of the difference between the factors of the axes
    shear: NotNegative = 0.1  # standard deviation of the shear along each axis
    lq_noise: Annotated[float, Meta(ge=0, le=255)] = 0.0  # standard deviation on LR crops; the authors' 3.2 for photos
    downsample: Literal['bicubic', 'direct'] = 'bicubic'  # of LR crops with a known kernel: as DASR's, or the paper's
    ensemble: bool | None = None  # median over eight orientations; ~: only without a known kernel
    back_projections: WholeNumber | None = None  # iterations; ~: 10 without a known kernel, else 2

    def uses_ensemble(self, known_kernel: bool) -> bool:
        """True if the result is the median over eight orientations, with or without a known kernel."""
        return not known_kernel if self.ensemble is None else self.ensemble

    def rounds(self, known_kernel: bool) -> int:
        """Iterations of back-projection, with or without a known kernel."""
        if self.back_projections is None:
            return 2 if known_kernel else 10
        return self.back_projections
