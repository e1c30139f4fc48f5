"""Degradation of photographs on the web: blur, resizing, noise, and JPEG or WebP compression.

The parameters of each strength, and their sources, are in :mod:`dasr_arch.degradations.photographic_levels`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from dasr_arch._errors import InputError
from dasr_arch._registration import DEGRADATION_REGISTRY
from dasr_arch.degradations.base import Degradation, Window, check_number, format_number
from dasr_arch.degradations.blur import apply_matrices, blur_matrix, blur_valid, split_kernels
from dasr_arch.degradations.noise_compression import BLOCK, CODECS, compress, quantise
from dasr_arch.degradations.padding import pad_border
from dasr_arch.degradations.photographic_levels import LEVELS, NOISE_LEVELS, QUALITIES, draw_parameters
from dasr_arch.degradations.resize import FILTERS, LARGEST_SUPPORT, check_multiple, shrink_matrix

_FIXED_BY_LEVELS = ('downsample', 'noise', 'noise_range', 'jpeg', 'jpeg_range', 'jpeg_probability')
_FIRST_SUPPORT = 2  # pixels that filters of the first resizing reach, before they are stretched
_SMOOTHING = torch.tensor([0.25, 1.0, 0.25])  # of a camera's noise, along each axis


@DEGRADATION_REGISTRY.register()
@dataclass(frozen=True, kw_only=True)
class Photographic(Degradation):
    """Blur, resizing, noise and compression of a random strength, as photographs on the web have them.

    The order is: blur; downsampling with a random filter, for some images through an intermediate size; Gaussian,
    Poisson or camera-like noise in colour or grey; rounding; JPEG (4:4:4 or 4:2:0) or WebP. Blocks of the codec begin
    at a random place of the image. Of a patch that was cut out of an image with a window, they lie where the image's
    blocks lie; blocks that the patch's edge cuts are padded by reflection.

    Attributes:
        level_probabilities: shares of the strengths weak, standard and severe; what is missing to 1 are clean images,
            with a slight blur at most.

    Raises:
        InputError: if a parameter has the wrong type or lies outside its range, or is one that the strengths decide
            (noise, noise_range, jpeg, jpeg_range, jpeg_probability, downsample).
    """

    level_probabilities: tuple[float, float, float] = (0.3, 0.35, 0.2)

    fixed_kernel = False
    shared_draws = ('level', 'kernel', 'resize', 'noise_level', 'noise_shot', 'codec', 'jpeg_quality', 'grid')
    drawn_noise_levels = NOISE_LEVELS
    drawn_jpeg_qualities = QUALITIES

    def __post_init__(self) -> None:
        super().__post_init__()
        for item in fields(Degradation):
            if item.name in _FIXED_BY_LEVELS and getattr(self, item.name) != item.default:
                raise InputError(f'{item.name} is no parameter of Photographic: its levels decide it; remove it')
        shares = self.level_probabilities
        if not isinstance(shares, tuple) or len(shares) != len(LEVELS) - 1:
            raise InputError(f'level_probabilities must be three numbers [weak, standard, severe], got {shares!r}')
        for share in shares:
            check_number('level_probabilities', share, low=0, high=1)
        if sum(shares) > 1 + 1e-9:
            raise InputError(f'level_probabilities must have a sum of at most 1, got {list(shares)}')

    def draw_kernel(self, generator: torch.Generator) -> Tensor:
        """One blur kernel, shape (kernel_size, kernel_size), float32, sum 1; low-pass filters have negative lobes."""
        return draw_parameters(generator, self.scale, self.kernel_size, self.drawn_levels)[0]['kernel']

    @property
    def kernel_label(self) -> str:
        """'photographic', with the shares of its strengths, such as 'photographic 0.3/0.35/0.2'."""
        return f'photographic {"/".join(format_number(share) for share in self.level_probabilities)}'

    @property
    def reach(self) -> int:
        """HR pixels beyond a patch that the widest resizing needs: both steps, the first at its strongest."""
        return (LARGEST_SUPPORT + _FIRST_SUPPORT) * self.scale

    def describe(self, draws: Mapping[str, Tensor]) -> dict[str, object]:
        """Level, resizing, noise and codec of one image, by their names; the kernel follows from the image's seed."""
        factor, first, last = draws['resize'].tolist()
        resize: dict[str, object] = {'filter': FILTERS[int(last)]}
        if factor != 1:
            resize |= {'first_filter': FILTERS[int(first)], 'factor': round(factor, 6)}
        codec = CODECS[int(draws['codec'])]
        return {
            'level': LEVELS[int(draws['level'])].name,
            **super().describe(draws),
            'noise_shot': round(float(draws['noise_shot']), 6),
            'resize': resize,
            'codec': codec if codec == 'none' else f'{codec}, quality {int(draws["jpeg_quality"])}',
        }

    @property
    def drawn_levels(self) -> tuple[float, ...]:
        """Probabilities of LEVELS."""
        return (max(0.0, 1 - sum(self.level_probabilities)), *self.level_probabilities)

    def draw(self, generator: torch.Generator, lq_size: tuple[int, int], patches: int = 1) -> dict[str, Tensor]:
        """Draws all random parameters of one image, as :meth:`Degradation.draw`; patches share all but the noise.

        The draws are 'level' (), place in LEVELS; 'kernel' (k, k); 'resize' (3,), the intermediate factor and the
        places of both filters in FILTERS; 'noise_level' (), standard deviation at mid-grey on the scale 0..255;
        'noise_shot' (), the share of the variance that grows with brightness; 'codec' (), place in CODECS;
        'jpeg_quality' (), the codec's, 0 for none; 'grid' (2,), rows and columns by which its first block begins before
        the image; 'noise' (patches, 3, h, w).
        """
        draws, grey, smooth = draw_parameters(generator, self.scale, self.kernel_size, self.drawn_levels)
        return {**draws, 'noise': _draw_samples(generator, patches, lq_size, grey, smooth)}

    @torch.no_grad()
    def apply(self, hr: Tensor, draws: Mapping[str, Tensor], window: Window | None = None) -> Tensor:
        """Degrades a batch; arguments, result and errors are those of :meth:`Degradation.apply`.

        With a window, the result agrees with that of the whole image up to rounding before the compression, and after
        it in all blocks that lie inside the patch.
        """
        check_multiple(hr, self.scale)
        kernel = draws['kernel'].to(hr.device, non_blocking=True)
        if window is None:
            lq = self._shrink_whole(hr, kernel, draws['resize'])
            grid = draws['grid']
        else:
            trim = self.margin - self.kernel_size // 2 - self.reach
            trimmed = hr[..., trim : hr.shape[-2] - trim, trim : hr.shape[-1] - trim]
            lq = self._shrink_windows(trimmed, kernel, draws['resize'], window)
            place = torch.stack([window.top, window.left], 1).to(draws['grid'].device) // self.scale
            grid = (draws['grid'] + place) % BLOCK
        level, shot = (draws[name].to(lq).reshape(-1, 1, 1, 1) for name in ('noise_level', 'noise_shot'))
        variance = (1 - shot + 2 * shot * lq.clamp(0, 1)) * (level / 255) ** 2
        lq = quantise(lq + variance.sqrt() * draws['noise'].to(lq).reshape(lq.shape))
        return compress(lq, draws['codec'], draws['jpeg_quality'], grid)

    def _shrink_whole(self, hr: Tensor, kernel: Tensor, resize: Tensor) -> Tensor:
        """Blurs and downsamples whole images."""
        blurred = blur_valid(pad_border(hr, self.kernel_size // 2, 'reflect'), kernel)
        vertical, horizontal = (torch.stack(each).to(hr) for each in self._matrices(hr.shape[-2:], resize, None))
        return apply_matrices(pad_border(blurred, self.reach, self.border), vertical, horizontal)

    def _shrink_windows(self, hr: Tensor, kernel: Tensor, resize: Tensor, window: Window) -> Tensor:
        """Blurs and downsamples patches that carry a margin for both.

        A kernel is a sum of few products of a column and a row, and one matrix for each axis does everything for one
        of them, the border of the downsampling included: a quarter of the time that blurring all HR pixels takes.
        """
        sides = [side - self.kernel_size + 1 for side in hr.shape[-2:]]  # blurred, with what downsampling needs
        rows, columns = self._inside(hr[..., : sides[0], : sides[1]], window)
        vertical, horizontal = self._matrices([side - 2 * self.reach for side in sides], resize, window)
        lq = []
        for i, (along_y, along_x) in enumerate(split_kernels(kernel)):
            count = len(along_y)
            down = vertical[i].to(hr) @ blur_matrix(along_y, rows[i].expand(count, -1))
            across = horizontal[i].to(hr) @ blur_matrix(along_x, columns[i].expand(count, -1))
            narrow = hr[i].flatten(0, 1) @ across.flatten(0, 1).T
            narrow = narrow.reshape(3, -1, count, across.shape[1]).transpose(1, 2)  # (3, R, H, w)
            lq.append(down.transpose(0, 1).flatten(1) @ narrow.flatten(1, 2))
        return torch.stack(lq)

    def _matrices(
        self, sides: Sequence[int], resize: Tensor, window: Window | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Downsampling matrices of each image for rows, shape (h, h * scale + 2 * reach), and columns.

        ``sides`` are those of HR images or patches without any margin; ``resize`` has the draws, shape (B, 3).
        """
        how = [(factor, (FILTERS[int(first)], FILTERS[int(last)])) for factor, first, last in resize.tolist()]
        starts = [[0] * len(how)] * 2 if window is None else [window.top.tolist(), window.left.tolist()]
        vertical, horizontal = (
            [
                shrink_matrix(start, side // self.scale, self.reach, self.scale, *each)
                for start, each in zip(begin, how, strict=True)
            ]
            for begin, side in zip(starts, sides, strict=True)
        )
        return vertical, horizontal


def _draw_samples(generator: torch.Generator, patches: int, size: tuple[int, int], grey: bool, smooth: bool) -> Tensor:
    """Normal samples of variance 1, shape (patches, 3, h, w)."""
    channels, extra = (1 if grey else 3), (2 if smooth else 0)
    samples = torch.randn(patches, channels, size[0] + extra, size[1] + extra, generator=generator)
    if smooth:
        taps = torch.outer(_SMOOTHING, _SMOOTHING)
        taps = taps / math.sqrt(float((taps**2).sum()))
        samples = functional.conv2d(samples.flatten(0, 1).unsqueeze(1), taps[None, None])
        samples = samples.reshape(patches, channels, *size)
    return samples.expand(patches, 3, *size).contiguous()
