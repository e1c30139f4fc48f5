"""Networks of the server: installed weights and files of the command line, loaded on first use."""

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
from dasr_arch.web.progress_hooks import ProgressHooks
from dasr_arch.web.settings import ServeSettings

_SETTINGS = ('general', 'iso')
_PURPOSES = {
    'general': 'for photos: any Gaussian blur, with noise',
    'iso': 'for images with isotropic blur and without noise',
    None: 'weights file of the command line',
}


class ModelEntry(NamedTuple):
    """A network that can be requested.

    Attributes:
        name: value of the parameter ``model``.
        scale: up-sampling factor.
        setting: degradations of its training, None if unknown.
        purpose: the setting in words.
        parameters: number of parameters, None if unknown before loading.
        trained_on: training images, '' if unknown.
        date: day on which the training ended, '' if unknown.
        default: True for the network that is used if none is requested.
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
    """A network in memory, and its progress hooks."""

    upscaler: Upscaler
    hooks: ProgressHooks


class ModelStore:
    """Finds networks by name and scale; it may be used by several threads.

    Names of clients are compared with a list and never used as paths.

    Args:
        settings: weights files besides the installed ones, device and precision.

    Raises:
        InputError: if there is no network, or a file cannot be used.

    Attributes:
        entries: the networks, those of ``settings`` first.
        device: such as 'cpu'.
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
        """The entry for a request.

        Args:
            name: of an entry, or a setting such as 'iso'; None means the default, or the first of the scale.
            scale: None means that of the default or of the first entry with the name.

        Raises:
            InputError: if there is no such entry; it lists the entries.
        """
        for entry in sorted(self.entries, key=lambda entry: not entry.default):
            if name in (None, entry.name, entry.setting) and scale in (None, entry.scale):
                return entry
        there = ', '.join(f'{entry.name} (x{entry.scale})' for entry in self.entries)
        what = f"model '{name}'" if name is not None else 'model'
        at = '' if scale is None else f' at x{scale}'
        raise InputError(f'there is no {what}{at}; there are: {there}')

    def load(self, entry: ModelEntry, tiling: Tiling | None = None) -> Loaded:
        """The network of an entry, loaded on the first call and shared afterwards.

        Args:
            entry: from ``find``.
            tiling: tile settings of this request.

        Raises:
            InputError: if its file is damaged or missing.
        """
        key = (entry.name, entry.scale)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = self._make(check_packaged(self._packaged[key]), entry.scale)
            loaded = self._loaded[key]
        if tiling is None:
            return loaded
        upscaler = copy.copy(loaded.upscaler)  # the same network and the same lock
        upscaler.tiling = upscaler.fit_tiling(tiling)  # a request must not exhaust the memory
        return Loaded(upscaler, loaded.hooks)

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
        return Loaded(upscaler, ProgressHooks(upscaler.network))


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
    """The first file of the settings; else general before iso, x4 before the other scales."""
    if has_own:
        return entries[0]
    return min(entries, key=lambda entry: (_SETTINGS.index(entry.setting or 'iso'), entry.scale != 4, -entry.scale))
