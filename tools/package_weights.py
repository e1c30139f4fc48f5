"""Puts the weights of a training into the package: `python tools/package_weights.py net_g_latest.pth NAME ...`."""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from dasr_arch import InputError
from dasr_arch._files import atomic_write
from dasr_arch.checkpoints.packaged import MANIFEST_NAME, SETTINGS, Manifest, PackagedWeights, Setting, read_manifest
from dasr_arch.export.convert import convert_weights
from dasr_cli.main import run_guarded

FOLDER = Path(__file__).resolve().parents[1] / 'dasr_arch' / 'assets' / 'weights'
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


def main() -> int:
    """Reads the arguments, writes the file and the manifest, and prints the entry; 2 on failure."""
    parser = argparse.ArgumentParser(description='Put the weights of a training into the package.')
    parser.add_argument('source', help="the training's net_g_latest.pth")
    parser.add_argument('name', help='name of the entry, such as dasr_s_x4_iso')
    parser.add_argument('--setting', required=True, help='general, iso or photo')
    parser.add_argument('--trained-on', required=True, help='images of the training')
    parser.add_argument('--date', required=True, help="day of the training's end, as 2026-01-31")
    parser.add_argument('--card', required=True, help='path or address of the model card')
    parser.add_argument(
        '--figure', nargs=2, action='append', default=[], metavar=('WHAT', 'VALUE'), help='a measured result; repeat'
    )
    parser.add_argument('--folder', type=Path, default=FOLDER, help='folder of manifest.json')
    args = parser.parse_args()

    def work() -> int:
        figures = {what: _read_number(what, value) for what, value in args.figure}
        facts = PackagingFacts(args.name, args.setting, args.trained_on, args.date, args.card, figures)
        entry = package_weights(args.source, args.folder, facts)
        print(f'{args.folder / entry.file}: x{entry.scale} {entry.setting}, {entry.size} bytes, sha256 {entry.sha256}')
        return 0

    return run_guarded(work)


def _read_number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--figure '{what}': expected a number, got '{text}'") from error


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


if __name__ == '__main__':
    sys.exit(main())
