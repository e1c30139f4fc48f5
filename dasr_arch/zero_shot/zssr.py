"""ZSSR training on one image: LR-HR crop pairs and the plateau-based learning-rate schedule.

Shocher et al., Zero-Shot Super-Resolution using Deep Internal Learning, CVPR 2018; settings as in the authors' code.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dasr_arch.archs.zssr_arch import ResidualCNN
from dasr_arch.config.zero_shot_schema import ZSSROptions
from dasr_arch.inference.self_ensemble import orient
from dasr_arch.zero_shot.pairs import Downscaler, upsample_to

_UNCHANGED = 0.05  # share of the crops without rotation, reflection and warp
_ORIENTED = 0.45  # share of the crops with a rotation or reflection alone; the others are warped


def train_zssr(
    network: ResidualCNN,
    image: Tensor,
    downscaler: Downscaler,
    options: ZSSROptions,
    generator: torch.Generator,
    augment: bool = True,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Trains a network in place on crops of one RGB image (1, 3, H, W) in [0, 1]; loss and learning rate of every step.

    ``augment`` rotates and reflects crops; False with a known kernel, which would have to be rotated too.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=options.lr)
    schedule = PlateauSchedule(options)
    losses: list[float] = []
    rates: list[float] = []
    for step in range(options.max_steps):
        hr = sample_hr_crop(image, downscaler.scale, options, generator, augment)
        lq = downscaler(hr)
        if options.lq_noise > 0:
            noise = torch.randn(lq.shape, generator=generator).to(lq)
            lq = lq + noise * (options.lq_noise / 255)
        upsampled = upsample_to(lq.clamp(0, 1), downscaler.scale, hr)
        optimizer.zero_grad(set_to_none=True)
        loss = (network(upsampled, is_upsampled=True) - hr).abs().mean()
        loss.backward()
        rates.append(schedule.rate)
        for group in optimizer.param_groups:
            group['lr'] = schedule.rate
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % options.measure_every == 0:
            schedule.record(step, _reconstruction_error(network, image, downscaler))
        if schedule.is_finished(step):
            break
    return tuple(losses), tuple(rates)


@torch.no_grad()
def _reconstruction_error(network: ResidualCNN, image: Tensor, downscaler: Downscaler) -> float:
    """Mean squared error between the image and its reconstruction from its downscaled version."""
    upsampled = upsample_to(downscaler(image), downscaler.scale, image)
    return float((network(upsampled, is_upsampled=True).clamp(0, 1) - image).square().mean())


class PlateauSchedule:
    """Lowers the learning rate where the reconstruction error no longer falls, and ends the training."""

    def __init__(self, options: ZSSROptions) -> None:
        self.options = options
        self.rate = options.lr
        self.changed_at = 0
        self.steps: list[int] = []
        self.errors: list[float] = []

    def record(self, step: int, error: float) -> None:
        """Takes the reconstruction error after a step."""
        self.steps.append(step)
        self.errors.append(error)

    def is_finished(self, step: int) -> bool:
        """Updates the learning rate after a step, counted from 0; True if it is below its minimum."""
        options = self.options
        due = (step + 1) % options.check_every == 0 and step - self.changed_at > options.check_window
        count = options.check_window // options.measure_every
        if due and len(self.errors) >= count > 2:
            line, covariance = np.polyfit(self.steps[-count:], self.errors[-count:], 1, cov=True)
            varies = len(set(self.errors[-count:])) > 1  # else both are rounding errors
            if varies and -options.lr_change_ratio * line[0] < math.sqrt(covariance[0, 0]):
                self.rate /= options.lr_factor
                self.changed_at = step
        return self.rate < options.lr_min


def sample_hr_crop(
    image: Tensor, scale: int, options: ZSSROptions, generator: torch.Generator, augment: bool = True
) -> Tensor:
    """A random crop of RGB (1, 3, H, W) in [0, 1]: unchanged, rotated, reflected (``augment``) or warped, on black."""
    kind = float(torch.rand((), generator=generator))
    if kind < _UNCHANGED + _ORIENTED:
        source = image
        if kind >= _UNCHANGED and augment:
            drawn = int(torch.randint(8, (), generator=generator))
            source = orient(image, drawn if drawn < 4 else 4 + -drawn % 4)  # reflected before it is rotated
        sides = [_crop_side(side, scale, options.crop_size) for side in source.shape[-2:]]
        top, left = (
            int(torch.randint(side - crop + 1, (), generator=generator))
            for side, crop in zip(source.shape[-2:], sides, strict=True)
        )
        return source[..., top : top + sides[0], left : left + sides[1]]
    return _warp(image, scale, options, generator, augment)


def _crop_side(side: int, scale: int, most: int) -> int:
    """Side of a crop in pixels: at most ``side`` and ``most``, a multiple of the scale unless it is smaller."""
    side = min(side, most)
    return side // scale * scale or side


def _warp(image: Tensor, scale: int, options: ZSSROptions, generator: torch.Generator, augment: bool) -> Tensor:
    """A crop of the image after a random affine map: downscaling, shear and, with augment, rotation and reflection."""
    height, width = image.shape[-2:]
    rows, columns = (_crop_side(side, scale, options.crop_size) for side in (height, width))
    uniform = torch.rand(5, generator=generator).tolist()
    normal = torch.randn(3, generator=generator).tolist()
    factor = options.min_scale + (1 - options.min_scale) * uniform[0]
    difference = options.scale_difference * normal[0]
    factors = [max(factor + sign * difference / 2, options.min_scale / 2) for sign in (1, -1)]
    angle = 2 * math.pi * uniform[1] if augment else 0.0
    mirror = -1.0 if augment and uniform[2] < 0.5 else 1.0
    scaling = torch.diag(torch.tensor([mirror * factors[0], factors[1]], dtype=torch.float64))
    shear = torch.tensor([[1, options.shear * normal[1]], [options.shear * normal[2], 1]], dtype=torch.float64)
    cos, sin = math.cos(angle), math.sin(angle)
    forward = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64) @ shear @ scaling
    inverse = torch.linalg.inv(forward)  # from crop to image coordinates (x, y), both relative to the centres
    # The crop is placed at random inside of the downscaled image, or in its centre if it is larger.
    room = [
        max(0.0, (side * f - crop) / 2) for side, f, crop in zip((width, height), factors, (columns, rows), strict=True)
    ]
    offset = [slack * (2 * u - 1) for slack, u in zip(room, uniform[3:], strict=True)]
    x = torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2 + offset[0]
    y = torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2 + offset[1]
    positions = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], -1) @ inverse.T
    grid = positions * 2 / torch.tensor([width, height], dtype=torch.float64)
    warped = functional.grid_sample(
        image, grid[None].to(image), mode='bicubic', padding_mode='zeros', align_corners=False
    )
    return warped.clamp(0, 1)
