"""Networks for images of different sizes and kinds: which one is used, and why."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dasr_arch.checkpoints.packaged import DEFAULT_SETTING, find_packaged, read_manifest, weights_folder
from dasr_arch.inference.images.io import ImageFile
from dasr_arch.inference.load_model import find_scale, names_file
from dasr_arch.inference.target_size import TargetSize, choose_factor
from dasr_arch.inference.upscaler import Upscaler

AUTO = 'auto'
"""Model that depends on the image, see dasr_arch.probe.auto_model.AutoPool."""


class ModelPool:
    """The networks of a model argument, one for each upsampling factor, loaded when they are needed.

    ``upscale_files`` and its siblings take it in place of an Upscaler: they then use the smallest factor that reaches
    the size of each result.

    Args:
        model: as for ``Upscaler``.
        scale: upsampling factor of all images; None takes that of the model, or the smallest that reaches a size.
        make: makes an upscaler of a factor and a model, for other devices and tilings.

    Raises:
        InputError: if there are no such weights.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        scale: int | None = None,
        make: Callable[[int, str | os.PathLike[str]], Upscaler] = Upscaler,
    ) -> None:
        self._make = make
        self._fixed = scale
        self._loaded: dict[tuple[str, int], Upscaler] = {}
        self._reason = 'given by --model' if model is not None else 'default for photographs'
        self._model = DEFAULT_SETTING if model is None else model
        self.scale = find_scale(self._model, scale)
        self.check_model()

    def check_model(self) -> None:
        """Raises InputError if the model is not installed."""
        if not names_file(self._model):
            find_packaged(str(self._model), self.scale)

    def list_factors(self, model: str | os.PathLike[str] | None = None) -> list[int]:
        """Up-sampling factors that the model is installed for; the given one alone if there is one."""
        name = self._model if model is None else model
        if self._fixed is not None or names_file(name):
            return [self.scale]
        return [entry.scale for entry in read_manifest().files if name in (AUTO, entry.setting, entry.name)]

    def choose(
        self, sizes: Iterable[tuple[int, int]], target: TargetSize | None, file: ImageFile | None = None
    ) -> tuple[Upscaler, str]:
        """The upscaler for an image, and a line on what was chosen for this image alone, else ''.

        ``sizes`` are width and height of its frames. Raises InputError if the network cannot be loaded, or no factor
        fits the size.
        """
        sizes = list(sizes)
        model, reason = self.choose_model(file)
        factors = self.list_factors(model)
        factor = max(choose_factor(target or self.scale, *size, factors) for size in sizes)
        upscaler = self._load(model, factor)
        if target is None:
            return upscaler, f'model {model} x{factor}: {reason}' if reason != self._reason else ''
        width, height = target.fit(*sizes[0])
        return upscaler, f'model {model} x{factor}, reduced to {width} x {height} pixels: {reason}'

    def name_of(self, upscaler: Upscaler) -> str:
        """Model and factor of an upscaler of this pool, such as 'photo x4'."""
        return next(f'{model} x{factor}' for (model, factor), one in self._loaded.items() if one is upscaler)

    def list_weights(self) -> list[Path]:
        """The weights files that images may be upscaled with."""
        if names_file(self._model):
            return [Path(self._model)]
        entries = read_manifest().files
        if self._model != AUTO:
            entries = [find_packaged(str(self._model), factor) for factor in sorted({*self.list_factors()})]
        return [weights_folder() / entry.file for entry in entries]

    def choose_model(self, file: ImageFile | None) -> tuple[str | os.PathLike[str], str]:
        """The model argument for an image, and the reason."""
        return self._model, self._reason

    def describe(self) -> str:
        """The model and why it is used, '' for a weights file, and if it depends on the image."""
        if names_file(self._model) or self._model == AUTO:
            return ''
        return f'model {self._model} x{self.scale}: {self._reason}'

    def prepare(self, sizes: Sequence[tuple[int, int]], target: TargetSize | None) -> None:
        """Loads the networks for images of these widths and heights, unless they depend on their content."""
        for size in sizes if self._model != AUTO else ():
            self.choose([size], target)

    def _load(self, model: str | os.PathLike[str], factor: int) -> Upscaler:
        key = (str(model), factor)
        if key not in self._loaded:
            self._loaded[key] = self._make(factor, model)
        return self._loaded[key]
