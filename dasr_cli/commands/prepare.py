"""`dasr prepare`: stores sub-images of images in an LMDB."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dasr_cli.arguments import RenamedOption
from dasr_cli.messages import SHOWN, print_others

if TYPE_CHECKING:
    from dasr_arch.data.prepare import PrepareReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Cut images into sub-images and store them in an LMDB that BasicSR can read. '
        'The same command continues an interrupted run.'
    )
    parser.add_argument(
        'inputs', metavar='IN', nargs='+', help='image or folder of images (PNG, JPEG, BMP, TIFF, WebP)'
    )
    parser.add_argument('-o', '--output', metavar='OUT.lmdb', required=True, help='LMDB folder to write')
    parser.add_argument('--size', type=int, default=480, help='side of a sub-image in pixels (480)')
    parser.add_argument('--step', type=int, default=240, help='pixels from one sub-image to the next (240)')
    parser.add_argument('--whole', action='store_true', help='store whole images; ignores --size and --step')
    parser.add_argument(
        '--min-size',
        type=int,
        default=192,
        help='shortest side of an image; smaller ones hold no training patch and are skipped (192)',
    )
    parser.add_argument('--min-images', type=int, default=1, help='fail if fewer images can be used (1)')
    parser.add_argument('--min-pictures', dest='min_images', type=int, action=RenamedOption, new='--min-images')
    parser.add_argument('--compress-level', type=int, default=1, help='PNG compression, 0 to 9 (1)')
    parser.add_argument('--recursive', action='store_true', help='include subfolders')
    parser.add_argument('--workers', type=int, default=None, help='number of processes (all cores)')
    parser.add_argument(
        '--force',
        action='store_true',
        help='replace OUT.lmdb if it exists, and discard an unfinished run of other settings',
    )


def run(args: argparse.Namespace) -> int:
    """Prepares and prints a summary."""
    from dasr_arch._files import check_writable
    from dasr_arch.data.image_io import list_others
    from dasr_arch.data.prepare import REPORT_NAME, RunSettings, prepare
    from dasr_arch.data.sub_images import Cutting

    cutting = Cutting(args.size, args.step, args.min_size, args.whole, args.compress_level)
    settings = RunSettings(args.workers, args.min_images, args.recursive, args.force)
    check_writable(Path(args.output))
    try:
        report = prepare(args.inputs, args.output, cutting, settings)
    except KeyboardInterrupt:
        print('stopped; run the same command again to continue', file=sys.stderr)
        raise
    _print_report(report, REPORT_NAME)
    print_others([path for given in args.inputs for path in list_others(given, args.recursive)])
    return 0


def _print_report(report: 'PrepareReport', report_name: str) -> None:
    if report.continued:
        print(f'continued an interrupted run; images already done: {report.continued}')
    print(f'{_show(report.output)}: {report.sub_images} entries from {report.images} images')
    rest = f'  and {{}} more, see {report_name} there'
    if report.renamed:
        print(f'keys that differ from the file name: {len(report.renamed)}')
        for key, path in list(report.renamed.items())[:SHOWN]:
            print(f'  {_show(path)}: {key}')
        if len(report.renamed) > SHOWN:
            print(rest.format(len(report.renamed) - SHOWN))
    if report.skipped:
        print(f'images left out: {len(report.skipped)}')
        for image in report.skipped:
            print(f'  {_show(image.path)}: {image.reason}')


def _show(path: Path) -> str:
    """A path on one line, in characters that the terminal can show."""
    text = os.fsencode(path).decode('utf-8', errors='replace')
    encoding = sys.stdout.encoding or 'ascii'
    shown = ''.join(character if character.isprintable() else '?' for character in text)
    return shown.encode(encoding, errors='replace').decode(encoding)
