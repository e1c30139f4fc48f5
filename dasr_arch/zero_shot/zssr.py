"""ZSSR's training on one image: fathers and their sons, and when the learning rate falls.

Shocher et al., Zero-Shot Super-Resolution using Deep Internal Learning, CVPR 2018; settings as in the authors' code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from dasr_arch._errors import InputError
from dasr_arch.archs.layers.residual_cnn import ResidualRestorer
from dasr_arch.degradations.base import check_choice, check_number
from dasr_arch.zero_shot.pairs import Shrinking, enlarge_to, turn

_AS_IS = 0.05  # share of the fathers that are neither turned nor warped
_TURNED = 0.45  # share of those that are turned or mirrored alone; the others are warped


@dataclass(frozen=True, kw_only=True)
class ZSSROptions:
    """How ZSSR trains on an image. The defaults are the authors' for a scale without steps between.

    Attributes:
        max_steps: most steps.
        crop_size: side of the crops in pixels; at most the image's shorter side, rounded down to a multiple of the
            scale. Should be 32 times the scale or more.
        lr: learning rate of Adam at the start.
        lr_min: training ends when the rate has fallen below.
        lr_factor: divisor of the rate.
        check_every: steps between two looks at whether the rate should fall.
        check_window: steps since the last fall that a look needs, and that it looks back on.
        measure_every: steps between two measurements of how well the image is restored from its own son.
        lr_change_ratio: the rate falls where this times the slope of those errors is less of a descent than the
            slope's standard deviation. 0.866 is what the authors' 1.5 meant with the scale of deviations in NumPy
            before 1.16; 1.5 today trains longer.
        min_scale: least factor of warped fathers; the largest is 1.
        scale_difference: standard deviation of the difference between the factors of the axes.
        shear: standard deviation of the shear along each axis.
        son_noise: standard deviation of noise that sons get, grey levels of 0..255; 3.2 is the authors' for real
            images.
        downsample: how sons are made where a kernel is told: 'bicubic' as in DASR's protocol, 'direct' as in the paper.
        ensemble: whether the result is the median over eight orientations; None does so where no kernel is told.
        back_projections: rounds of back-projection; None is 10 where no kernel is told, else 2.

    Raises:
        InputError: if a value has the wrong type or lies outside its range.
    """

    max_steps: int = 3000
    crop_size: int = 128
    lr: float = 1e-3
    lr_min: float = 9e-6
    lr_factor: float = 10.0
    check_every: int = 60
    check_window: int = 256
    measure_every: int = 50
    lr_change_ratio: float = 0.866
    min_scale: float = 0.5
    scale_difference: float = 0.25
    shear: float = 0.1
    son_noise: float = 0.0
    downsample: Literal['bicubic', 'direct'] = 'bicubic'
    ensemble: bool | None = None
    back_projections: int | None = None

    def __post_init__(self) -> None:
        """Checks every value."""
        for name in ('max_steps', 'crop_size', 'check_every', 'check_window', 'measure_every'):
            value = getattr(self, name)
            check_number(name, value, low=0 if name == 'max_steps' else 1, high=1e7)
            if value != int(value):
                raise InputError(f'{name} must be a whole number, got {value!r}')
        check_number('lr', self.lr, low=0, high=1, above_low=True)
        check_number('lr_min', self.lr_min, low=0, high=1)
        check_number('lr_factor', self.lr_factor, low=1, high=1e6, above_low=True)
        check_number('lr_change_ratio', self.lr_change_ratio, low=0, high=1e6)
        check_number('min_scale', self.min_scale, low=0, high=1, above_low=True)
        for name in ('scale_difference', 'shear'):
            check_number(name, getattr(self, name), low=0, high=10)
        check_number('son_noise', self.son_noise, low=0, high=255)
        check_choice('downsample', self.downsample, ('bicubic', 'direct'))
        if self.ensemble is not None and not isinstance(self.ensemble, bool):
            raise InputError(f'ensemble must be true, false or nothing, got {self.ensemble!r}')
        if self.back_projections is not None:
            check_number('back_projections', self.back_projections, low=0, high=1e6)

    def uses_ensemble(self, told: bool) -> bool:
        """Whether eight orientations are enlarged, for an image whose kernel is told or not."""
        return not told if self.ensemble is None else self.ensemble

    def rounds(self, told: bool) -> int:
        """Rounds of back-projection, for an image whose kernel is told or not."""
        if self.back_projections is None:
            return 2 if told else 10
        return self.back_projections


def train_zssr(
    network: ResidualRestorer,
    image: Tensor,
    shrinking: Shrinking,
    options: ZSSROptions,
    generator: torch.Generator,
    may_turn: bool = True,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Trains a network on crops of one image, in place.

    Args:
        network: the network.
        image: RGB of shape (1, 3, H, W) in [0, 1].
        shrinking: how the image was made.
        options: how to train.
        generator: CPU generator of crops and noise.
        may_turn: whether fathers may be turned and mirrored; not with a kernel, which would have to turn too.

    Returns:
        Loss and learning rate of every step.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=options.lr)
    policy = RatePolicy(options)
    losses: list[float] = []
    rates: list[float] = []
    for step in range(options.max_steps):
        father = draw_father(image, shrinking.scale, options, generator, may_turn)
        son = shrinking(father)
        if options.son_noise > 0:
            noise = torch.randn(son.shape, generator=generator).to(son)
            son = son + noise * (options.son_noise / 255)
        son = enlarge_to(son.clamp(0, 1), shrinking.scale, father)
        optimizer.zero_grad(set_to_none=True)
        loss = (network(son, enlarged=True) - father).abs().mean()
        loss.backward()
        rates.append(policy.rate)
        for group in optimizer.param_groups:
            group['lr'] = policy.rate
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % options.measure_every == 0:
            policy.measured(step, _reconstruction_error(network, image, shrinking))
        if policy.is_over_after(step):
            break
    return tuple(losses), tuple(rates)


@torch.no_grad()
def _reconstruction_error(network: ResidualRestorer, image: Tensor, shrinking: Shrinking) -> float:
    """Mean squared error of the whole image restored from its own son."""
    son = enlarge_to(shrinking(image), shrinking.scale, image)
    return float((network(son, enlarged=True).clamp(0, 1) - image).square().mean())


class RatePolicy:
    """Lowers the learning rate where the errors no longer fall, and says when training is over.

    Args:
        options: rates, periods and the ratio.
    """

    def __init__(self, options: ZSSROptions) -> None:
        self.options = options
        self.rate = options.lr
        self.changed_at = 0
        self.steps: list[int] = []
        self.errors: list[float] = []

    def measured(self, step: int, error: float) -> None:
        """Takes a reconstruction error, measured after a step."""
        self.steps.append(step)
        self.errors.append(error)

    def is_over_after(self, step: int) -> bool:
        """Looks at the errors after a step.

        Args:
            step: the step, counted from 0.

        Returns:
            Whether the rate has fallen below the least.
        """
        options = self.options
        looks = (step + 1) % options.check_every == 0 and step - self.changed_at > options.check_window
        count = options.check_window // options.measure_every
        if looks and len(self.errors) >= count > 2:
            slope, deviation = fit_slope(self.steps[-count:], self.errors[-count:])
            if -options.lr_change_ratio * slope < deviation:
                self.rate /= options.lr_factor
                self.changed_at = step
        return self.rate < options.lr_min


def fit_slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope of the least-squares line through points, and its standard deviation.

    Args:
        x: at least three positions, not all the same.
        y: values.

    Returns:
        The slope, and its deviation with len(x) - 2 degrees of freedom.
    """
    count = len(x)
    mean_x, mean_y = math.fsum(x) / count, math.fsum(y) / count
    spread = math.fsum((a - mean_x) ** 2 for a in x)
    slope = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    residual = math.fsum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, math.sqrt(residual / (count - 2) / spread)


def draw_father(
    image: Tensor, scale: int, options: ZSSROptions, generator: torch.Generator, may_turn: bool = True
) -> Tensor:
    """A random crop of the image, as it is, turned, or warped.

    Args:
        image: RGB of shape (1, 3, H, W) in [0, 1].
        scale: sides of the crop are multiples of it, if the image is large enough.
        options: sizes and distributions.
        generator: CPU generator.
        may_turn: whether rotations and mirror images are allowed.

    Returns:
        RGB of shape (1, 3, h, w) in [0, 1]; black where a warped image does not reach.
    """
    kind = float(torch.rand((), generator=generator))
    if kind < _AS_IS + _TURNED:
        turned = kind >= _AS_IS and may_turn
        source = turn(image, int(torch.randint(8, (), generator=generator))) if turned else image
        sides = [_crop_side(side, scale, options.crop_size) for side in source.shape[-2:]]
        top, left = (
            int(torch.randint(side - crop + 1, (), generator=generator))
            for side, crop in zip(source.shape[-2:], sides, strict=True)
        )
        return source[..., top : top + sides[0], left : left + sides[1]]
    return _warp(image, scale, options, generator, may_turn)


def _crop_side(side: int, scale: int, most: int) -> int:
    """Pixels of a crop along a side: at most all, a multiple of the scale if that leaves any."""
    side = min(side, most)
    return side // scale * scale or side


def _warp(image: Tensor, scale: int, options: ZSSROptions, generator: torch.Generator, may_turn: bool) -> Tensor:
    """A crop of the image shrunk, sheared and turned at random."""
    height, width = image.shape[-2:]
    rows, columns = (_crop_side(side, scale, options.crop_size) for side in (height, width))
    uniform = torch.rand(5, generator=generator).tolist()
    normal = torch.randn(3, generator=generator).tolist()
    factor = options.min_scale + (1 - options.min_scale) * uniform[0]
    difference = options.scale_difference * normal[0]
    factors = [max(factor + sign * difference / 2, options.min_scale / 2) for sign in (1, -1)]
    angle = 2 * math.pi * uniform[1] if may_turn else 0.0
    mirror = -1.0 if may_turn and uniform[2] < 0.5 else 1.0
    stretch = torch.diag(torch.tensor([mirror * factors[0], factors[1]], dtype=torch.float64))
    lean = torch.tensor([[1, options.shear * normal[1]], [options.shear * normal[2], 1]], dtype=torch.float64)
    cos, sin = math.cos(angle), math.sin(angle)
    forward = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64) @ lean @ stretch
    inverse = torch.linalg.inv(forward)  # from the father to the image, both around their middles, (x, y)
    # The crop lies anywhere within the shrunken image that leaves it inside, or in its middle.
    room = [
        max(0.0, (side * f - crop) / 2) for side, f, crop in zip((width, height), factors, (columns, rows), strict=True)
    ]
    offset = [slack * (2 * u - 1) for slack, u in zip(room, uniform[3:], strict=True)]
    x = torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2 + offset[0]
    y = torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2 + offset[1]
    places = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], -1) @ inverse.T
    grid = places * 2 / torch.tensor([width, height], dtype=torch.float64)
    warped = functional.grid_sample(
        image, grid[None].to(image), mode='bicubic', padding_mode='zeros', align_corners=False
    )
    return warped.clamp(0, 1)
