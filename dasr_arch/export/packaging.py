"""Adding the weights of a training to the packaged weights."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from dasr_arch._errors import InputError
from dasr_arch._files import atomic_write
from dasr_arch.checkpoints.packaged import (
    MANIFEST_NAME,
    SETTINGS,
    Manifest,
    PackagedWeights,
    Setting,
    read_manifest,
)
from dasr_arch.export.convert import convert_weights

_NAME = re.compile(r'[a-z0-9_]+')
_DATE = re.compile(r'\d{4}-\d{2}-\d{2}')


@dataclass(frozen=True)
class PackagingFacts:
    """Facts about packaged weights that the weights file does not contain.

    Attributes:
        name: of the entry and, with .safetensors, of the file: small letters, digits and underscores.
        setting: 'general' or 'iso'.
        trained_on: the images of the training.
        date: day of its end, as 2026-01-31.
        card: path or address of the model card.
        figures: measured results by name of the measure.

    Raises:
        InputError: if one of them is not as it should be.
    """

    name: str
    setting: Setting
    trained_on: str
    date: str
    card: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks name, setting and date."""
        if not _NAME.fullmatch(self.name) or self.name in SETTINGS:
            raise InputError(f"name must be small letters, digits and underscores and no setting, got '{self.name}'")
        if self.setting not in SETTINGS:
            raise InputError(f"setting must be {' or '.join(SETTINGS)}, got '{self.setting}'")
        if not _DATE.fullmatch(self.date):
            raise InputError(f"date must be as 2026-01-31, got '{self.date}'")


def package_weights(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], facts: PackagingFacts
) -> PackagedWeights:
    """Writes a training's weights as 16-bit floats and adds or replaces their entry in the manifest.

    Args:
        source: the training's net_g_latest.pth; its averaged weights are taken where it holds them.
        folder: folder of the manifest.
        facts: content of the entry.

    Returns:
        The entry.

    Raises:
        InputError: if the source is no DASR or the manifest is damaged.
        OSError: if the folder cannot be written.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    report = convert_weights(source, folder / f'{facts.name}.safetensors', half=True, force=True)
    entry = PackagedWeights(
        name=facts.name,
        setting=facts.setting,
        scale=report.scale,
        file=report.path.name,
        sha256=hashlib.sha256(report.path.read_bytes()).hexdigest(),
        size=report.size,
        parameters=report.parameters,
        figures=dict(facts.figures),
        trained_on=facts.trained_on,
        date=facts.date,
        card=facts.card,
    )
    files = [entry if other.name == entry.name else other for other in manifest.files]
    files = files if entry in files else [*files, entry]
    text = msgspec.json.format(msgspec.json.encode(Manifest(manifest.format, files)), indent=1)
    with atomic_write(folder / MANIFEST_NAME) as temporary:
        temporary.write_bytes(text + b'\n')
    return entry
