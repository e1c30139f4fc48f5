"""`dasr prepare`: stores sub-images of images in an LMDB."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dasr_cli.arguments import RenamedOption, add_shard
from dasr_cli.messages import EMPTY_SHARD, SHOWN, print_others, show

if TYPE_CHECKING:
    from dasr_arch.data.input_lists import Manifest
    from dasr_arch.data.prepare import PrepareReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Cut images into sub-images and store them in an LMDB that BasicSR can read. '
        'The same command continues an interrupted run. LMDBs as inputs are merged: all shards of a list become the '
        'LMDB that one run would have made.'
    )
    parser.add_argument(
        'inputs',
        metavar='IN',
        nargs='*',
        help='image or folder of images (PNG, JPEG, BMP, TIFF, WebP), or LMDBs of this command to merge',
    )
    parser.add_argument('-o', '--output', metavar='OUT.lmdb', required=True, help='LMDB folder to write')
    parser.add_argument('--size', type=int, help='side of a sub-image in pixels (480)')
    parser.add_argument('--step', type=int, help='pixels from one sub-image to the next (240)')
    parser.add_argument(
        '--whole', action='store_true', default=None, help='store whole images; ignores --size and --step'
    )
    parser.add_argument(
        '--min-size',
        type=int,
        help='shortest side of an image; smaller ones hold no training patch and are skipped (192)',
    )
    parser.add_argument(
        '--min-images', type=int, default=1, help='fail if fewer images can be used; not asked of a shard (1)'
    )
    parser.add_argument('--min-pictures', dest='min_images', type=int, action=RenamedOption, new='--min-images')
    parser.add_argument('--compress-level', type=int, help='PNG compression, 0 to 9 (1)')
    parser.add_argument('--recursive', action='store_true', help='include subfolders')
    parser.add_argument('--workers', type=int, default=None, help='number of processes (all cores)')
    add_shard(parser)
    parser.add_argument(
        '--force',
        action='store_true',
        help='replace OUT.lmdb if it exists, and discard an unfinished run of other settings',
    )


def run(args: argparse.Namespace) -> int:
    """Prepares and prints a summary."""
    from dasr_arch._files import check_writable
    from dasr_arch.data.image_io import list_others
    from dasr_arch.data.input_lists import Shard
    from dasr_arch.data.prepare import REPORT_NAME, RunSettings, merge, prepare
    from dasr_arch.data.sub_images import Cutting

    shard = Shard.parse(args.shard)
    names = ('size', 'step', 'min_size', 'whole', 'compress_level')
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    settings = RunSettings(args.workers, args.min_images, args.recursive, args.force, shard=shard)
    inputs = _read_inputs(args, given)
    check_writable(Path(args.output))
    try:
        if isinstance(inputs, list) and _is_lmdb(inputs[0]):
            report = merge(inputs, args.output, settings)
        else:
            report = prepare(inputs, args.output, Cutting(**given), settings)
    except KeyboardInterrupt:
        print('stopped; run the same command again to continue', file=sys.stderr)
        raise
    if shard.total > 1:
        found = report.images + len(report.skipped)
        print(f'{shard.label}{f"{found} images" if found else EMPTY_SHARD}')
    _print_report(report, REPORT_NAME)
    if isinstance(inputs, list) and shard.number == 1:
        folders = [path for path in inputs if not _is_lmdb(path)]
        print_others([path for folder in folders for path in list_others(folder, args.recursive)])
    return 0


def _read_inputs(args: argparse.Namespace, cutting: dict[str, int]) -> 'list[str] | Manifest':
    """Inputs of the arguments, all of them LMDBs or none; InputError if they are wrong."""
    from dasr_arch._errors import InputError
    from dasr_arch.data.input_lists import Manifest

    if args.manifest is not None:
        if args.inputs:
            raise InputError(f'--manifest lists the inputs; leave {args.inputs[0]} out')
        return Manifest(args.manifest, with_results=False)
    if not args.inputs:
        raise InputError('the following arguments are required: IN; see `dasr prepare --help`')
    lmdbs = [path for path in args.inputs if _is_lmdb(path)]
    if lmdbs and len(lmdbs) < len(args.inputs):
        raise InputError(f'{lmdbs[0]}: LMDBs and images cannot be mixed; prepare the images first, then merge')
    if lmdbs and (cutting or args.shard != '1/1'):
        option = next(iter(cutting), 'shard').replace('_', '-')
        raise InputError(f'--{option} is for images, but {lmdbs[0]} is an LMDB, which is merged as it is; leave it out')
    return list(args.inputs)


def _is_lmdb(path: str) -> bool:
    return Path(path).suffix == '.lmdb'


def _print_report(report: 'PrepareReport', report_name: str) -> None:
    if report.continued:
        print(f'continued an interrupted run; images already done: {report.continued}')
    print(f'{show(report.output)}: {report.sub_images} entries from {report.images} images')
    rest = f'  and {{}} more, see {report_name} there'
    if report.renamed:
        print(f'keys that differ from the file name: {len(report.renamed)}')
        for key, path in list(report.renamed.items())[:SHOWN]:
            print(f'  {show(path)}: {key}')
        if len(report.renamed) > SHOWN:
            print(rest.format(len(report.renamed) - SHOWN))
    if report.skipped:
        print(f'images left out: {len(report.skipped)}')
        for image in report.skipped:
            print(f'  {show(image.path)}: {image.reason}')
