"""Puts the weights of a training into the package: `python tools/package_weights.py net_g_latest.pth NAME ...`."""

import argparse
import sys
from pathlib import Path

from dasr_arch import InputError
from dasr_arch.export.packaging import PackagingFacts, package_weights

FOLDER = Path(__file__).resolve().parents[1] / 'dasr_arch' / 'assets' / 'weights'


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
    try:
        figures = {what: float(value) for what, value in args.figure}
        facts = PackagingFacts(args.name, args.setting, args.trained_on, args.date, args.card, figures)
        entry = package_weights(args.source, args.folder, facts)
    except (InputError, OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{args.folder / entry.file}: x{entry.scale} {entry.setting}, {entry.size} bytes, sha256 {entry.sha256}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
