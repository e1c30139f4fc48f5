"""The networks that a server has: installed weights and files it was started with, loaded when first asked for."""

import copy
import os
import threading
from pathlib import Path
from typing import NamedTuple

from dasr_arch._errors import InputError
from dasr_arch.backends.devices import choose_device
from dasr_arch.checkpoints.io import load_network
from dasr_arch.checkpoints.packaged import PackagedWeights, Setting, check_packaged, read_manifest
from dasr_arch.inference.tiling import Tiling
from dasr_arch.inference.upscaler import Upscaler
from dasr_arch.web.progress_hooks import Watch
from dasr_arch.web.settings import ServeSettings

_SOUGHT = ('general', 'iso')
_PURPOSES = {
    'general': 'for photos as people have them: any blur, with noise',
    'iso': 'for images with even blur and without noise',
    None: 'weights file that the server was started with',
}


class ModelEntry(NamedTuple):
    """A network that can be asked for.

    Attributes:
        name: what ``model`` says.
        scale: up-sampling factor.
        setting: what it was trained for, None if that is not known.
        purpose: the same in words.
        parameters: how many numbers it learned, None if that is not known before it is loaded.
        trained_on: the images of the training, '' if that is not known.
        date: day of the training's end, '' if that is not known.
        default: whether it is the one that is taken when no model is asked for.
    """

    name: str
    scale: int
    setting: Setting | None
    purpose: str
    parameters: int | None
    trained_on: str
    date: str
    default: bool


class Loaded(NamedTuple):
    """A network in memory, and the watch that was put into it."""

    upscaler: Upscaler
    watch: Watch


class ModelStore:
    """Finds networks by name and scale; threads may ask at once.

    Names that clients send are looked up in a list and never become paths.

    Args:
        settings: which weights files there are besides the installed ones, and where to compute.

    Raises:
        InputError: if there is no network at all, or one of the files cannot be used.

    Attributes:
        entries: what there is, files that were given first.
        device: what it computes on, such as 'cpu'.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.device = str(choose_device(settings.device))
        self._loaded: dict[tuple[str, int], Loaded] = {}
        self._packaged: dict[tuple[str, int], PackagedWeights] = {}
        own = []
        for path in settings.weights:
            own.append(self._load_file(path))
        for entry in read_manifest().files:
            self._packaged.setdefault((entry.name, entry.scale), entry)
        entries = [*own, *(_describe(entry) for entry in self._packaged.values())]
        if not entries:
            raise InputError('no weights are installed; start with --model FILE')
        default = _choose_default(entries, bool(own))
        self.entries = [entry._replace(default=entry is default) for entry in entries]

    def find(self, name: str | None, scale: int | None) -> ModelEntry:
        """The entry that a request means.

        Args:
            name: of an entry, or a setting such as 'iso'; None takes the default, or the first of the scale.
            scale: None takes that of the default or of the first entry of the name.

        Raises:
            InputError: listing what there is, if there is no such entry.
        """
        for entry in sorted(self.entries, key=lambda entry: not entry.default):
            if name in (None, entry.name, entry.setting) and scale in (None, entry.scale):
                return entry
        there = ', '.join(f'{entry.name} (x{entry.scale})' for entry in self.entries)
        what = f"model '{name}'" if name is not None else 'model'
        at = '' if scale is None else f' at x{scale}'
        raise InputError(f'there is no {what}{at}; there are: {there}')

    def load(self, entry: ModelEntry, tiling: Tiling | None = None) -> Loaded:
        """The network of an entry, loaded at the first call and shared afterwards.

        Args:
            entry: what ``find`` gave.
            tiling: how to cut images this time.

        Raises:
            InputError: if its file is damaged or missing by now.
        """
        key = (entry.name, entry.scale)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = self._make(check_packaged(self._packaged[key]), entry.scale)
            loaded = self._loaded[key]
        if tiling is None:
            return loaded
        upscaler = copy.copy(loaded.upscaler)  # the same network and the same lock
        upscaler.tiling = upscaler.fit_tiling(tiling)  # whoever asks must not bring the server down
        return Loaded(upscaler, loaded.watch)

    def _load_file(self, path: Path) -> ModelEntry:
        scale = load_network(path).scale
        key = (path.stem, scale)
        if key in self._loaded:
            raise InputError(f"--model: two files are called '{path.stem}' and are for x{scale}; rename one")
        loaded = self._make(path, scale)
        self._loaded[key] = loaded
        parameters = sum(parameter.numel() for parameter in loaded.upscaler.network.parameters())
        return ModelEntry(path.stem, scale, None, _PURPOSES[None], parameters, '', '', default=False)

    def _make(self, path: os.PathLike[str], scale: int) -> Loaded:
        upscaler = Upscaler(scale, path, device=self._settings.device, precision=self._settings.precision)
        return Loaded(upscaler, Watch(upscaler.network))


def _describe(entry: PackagedWeights) -> ModelEntry:
    return ModelEntry(
        entry.name,
        entry.scale,
        entry.setting,
        _PURPOSES[entry.setting],
        entry.parameters,
        entry.trained_on,
        entry.date,
        default=False,
    )


def _choose_default(entries: list[ModelEntry], has_own: bool) -> ModelEntry:
    """The first file that was given; else general before iso, x4 before the other scales."""
    if has_own:
        return entries[0]
    return min(entries, key=lambda entry: (_SOUGHT.index(entry.setting or 'iso'), entry.scale != 4, -entry.scale))
