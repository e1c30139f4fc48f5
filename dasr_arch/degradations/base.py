"""Degradation of HR images to LR images: blur, downsampling, noise, rounding, and optionally JPEG.

Everything random is drawn in :meth:`Degradation.draw`, for one image, on the CPU, from an explicit generator;
:meth:`Degradation.apply` then is deterministic and works on batches on any device. So a run is the same for any number
of loader workers and processes, and an image's degradation can be stored beside it.
"""

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, TypeGuard

import torch
from torch import Tensor

from dasr_arch._errors import InputError, check_choice, is_whole, suggest
from dasr_arch._registration import DEGRADATION_REGISTRY
from dasr_arch.degradations.blur import apply_matrices, blur_matrix, blur_valid, blur_valid_fourier, split_kernel
from dasr_arch.degradations.noise_compression import add_noise, compress_jpeg, quantise
from dasr_arch.degradations.padding import border_index, pad_border
from dasr_arch.degradations.resize import check_multiple, downsample_bicubic_valid, downsample_matrix, downsample_s_fold

Range = tuple[float, float]
_LARGEST = 1001


class Window(NamedTuple):
    """Positions of patches in their images, in HR pixels; all of shape (B,), int64, multiples of the scale."""

    top: Tensor  # first row of the patch
    left: Tensor  # first column of the patch
    height: Tensor  # of the whole image
    width: Tensor  # of the whole image


@dataclass(frozen=True, kw_only=True)
class Degradation(ABC):
    """Base class of degradations: blur with a kernel, downsampling, noise, rounding, JPEG, in this order.

    A subclass names its kernel's parameters as fields and draws kernels; register it with
    ``@DEGRADATION_REGISTRY.register()`` and option files find it by its class name.

    Attributes:
        scale: integer downsampling factor.
        kernel_size: side of the blur kernel in HR pixels, odd, at most 1001.
        downsample: 'bicubic' (MATLAB's) or 's_fold' (top left pixel of each block).
        border: padding of bicubic downsampling: 'replicate' as the released code, 'mirror' as MATLAB.
        noise: fixed noise level, standard deviation in grey levels of 0..255.
        noise_range: noise levels to draw from, instead of a fixed one.
        jpeg: fixed JPEG quality in 1..100; none by default, as in the paper.
        jpeg_range: JPEG qualities to draw from, instead of a fixed one.
        jpeg_probability: share of the images that are compressed at all, when jpeg or jpeg_range is given.

    Raises:
        InputError: if a parameter has the wrong type or lies outside its range.
    """

    scale: int
    kernel_size: int = 21
    downsample: Literal['bicubic', 's_fold'] = 'bicubic'
    border: Literal['replicate', 'mirror'] = 'replicate'
    noise: float = 0.0
    noise_range: Range | None = None
    jpeg: int | None = None
    jpeg_range: tuple[int, int] | None = None
    jpeg_probability: float = 1.0

    separable = False  # True if every kernel is the product of a column and a row
    # Names of the draws that all patches of an image share; 'noise' is drawn for each patch.
    shared_draws: ClassVar[tuple[str, ...]] = ('kernel', 'noise_level', 'jpeg_quality')

    def __post_init__(self) -> None:
        if not is_whole(self.scale) or self.scale < 1:
            raise InputError(f'scale must be a whole number of 1 or more, got {self.scale!r}')
        if not is_whole(self.kernel_size) or not 0 < self.kernel_size <= _LARGEST or self.kernel_size % 2 == 0:
            raise InputError(f'kernel_size must be odd, 1 to {_LARGEST}, got {self.kernel_size!r}; the paper uses 21')
        check_choice('downsample', self.downsample, ('bicubic', 's_fold'))
        check_choice('border', self.border, ('replicate', 'mirror'))
        check_number('noise', self.noise, low=0, high=255)
        if self.noise_range is not None:
            check_one_of('noise', 'noise', self.noise or None, self.noise_range)
            check_range('noise_range', self.noise_range, low=0, high=255)
        self._check_jpeg()

    @abstractmethod
    def draw_kernel(self, generator: torch.Generator) -> Tensor:
        """One blur kernel, shape (kernel_size, kernel_size), float32, non-negative, with sum 1."""

    @property
    @abstractmethod
    def kernel_label(self) -> str:
        """The kernel's parameters in a few characters, such as 'sigma 1.2'."""

    @property
    @abstractmethod
    def fixed_kernel(self) -> bool:
        """True if every draw gives the same kernel."""

    @property
    def reach(self) -> int:
        """HR pixels beyond a patch that the downsampling needs."""
        return 2 * self.scale

    @property
    def drawn_noise_levels(self) -> Range | None:
        """Ends of the noise levels that are drawn, grey levels of 0..255; None if the level is fixed."""
        return self.noise_range

    @property
    def drawn_jpeg_qualities(self) -> tuple[int, int] | None:
        """Ends of the compression qualities that are drawn; None if no image is compressed, or all with one quality."""
        return self.jpeg_range

    @property
    def drawn_levels(self) -> tuple[float, ...] | None:
        """Probabilities of the strengths that are drawn, from the weakest on; None for a degradation without them."""
        return None

    @property
    def margin(self) -> int:
        """HR pixels around a patch that make its LR patch equal to that of the whole image."""
        reach = self.kernel_size // 2 + self.reach
        return math.ceil(reach / self.scale) * self.scale

    @property
    def fixed(self) -> bool:
        """True if every parameter is a constant, so that only the noise samples are random."""
        always_or_never = self.jpeg_probability in (0, 1) or (self.jpeg is None and self.jpeg_range is None)
        return self.fixed_kernel and self.noise_range is None and self.jpeg_range is None and always_or_never

    @property
    def label(self) -> str:
        """Short name, different for different settings: 'sigma 1.2', 'lambda 2 0.5, theta 10, noise 5'."""
        parts = [self.kernel_label]
        if self.noise or self.noise_range is not None:
            parts.append(f'noise {format_setting(self.noise, self.noise_range)}')
        if self.jpeg_range is not None or self.jpeg is not None:
            share = '' if self.jpeg_probability == 1 else f' with probability {format_number(self.jpeg_probability)}'
            parts.append(f'jpeg {format_setting(self.jpeg, self.jpeg_range)}{share}')
        if self.downsample != 'bicubic':
            parts.append('s-fold')
        if self.border != 'replicate':
            parts.append(self.border)
        if self.kernel_size != 21:
            parts.append(f'kernel {self.kernel_size}')
        return ', '.join(parts)

    def specification(self) -> dict[str, object]:
        """The type and every parameter that is not at its default, without the scale; ready for JSON and YAML."""
        out: dict[str, object] = {'type': type(self).__name__}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != 'scale' and value != item.default:
                out[item.name] = list(value) if isinstance(value, tuple) else value
        return out

    def describe(self, draws: Mapping[str, Tensor]) -> dict[str, object]:
        """Drawn parameters of one image, from :meth:`draw`, for JSON: the noise level, and those of a subclass."""
        return {'noise_level': round(float(draws['noise_level']), 6)}

    def draw(self, generator: torch.Generator, lq_size: tuple[int, int], patches: int = 1) -> dict[str, Tensor]:
        """Draws all random parameters of one image: the same from the same state of the CPU generator.

        ``lq_size`` is height and width of the whole LR image, or of its ``patches``, which share kernel, noise level
        and JPEG quality, but no noise sample. The draws are 'kernel' (k, k) and 'noise_level' (); 'noise'
        (patches, 3, h, w), if there can be any; 'jpeg_quality' (), 0 for none, if there can be any. Stacked along a new
        first axis they are the draws of a batch.
        """
        out = {'kernel': self.draw_kernel(generator)}
        level = draw_uniform(self.noise, self.noise_range, generator)
        out['noise_level'] = torch.tensor(level, dtype=torch.float32)
        if self.noise > 0 or self.noise_range is not None:
            out['noise'] = torch.randn(patches, 3, *lq_size, generator=generator)
        if self.jpeg is not None or self.jpeg_range is not None:
            compressed = float(torch.rand((), generator=generator)) < self.jpeg_probability
            low, high = self.jpeg_range if self.jpeg_range is not None else (self.jpeg or 0, self.jpeg or 0)
            quality = int(torch.randint(low, high + 1, (), generator=generator))
            out['jpeg_quality'] = torch.tensor(quality if compressed else 0)
        return out

    @torch.no_grad()
    def apply(self, hr: Tensor, draws: Mapping[str, Tensor], window: Window | None = None) -> Tensor:
        """Degrades RGB (B, 3, H, W) in [0, 1] to (B, 3, H / scale, W / scale) in [0, 1] on the grid of 1/255.

        ``draws`` are results of :meth:`draw` for all images, stacked along a first axis of length B. With ``window``,
        the positions of patches in their images, the input has ``margin`` pixels more on every side, reflected where
        they lie outside the image, and the result is what degrading the whole image and then cropping gives.
        ValueError if the sides are not multiples of the scale.
        """
        check_multiple(hr, self.scale)
        kernel = draws['kernel'].to(hr.device, non_blocking=True)
        if window is None:
            lq = self._shrink_image(hr, kernel)
        else:
            trim = self.margin - self.kernel_size // 2 - 2 * self.scale
            trimmed = hr[..., trim : hr.shape[-2] - trim, trim : hr.shape[-1] - trim]
            shrink = self._shrink_separable if self.separable else self._shrink_patches
            lq = shrink(trimmed, kernel, window)
        if 'noise' in draws:
            noise = draws['noise'].to(hr.device, non_blocking=True).reshape(lq.shape)
            lq = add_noise(lq, draws['noise_level'].to(hr.device, non_blocking=True), noise)
        lq = quantise(lq)
        return compress_jpeg(lq, draws['jpeg_quality']) if 'jpeg_quality' in draws else lq

    def _shrink_image(self, hr: Tensor, kernel: Tensor) -> Tensor:
        """Blurs and downsamples whole images."""
        blurred = blur_valid(pad_border(hr, self.kernel_size // 2, 'reflect'), kernel)
        return self._downsample(pad_border(blurred, 2 * self.scale, self.border))

    def _shrink_patches(self, hr: Tensor, kernel: Tensor, window: Window) -> Tensor:
        """Blurs and downsamples patches that have a margin for the kernel and the downsampling."""
        convolve = blur_valid_fourier if hr.device.type == 'cpu' and self.kernel_size > 7 else blur_valid
        blurred = convolve(hr, kernel)
        for axis, index in zip((-2, -1), self._inside(blurred, window), strict=True):
            shape = (-1, 1, blurred.shape[-2], 1) if axis == -2 else (-1, 1, 1, blurred.shape[-1])
            blurred = blurred.gather(axis, index.reshape(shape).expand_as(blurred))
        return self._downsample(blurred)

    def _shrink_separable(self, hr: Tensor, kernel: Tensor, window: Window) -> Tensor:
        """As _shrink_patches, for separable kernels: one matrix per axis."""
        reach = self.kernel_size - 1
        sides = [side - reach for side in hr.shape[-2:]]
        inside = self._inside(hr[..., : sides[0], : sides[1]], window)
        matrices = []
        for taps, side, index in zip(split_kernel(kernel), sides, inside, strict=True):
            shrink = downsample_matrix(side, self.scale, self.downsample).to(hr.device, non_blocking=True)
            matrices.append(shrink @ blur_matrix(taps, index))
        return apply_matrices(hr, *matrices)

    def _downsample(self, blurred: Tensor) -> Tensor:
        """Downsamples images with a margin of 2 * scale pixels."""
        if self.downsample == 'bicubic':
            return downsample_bicubic_valid(blurred, self.scale)
        margin = 2 * self.scale
        return downsample_s_fold(blurred[..., margin:-margin, margin:-margin], self.scale)

    def _inside(self, blurred: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Indices of rows and columns; outside the image they follow the border mode of the downsampling."""
        found = []
        for axis, start, size in ((-2, window.top, window.height), (-1, window.left, window.width)):
            first = start.to(blurred.device, non_blocking=True).reshape(-1, 1) - self.reach
            position = first + torch.arange(blurred.shape[axis], device=blurred.device)
            length = size.to(blurred.device, non_blocking=True).reshape(-1, 1)
            found.append(border_index(position, length, self.border) - first)  # (B, n)
        return found[0], found[1]

    def _check_jpeg(self) -> None:
        if self.jpeg is not None and self.jpeg_range is not None:
            raise InputError('give jpeg or jpeg_range, not both')
        for name in ('jpeg', 'jpeg_range'):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) and name == 'jpeg_range' else (value,)
            if value is not None and not all(is_whole(v) and 1 <= v <= 100 for v in values):
                raise InputError(f'{name} must be made of whole JPEG qualities in 1..100, got {value!r}')
        if self.jpeg_range is not None:
            check_range('jpeg_range', self.jpeg_range, low=1, high=100)
        check_number('jpeg_probability', self.jpeg_probability, low=0, high=1)


def check_number(name: str, value: object, *, low: float, high: float, above_low: bool = False) -> None:
    """Raises InputError unless the value is a finite number in [low, high], or in (low, high] with above_low."""
    if not _is_number(value) or not low <= value <= high or (above_low and value == low):
        raise InputError(f'{name} must be a number in {"(" if above_low else "["}{low:g}, {high:g}], got {value!r}')


def check_range(name: str, span: object, *, low: float, high: float, above_low: bool = False) -> None:
    """Raises InputError unless span is two numbers, the second not below the first, both as in check_number."""
    if not isinstance(span, tuple) or len(span) != 2:
        raise InputError(f'{name} must be two numbers [low, high], got {span!r}')
    for value in span:
        check_number(name, value, low=low, high=high, above_low=above_low)
    if span[0] > span[1]:
        raise InputError(f'{name} must begin with the lower number, got {list(span)}')


def check_one_of(owner: str, name: str, value: object, span: object, span_name: str | None = None) -> None:
    """Raises InputError unless exactly one of a fixed value and a range is given."""
    both = (name, span_name or f'{name}_range')
    if value is None and span is None:
        raise InputError(f'{owner} needs {" or ".join(both)}')
    if value is not None and span is not None:
        raise InputError(f'give {" or ".join(both)}, not both')


def build_degradation(specification: Mapping[str, Any], scale: int) -> Degradation:
    """Makes a degradation from an option file's block: the type, which names a registered one, and its parameters.

    ``scale`` is the integer downsampling factor. InputError if the type or a parameter is unknown, missing or out of
    range.
    """
    if not isinstance(specification, Mapping):
        raise InputError(f'a degradation must be a mapping with a type, got {specification!r}')
    name = specification.get('type')
    known = [key for key, _ in DEGRADATION_REGISTRY]
    if name not in known:
        raise InputError(f"unknown degradation type '{name}'{suggest(str(name), known)}")
    kind: type[Degradation] = DEGRADATION_REGISTRY.get(name)
    given = {key: value for key, value in specification.items() if key != 'type'}
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    allowed = {item.name for item in fields(kind)} - {'scale'}
    for key in values:
        if key not in allowed:
            raise InputError(f"unknown parameter '{key}' of {name}{suggest(str(key), allowed)}")
    return kind(scale=scale, **values)


def image_generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator that depends on an image's name and a seed, not on the order in which images come."""
    # torch's CPU generator uses only the lower 32 bits of its seed, so both must be mixed into them.
    return torch.Generator().manual_seed(zlib.crc32(f'{seed} {name}'.encode('utf-8', 'surrogateescape')))


def draw_uniform(value: float | None, span: Range | None, generator: torch.Generator) -> float:
    """The fixed value, or a uniform draw from the range if it is given."""
    if span is None:
        return float(value or 0.0)
    return span[0] + (span[1] - span[0]) * float(torch.rand((), generator=generator, dtype=torch.float64))


def format_number(value: float | None) -> str:
    """Shortest text of a number that is different for every number."""
    assert value is not None
    short = f'{value:g}'
    return short if float(short) == value else repr(value)


def format_range(span: Range) -> str:
    """A range as '0.2-4'."""
    return '-'.join(map(format_number, span))


def format_setting(value: float | None, span: Range | None) -> str:
    """The range if it is given, else the fixed value."""
    return format_number(value) if span is None else format_range(span)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf
