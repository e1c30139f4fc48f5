"""Weights that are installed with the package, listed in its manifest; nothing is downloaded."""

import hashlib
import os
from pathlib import Path
from typing import Literal

import msgspec

from dasr_arch._errors import InputError, suggest

WEIGHTS_FOLDER = Path(__file__).resolve().parents[1] / 'assets' / 'weights'
"""Folder of the packaged weights; the environment variable DASR_WEIGHTS overrides it."""

MANIFEST_NAME = 'manifest.json'
Setting = Literal['iso', 'general', 'photo']
SETTINGS: tuple[Setting, ...] = ('general', 'iso', 'photo')
"""Degradations of the training.

'general' is anisotropic blur with noise, 'iso' isotropic blur without noise, 'photo' slight blur, noise and JPEG.
"""
DEFAULT_SETTING: Setting = 'photo'
"""Setting of commands, Upscaler and the page, if none is given and it is installed for the upsampling factor."""

_FORMAT = 1


class PackagedWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the manifest."""

    name: str  # value of ``--model`` for these weights
    setting: Setting  # degradations of the training
    scale: int
    file: str  # name of the .safetensors file beside the manifest
    sha256: str  # checksum of the file, hexadecimal
    size: int  # of the file in bytes
    parameters: int  # number of parameters
    figures: dict[str, float]  # measured results by name, such as 'Set14, width 2.4: PSNR'
    trained_on: str  # training images
    date: str  # last day of the training, as 2026-01-31
    card: str  # path or address of the model card


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of manifest.json."""

    format: int  # version of this layout
    files: list[PackagedWeights]  # the first of a setting and scale is its default


def weights_folder() -> Path:
    """Folder of the packaged weights, or DASR_WEIGHTS."""
    return Path(os.environ.get('DASR_WEIGHTS') or WEIGHTS_FOLDER)


def read_manifest(folder: str | os.PathLike[str] | None = None) -> Manifest:
    """Reads and checks the manifest in a folder, by default ``weights_folder()``; InputError if missing or invalid."""
    path = Path(folder or weights_folder()) / MANIFEST_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        remedy = 'check the variable DASR_WEIGHTS' if os.environ.get('DASR_WEIGHTS') else 'install the package again'
        raise InputError(f'{path}: cannot be read ({error.strerror}); {remedy}') from error
    except msgspec.MsgspecError as error:
        raise InputError(f'{path}: is no manifest of weights ({error})') from error
    if manifest.format != _FORMAT:
        raise InputError(f'{path}: has format {manifest.format}, expected {_FORMAT}; install matching versions')
    for entry in manifest.files:
        if Path(entry.file).name != entry.file or not entry.file.endswith('.safetensors'):
            raise InputError(f"{path}: '{entry.file}' is not the name of a .safetensors file beside it")
    return manifest


def find_packaged(name: str, scale: int, folder: str | os.PathLike[str] | None = None) -> PackagedWeights:
    """The manifest entry of a setting or an entry's name; InputError, listing what there is, if there is none."""
    entries = read_manifest(folder).files
    for entry in entries:
        if entry.scale == scale and name in (entry.setting, entry.name):
            return entry
    known = [entry.name for entry in entries]
    if name in (*SETTINGS, *known):
        there = ', '.join(f'{entry.name} (x{entry.scale} {entry.setting})' for entry in entries) or 'none'
        raise InputError(f"no weights for model '{name}' at x{scale} are installed; there are: {there}")
    hint = suggest(name, (*SETTINGS, *known))
    raise InputError(f"model '{name}' is neither a file nor the name of installed weights{hint}")


def check_packaged(entry: PackagedWeights, folder: str | os.PathLike[str] | None = None) -> Path:
    """Path of an entry's file; InputError if the file is missing or its checksum differs."""
    path = Path(folder or weights_folder()) / entry.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); install the package again') from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise InputError(f'{path}: is not the file that was packaged (checksum differs); install the package again')
    return path
