"""`dasr probe`: fits a linear probe to an encoder and tells how well its representation names degradations."""

import argparse
from typing import Any


def add_parser(subparsers: 'argparse._SubParsersAction[Any]') -> None:
    """Declares the subcommand."""
    parser = subparsers.add_parser(
        'probe',
        help='measure what the representation tells of blur and noise, for `dasr inspect`',
        description='Degrade images in known ways, fit one linear layer that names the degradation from the '
        'representation, test it on other images, and save it for `dasr inspect`.',
    )
    parser.add_argument(
        'model', metavar='MODEL', help='general, iso, a name that `dasr models` lists, or a weights file'
    )
    parser.add_argument('--scale', type=int, help='factor (4, or that of the named weights or file)')
    parser.add_argument(
        '--images', nargs='+', required=True, metavar='DATA', help='folders or LMDBs of HR images to fit to'
    )
    parser.add_argument('--test', required=True, metavar='DATA', help='folder or LMDB of other HR images')
    parser.add_argument(
        '--setting', choices=('general', 'iso'), help="degradations to tell apart (the model's; general for a file)"
    )
    parser.add_argument('--limit', type=int, metavar='N', help='fit to N of the images')
    parser.add_argument('-o', '--out', metavar='FILE', help='the probe (MODEL.probe.safetensors beside a weights file)')
    parser.add_argument('--report', metavar='FOLDER', help='write report.md, report.json and maps by t-SNE there')
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Fits, tests, writes and prints the accuracies.

    Args:
        args: what the parser gave.

    Returns:
        0.
    """
    import os
    import sys
    from pathlib import Path

    from dasr_arch._errors import InputError
    from dasr_arch.checkpoints.io import load_network
    from dasr_arch.checkpoints.packaged import SETTINGS, find_packaged
    from dasr_arch.inference.upscaler import find_scale, locate_weights
    from dasr_arch.probe.command import ProbeSettings, run_probing, write_report
    from dasr_arch.probe.model import probe_path

    scale = find_scale(args.model, args.scale)
    weights = locate_weights(args.model, scale)
    is_file = Path(args.model) == weights
    setting = args.setting or ('general' if is_file else find_packaged(args.model, scale).setting)
    assert setting in SETTINGS
    if args.out is None and not is_file:
        raise InputError('name the file to write with -o; the folder of the installed weights is left alone')
    out = probe_path(weights) if args.out is None else Path(args.out)
    if os.path.lexists(out) and not args.force:
        raise InputError(f'{out}: exists already; choose another name with -o, or replace it with --force')
    network = load_network(weights, scale).eval()
    settings = ProbeSettings(args.images, args.test, setting, args.limit, sys.stderr.isatty())
    report = run_probing(network, settings, out, with_maps=args.report is not None)
    if args.report is not None:
        about = {'weights': args.model, 'fitted to': ', '.join(map(str, args.images)), 'tested on': args.test}
        write_report(Path(args.report), report, about)
    for quantity, confusion in report.confusions.items():
        print(
            f'{quantity}: {100 * confusion.accuracy:.1f} % of {report.test_images} images rightly named among '
            f'{len(confusion.labels)}, {100 / len(confusion.labels):.1f} % by chance'
        )
    print(f'{out}: for `dasr inspect`')
    return 0
