"""Packaging: writes the weights of a training into the folder of installed weights and its manifest."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write
from dasr_arch.checkpoints.packaged import MANIFEST_NAME, SETTINGS, Manifest, PackagedWeights, Setting, read_manifest
from dasr_arch.export.convert import convert_weights

_NAME = re.compile(r'[a-z0-9_]+')
_DATE = re.compile(r'\d{4}-\d{2}-\d{2}')


@dataclass(frozen=True)
class PackagingFacts:
    """Facts for the manifest that a weights file does not hold. Raises InputError if one is not valid."""

    name: str  # of the entry and of the .safetensors file: small letters, digits and underscores
    setting: Setting
    trained_on: str  # training images
    date: str  # last day of the training, as 2026-01-31
    card: str  # path or address of the model card
    figures: Mapping[str, float] = field(default_factory=dict)  # measured results by name

    def __post_init__(self) -> None:
        """Checks name, setting and date."""
        if not _NAME.fullmatch(self.name) or self.name in SETTINGS:
            raise InputError(f"name must be small letters, digits and underscores and no setting, got '{self.name}'")
        if self.setting not in SETTINGS:
            raise InputError(f"setting must be one of {', '.join(SETTINGS)}, got '{self.setting}'")
        if not _DATE.fullmatch(self.date):
            raise InputError(f"date must be as 2026-01-31, got '{self.date}'")


def package_weights(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], facts: PackagingFacts
) -> PackagedWeights:
    """Writes weights as 16-bit floats and their entry into the manifest, in place of an entry of that name.

    The source is net_g_latest.pth of the training; its averaged weights are used if it holds them. The folder is that
    of the manifest. Returns the entry. Raises InputError if the source is no DASR or the manifest is damaged, and
    OSError if the folder cannot be written.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    report = convert_weights(source, folder / f'{facts.name}.safetensors', half=True, force=True)
    entry = PackagedWeights(
        scale=report.scale,
        file=report.path.name,
        sha256=hashlib.sha256(report.path.read_bytes()).hexdigest(),
        size=report.size,
        parameters=report.parameters,
        **asdict(facts),
    )
    files = [entry if other.name == entry.name else other for other in manifest.files]
    files = files if entry in files else [*files, entry]
    text = msgspec.json.format(msgspec.json.encode(Manifest(manifest.format, files)), indent=1)
    with atomic_write(folder / MANIFEST_NAME) as temporary:
        temporary.write_bytes(text + b'\n')
    return entry
