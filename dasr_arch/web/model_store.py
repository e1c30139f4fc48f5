"""Networks of the server: installed weights and files of the command line, loaded on first use."""

import copy
import os
import threading
from pathlib import Path
from typing import NamedTuple

import msgspec

from dasr_arch._errors import InputError
from dasr_arch.backends.devices import choose_device
from dasr_arch.checkpoints.io import load_network
from dasr_arch.checkpoints.packaged import DEFAULT_SETTING, PackagedWeights, check_packaged, read_manifest
from dasr_arch.inference.tiling import Tiling
from dasr_arch.inference.upscaler import Upscaler
from dasr_arch.web.progress_hooks import ProgressHooks
from dasr_arch.web.schemas import Model
from dasr_arch.web.settings import ServeSettings

_PURPOSES = {
    'general': 'for photos: any Gaussian blur, with noise',
    'iso': 'for images with isotropic blur and without noise',
    'photo': 'for JPEG files: slight blur, noise and compression',
    None: 'weights file of the command line',
}


class Loaded(NamedTuple):
    """A network in memory, and its progress hooks."""

    upscaler: Upscaler
    hooks: ProgressHooks


class ModelStore:
    """Finds networks by name and scale; it may be used by several threads.

    Names of clients are compared with a list and never used as paths. ``entries`` are the models, those of the settings
    first. Raises InputError if there is no network, or a file cannot be used.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.device = str(choose_device(settings.device))
        self._loaded: dict[tuple[str, int], Loaded] = {}
        self._packaged: dict[tuple[str, int], PackagedWeights] = {}
        own = [self._load_file(path) for path in settings.weights]
        for entry in read_manifest().files:
            self._packaged.setdefault((entry.name, entry.scale), entry)
        entries = own + [
            Model(purpose=_PURPOSES[entry.setting], default=False, **msgspec.structs.asdict(entry))
            for entry in self._packaged.values()
        ]
        if not entries:
            raise InputError('no weights are installed; start with --model FILE')
        default = _choose_default(entries, bool(own))
        self.entries = [entry.model_copy(update={'default': entry is default}) for entry in entries]

    def find(self, name: str | None, scale: int | None) -> Model:
        """The model for a request.

        A name is that of a model or a setting such as 'iso'; without one it is the default, or the first of the scale.
        Without a scale it is the default or the first of the name. Raises InputError if there is no such model; it
        lists them.
        """
        for entry in sorted(self.entries, key=lambda entry: not entry.default):
            if name in (None, entry.name, entry.setting) and scale in (None, entry.scale):
                return entry
        there = ', '.join(f'{entry.name} (x{entry.scale})' for entry in self.entries)
        what = f"model '{name}'" if name is not None else 'model'
        at = '' if scale is None else f' at x{scale}'
        raise InputError(f'there is no {what}{at}; there are: {there}')

    def load(self, entry: Model, tiling: Tiling | None = None) -> Loaded:
        """The network of a model, loaded on the first call and shared afterwards.

        The tile settings are those of this request. Raises InputError if its file is damaged or missing.
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

    def load_named(self, name: str, scale: int) -> Upscaler:
        """The upscaler of a model or a setting; InputError if there is none."""
        return self.load(self.find(name, scale)).upscaler

    def _load_file(self, path: Path) -> Model:
        scale = load_network(path).scale
        key = (path.stem, scale)
        if key in self._loaded:
            raise InputError(f"--model: two files are called '{path.stem}' and are for x{scale}; rename one")
        loaded = self._make(path, scale)
        self._loaded[key] = loaded
        parameters = sum(parameter.numel() for parameter in loaded.upscaler.network.parameters())
        return Model(
            name=path.stem,
            scale=scale,
            setting=None,
            purpose=_PURPOSES[None],
            parameters=parameters,
            trained_on='',
            date='',
            default=False,
        )

    def _make(self, path: os.PathLike[str], scale: int) -> Loaded:
        upscaler = Upscaler(scale, path, device=self._settings.device, precision=self._settings.precision)
        return Loaded(upscaler, ProgressHooks(upscaler.network))


def _choose_default(entries: list[Model], has_own: bool) -> Model:
    """The first file of the settings; else DEFAULT_SETTING before the others, x4 before the other scales."""
    if has_own:
        return entries[0]
    return min(entries, key=lambda entry: (entry.setting != DEFAULT_SETTING, entry.scale != 4, -entry.scale))
